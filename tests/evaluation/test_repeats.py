"""Intervals over seeds and folds: known values and coverage."""

import numpy as np
import pytest
from scipy import stats

from freezeframe.evaluation.repeats import over_folds, over_seeds, over_seeds_and_folds


def test_the_interval_over_seeds_is_scipys():
    scores = [0.91, 0.95, 0.93, 0.92]
    found = over_seeds(scores)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.value, found.method) == (pytest.approx(0.9275), "student t over seeds")


def test_one_repeat_has_a_value_and_says_why_it_has_no_interval():
    found = over_seeds([np.nan, 0.9])
    assert (found.value, found.low, found.reason) == (0.9, None, "there is one repeat")
    assert over_folds([0.9]).reason == "there is one fold"
    assert over_seeds([np.nan]).to_dict()["value"] is None


def test_a_failed_training_is_left_out():
    assert over_seeds([0.9, np.nan, 0.92]) == over_seeds([0.9, 0.92])
    grid = [[0.9, 0.8, np.nan], [0.92, np.nan, np.nan]]
    assert over_seeds_and_folds(grid) == over_folds([0.91, 0.8, np.nan])


def test_an_interval_ends_at_the_metrics_largest_value():
    assert over_seeds([0.99, 1.0, 0.95]).high == 1.0
    assert over_seeds([0.99, 1.0, 0.95], highest=np.inf).high > 1.0
    assert over_seeds([0.0, 0.3]).low == 0.0


def test_the_corrected_interval_is_wider_by_the_known_factor():
    scores = np.array([0.80, 0.84, 0.82, 0.86, 0.78])
    naive, corrected = over_seeds(scores), over_folds(scores)
    # sqrt((1/5 + 1/4) / (1/5)) = 1.5 for five folds.
    assert (corrected.high - corrected.low) / (naive.high - naive.low) == pytest.approx(1.5)
    wider = over_folds(scores, ratio=0.5)
    assert wider.high - wider.low > corrected.high - corrected.low


def test_seeds_on_the_same_folds_are_no_new_witnesses():
    folds = np.array([0.80, 0.84, 0.82, 0.86, 0.78])
    many, few = over_seeds_and_folds(np.tile(folds, (10, 1))), over_folds(folds)
    assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))


def test_over_seeds_holds_its_level():
    random = np.random.default_rng(0)
    inside = []
    for scores in random.normal(0.5, 0.02, (2000, 3)):
        found = over_seeds(scores)
        inside.append(found.low <= 0.5 <= found.high)
    assert 0.935 < np.mean(inside) < 0.965


def test_over_folds_covers_the_true_score_of_a_cross_validated_classifier_and_the_naive_one_does_not():
    # Nearest-mean classifiers of 40 images in 5 dimensions: small sets make folds depend on each other.
    random = np.random.default_rng(1)
    corrected, naive, errors, trials = [], [], [], 300
    shift = np.full(5, 0.35)
    for _ in range(trials):
        labels = np.arange(40) % 2
        images = random.normal(size=(40, 5)) + np.where(labels[:, None] == 1, shift, -shift)
        folds = np.arange(40) // 2 % 5
        scores, truths = [], []
        for fold in range(5):
            train = folds != fold
            axis = images[train & (labels == 1)].mean(axis=0) - images[train & (labels == 0)].mean(axis=0)
            middle = images[train].mean(axis=0) @ axis
            scores.append(np.mean((images[~train] @ axis > middle) == labels[~train]))
            up, down = (shift @ axis - middle, -shift @ axis - middle)
            width = np.linalg.norm(axis)
            truths.append((stats.norm.cdf(up / width) + stats.norm.cdf(-down / width)) / 2)
        errors.append(np.mean(truths))
        corrected.append(over_folds(scores))
        naive.append(over_seeds(scores))
    truth = np.mean(errors)
    wide, narrow = (np.mean([f.low <= truth <= f.high for f in found]) for found in (corrected, naive))
    assert wide > 0.94
    assert narrow < wide
