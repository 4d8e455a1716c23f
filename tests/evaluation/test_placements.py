"""Placements and variances against naive DeLong and Obuchowski, scikit-learn and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from freezeframe.evaluation.placements import (
    accuracy_influence,
    auc_influence,
    placements,
    retraining_variance,
    variance,
)


def naive_placements(positive, scores):
    # The kernel of DeLong et al. 1988, pair by pair.
    kernel = (scores[positive][:, None] > scores[~positive]) + 0.5 * (
        scores[positive][:, None] == scores[~positive]
    )
    return kernel.mean(axis=1), kernel.mean(axis=0)


def two_columns(scores):
    return np.stack([1 - scores, scores], axis=-1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_placements_equal_the_mean_over_all_pairs_ties_included(pairs):
    positive, scores = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs], dtype=float)
    if not 0 < positive.sum() < len(positive):
        return
    found = placements(positive, scores[None])[0]
    of_positives, of_negatives = naive_placements(positive, scores)
    assert found[positive] == pytest.approx(of_positives)
    assert found[~positive] == pytest.approx(of_negatives)
    assert found[positive].mean() == pytest.approx(roc_auc_score(positive, scores))


def test_with_single_images_the_variance_is_delongs():
    random = np.random.default_rng(0)
    labels = (np.arange(90) % 3 == 0).astype(int)
    scores = np.round(random.uniform(size=(2, 90)) * 0.6 + 0.3 * labels, 1)
    found = auc_influence(labels, two_columns(scores), np.arange(90))
    first, second = (naive_placements(labels == 1, row) for row in scores)
    positives = np.cov(first[0] - second[0], ddof=1) / 30
    negatives = np.cov(first[1] - second[1], ddof=1) / 60
    assert variance(found.parts[0] - found.parts[1], found.present) == pytest.approx(positives + negatives)
    assert found.values == pytest.approx([roc_auc_score(labels, row) for row in scores])


def test_with_several_images_the_variance_is_obuchowskis():
    # Obuchowski 1997, formulas for S10, S01 and S11, patient by patient; patients have images of both classes.
    random = np.random.default_rng(1)
    codes = random.integers(0, 25, 120)
    codes[:25] = np.arange(25)
    labels = random.integers(0, 2, 120)
    scores = random.uniform(size=120) + 0.5 * labels
    scores /= 1.6
    found = auc_influence(labels, two_columns(scores)[None], codes)
    of_positives, of_negatives = naive_placements(labels == 1, scores)
    area, m, n = of_positives.mean(), (labels == 1).sum(), (labels == 0).sum()
    x = np.array([(of_positives[codes[labels == 1] == p] - area).sum() for p in range(25)])
    y = np.array([(of_negatives[codes[labels == 0] == p] - area).sum() for p in range(25)])
    i10, i01 = len(set(codes[labels == 1])), len(set(codes[labels == 0]))
    s10 = i10 / ((i10 - 1) * m) * (x**2).sum()
    s01 = i01 / ((i01 - 1) * n) * (y**2).sum()
    s11 = 25 / 24 * (x * y).sum()
    expected = s10 / m + s01 / n + 2 * s11 / (m * n)
    assert variance(found.parts[0], found.present) == pytest.approx(expected)


def test_the_macro_auc_is_scikit_learns_and_its_variance_that_of_new_samples():
    random = np.random.default_rng(2)
    values, variances = [], []
    for _ in range(400):
        labels = random.choice(3, 150, p=[0.5, 0.3, 0.2])
        logits = random.normal(size=(150, 3)) + 1.2 * np.eye(3)[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found = auc_influence(labels, probabilities[None], np.arange(150))
        values.append(found.values[0])
        variances.append(variance(found.parts[0], found.present))
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert values[-1] == pytest.approx(expected)
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)


def test_the_named_positive_class_of_two_is_scored():
    random = np.random.default_rng(3)
    labels, scores = random.integers(0, 2, 40), random.uniform(size=(40, 2))
    last, first = (
        auc_influence(labels, scores[None], np.arange(40), positive).values[0] for positive in (-1, 0)
    )
    assert last == pytest.approx(roc_auc_score(labels, scores[:, 1]))
    assert first == pytest.approx(roc_auc_score(1 - labels, scores[:, 0]))


def test_the_variance_of_an_accuracy_over_patients_is_the_sandwich():
    random = np.random.default_rng(4)
    codes = np.repeat(np.arange(20), 3)
    labels = random.integers(0, 2, 60)
    probabilities = two_columns(random.uniform(size=60))
    found = accuracy_influence(labels, probabilities[None], codes)
    hits = probabilities.argmax(axis=1) == labels
    residuals = np.bincount(codes, hits - hits.mean())
    assert variance(found.parts[0], found.present) == pytest.approx(20 / 19 * (residuals**2).sum() / 60**2)


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_variance_of_retraining_is_told_apart_from_the_test_images_chance(spread):
    random = np.random.default_rng(5)
    found = []
    labels = np.zeros(300, dtype=int)
    for _ in range(300):
        hits = random.uniform(size=(4, 300)) < 0.8 + random.normal(0, spread, (4, 1))
        influence = accuracy_influence(labels, np.stack([hits, ~hits], axis=2).astype(float), np.arange(300))
        found.append(retraining_variance(influence))
        naive = influence.values.var(ddof=1)
        assert found[-1] <= naive + 1e-12
    # Cut off at 0, it is a little above 0 where there is nothing: naively it would be 0.8 * 0.2 / 300 = 0.00053.
    assert np.mean(found) == pytest.approx(spread**2, abs=2.5e-4)
