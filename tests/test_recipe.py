"""Recipes: read, checked, changed, written."""

from pathlib import Path

import pytest
import yaml

from freezeframe.errors import UserError
from freezeframe.recipe import SECTIONS, Recipe, field_table

TEXT = """\
data: images/
backbone: efficientnet-lite0
unfreeze: {blocks: 1}
augment: flip
views: 4
epochs: 10
seed: 0
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "lite0.yaml"
    path.write_text(TEXT)
    return path


def test_ten_lines_are_a_recipe(path):
    recipe = Recipe.read(path)
    assert (str(recipe.data.path), recipe.unfreeze, recipe.views) == ("images", {"blocks": 1}, 4)


def test_any_field_can_be_changed_from_outside(path):
    recipe = Recipe.read(
        path, ["backbone=resnet18", "split.test=0.2", "data.label_column=dx", "learning_rate=1e-4"]
    )
    assert (recipe.backbone, recipe.split.test, recipe.learning_rate) == ("resnet18", 0.2, 1e-4)
    assert (str(recipe.data.path), recipe.data.label_column) == ("images", "dx")


def test_a_misspelt_field_is_met_with_the_right_one(path):
    with pytest.raises(UserError, match="unknown field 'bakbone', did you mean 'backbone'"):
        Recipe.read(path, ["bakbone=resnet18"])
    with pytest.raises(UserError, match=r"unknown field 'data\.lable_column', did you mean 'label_column'"):
        Recipe.read(path, ["data.lable_column=x"])


def test_a_value_out_of_range_names_the_field(path):
    with pytest.raises(UserError, match="field 'epochs' is 0"):
        Recipe.read(path, ["epochs=0"])
    with pytest.raises(UserError, match="leave no patients for training"):
        Recipe.read(path, ["split={validation: 0.5, test: 0.5}"])


def test_a_word_that_is_short_for_a_mapping_can_be_changed_inside(path):
    assert Recipe.read(path, ["augment.rotate=15"]).augment == {"policy": "flip", "rotate": 15}


def test_set_without_a_sign_is_refused(path):
    with pytest.raises(UserError, match="field=value"):
        Recipe.read(path, ["epochs"])


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="holds no recipe"):
        Recipe.read(tmp_path / "a.yaml")


def test_a_written_recipe_is_read_back_equal(path, tmp_path):
    recipe = Recipe.read(path)
    recipe.write(tmp_path / "copy.yaml")
    assert Recipe.read(tmp_path / "copy.yaml") == recipe


def test_the_documented_fields_are_the_recipes_own():
    text = (Path(__file__).parent.parent / "docs" / "recipe.md").read_text()
    for section in (Recipe, *SECTIONS.values()):
        assert field_table(section) in text


def test_the_documented_recipe_runs_as_it_stands():
    text = (Path(__file__).parent.parent / "docs" / "recipe.md").read_text()
    example = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    assert Recipe.parse(example).unfreeze == {"blocks": 1}
