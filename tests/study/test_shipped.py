"""The published studies that come with freezeframe: found by name, complete, and each runs."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from freezeframe import files
from freezeframe.backbones.catalogue import ZOO
from freezeframe.errors import UserError
from freezeframe.study import results, shipped
from freezeframe.study.spec import Study
from freezeframe.verbs.study_run import study_run

DOCS = Path(__file__).resolve().parents[2] / "docs" / "published-studies.md"
TRAININGS = {
    "beans-freezing": 6 * 3,
    "pneumonia-first-nets": 3,
    "pneumonia-four": 4,
    "pneumonia-imbalance": 5 * 3,
    "pneumonia-three": 3,
    "pneumonia-three-subtypes": 3,
    "skin-grid": (4 + 3) * 5,
}
CLASSES = {
    "beans-freezing": ["angular_leaf_spot", "bean_rust", "healthy"],
    "pneumonia-three-subtypes": ["NORMAL", "bacteria", "virus"],
    "skin-grid": ["benign", "malignant"],
}
SMALL = ["epochs=1", "views=2", "preprocess=[{resize: {size: 64}}]", "device=cpu"]


def some(folder: Path, pattern: str, count: int) -> list[Path]:
    found = sorted(folder.glob(pattern))
    return found[:: len(found) // count][:count]


def small_data(name: str, shared_data: Path, target: Path) -> Path:
    """Copy a few images of each class, laid out as the whole data set."""
    chosen = {
        "beans": [("test/*", 2), ("train/*", 2), ("validation/*", 2)],
        "skin": [("train/*", 10)],
        "pneumonia": [("train/NORMAL", 10), ("train/PNEUMONIA", 20)],
    }[name.partition("-")[0]]
    source = {"beans": "beans", "skin": "skin", "pneumonia": "kermany/compact_224"}[name.partition("-")[0]]
    for pattern, count in chosen:
        for folder in sorted((shared_data / source).glob(pattern)):
            names = ["*_bacteria_*", "*_virus_*"] if folder.name == "PNEUMONIA" else ["*"]
            for path in (path for one in names for path in some(folder, one, count // len(names))):
                copy = target / path.relative_to(shared_data / source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    if name.startswith("skin"):
        table = pd.read_csv(shared_data / "skin" / "manifest.csv", dtype="str")
        there = [(target / name).is_file() for name in table["file"]]
        table[there].to_csv(target / "manifest.csv", index=False)
    return target


def test_a_shipped_study_is_found_by_its_name_and_by_the_path_it_has_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("skin-grid", "skin-grid.yaml", "recipes/skin-grid.yaml"):
        assert Study.read(Path(given)).name == "skin-grid"
    assert shipped.find(Path("elsewhere/skin-grid.yaml")) == Path("elsewhere/skin-grid.yaml")


def test_a_file_that_is_there_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_yaml(
        tmp_path / "skin-grid.yaml", {"name": "mine", "recipe": {"data": "x", "backbone": "resnet18"}}
    )
    assert Study.read(Path("skin-grid.yaml")).name == "mine"


def test_a_misspelt_name_is_met_with_the_right_one():
    with pytest.raises(UserError, match=r"There is no study skin-gird.*did you mean 'skin-grid'"):
        Study.read(Path("skin-gird"))


def test_there_is_one_copy_of_the_shipped_studies():
    assert set(shipped.paths()) == set(TRAININGS)
    checkout = DOCS.parents[1]
    assert not [
        path
        for path in (checkout / "recipes").glob("*.yaml")
        if not path.samefile(shipped.paths()[path.stem])
    ]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_shipped_study_has_the_trainings_of_the_published_one_and_says_what_it_is_about(name):
    study = Study.read(Path(name))
    cells = study.cells()
    assert study.name == name
    assert len(cells) == TRAININGS[name]
    assert all(cell.recipe.backbone in ZOO for cell in cells)
    assert str(cells[0].recipe.data.path).startswith("../shared/data/")
    text = shipped.paths()[name].read_text()
    assert re.match(r"# [A-Z].*[.?]\n", text)
    assert f"freezeframe study run {name}" in text
    assert f"## {name.removesuffix('-subtypes')}" in DOCS.read_text()


@pytest.mark.parametrize("name", TRAININGS)
def test_with_one_network_in_the_place_of_all_no_training_is_lost(name):
    cells = Study.read(Path(name), backbones=["efficientnet-lite0"]).cells()
    assert len(cells) == TRAININGS[name]
    assert {cell.recipe.backbone for cell in cells} == {"efficientnet-lite0"}


def test_the_skin_grid_unites_two_grids():
    cells = Study.read(Path("skin-grid")).cells()
    augmented = Counter(cell.recipe.augment for cell in cells if cell.recipe.backbone == "mobilenet")
    assert augmented == {"none": 5, "flip-hv": 5, "brightness": 5, "flip-brightness": 5}
    plain = Counter(cell.recipe.backbone for cell in cells if cell.recipe.augment == "none")
    assert plain == {"mobilenet": 5, "resnet50": 5, "inception-v3": 5, "densenet121": 5}
    assert [cell.recipe.unfreeze["layers"] for cell in cells[:5]] == [2, 4, 6, 8, 10]


def test_the_skin_grid_is_tested_on_about_two_hundred_lesions_of_each_class_which_are_not_trained_on(
    shared_data,
):
    from freezeframe.data.sources import read_manifest
    from freezeframe.data.splits import make_splits

    changes = [f"data.path={shared_data / 'skin'}"]
    recipe = Study.read(Path("skin-grid"), changes).cells()[0].recipe
    manifest = make_splits(read_manifest(recipe.data), recipe.split, recipe.split.seed)
    table = manifest.table
    counts = table.loc[table["split"] == "test", "label"].value_counts()
    assert all(160 <= counts[label] <= 240 for label in ("benign", "malignant"))
    tested = set(table.loc[table["split"] == "test", "patient"])
    assert not tested & set(table.loc[table["split"] != "test", "patient"])
    # A lesion's images are told from the table: without it, each would count for itself.
    assert table["patient"].nunique() < len(table)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_shipped_study_runs(name, shared_data, tmp_path):
    data = small_data(name, shared_data, tmp_path / "data")
    changes = [f"data.path={data}", f"store={tmp_path / 'store'}", *SMALL]
    study = Study.read(Path(name), changes, backbones=["efficientnet-lite0"])
    folder = study_run(study, tmp_path / "study", workers=1)
    found = results.read(folder)
    assert [cell.failure for cell in found.cells if cell.status != "finished"] == []
    assert len(found.cells) == TRAININGS[name]
    assert list(found.classes) == CLASSES.get(name, ["NORMAL", "PNEUMONIA"])
    made = {extra.name for extra in found.extras if extra.kind == "ensemble"}
    assert made == set(study.ensembles)
