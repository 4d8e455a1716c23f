"""The difference of two models."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from freezeframe.evaluation import comparison, intervals, metrics


def models(seed: int, gain: float, count: int = 150):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shared = random.normal(0, 1, count)
    made = {}
    for name, skill in (("first", 1.0 + gain), ("second", 1.0)):
        logit = shared + random.normal(0, 0.5, count) + skill * labels
        positive = 1 / (1 + np.exp(-logit))
        made[name] = partial(metrics.score, labels, np.stack([1 - positive, positive], axis=1), ("a", "b"), 1)
    found = intervals.replicate(made, np.arange(count), 800, seed)
    return found["first"], found["second"]


def test_p_is_below_five_percent_exactly_where_the_interval_leaves_out_zero():
    seen = set()
    for seed in range(12):
        first, second = models(seed, gain=0.35)
        for metric in ("roc_auc", "brier_score", "log_loss"):
            found = comparison.difference(first, second, metric)
            excluded = found.estimate.low > 0 or found.estimate.high < 0
            # At the very edge one resample more or less decides.
            if abs(found.p - 0.05) > 0.005:
                assert (found.p < 0.05) == excluded
            seen.add(excluded)
    assert seen == {True, False}


def test_pairing_makes_the_interval_of_a_difference_narrower_than_independent_ones_would_be():
    first, second = models(0, gain=0.2)
    found = comparison.difference(first, second, "roc_auc").estimate
    alone = np.hypot(*(np.std(model.bootstrap["roc_auc"]) for model in (first, second)))
    assert found.high - found.low < 0.8 * 2 * 1.96 * alone


def test_equal_skill_is_called_different_in_about_one_of_twenty():
    p = [comparison.difference(*models(seed, gain=0.0), "roc_auc").p for seed in range(60)]
    assert np.mean(np.array(p) < 0.05) <= 0.15
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_model_compared_with_itself_has_no_interval_and_says_so():
    first, _ = models(0, gain=0.0)
    found = comparison.difference(first, first, "accuracy").to_dict()
    assert (found["value"], found["low"], found["p"]) == (0.0, None, None)
    assert "same in every resample" in found["reason"]


@pytest.mark.parametrize(("metric", "best"), [("roc_auc", "high"), ("brier_score", "low")])
def test_the_best_member_follows_the_direction_of_the_metric(metric, best):
    assert comparison.best_member({"none": np.nan, "low": 0.2, "high": 0.9}, metric) == best
