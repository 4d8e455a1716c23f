"""Reliability and temperature."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from freezeframe.evaluation import calibration


def test_the_reliability_curve_equals_scikit_learns():
    random = np.random.default_rng(0)
    scores = random.uniform(0, 0.9, 300)
    positive = random.uniform(0, 1, 300) < scores
    observed, predicted = calibration_curve(positive, scores, n_bins=10)
    points = calibration.reliability_curve(positive, scores)
    assert [point["observed"] for point in points] == pytest.approx(observed)
    assert [point["probability"] for point in points] == pytest.approx(predicted)
    assert sum(point["count"] for point in points) == 300
    assert all(0 <= point["low"] <= point["observed"] <= point["high"] <= 1 for point in points)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_logits_were_made_with_is_found(temperature):
    random = np.random.default_rng(1)
    logits = random.normal(0, 1.5, (6000, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in true])
    stated = np.exp(logits * temperature)
    stated /= stated.sum(axis=1, keepdims=True)
    found = calibration.fit_temperature(labels, stated)
    assert found == pytest.approx(temperature, rel=0.08)
    assert np.allclose(calibration.apply_temperature(stated, temperature), true)


def test_a_model_without_errors_ends_at_the_edge_of_the_range_and_not_beyond():
    found = calibration.fit_temperature(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert calibration.TEMPERATURES[0] <= found < 0.3


def test_certain_probabilities_survive_scaling():
    scaled = calibration.apply_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), 3.0)
    assert np.isfinite(scaled).all()
    assert scaled.argmax(axis=1).tolist() == [0, 1]
