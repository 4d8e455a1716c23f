import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from freezeframe.data.manifest import Manifest
from freezeframe.evaluation.intervals import wilson
from freezeframe.study import results, settings
from studies import make_study, write_predictions

AXES = {"unfreeze": ("head", "layers 2", "layers 4")}


def test_a_score_of_several_seeds_is_their_mean_and_that_of_one_has_an_interval_over_patients(tmp_path):
    read = results.read(make_study(tmp_path / "s", AXES, seeds=(0, 1, 2), extras=False))
    cells = read.settings["layers-2"]
    several = settings.estimate(read, cells, ("roc_auc",))["roc_auc"]
    assert several.value == pytest.approx(np.mean([cell.scores["test"]["roc_auc"] for cell in cells]))
    assert "seeds" in several.method
    one = settings.estimate(read, cells[:1], ("roc_auc", "accuracy"))
    assert one["roc_auc"].method == "bca"
    accuracy, n = one["accuracy"], len(cells[0].predictions["test"].labels)
    assert (accuracy.low, accuracy.high) == wilson(round(accuracy.value * n), n)


def test_the_interval_over_folds_is_wider_than_over_as_many_seeds(tmp_path):
    read = results.read(make_study(tmp_path / "s", {"unfreeze": ("head",)}, folds=4, extras=False))
    scores = [0.8, 0.82, 0.84, 0.86]
    folds = settings.over_repeats(read.cells, scores)
    assert "folds" in folds.method
    # Nadeau and Bengio: s^2 (1/k + test/train); 40 of 160 test, and a fifth of the rest validates.
    cell = read.cells[0]
    test, validation = (len(cell.predictions[split].labels) for split in ("test", "validation"))
    ratio = test / (160 - test - validation)
    spread = np.std(scores, ddof=1) * np.sqrt(1 / 4 + ratio)
    assert folds.high - folds.value == pytest.approx(3.182446 * spread, rel=1e-5)


def test_settings_are_ranked_by_validation_and_of_equal_ones_the_cheaper_is_first(tmp_path):
    study = make_study(tmp_path / "s", AXES, extras=False)
    read = results.read(study)
    summed = settings.summarise(read, tested=False)
    ranked = settings.rank(summed, "roc_auc")
    scores = [one.validation["roc_auc"] for one in ranked]
    assert scores == sorted(scores, reverse=True)
    by_loss = settings.rank(summed, "log_loss")
    losses = [one.validation["log_loss"] for one in by_loss]
    assert losses == sorted(losses)


def test_equal_scores_go_to_the_setting_that_trains_less(tmp_path):
    study = make_study(tmp_path / "s", AXES, extras=False)
    manifest = Manifest.read(study / "runs" / "head-seed0" / "manifest.parquet")
    for name in ("layers-4-seed0", "head-seed0", "layers-2-seed0"):
        write_predictions(study / "runs" / name, manifest, 1.0, 5)
    ranked = settings.rank(settings.summarise(results.read(study), tested=False), "roc_auc")
    assert [one.name for one in ranked] == ["head", "layers-2", "layers-4"]


def test_only_settings_with_all_folds_are_compared_and_a_seed_that_lacks_one_is_left_out(tmp_path):
    waiting = ["head-seed1-fold2", "layers-2-seed0-fold0", "layers-2-seed1-fold1"]
    study = make_study(tmp_path / "s", AXES, seeds=(0, 1), folds=3, waiting=waiting, extras=False)
    read = results.read(study)
    whole = settings.comparable(read, settings.summarise(read, tested=False))
    assert [one.name for one in whole] == ["head", "layers-4"]
    lined = settings.answers(read, whole)
    assert [fold.probabilities.shape[0] for fold in lined["head"]] == [1, 1, 1]
    assert [fold.probabilities.shape[0] for fold in lined["layers-4"]] == [2, 2, 2]


def test_images_that_one_training_has_no_answer_to_are_left_out_of_all(tmp_path):
    study = make_study(tmp_path / "s", AXES, extras=False)
    path = study / "runs" / "head-seed0" / "predictions" / "test.parquet"
    pd.read_parquet(path).iloc[3:].to_parquet(path)
    read = results.read(study)
    lined = settings.answers(read, settings.summarise(read, tested=False))
    sizes = {len(folds[0].labels) for folds in lined.values()}
    assert sizes == {len(read.cells[1].predictions["test"].labels) - 3}
    first = lined["layers-2"][0]
    kept = read.cells[1].predictions["test"].among(read.cells[0].predictions["test"].images)
    area = roc_auc_score(kept.labels, kept.probabilities[:, 1])
    assert roc_auc_score(first.labels, first.probabilities[0, :, 1]) == pytest.approx(area)
