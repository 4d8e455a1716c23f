import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_curve

from freezeframe.evaluation.paired import Answers, compare
from freezeframe.study import findings, results
from freezeframe.study.remedies import MOVED
from studies import make_study

IMBALANCE = {"imbalance": ("none", "weights", "focal")}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("studies") / "skin", n=480, failed=["lite0-head-none-seed0"])
    return findings.find(results.read(study))


def test_the_best_is_chosen_on_validation_images_also_where_another_has_the_better_test_score(found):
    scores = {one.name: one.validation["roc_auc"] for one in found.ranked}
    assert found.best.name == max(scores, key=scores.__getitem__)
    assert found.main.best == found.best.name
    assert len(found.main.comparisons) == 10


def test_a_comparison_is_that_of_the_stored_predictions(found):
    other = found.ranked[3]
    answers = [
        [Answers(one.labels, one.patients, one.probabilities[None])]
        for setting in (other, found.best)
        for one in (setting.cells[0].predictions["test"],)
    ]
    expected = compare(*answers, "roc_auc")
    assert found.main.comparisons[other.name].difference == pytest.approx(expected.difference)
    assert found.main.comparisons[other.name].p == pytest.approx(expected.p)
    assert set(found.against_best) == {"roc_auc", "accuracy"}


def test_settings_that_are_not_shown_to_differ_are_named_best_first(found):
    names = [one.name for one in found.indistinguishable]
    assert set(names) == {name for name, p in found.main.adjusted.items() if p >= 0.05}
    assert names == [one.name for one in found.ranked if one.name in names]


def test_an_effect_is_the_mean_over_the_pairs_that_differ_in_nothing_else(found):
    score = {tuple(one.values.values()): one.test["roc_auc"].value for one in found.settings if one.cells}
    pairs = [
        score[n, d, "flip"] - score[n, d, "none"]
        for n, d, a in score
        if a == "flip" and (n, d, "none") in score
    ]
    effect = next(one for one in found.effects if one.axis == "augment")
    assert effect.pairs == len(pairs) == 5
    assert effect.difference.value == pytest.approx(np.mean(pairs))
    low = np.mean(pairs) - 2.776445 * np.std(pairs, ddof=1) / np.sqrt(5)
    assert effect.difference.low == pytest.approx(low, rel=1e-5)


def test_a_study_without_any_result_has_no_best_and_no_comparisons(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head",)}, waiting=["head-seed0"], extras=False)
    found = findings.find(results.read(study))
    assert found.best is None
    assert found.main is None
    assert found.effects == found.beside == found.remedies == ()


def test_runs_without_test_images_are_ranked_but_not_compared(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head", "layers 2")}, extras=False)
    for path in study.glob("runs/*/predictions/test.parquet"):
        path.unlink()
    found = findings.find(results.read(study))
    assert found.best is not None
    assert found.main is None


def test_a_study_that_is_ranked_by_a_loss_takes_the_smallest(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head", "layers 4")}, extras=False, metric="log_loss")
    found = findings.find(results.read(study))
    losses = {one.name: one.validation["log_loss"] for one in found.settings}
    assert found.best.name == min(losses, key=losses.__getitem__) == found.main.best
    assert found.compared == "roc_auc"


def test_moving_the_threshold_is_youdens_on_validation_images_applied_to_the_test_images(tmp_path):
    study = make_study(tmp_path / "s", IMBALANCE, n=480, extras=False)
    read = results.read(study)
    remedies = {one.name: one for one in findings.find(read).remedies}
    assert list(remedies) == ["none", MOVED, "weights", "focal"]
    validation, test = (read.cells[0].predictions[split] for split in ("validation", "test"))
    false, true, thresholds = roc_curve(
        validation.labels, validation.probabilities[:, 1], drop_intermediate=False
    )
    best = thresholds[np.flatnonzero(np.isclose(true - false, (true - false).max()))[-1]]
    # The threshold lies half-way to the next lower score, so that no image sits on it.
    below = validation.probabilities[:, 1][validation.probabilities[:, 1] < best].max()
    called = (test.probabilities[:, 1] >= (best + below) / 2).astype(int)
    moved = remedies[MOVED].scores
    minority = read.classes.index(remedies[MOVED].minority)
    assert moved["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(test.labels, called))
    assert moved["minority_f1"].value == pytest.approx(f1_score(test.labels, called, pos_label=minority))
    assert moved["brier_score"].value == remedies["none"].scores["brier_score"].value
    assert moved["sensitivity"].value != remedies["none"].scores["sensitivity"].value


def test_a_study_without_that_axis_has_no_remedies(found):
    assert found.remedies == ()
