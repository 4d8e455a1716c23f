"""What a study file means: its cells, their names, and what is refused."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.study.cells import label_of
from freezeframe.study.spec import Study

BASE = {"data": "images/", "backbone": "resnet18"}


def study(**fields) -> Study:
    return Study.parse({"recipe": BASE, **fields})


def names(one: Study) -> list[str]:
    return [cell.name for cell in one.cells()]


def test_a_grid_is_all_combinations_in_the_order_of_its_axes():
    one = study(axes={"unfreeze": ["head", {"layers": 2}], "augment": ["none", "flip"]})
    assert names(one) == ["head-none", "head-flip", "layers-2-none", "layers-2-flip"]
    assert one.cells()[3].recipe.unfreeze == {"layers": 2}
    assert [cell.values for cell in one.cells()][1] == {"unfreeze": "head", "augment": "flip"}


def test_several_grids_are_united_and_a_training_of_both_is_done_once():
    one = study(
        axes=[
            {"backbone": ["resnet18"], "augment": ["none", "flip"]},
            {"backbone": ["resnet18", "resnet50"], "augment": ["none"]},
        ]
    )
    assert names(one) == ["resnet18-none", "resnet18-flip", "resnet50-none"]


def test_what_is_excluded_is_left_out_and_what_is_included_is_added():
    one = study(
        axes={"unfreeze": ["head", {"blocks": 1}], "augment": ["none", "flip"]},
        exclude=[{"unfreeze": "head", "augment": "flip"}, {"unfreeze": {"blocks": 1}, "augment": "none"}],
        include=[{"unfreeze": "all", "augment": "none"}],
    )
    assert names(one) == ["head-none", "blocks-1-flip", "all-none"]


def test_an_axis_with_a_name_of_its_own_changes_several_fields():
    one = study(
        axes={"size": {"small": {"preprocess": [{"resize": {"size": 64}}], "batch_size": 8}, "large": {}}}
    )
    small, large = (cell.recipe for cell in one.cells())
    assert small.batch_size == 8
    assert small.preprocess == [{"resize": {"size": 64}}]
    assert large.batch_size == 16


def test_a_dot_goes_into_a_section():
    one = study(axes={"split.train_share": [0.5, 1.0], "data.label_column": ["a"]})
    assert [cell.recipe.split.train_share for cell in one.cells()] == [0.5, 1.0]
    assert one.cells()[0].recipe.data.label_column == "a"
    assert str(one.cells()[0].recipe.data.path) == "images"


def test_repeats_share_images_and_views_and_differ_in_their_seed():
    cells = study(axes={"unfreeze": ["head"]}, seeds=3).cells()
    assert [cell.seed for cell in cells] == [0, 1, 2]
    assert {cell.recipe.split.seed for cell in cells} == {0}
    assert {cell.recipe.augment_seed for cell in cells} == {0}
    assert {cell.setting for cell in cells} == {"head"}
    assert [cell.name for cell in cells] == ["head-seed0", "head-seed1", "head-seed2"]


def test_each_fold_is_a_training_of_its_own():
    cells = study(folds=3, seeds=[5]).cells()
    assert [(cell.recipe.split.folds, cell.recipe.split.fold) for cell in cells] == [(3, 0), (3, 1), (3, 2)]
    assert [cell.name for cell in cells] == ["study-fold0", "study-fold1", "study-fold2"]


def test_a_study_trains_with_one_thread_so_that_the_number_of_workers_changes_no_bit():
    assert study().cells()[0].recipe.threads == 1
    assert Study.parse({"recipe": {**BASE, "threads": 2}}).cells()[0].recipe.threads == 2


def test_long_names_and_names_that_look_alike_stay_apart():
    one = study(axes={"data": ["x/a b", "x/a-b", "y/" + "long" * 60]})
    found = names(one)
    assert len({name.lower() for name in found}) == 3
    assert all(len(name) < 120 for name in found)


def test_it_is_read_from_a_file_beside_its_recipe(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"schema_version": 1, **BASE}))
    (tmp_path / "depth.yaml").write_text("recipe: base.yaml\naxes: {unfreeze: [head, all]}\n")
    one = Study.read(tmp_path / "depth.yaml", ["epochs=3"])
    assert one.name == "depth"
    assert [cell.recipe.epochs for cell in one.cells()] == [3, 3]


def test_writing_and_reading_gives_the_same_study(tmp_path):
    one = study(
        axes={"unfreeze": ["head", {"blocks": 1}]}, seeds=2, exclude=[{"unfreeze": "head", "seed": 9}]
    )
    one.write(tmp_path / "study.yaml")
    assert Study.read(tmp_path / "study.yaml") == one


def test_other_networks_stand_in_for_those_that_can_not_be_had():
    one = study(axes={"backbone": ["resnet50", "densenet121"]}).with_backbones(["efficientnet-lite0"])
    assert names(one) == ["efficientnet-lite0-for-resnet50", "efficientnet-lite0-for-densenet121"]
    assert [cell.recipe.backbone for cell in one.cells()] == ["efficientnet-lite0"] * 2
    # An ensemble of two networks becomes one of two trainings that differ.
    assert len({cell.recipe.seed for cell in one.cells()}) == 2
    two = study(axes={"backbone": ["resnet50", "densenet121"]}).with_backbones(["alexnet", "vgg16"])
    assert [cell.recipe.backbone for cell in two.cells()] == ["alexnet", "vgg16"]
    assert {cell.recipe.seed for cell in two.cells()} == {0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"axes": {"unfreze": ["head"]}}, ["unfreze", "did you mean 'unfreeze'?"]),
        ({"axes": {"unfreeze": []}}, ["axes"]),
        ({"axis": {"unfreeze": ["head"]}}, ["unknown field 'axis'", "axes"]),
        ({"axes": {"epochs": [1, "many"]}}, ["epochs: many", "field 'epochs' is 'many'"]),
        ({"axes": {"unfreeze": ["head"]}, "exclude": [{"unfreeze": "head"}]}, ["no trainings"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [1, 1]}, ["different whole numbers"]),
        ({"search": {"space": {"learning_rate": {"low": 1e-5, "high": 1e-2}}}}, ["budget"]),
        ({"search": {"space": {"learning_rat": [1]}, "trials": 3}}, ["learning_rat", "did you mean"]),
        ({"search": {"space": {"epochs": {"low": 9, "high": 3}}, "trials": 3}}, ["low must be below high"]),
        ({"search": {"space": {"epochs": [3]}, "trials": 3}, "axes": {"epochs": [1]}}, ["two ways"]),
        ({"folds": 3, "ensembles": {"all": {}}}, ["folds"]),
        ({"metric": "auc"}, ["metric"]),
    ],
)
def test_a_study_that_can_not_be_meant_is_refused_by_name(fields, words):
    with pytest.raises(UserError) as caught:
        study(**fields)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_without_a_study_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="holds no study"):
        Study.read(tmp_path / "x.yaml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_every_value_has_a_label(value):
    assert isinstance(label_of(value), str)


@given(
    st.lists(st.text(min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=6, unique=True),
    st.integers(1, 3),
)
def test_every_training_has_a_folder_name_of_its_own(values, seeds):
    found = names(study(axes={"data": values}, seeds=seeds))
    assert len({name.lower() for name in found}) == len(found)
    assert all(name and "/" not in name and not name.startswith(".") for name in found)
