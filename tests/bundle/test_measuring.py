"""Operating points that a bundle gets, and from which images."""

import pytest

from factories import make_run
from freezeframe.bundle.measuring import labelled, measure, settle
from freezeframe.bundle.options import Options
from freezeframe.ensemble.folder import read_ensemble
from freezeframe.errors import UserError
from freezeframe.verbs.ensemble import ensemble

CLASSES = ("blight", "healthy", "rust")


@pytest.fixture
def three(tmp_path):
    runs = [make_run(tmp_path, name, seed=seed, n=240, classes=CLASSES) for seed, name in enumerate("ab")]
    return read_ensemble(ensemble(runs, tmp_path / "three"))


def test_of_several_classes_none_has_a_threshold_unless_it_is_named(three):
    validation = labelled(three, "validation", None)
    assert validation is not None
    assert settle(three, validation, Options("x"))[1] == ()
    with pytest.raises(UserError, match="Name one with --positive: blight, healthy, rust"):
        settle(three, validation, Options("x", sensitivities=(0.9,)))
    points = settle(three, validation, Options("x", positive="rust", sensitivities=(0.9,)))[1]
    assert [point.name for point in points] == ["default", "sensitivity-0.9"]
    assert {point.threshold().positive_class for point in points} == {"rust"}


def test_thresholds_are_chosen_on_validation_and_measured_on_test_images(three):
    validation = labelled(three, "validation", None)
    assert validation is not None
    options = Options("x", positive="rust", specificities=(0.8,))
    _, points = settle(three, validation, options)
    point = points[1].threshold()
    rust = validation.labels == 2
    called = validation.probabilities["ensemble"][:, 2] >= point.threshold
    assert (~called)[~rust].mean() == pytest.approx(point.specificity)
    assert point.specificity >= 0.8
    found = measure(three, points, options)
    test = labelled(three, "test", None)
    assert found is not None
    assert test is not None
    assert found["images"] == len(test.labels)
    called = test.probabilities["ensemble"][:, 2] >= point.threshold
    sensitivity = found["operating_points"]["specificity-0.8"]["sensitivity"]["value"]
    assert called[test.labels == 2].mean() == pytest.approx(sensitivity)


def test_a_run_without_temperature_gets_one(tmp_path):
    run = read_ensemble(make_run(tmp_path, "a", n=240))
    assert run.temperature is None
    validation = labelled(run, "validation", None)
    assert validation is not None
    settled, points = settle(run, validation, Options("x"))
    assert settled.temperature is not None
    assert settled.temperature > 0
    assert [point.name for point in points] == ["default"]
