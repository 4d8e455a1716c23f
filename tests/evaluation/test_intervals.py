"""Intervals: known values, coverage, and what has none."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from freezeframe.evaluation import intervals, metrics

TWO = ("normal", "pneumonia")


def replicated(labels, positive_scores, patients, resamples=2000, seed=0):
    probabilities = np.stack([1 - positive_scores, positive_scores], axis=1)
    scorer = partial(metrics.score, labels, probabilities, TWO, 1)
    return intervals.replicate({"model": scorer}, patients, resamples, seed)["model"]


@pytest.mark.parametrize(("successes", "total"), [(0, 7), (1, 1), (81, 263), (15, 148), (40, 40)])
def test_wilson_equals_scipy(successes, total):
    expected = stats.binomtest(successes, total).proportion_ci(method="wilson")
    assert intervals.wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bca_equals_scipy_where_every_image_is_a_patient():
    random = np.random.default_rng(0)
    losses = random.exponential(1, 60)

    def mean(weights):
        return {"mean": weights @ losses / weights.sum(axis=1)}

    ours = intervals.replicate({"m": mean}, np.arange(60), 20_000, 0)["m"]
    found = intervals.estimate(ours, "mean")
    expected = stats.bootstrap((losses,), np.mean, n_resamples=20_000, rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)
    assert found.method == "bca"


def test_wilson_holds_its_level_near_one():
    random = np.random.default_rng(1)
    covered = 0
    for hits in random.binomial(60, 0.95, 2000):
        low, high = intervals.wilson(int(hits), 60)
        covered += low <= 0.95 <= high
    assert 0.93 <= covered / 2000 <= 0.98


def test_the_auc_interval_covers_the_true_auc_of_patients_with_several_images_and_one_over_images_does_not():
    # Scores of an image: patient's share and own share; three images a patient, all of one class.
    random = np.random.default_rng(2)
    patients = np.repeat(np.arange(60), 4)
    labels = (patients % 2).astype(int)
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    by_patient = by_image = 0
    for trial in range(120):
        person = random.normal(0, np.sqrt(0.8), 60)[patients]
        raw = person + random.normal(0, np.sqrt(0.2), len(patients)) + 1.2 * labels
        scores = 1 / (1 + np.exp(-raw))

        def area(weights, labels=labels, scores=scores):
            return {"auc": metrics.rank_metrics(labels == 1, scores, weights)[0]}

        for name, groups in (("patient", patients), ("image", np.arange(len(patients)))):
            found = intervals.estimate(intervals.replicate({"m": area}, groups, 400, trial)["m"], "auc")
            inside = found.low <= truth <= found.high
            by_patient += inside and name == "patient"
            by_image += inside and name == "image"
    assert by_patient / 120 >= 0.89
    assert by_image / 120 <= 0.80


def test_the_calibration_error_lies_in_its_own_interval():
    random = np.random.default_rng(3)
    scores = random.uniform(0, 1, 150)
    labels = (random.uniform(0, 1, 150) < scores).astype(int)
    ours = replicated(labels, scores, np.arange(150))
    found = intervals.estimate(ours, "expected_calibration_error")
    assert found.low <= found.value <= found.high
    # Resampling shifts this metric upward; a percentile interval would leave out the smaller, likelier values.
    assert np.median(ours.bootstrap["expected_calibration_error"]) > found.value
    assert found.low < np.quantile(ours.bootstrap["expected_calibration_error"], 0.025)


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    random = np.random.default_rng(4)
    labels, scores = random.integers(0, 2, 50), random.uniform(0, 1, 50)
    one, same, other = (
        intervals.estimate(replicated(labels, scores, np.arange(50), 300, seed), "roc_auc")
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_resamples_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
    random = np.random.default_rng(5)
    labels, scores = random.integers(0, 2, 40), random.uniform(0, 1, 40)
    whole = replicated(labels, scores, np.arange(40) // 2, 150)
    monkeypatch.setattr(intervals, "_CELLS", 40 * 7)
    blocks = replicated(labels, scores, np.arange(40) // 2, 150)
    assert np.allclose(whole.bootstrap["roc_auc"], blocks.bootstrap["roc_auc"], equal_nan=True)
    assert np.allclose(whole.jackknife["roc_auc"], blocks.jackknife["roc_auc"], equal_nan=True)


def test_a_resample_takes_all_images_of_a_patient_or_none():
    codes = np.array([0, 0, 1, 2, 2, 2])
    [weights] = list(intervals._bootstrap_weights(codes, 50, 0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 3] == 3).all()
    assert len({tuple(row) for row in weights}) > 5


def test_over_a_thousand_patients_the_jackknife_leaves_out_groups():
    codes = np.arange(2500)
    rows = np.concatenate(list(intervals._jackknife_weights(codes, 0)))
    assert rows.shape == (1000, 2500)
    assert ((1 - rows).sum(axis=0) == 1).all()


def test_no_errors_have_a_wilson_interval_over_patients():
    patients = np.repeat(["a", "b", "c", "d"], 5)
    everything = np.ones(20, dtype=bool)
    found = intervals.proportion(everything, everything, patients, 500, 0)
    assert found.method == "wilson over patients"
    assert (found.value, found.low, found.high) == (1.0, *intervals.wilson(4, 4))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_perfect_separation_has_a_value_and_says_why_it_has_no_interval(count):
    labels = np.repeat([0, 1], count)
    found = intervals.estimate(replicated(labels, labels * 0.8 + 0.1, np.arange(2 * count), 300), "roc_auc")
    assert found.value == 1.0
    assert found.low is None
    assert "resample" in found.reason


def test_an_undefined_metric_becomes_null_with_a_reason():
    labels = np.ones(4, dtype=int)
    found = intervals.estimate(replicated(labels, np.full(4, 0.5), np.arange(4), 300), "roc_auc")
    assert found.to_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "it is not defined on these images",
    }
    assert intervals.proportion(np.zeros(3, bool), np.zeros(3, bool), np.arange(3), 100, 0).value is None
