import numpy as np
import pandas as pd
import pytest

from freezeframe.evaluation.paired import Answers, compare
from freezeframe.study import findings, results
from studies import make_study


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return findings.find(results.read(make_study(tmp_path_factory.mktemp("studies") / "skin")))


def test_a_baseline_is_compared_with_the_best_setting_on_the_same_images(found):
    assert [one.extra.name for one in found.beside] == ["lite0-pca", "lite0-probe"]
    one = found.beside[0]
    gap = one.extra.scores["test"]["roc_auc"] - found.best.cells[0].scores["test"]["roc_auc"]
    assert one.comparison.difference == pytest.approx(gap)
    assert one.adjusted >= one.comparison.p


def test_a_baseline_that_was_tested_on_other_images_is_not_compared(tmp_path):
    study = make_study(tmp_path / "s", {"backbone": ("lite0", "lite1")})
    path = study / "baselines" / "lite0-pca" / "predictions" / "test.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    beside = findings.find(results.read(study)).beside
    assert [one.comparison is None for one in beside] == [True, False]


def test_the_folds_of_a_baseline_are_one_row_compared_with_the_best_over_all_folds(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head", "layers 2")}, folds=3)
    found = findings.find(results.read(study))
    assert [one.extra.details["method"] for one in found.beside] == [
        "PCA + logistic regression",
        "linear probe",
    ]
    one = found.beside[0]
    own = [extra for extra in found.results.extras if extra.name.startswith("lite0-pca")]
    areas = [extra.scores["test"]["roc_auc"] for extra in own]
    assert one.test.value == pytest.approx(np.mean(areas))
    assert "folds" in one.test.method
    sides = [
        [Answers(test.labels, test.patients, test.probabilities[None]) for test in tests]
        for tests in (
            [extra.predictions["test"] for extra in own],
            [cell.predictions["test"] for cell in found.best.cells],
        )
    ]
    assert one.comparison.difference == pytest.approx(compare(*sides, "roc_auc").difference)


def test_a_baseline_that_lacks_a_fold_is_not_compared(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head", "layers 2")}, folds=3)
    (study / "baselines" / "lite0-pca-fold1" / "run.json").unlink()
    beside = findings.find(results.read(study)).beside
    assert [one.comparison is None for one in beside] == [True, False]
