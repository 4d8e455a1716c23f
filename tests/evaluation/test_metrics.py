"""Metrics against plain loops and against scikit-learn."""

import time
from functools import partial

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.evaluation import intervals, metrics

TWO = ("normal", "pneumonia")
THREE = ("blight", "healthy", "rust")


def draw(
    seed: int, count: int, classes: int, ties: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), np.arange(classes), random.integers(0, classes, count)]
    logits = random.normal(0, 1, (len(labels), classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        probabilities = np.maximum(probabilities.round(1), 0.01)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = random.integers(0, 4, (3, len(labels))).astype(float)
    weights[:, : 2 * classes] += 1  # every class is there in every resample
    return labels, probabilities, weights


@pytest.mark.parametrize("ties", [False, True])
def test_two_classes_agree_with_scikit_learn_for_every_row_of_weights(ties):
    labels, probabilities, weights = draw(0, 80, 2, ties)
    found = metrics.score(labels, probabilities, TWO, weights=weights)
    predicted, positive = probabilities.argmax(axis=1), probabilities[:, 1]
    for row, weight in enumerate(weights):
        w = {"sample_weight": weight}
        expected = {
            "accuracy": reference.accuracy_score(labels, predicted, **w),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted, **w),
            "sensitivity": reference.recall_score(labels, predicted, **w),
            "specificity": reference.recall_score(labels, predicted, pos_label=0, **w),
            "precision": reference.precision_score(labels, predicted, **w),
            "f1": reference.f1_score(labels, predicted, **w),
            "f1_macro": reference.f1_score(labels, predicted, average="macro", **w),
            "roc_auc": reference.roc_auc_score(labels, positive, **w),
            "average_precision": reference.average_precision_score(labels, positive, **w),
            "brier_score": reference.brier_score_loss(labels, positive, **w),
            "log_loss": reference.log_loss(labels, probabilities, **w),
            "f1/normal": reference.f1_score(labels, predicted, pos_label=0, **w),
            "sensitivity/normal": reference.recall_score(labels, predicted, pos_label=0, **w),
            "precision/pneumonia": reference.precision_score(labels, predicted, **w),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name


def test_three_classes_agree_with_scikit_learn_one_against_the_rest():
    labels, probabilities, weights = draw(1, 90, 3)
    found = metrics.score(labels, probabilities, THREE, weights=weights)
    predicted = probabilities.argmax(axis=1)
    for row, weight in enumerate(weights):
        w = {"sample_weight": weight}
        macro = {"average": "macro", **w}
        each = [reference.roc_auc_score(labels == index, probabilities[:, index], **w) for index in range(3)]
        expected = {
            "sensitivity": reference.recall_score(labels, predicted, **macro),
            "precision": reference.precision_score(labels, predicted, **macro),
            "f1": reference.f1_score(labels, predicted, **macro),
            "roc_auc": np.mean(each),
            "roc_auc/rust": each[2],
            "average_precision": np.mean(
                [reference.average_precision_score(labels == i, probabilities[:, i], **w) for i in range(3)]
            ),
            "specificity/blight": reference.recall_score(labels != 0, predicted != 0, **w),
            "brier_score": reference.brier_score_loss(labels, probabilities, **w),
            "log_loss": reference.log_loss(labels, probabilities, **w),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name


@given(
    pairs=st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=30)
)
@settings(max_examples=150, deadline=None)
def test_weighted_rank_metrics_equal_a_loop_over_pairs_and_thresholds(pairs):
    positive = np.array([pair[0] for pair in pairs])
    scores = np.array([pair[1] / 6 for pair in pairs])
    weights = np.array([pair[2] for pair in pairs], dtype=float)
    area, precision = metrics.rank_metrics(positive, scores, weights[None])

    copies = [(p, s) for p, s, w in zip(positive, scores, weights, strict=True) for _ in range(int(w))]
    above = [s for p, s in copies if p]
    below = [s for p, s in copies if not p]
    if above and below:
        wins = sum((a > b) + 0.5 * (a == b) for a in above for b in below)
        assert area[0] == pytest.approx(wins / (len(above) * len(below)))
    else:
        assert np.isnan(area[0])
    if above:
        steps, found = 0.0, 0
        for threshold in sorted(set(above), reverse=True):
            hits = sum(s >= threshold for s in above)
            called = sum(s >= threshold for _, s in copies)
            steps += (hits - found) / len(above) * hits / called
            found = hits
        assert precision[0] == pytest.approx(steps)
    else:
        assert np.isnan(precision[0])


def test_calibration_error_equals_a_loop_over_bins():
    labels, probabilities, weights = draw(2, 100, 3)
    found = metrics.score(labels, probabilities, THREE, weights=weights)["expected_calibration_error"]
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    for row, weight in enumerate(weights):
        error = 0.0
        for index in range(15):
            inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
            mass = weight[inside].sum()
            if mass:
                gap = (weight * right)[inside].sum() / mass - (weight * confidence)[inside].sum() / mass
                error += mass / weight.sum() * abs(gap)
        assert found[row] == pytest.approx(error)


def test_weights_are_the_same_as_repeated_images():
    labels, probabilities, weights = draw(3, 40, 3)
    repeats = weights[0].astype(int)
    weighted = metrics.score(labels, probabilities, THREE, weights=weights[:1])
    repeated = metrics.score(labels.repeat(repeats), probabilities.repeat(repeats, axis=0), THREE)
    assert {name: value[0] for name, value in weighted.items()} == pytest.approx(
        {name: value[0] for name, value in repeated.items()}
    )


def test_the_positive_class_can_be_the_first():
    labels, probabilities, _ = draw(4, 50, 2)
    first = metrics.score(labels, probabilities, TWO, positive=0)
    last = metrics.score(labels, probabilities, TWO)
    assert first["sensitivity"] == last["specificity"] == first["sensitivity/normal"]
    assert first["roc_auc"] == pytest.approx(last["roc_auc"])
    assert first["average_precision"] != pytest.approx(last["average_precision"])


def test_one_class_alone_leaves_the_metrics_that_need_two_undefined():
    labels, probabilities = np.ones(5, dtype=int), np.tile([0.3, 0.7], (5, 1))
    found = metrics.score(labels, probabilities, TWO)
    undefined = {name for name, value in found.items() if np.isnan(value[0])}
    assert {"roc_auc", "specificity", "balanced_accuracy", "sensitivity/normal"} <= undefined
    assert not {"accuracy", "sensitivity", "log_loss", "brier_score", "average_precision"} & undefined
    predicted = probabilities.argmax(axis=1)
    assert metrics.why_undefined("roc_auc", labels, predicted, TWO) == "there is no image of class normal"
    assert (
        metrics.why_undefined("precision/normal", labels, predicted, TWO)
        == "no image was predicted as normal"
    )


def test_proportions_are_the_metrics_of_the_same_name():
    labels, probabilities, _ = draw(5, 60, 2)
    found = metrics.score(labels, probabilities, TWO)
    shares = metrics.proportions(labels, probabilities.argmax(axis=1), TWO)
    assert set(shares) == {
        name
        for name in found
        if name.split("/")[0] in ("accuracy", "sensitivity", "specificity", "precision")
    }
    for name, (hits, among) in shares.items():
        assert hits[among].mean() == pytest.approx(found[name][0])


def test_a_bootstrap_of_four_models_is_far_faster_than_a_loop_over_resamples():
    labels, probabilities, _ = draw(6, 996, 2)
    scorer = partial(metrics.score, labels, probabilities, TWO, 1)
    start = time.perf_counter()
    intervals.replicate(dict.fromkeys("abcd", scorer), np.arange(len(labels)), 2000, seed=0)
    at_once = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(20):
        reference.roc_auc_score(labels, probabilities[:, 1])
        reference.average_precision_score(labels, probabilities[:, 1])
    two_metrics_in_a_loop = (time.perf_counter() - start) / 20 * 4 * 2000
    assert at_once < two_metrics_in_a_loop / 2
