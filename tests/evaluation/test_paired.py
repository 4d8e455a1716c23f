"""Paired comparisons: published and independent values, levels by simulation, what is refused."""

import numpy as np
import pytest
from scipy import stats

from freezeframe.errors import UserError
from freezeframe.evaluation.paired import Answers, compare


def answers(labels, patients, scores):
    scores = np.atleast_2d(scores)
    return Answers(labels, patients, np.stack([1 - scores, scores], axis=2))


def from_hits(hits, patients=None):
    """Answers of (R, N) right or wrong ones, half of the images of either class."""
    hits = np.atleast_2d(hits)
    labels = np.arange(hits.shape[1]) % 2
    scores = np.where(hits, labels, 1 - labels) * 0.8 + 0.1
    return answers(labels, np.arange(hits.shape[1]) if patients is None else patients, scores)


def test_one_repeat_of_distinct_patients_is_mcnemars_mid_p_test():
    first = np.repeat([True, True, False, False], [40, 12, 4, 9])
    second = np.repeat([True, False, True, False], [40, 12, 4, 9])
    found = compare([from_hits(first)], [from_hits(second)], "accuracy")
    expected = stats.binomtest(12, 16).pvalue - stats.binom.pmf(12, 16, 0.5)
    assert found.method == "mcnemar"
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx(8 / 65)
    assert found.p_retrained is None


def test_its_interval_is_that_of_agresti_and_min():
    first = np.repeat([True, True, False, False], [40, 12, 4, 9])
    second = np.repeat([True, False, True, False], [40, 12, 4, 9])
    found = compare([from_hits(first)], [from_hits(second)], "accuracy")
    # Agresti and Min 2005: half added to each cell, then Wald's interval.
    b, c, n = 12.5, 4.5, 67.0
    error = np.sqrt(b + c - (b - c) ** 2 / n) / n
    assert (found.low, found.high) == pytest.approx(
        ((b - c) / n - 1.95996 * error, (b - c) / n + 1.95996 * error), abs=1e-5
    )


def test_identical_settings_differ_by_nothing_with_p_of_one():
    same = from_hits(np.arange(50) % 5 > 0)
    accuracy, area = (compare([same], [same], metric) for metric in ("accuracy", "roc_auc"))
    assert (accuracy.difference, accuracy.p, area.difference, area.p) == (0.0, 1.0, 0.0, 1.0)
    assert accuracy.low < 0 < accuracy.high
    assert (area.low, area.high) == (None, None)


def test_a_perfect_model_differs_from_a_constant_one_though_no_placement_varies():
    labels = np.arange(40) % 2
    perfect, constant = (
        answers(labels, np.arange(40), scores) for scores in (labels * 0.8 + 0.1, np.full(40, 0.5))
    )
    found = compare([perfect], [constant], "roc_auc")
    assert found.difference == 0.5
    assert 0 < found.p < 1e-9
    assert found.low is None


def test_the_auc_test_is_delongs_and_turns_with_the_sides():
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    first, second = random.uniform(size=(2, 120)) * 0.7 + np.array([[0.3], [0.1]]) * labels
    found = compare(
        [answers(labels, np.arange(120), first)], [answers(labels, np.arange(120), second)], "roc_auc"
    )
    kernels = [(s[labels == 1][:, None] > s[labels == 0]).astype(float) for s in (first, second)]
    kernel = kernels[0] - kernels[1]
    error = np.sqrt(kernel.mean(axis=1).var(ddof=1) / 60 + kernel.mean(axis=0).var(ddof=1) / 60)
    assert found.method == "delong"
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(kernel.mean()) / error))
    assert (found.low, found.high) == pytest.approx(
        (kernel.mean() - 1.959964 * error, kernel.mean() + 1.959964 * error)
    )
    turned = compare(
        [answers(labels, np.arange(120), second)], [answers(labels, np.arange(120), first)], "roc_auc"
    )
    assert (turned.difference, turned.low, turned.p) == pytest.approx(
        (-found.difference, -found.high, found.p)
    )


def test_several_repeats_are_compared_by_their_mean_whatever_their_order():
    random = np.random.default_rng(1)
    first, second = random.uniform(size=(3, 80)) < 0.85, random.uniform(size=(2, 80)) < 0.75
    for metric in ("accuracy", "roc_auc"):
        found = compare([from_hits(first)], [from_hits(second)], metric)
        again = compare([from_hits(first[::-1])], [from_hits(second[::-1])], metric)
        assert found.p == pytest.approx(again.p)
    accuracy = compare([from_hits(first)], [from_hits(second)], "accuracy")
    assert accuracy.difference == pytest.approx(first.mean() - second.mean())
    assert accuracy.method == "sign flips"


def test_equal_repeats_say_no_more_than_one():
    random = np.random.default_rng(2)
    first, second = random.uniform(size=(2, 80)) < 0.8
    for metric in ("accuracy", "roc_auc"):
        once = compare([from_hits(first)], [from_hits(second)], metric)
        often = compare([from_hits(np.tile(first, (4, 1)))], [from_hits(np.tile(second, (4, 1)))], metric)
        assert often.p == pytest.approx(once.p)
        assert often.difference == pytest.approx(once.difference)
        # No repeat differs from another, so training anew adds nothing to the AUC's variance.
        assert once.p_retrained is None
    assert often.p_retrained == pytest.approx(often.p)


def test_folds_are_strata():
    random = np.random.default_rng(3)
    labels = np.arange(60) % 2
    folds = [
        [
            answers(labels, np.arange(60) + 100 * fold, random.uniform(size=60) * 0.8 + gain * labels)
            for fold in range(3)
        ]
        for gain in (0.2, 0.1)
    ]
    alone = [compare([own], [other], "roc_auc") for own, other in zip(*folds, strict=True)]
    together = compare(*folds, "roc_auc")
    assert together.difference == pytest.approx(np.mean([found.difference for found in alone]))
    errors = np.array([(found.high - found.low) / 2 for found in alone])
    assert (together.high - together.low) / 2 == pytest.approx(np.sqrt((errors**2).sum()) / 3)
    pooled = compare(*folds, "accuracy")
    assert pooled.difference == pytest.approx(
        np.mean([compare([a], [b], "accuracy").difference for a, b in zip(*folds, strict=True)])
    )


def simulate_hits(random, patients, each, repeats, seed_spread=0.0):
    """Hits of two equally good settings; a patient's images are alike, and each setting has patients it fails."""
    person = random.normal(0, 1, patients)
    hits = []
    for _ in range(2):
        own = random.normal(0, 1.2, patients)
        tendency = np.repeat(1.5 + person + own, each)
        tendency = tendency + random.normal(0, seed_spread, (repeats, 1))
        hits.append(tendency + random.normal(0, 0.7, (repeats, patients * each)) > 0)
    return hits


def rejected(p_values):
    return np.mean(np.array(p_values) < 0.05)


@pytest.mark.parametrize(("patients", "each", "repeats"), [(200, 1, 1), (200, 1, 3), (25, 4, 1), (60, 4, 3)])
def test_accuracy_of_equal_settings_is_called_different_in_one_of_twenty(patients, each, repeats):
    random = np.random.default_rng(4)
    owner, p, inside = np.repeat(np.arange(patients), each), [], []
    for _ in range(500):
        first, second = (from_hits(hits, owner) for hits in simulate_hits(random, patients, each, repeats))
        found = compare([first], [second], "accuracy")
        p.append(found.p)
        inside.append(found.low <= 0 <= found.high)
    assert 0.02 <= rejected(p) <= 0.075
    assert np.mean(inside) >= 0.92


def test_taking_images_of_one_patient_for_patients_calls_equal_settings_different_far_too_often():
    random = np.random.default_rng(5)
    p = [
        compare(*([from_hits(hits)] for hits in simulate_hits(random, 40, 6, 1)), "accuracy").p
        for _ in range(200)
    ]
    assert rejected(p) > 0.15


def simulate_scores(random, patients, each, repeats, spread=0.0, gain=0.0):
    labels = np.repeat(np.arange(patients) % 2, each)
    person = np.repeat(random.normal(0, 0.8, patients), each)
    made = []
    for skill in (1.2 + gain, 1.2):
        own = np.repeat(random.normal(0, 0.7, patients), each)
        skills = skill + random.normal(0, spread, (repeats, 1))
        raw = person + own + random.normal(0, 0.7, (repeats, len(labels))) + skills * labels
        made.append([answers(labels, np.repeat(np.arange(patients), each), 1 / (1 + np.exp(-raw)))])
    return made


@pytest.mark.parametrize(("patients", "each", "repeats"), [(100, 1, 1), (100, 1, 3), (60, 4, 2)])
def test_auc_of_equal_settings_is_called_different_in_one_of_twenty(patients, each, repeats):
    random = np.random.default_rng(6)
    found = [compare(*simulate_scores(random, patients, each, repeats), "roc_auc") for _ in range(500)]
    assert 0.025 <= rejected([one.p for one in found]) <= 0.08
    assert {one.method for one in found} == {"delong" if each == 1 else "obuchowski"}


def test_the_interval_of_an_auc_difference_covers_the_true_one():
    random = np.random.default_rng(7)
    spread = np.sqrt(2 * (0.8**2 + 0.7**2 + 0.7**2))
    truth = stats.norm.cdf(1.7 / spread) - stats.norm.cdf(1.2 / spread)
    found = [compare(*simulate_scores(random, 120, 1, 1, gain=0.5), "roc_auc") for _ in range(400)]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_settings_whose_seeds_vary_need_the_p_value_of_retraining(metric):
    # Many test images and seeds that vary: these trained models differ, the settings do not.
    random = np.random.default_rng(8)
    found = []
    for _ in range(250):
        if metric == "accuracy":
            first, second = ([from_hits(hits)] for hits in simulate_hits(random, 1000, 1, 4, seed_spread=0.2))
        else:
            first, second = simulate_scores(random, 1000, 1, 4, spread=0.15)
        found.append(compare(first, second, metric))
    assert rejected([one.p for one in found]) > 0.12
    assert rejected([one.p_retrained for one in found]) < 0.085


def test_a_real_gain_is_found_also_when_trained_anew():
    random = np.random.default_rng(9)
    found = [
        compare(*simulate_scores(random, 400, 1, 4, spread=0.05, gain=0.6), "roc_auc") for _ in range(50)
    ]
    assert rejected([one.p_retrained for one in found]) > 0.8


def test_three_classes_hold_the_level_too():
    random = np.random.default_rng(10)
    p = []
    for _ in range(400):
        labels = random.choice(3, 120, p=[0.5, 0.3, 0.2])
        shared = random.normal(size=(120, 3))
        made = []
        for _ in range(2):
            logits = shared + random.normal(size=(1, 120, 3)) + 1.5 * np.eye(3)[labels]
            made.append(
                [Answers(labels, np.arange(120), np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True))]
            )
        p.append(compare(*made, "roc_auc").p)
    assert 0.025 <= rejected(p) <= 0.08


def test_other_images_other_metrics_and_too_few_patients_are_refused():
    ours, theirs = from_hits(np.ones(10, bool)), from_hits(np.ones(12, bool))
    with pytest.raises(UserError, match="different images"):
        compare([ours], [theirs], "accuracy")
    with pytest.raises(UserError, match="different images"):
        compare([ours], [ours, ours], "accuracy")
    with pytest.raises(UserError, match="no paired test for f1"):
        compare([ours], [ours], "f1")  # pyright: ignore[reportArgumentType]
    one_class = answers(np.zeros(10, int), np.arange(10), np.full(10, 0.3))
    with pytest.raises(UserError, match="of 0 patients with images of class 1"):
        compare([one_class], [one_class], "roc_auc")
    alone = from_hits(np.ones(10, bool), np.zeros(10))
    with pytest.raises(UserError, match=r"of 1 patient\."):
        compare([alone], [alone], "accuracy")
    with pytest.raises(UserError, match="different numbers of repeats"):
        compare([ours, from_hits(np.ones((2, 10), bool))], [ours, ours], "accuracy")
    with pytest.raises(ValueError, match="belong together"):
        Answers(np.zeros(3, int), np.arange(3), np.zeros((3, 2)))
