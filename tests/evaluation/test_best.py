"""Every setting against the best: who is the best, who is not shown to differ, how fast."""

import time

import numpy as np
import pytest

from freezeframe.errors import UserError
from freezeframe.evaluation.best import against_best
from freezeframe.evaluation.multiplicity import holm
from freezeframe.evaluation.paired import Answers, compare


def study(random, skills, count=400, repeats=1, spread=0.0):
    labels, patients = np.arange(count) % 2, np.array([f"patient {index}" for index in range(count)])
    shared = random.normal(size=count)
    settings = {}
    for name, skill in skills.items():
        own = skill + random.normal(0, spread, (repeats, 1)) if spread else skill
        raw = shared + random.normal(0, 0.8, (repeats, count)) + own * (labels - 0.5)
        scores = 1 / (1 + np.exp(-raw))
        settings[name] = [
            Answers(labels, patients, np.stack([1 - scores, scores], axis=2).astype(np.float32))
        ]
    return settings


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_clearly_worse_settings_are_told_apart_and_alike_ones_are_not(metric):
    settings = study(np.random.default_rng(0), {"poor": 0.5, "good": 3.0, "as good": 3.0})
    found = against_best(settings, {"poor": 0.7, "good": 0.95, "as good": 0.94}, metric)
    assert found.best == "good"
    assert found.indistinguishable == ("as good",)
    assert found.comparisons["poor"].high < 0
    assert found.comparisons["poor"] == compare(settings["poor"], settings["good"], metric)
    assert not found.retrained


def test_the_best_is_chosen_by_validation_even_where_another_is_better_on_test_images():
    settings = study(np.random.default_rng(1), {"lucky": 0.5, "better": 3.0, "unknown": 3.0})
    found = against_best(settings, {"lucky": 0.96, "better": 0.95, "unknown": np.nan}, "roc_auc")
    assert found.best == "lucky"
    assert found.comparisons["better"].difference > 0
    assert set(found.comparisons) == {"better", "unknown"}


def test_the_p_values_are_adjusted_after_holm():
    settings = study(np.random.default_rng(2), {"a": 1.6, "b": 1.2, "c": 1.9, "d": 2.0})
    found = against_best(settings, {"a": 0.8, "b": 0.7, "c": 0.85, "d": 0.9}, "roc_auc")
    expected = holm([one.p for one in found.comparisons.values()])
    assert list(found.adjusted.values()) == pytest.approx(expected.tolist())


def test_with_repeats_everywhere_the_claim_is_about_settings_trained_anew():
    settings = study(np.random.default_rng(3), {"a": 2.0, "b": 1.5}, repeats=3, spread=0.2)
    found = against_best(settings, {"a": 0.9, "b": 0.8}, "roc_auc")
    assert found.retrained
    assert found.adjusted["b"] == found.comparisons["b"].p_retrained


def test_of_many_equal_settings_one_is_called_different_in_about_one_of_twenty_studies():
    false = single = 0
    for seed in range(100):
        settings = study(np.random.default_rng([4, seed]), dict.fromkeys("abcdefghij", 1.5), 200)
        found = against_best(settings, dict.fromkeys("abcdefghij", 0.9), "roc_auc")
        false += len(found.indistinguishable) < 9
        single += any(one.p < 0.05 for one in found.comparisons.values())
    assert false <= 11
    assert single > 2 * false


def test_a_single_setting_is_the_best_of_nothing_else():
    found = against_best(study(np.random.default_rng(5), {"a": 1.0}), {"a": 0.8}, "accuracy")
    assert (found.best, found.comparisons, found.indistinguishable, found.retrained) == ("a", {}, (), False)


def test_without_validation_scores_there_is_no_best():
    with pytest.raises(UserError, match="validation score"):
        against_best(study(np.random.default_rng(6), {"a": 1.0}), {"a": np.nan}, "accuracy")


def test_a_hundred_settings_of_five_seeds_and_five_thousand_images_take_seconds_at_most():
    skills = {f"setting {index}": 1 + index / 50 for index in range(100)}
    settings = study(np.random.default_rng(7), skills, 5000, 5, spread=0.1)
    for metric in ("accuracy", "roc_auc"):
        begun = time.process_time()
        found = against_best(settings, skills, metric)
        # About 1 s; the margin is for a machine that is slow.
        assert time.process_time() - begun < 8
        assert found.best == "setting 99"
