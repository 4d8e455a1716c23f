"""Thresholds from validation images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.evaluation.operating_points import OperatingPoint, choose

validation = st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=40).filter(
    lambda pairs: len({pair[0] for pair in pairs}) == 2
)


def shares(positive: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    called = scores >= threshold
    return float(called[positive].mean()), float((~called)[~positive].mean())


@given(pairs=validation, target=st.floats(0.05, 1))
@settings(max_examples=150, deadline=None)
def test_no_other_threshold_would_have_been_better(pairs, target):
    positive, scores = np.array([p for p, _ in pairs]), np.array([s / 10 for _, s in pairs])
    grid = [shares(positive, scores, t) for t in np.r_[np.linspace(-0.05, 1.05, 23)]]

    youden = choose(positive, scores, "pneumonia")
    assert youden.sensitivity + youden.specificity == pytest.approx(max(a + b for a, b in grid))

    sensitive = choose(positive, scores, "pneumonia", "sensitivity", target)
    assert sensitive.sensitivity >= target - 1e-9
    assert sensitive.specificity == pytest.approx(max(b for a, b in grid if a >= target - 1e-9))

    specific = choose(positive, scores, "pneumonia", "specificity", target)
    assert specific.specificity >= target - 1e-9
    assert specific.sensitivity == pytest.approx(max(a for a, b in grid if b >= target - 1e-9))

    for point in (youden, sensitive, specific):
        assert shares(positive, scores, point.threshold) == pytest.approx(
            (point.sensitivity, point.specificity)
        )
        assert OperatingPoint.from_dict(point.to_dict()) == point


def test_of_equal_thresholds_youden_takes_the_most_sensitive():
    positive = np.array([True, False, True, False])
    point = choose(positive, np.array([0.2, 0.4, 0.6, 0.1]), "p")
    assert (point.sensitivity, point.specificity) == (1.0, 0.5)


def test_no_image_sits_on_the_threshold():
    scores = np.array([0.1, 0.3, 0.30000001, 0.9])
    point = choose(np.array([False, False, True, True]), scores, "p")
    assert 0.3 < point.threshold < 0.30000001


def test_all_scores_equal_leaves_only_all_or_nothing():
    positive, scores = np.array([True, False, False]), np.full(3, 1.0)
    assert choose(positive, scores, "p", "sensitivity", 0.9).specificity == 0.0
    nothing = choose(positive, scores, "p", "specificity", 0.9)
    assert (nothing.sensitivity, nothing.specificity) == (0.0, 1.0)
    assert nothing.threshold > 1


@pytest.mark.parametrize("target", [None, 0.0, 1.2, -1.0])
def test_a_target_out_of_range_is_refused(target):
    with pytest.raises(UserError, match="above 0 and up to 1"):
        choose(np.array([True, False]), np.array([0.9, 0.1]), "p", "sensitivity", target)


def test_validation_images_of_one_class_are_refused_with_the_counts():
    with pytest.raises(UserError, match="2 are 'p' and 0 of others"):
        choose(np.array([True, True]), np.array([0.9, 0.1]), "p")
