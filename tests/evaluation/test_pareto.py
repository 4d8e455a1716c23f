"""The front of cost and score, and the cheapest setting that is good enough."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.evaluation.pareto import cheapest_within, front

points = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1
)


def split(found):
    return {name: cost for name, (cost, _) in found.items()}, {
        name: score for name, (_, score) in found.items()
    }


@given(points)
def test_the_front_is_exactly_what_nothing_dominates(found):
    def dominated(name):
        cost, score = found[name]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in found.values())

    assert set(front(*split(found))) == {name for name in found if not dominated(name)}


@given(points)
def test_the_front_goes_from_cheap_to_dear_and_from_bad_to_good(found):
    named = [found[name] for name in front(*split(found))]
    assert named == sorted(named)


@given(points, st.integers(0, 4))
def test_the_cheapest_within_is_near_enough_and_on_the_front_and_no_cheaper_one_is(found, tolerance):
    costs, scores = split(found)
    chosen = cheapest_within(costs, scores, tolerance)
    least = max(scores.values()) - tolerance
    assert scores[chosen] >= least
    assert chosen in front(costs, scores)
    assert costs[chosen] == min(costs[name] for name in found if scores[name] >= least)


def test_equal_settings_are_all_on_the_front():
    assert front({"a": 1, "b": 1, "c": 2}, {"a": 0.9, "b": 0.9, "c": 0.9}) == ("a", "b")


def test_what_has_no_cost_or_score_is_left_out():
    costs = {"a": 1.0, "b": math.nan, "c": 0.5, "d": 0.1}
    scores = {"a": 0.9, "b": 0.99, "c": math.nan}
    assert front(costs, scores) == ("a",)
    assert cheapest_within(costs, scores, 1.0) == "a"


def test_exactly_at_the_tolerance_is_within_it():
    assert cheapest_within({"a": 1, "b": 2}, {"a": 0.93, "b": 0.94}, 0.01) == "a"


def test_a_negative_tolerance_and_an_empty_study_are_refused():
    with pytest.raises(UserError, match="The tolerance is"):
        cheapest_within({"a": 1}, {"a": 0.5}, -0.1)
    with pytest.raises(UserError, match="No setting has both"):
        cheapest_within({}, {}, 0.01)
