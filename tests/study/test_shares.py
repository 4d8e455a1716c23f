"""The study of a learning curve: which shares, what a training's recipe says, and what is refused."""

import numpy as np
import pytest

from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.study.shares import AXIS, study_of
from freezeframe.study.spec import Study


@pytest.fixture(scope="module")
def recipe(base) -> Recipe:
    return Recipe.parse(base)


def training_images(cell) -> set[str]:
    recipe = cell.recipe
    manifest = make_splits(read_manifest(recipe.data), recipe.split, recipe.seed)
    return set(manifest.subset("train").table["image"])


def test_shares_are_halved_as_long_as_five_patients_of_each_class_are_left(recipe):
    # Of 40 patients of each class 28 train: a quarter has 7 of each, an eighth would have 3.5.
    assert {cell.values[AXIS]: None for cell in study_of(recipe).cells()} == dict.fromkeys(
        ["0.25", "0.5", "1"]
    )


def test_each_repeat_of_a_share_draws_its_patients_anew_and_all_patients_repeat_with_other_seeds(recipe):
    cells = study_of(recipe, draws=2).cells()
    found = [(cell.values[AXIS], cell.recipe.split.draw, cell.recipe.seed) for cell in cells]
    assert found == [
        ("0.25", 0, 0), ("0.25", 1, 1), ("0.5", 0, 0), ("0.5", 1, 1), ("1", 0, 0), ("1", 0, 1),
    ]  # fmt: skip
    # The division and the views are those of the first, so that activations are shared.
    assert {(cell.recipe.split.seed, cell.recipe.augment_seed) for cell in cells} == {(0, 0)}
    assert len({cell.setting for cell in cells}) == 3


def test_in_one_draw_the_smaller_sets_are_parts_of_the_larger_ones_and_draws_differ(recipe):
    cells = study_of(recipe, draws=2).cells()
    sets = [training_images(cell) for cell in cells]
    for draw in (0, 1):
        quarter, half, whole = sets[draw::2]
        assert quarter < half < whole
    assert sets[0] != sets[1]
    assert sets[4] == sets[5]


def test_a_plain_study_of_shares_draws_anew_with_each_seed_and_a_said_draw_is_kept(base):
    fields = {"recipe": base, "axes": {AXIS: [0.5, 1]}, "seeds": [3, 4]}
    assert [cell.recipe.split.draw for cell in Study.parse(fields).cells()] == [3, 4, 0, 0]
    fields["recipe"] = {**base, "split": {"draw": 7}}
    assert [cell.recipe.split.draw for cell in Study.parse(fields).cells()] == [7, 7, 7, 7]


def test_the_recipes_own_share_and_draw_are_not_used(base):
    shared = Recipe.parse({**base, "split": {"train_share": 0.5, "draw": 9}, "seed": 5})
    cells = study_of(shared, draws=1).cells()
    assert [(cell.recipe.split.train_share, cell.recipe.split.draw) for cell in cells] == [
        (0.25, 5),
        (0.5, 5),
        (1, 0),
    ]


def test_a_recipe_that_says_every_field_is_the_same_study_as_a_short_one(recipe):
    assert study_of(Recipe.parse(recipe.to_dict())) == study_of(recipe)


def test_too_few_patients_are_refused_with_how_many_it_takes(base, radiographs, tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        for path in sorted((radiographs / label).iterdir())[: 12 if label == "NORMAL" else 40]:
            (tmp_path / label / path.name).hardlink_to(path)
    with pytest.raises(UserError, match=r"'NORMAL' has 8 training patients.*20 or more of each class"):
        study_of(Recipe.parse({**base, "data": str(tmp_path)}))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.1, 0.5, 1], r"A share of 0.1 leaves about 2.8 training patients.*Begin with a share of 0.179"),
        ([0.5, 0.5, 1], "3 or more different ones"),
        ([0.5, 1, 1.5], "above 0 and at most 1"),
        ([], "The shares are none"),
        ([np.nan, 0.5, 1], "above 0 and at most 1"),
    ],
)
def test_shares_that_tell_nothing_are_refused(recipe, shares, message):
    with pytest.raises(UserError, match=message):
        study_of(recipe, shares=shares)


def test_a_metric_without_a_ceiling_no_draws_and_a_missing_test_split_are_refused(recipe, base):
    with pytest.raises(UserError, match="no forecast of 'log_loss'"):
        study_of(recipe, metric="log_loss")
    with pytest.raises(UserError, match="0 draws"):
        study_of(recipe, draws=0)
    with pytest.raises(UserError, match="no test images"):
        study_of(Recipe.parse({**base, "split": {"test": 0}}))
