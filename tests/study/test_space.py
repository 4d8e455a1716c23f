"""The space of a search: what is asked for, and what is refused before anything is trained."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.study.space import Space
from freezeframe.study.spec import Study


def make_space(space: dict, recipe: dict | None = None, **fields) -> Space:
    base = {"data": "images/", "backbone": "resnet18", **(recipe or {})}
    return Space(Study.parse({"recipe": base, "search": {"space": space, "trials": 5}, **fields}))


def point_of(space: Space, seed: int) -> dict:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    trial = study.ask()
    return space.walk(lambda axis: axis.suggest(trial))


CONDITIONAL = {
    "momentum": {"low": 0.5, "high": 0.9, "when": {"optimiser": "sgd"}},
    "weight_decay": {
        "choices": [0.0, 0.1],
        "when": {"optimiser": ["adamw", "sgd"], "unfreeze": {"layers": 4}},
    },
    "optimiser": ["adamw", "sgd"],
    "unfreeze": ["head", {"layers": 4}],
}


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_field_is_asked_for_exactly_where_its_condition_holds(seed):
    point = point_of(make_space(CONDITIONAL), seed)
    assert ("momentum" in point) == (point["optimiser"] == "sgd")
    assert ("weight_decay" in point) == (point["unfreeze"] == "layers 4")


def test_choices_of_any_kind_come_back_as_they_were_written():
    values = ["head", {"layers": 4}, [{"blocks": 1}, {"epoch": 3, "blocks": 2}]]
    space = make_space({"unfreeze": values})
    recipes = [space.cell("trial", point).recipe for point in space.combinations()]
    assert [recipe.unfreeze for recipe in recipes] == values


def test_a_grid_has_each_combination_once_and_no_field_that_is_not_asked_for():
    space = make_space(CONDITIONAL | {"momentum": {"choices": [0.5, 0.9], "when": {"optimiser": "sgd"}}})
    points = list(space.combinations())
    # adamw: head, or layers 4 with two decays; sgd: the same for each of two momenta.
    assert len(points) == 3 + 2 * 3
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert all(("momentum" in point) == (point["optimiser"] == "sgd") for point in points)


def test_a_grid_of_numbers_takes_every_step_and_both_ends():
    space = make_space(
        {"dropout": {"low": 0.1, "high": 0.7, "step": 0.3}, "epochs": {"low": 2, "high": 6, "step": 2}}
    )
    assert [axis.scalars() for axis in space.axes] == [[0.1, 0.4, 0.7], [2, 4, 6]]


def test_whole_bounds_of_a_field_with_fractions_mean_all_numbers_between():
    space = make_space({"label_smoothing": {"low": 0, "high": 0.5}, "weight_decay": {"low": 0, "high": 1}})
    point = point_of(space, 1)
    assert 0 < point["weight_decay"] < 1


def test_a_field_of_whole_numbers_gets_whole_numbers():
    point = point_of(make_space({"batch_size": {"low": 4, "high": 64, "log": True}, "split.fold": [0, 1]}), 3)
    assert isinstance(point["batch_size"], int)


@pytest.mark.parametrize(
    ("space", "point", "inside"),
    [
        ({"learning_rate": {"low": 1e-4, "high": 1e-2}}, {"learning_rate": 1e-3}, True),
        ({"learning_rate": {"low": 1e-2, "high": 1e-1}}, {}, False),
        ({"epochs": {"low": 10, "high": 40, "step": 20}}, {"epochs": 30}, True),
        ({"epochs": {"low": 10, "high": 40, "step": 15}}, {}, False),
        ({"unfreeze": [{"layers": 4}, "head"]}, {"unfreeze": "head"}, True),
        ({"unfreeze": [{"layers": 4}]}, {}, False),
        ({"backbone_learning_rate": {"low": 1e-5, "high": 1e-2}}, {}, False),
        ({"augment": ["flip", "none"], "optimiser": ["sgd"]}, {"augment": "none"}, False),
    ],
)
def test_the_base_recipe_is_found_in_the_space_or_said_to_be_outside(space, point, inside):
    assert make_space(space).base() == (point, inside)


def test_where_the_base_recipe_is_in_the_space_its_point_gives_that_recipe_again():
    space = make_space(CONDITIONAL, {"optimiser": "sgd", "momentum": 0.7})
    point, inside = space.base()
    assert inside
    assert space.cell("trial", point).recipe == space.cell("trial", {}).recipe


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            {"momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}}},
            "'optimizer', which is not searched",
        ),
        ({"optimiser": ["adamw", "rmsprop"]}, "rmsprop"),
        ({"dropout": {"low": 0.5, "high": 1.5}}, "dropout"),
        ({"learning_rate": {"low": 1e-4, "high": 1e-2, "step": 1e-4, "log": True}}, "learning_rate"),
        (
            {"optimiser": ["adamw", "sgd"], "momentum": {"choices": [0.5], "when": {"optimiser": "sdg"}}},
            "which it never is",
        ),
        (
            {
                "momentum": {"choices": [0.5], "when": {"dropout": 0.5}},
                "dropout": {"choices": [0.5], "when": {"momentum": 0.5}},
            },
            "depend on each other",
        ),
    ],
)
def test_a_space_that_would_fail_later_is_refused_with_the_field(space, words):
    with pytest.raises(UserError, match=words):
        make_space(space)


@pytest.mark.parametrize("fields", [{"folds": 3}, {"seeds": 2}])
def test_a_search_with_repeats_is_refused(fields):
    with pytest.raises(UserError, match="trains each trial once"):
        make_space({"optimiser": ["adamw", "sgd"]}, **fields)


def test_a_grid_over_all_numbers_is_refused():
    space = make_space({"learning_rate": {"low": 1e-4, "high": 1e-2}})
    with pytest.raises(UserError, match="all numbers from"):
        list(space.combinations())
