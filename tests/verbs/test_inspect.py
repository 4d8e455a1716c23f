import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from freezeframe.cli.data import app
from freezeframe.errors import UserError
from freezeframe.files import read_json
from freezeframe.verbs.inspect import inspect
from freezeframe.verbs.inspection_words import WORDS


@pytest.fixture(scope="module")
def leaky(shared_data, tmp_path_factory):
    """Radiographs with a known flaw of every sort."""
    root = tmp_path_factory.mktemp("data") / "leaky"
    source = shared_data / "kermany" / "compact_224" / "train"
    for label, names in {
        "NORMAL": sorted((source / "NORMAL").glob("IM-*-0001.jpeg"))[:30],
        "PNEUMONIA": sorted((source / "PNEUMONIA").glob("person*_bacteria_*.jpeg"))[:30],
    }.items():
        for number, path in enumerate(names):
            target = root / ("test" if number >= 24 else "train") / label
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.name)
    normal = sorted((root / "train" / "NORMAL").iterdir())
    Image.open(normal[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        root / "test" / "NORMAL" / "IM-9001-0001.jpeg"
    )
    shutil.copyfile(normal[1], root / "train" / "PNEUMONIA" / "person9002_virus_1.jpeg")
    (root / "train" / "NORMAL" / "IM-9003-0001.jpeg").write_bytes(normal[2].read_bytes()[:900])
    return root


@pytest.fixture(scope="module")
def inspected(leaky, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return inspect(leaky, out), out


def test_a_flipped_copy_in_another_split_is_serious(inspected):
    inspection, _ = inspected
    pairs = inspection.duplicates[inspection.duplicates["across_splits"]]
    assert pairs["kind"].tolist() == ["flip-horizontal"]
    finding = next(one for one in inspection.findings if one.key == "duplicates_splits")
    assert finding.level == "serious"
    assert "IM-9001-0001.jpeg" in finding.values["example"]


def test_the_same_file_under_two_labels_is_serious(inspected):
    inspection, _ = inspected
    pairs = inspection.duplicates[inspection.duplicates["conflicting_labels"]]
    assert pairs["kind"].tolist() == ["file"]
    assert {*pairs["label_first"], *pairs["label_second"]} == {"NORMAL", "PNEUMONIA"}
    assert "duplicates_labels" in [one.key for one in inspection.findings if one.level == "serious"]


def test_an_unreadable_image_is_listed_with_its_reason_and_left_out(inspected):
    inspection, _ = inspected
    assert inspection.unreadable["image"].tolist() == ["train/NORMAL/IM-9003-0001.jpeg"]
    assert "truncated" in inspection.unreadable["reason"].iloc[0]
    assert len(inspection.images) == len(inspection.manifest) - 1


def test_small_and_missing_splits_are_said(inspected):
    inspection, _ = inspected
    values = {(one.key, one.values.get("split")) for one in inspection.findings}
    assert {("split_small", "test"), ("split_missing", "validation")} <= values


def test_the_most_serious_comes_first(inspected):
    levels = [one.level for one in inspected[0].findings]
    assert levels == sorted(levels, key=["serious", "caution", "note"].index)


def test_all_is_saved(inspected):
    inspection, out = inspected
    saved = read_json(out / "inspection.json")
    assert saved["duplicates"]["kinds"]["flip-horizontal"] == 1
    assert saved["n_images"] == len(inspection.manifest)
    images = pd.read_csv(out / "images.csv", keep_default_na=False)
    assert len(images) == len(inspection.images)
    assert {"file_bytes", "brightness", "sharpness", "duplicate_group"} <= set(images.columns)
    assert len(pd.read_csv(out / "duplicates.csv")) == len(inspection.duplicates)


def test_the_page_holds_the_pairs_and_needs_no_network(inspected):
    inspection, out = inspected
    page = (out / "inspection.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * len(inspection.duplicates)
    assert "data:image/png;base64," in page
    assert "flipped left-right" in page
    assert not re.search(r"(src|href)=.?https?:", page)
    assert len(page) < 1_000_000


def test_the_spanish_page_is_spanish(leaky, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(leaky / "test", small)
    (small / "notes.txt").write_text("no image")
    inspect(small, tmp_path / "out", lang="es")
    page = (tmp_path / "out" / "inspection.html").read_text()
    assert '<html lang="es">' in page
    assert "Imágenes y pacientes" in page
    assert "Images and patients" not in page
    assert "Archivos omitidos por no ser imágenes: 1" in page
    assert 'lang="en"' not in page


def test_both_languages_have_the_same_words_and_values():
    assert set(WORDS["en"]) == set(WORDS["es"])
    for key, text in WORDS["en"].items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", WORDS["es"][key])), key


def test_the_file_size_of_real_radiographs_is_named_as_a_shortcut(shared_data, tmp_path):
    source = shared_data / "kermany" / "compact_224" / "train"
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        for path in sorted((source / label).iterdir())[::20][:60]:
            shutil.copyfile(path, tmp_path / label / path.name)
    findings = inspect(tmp_path).findings
    assert "file_bytes" in [one.values["feature"] for one in findings if one.key == "shortcut"]


def test_a_site_that_tells_the_class_is_serious(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number in range(16):
        Image.fromarray(random.integers(0, 255, (32, 32)).astype(np.uint8)).save(tmp_path / f"{number}.png")
        label = "ab"[number % 2]
        rows.append((f"{number}.png", label, f"patient {number}", f"hospital {label}"))
    pd.DataFrame(rows, columns=["image", "label", "patient", "site"]).to_csv(
        tmp_path / "table.csv", index=False
    )
    inspection = inspect(tmp_path / "table.csv")
    finding = next(one for one in inspection.findings if one.key == "site_confounded")
    assert finding.values["association"] == pytest.approx(1)
    assert inspection.sites["images"].tolist() == [8, 8]


def test_the_command_prints_warnings_first_and_exits_with_0(leaky):
    result = CliRunner().invoke(app, ["inspect", str(leaky / "test")])
    assert result.exit_code == 0, result.output
    assert result.output.index("caution") < result.output.index("Images and patients")


def test_an_unknown_language_is_refused_before_any_work(leaky):
    with pytest.raises(UserError, match="en or es"):
        inspect(leaky, lang="fr")


def test_a_folder_of_broken_images_is_refused_with_names(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(UserError, match=r"broken\.png"):
        inspect(tmp_path)


def test_inspecting_needs_no_torch():
    code = "import sys, freezeframe.verbs.inspect, freezeframe.cli.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
