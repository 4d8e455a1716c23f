import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study import results
from studies import AXES, make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "skin"
    return make_study(
        folder, seeds=(0, 1), failed=["lite0-head-none-seed1"], waiting=["lite1-layers-4-flip-seed1"]
    )


@pytest.fixture(scope="module")
def found(study):
    return results.read(study)


def test_every_cell_is_there_with_its_status_in_the_studys_order(found):
    assert len(found.cells) == 2 * 2 * 3 * 2
    assert found.cells[0].name == "lite0-head-none-seed0"
    status = {cell.name: cell.status for cell in found.cells if cell.status != "finished"}
    assert status == {"lite0-head-none-seed1": "failed", "lite1-layers-4-flip-seed1": "waiting"}
    assert found.axes == AXES
    assert {len(cells) for cells in found.settings.values()} == {2}


def test_a_failure_says_its_error_and_the_baselines_are_read(found):
    failed = next(cell for cell in found.cells if cell.status == "failed")
    assert failed.failure["error"] == "The loss is not a number."
    assert [extra.name for extra in found.extras] == ["lite0-pca", "lite0-probe"]
    assert found.extras[0].details["components"] == 32
    assert found.extras[0].scores["test"]["roc_auc"] > 0.5


def test_a_score_is_that_of_the_stored_predictions(found):
    cell = found.cells[0]
    table = pd.read_parquet(cell.folder / "predictions" / "test.parquet")
    margin = table["logit_pneumonia"] - table["logit_normal"]
    expected = roc_auc_score(table["label"] == "pneumonia", margin)
    assert cell.scores["test"]["roc_auc"] == pytest.approx(expected, abs=1e-9)


def test_the_predictions_of_all_cells_are_in_one_order(found):
    order = found.finished[0].predictions["test"].images
    assert (np.sort(order) == order).all()
    assert all((cell.predictions["test"].images == order).all() for cell in found.finished)


def test_the_table_has_a_row_a_cell_and_goes_into_csv_and_parquet(found, tmp_path):
    table = found.table()
    assert len(table) == len(found.cells)
    assert {"backbone", "unfreeze", "augment", "seed", "fold", "status", "test_roc_auc"} <= set(table)
    assert table.loc[1, "status"] == "failed"
    assert np.isnan(table.loc[1, "test_roc_auc"])
    table.to_parquet(tmp_path / "results.parquet")
    table.to_csv(tmp_path / "results.csv", index=False)
    again = pd.read_parquet(tmp_path / "results.parquet")
    assert (again["cell"] == table["cell"]).all()
    assert again.loc[0, "trainable_parameters"] == 2_562


def test_an_image_without_a_patient_counts_as_a_patient_of_its_own(study, tmp_path):
    table = pd.read_parquet(study / "runs" / "lite0-head-none-seed0" / "predictions" / "test.parquet")
    (tmp_path / "predictions").mkdir()
    table.assign(patient="").to_parquet(tmp_path / "predictions" / "test.parquet")
    one = results.read_predictions(tmp_path, ("normal", "pneumonia"))["test"]
    assert (one.patients == one.images).all()


def test_unlabelled_images_are_left_out(study, tmp_path):
    table = pd.read_parquet(study / "runs" / "lite0-head-none-seed0" / "predictions" / "test.parquet")
    (tmp_path / "predictions").mkdir()
    table.assign(label=["", *table["label"][1:]]).to_parquet(tmp_path / "predictions" / "test.parquet")
    one = results.read_predictions(tmp_path, ("normal", "pneumonia"))["test"]
    assert len(one.labels) == len(table) - 1


def test_a_study_that_has_only_begun_is_read(tmp_path):
    axes = {"backbone": ("lite0",)}
    study = make_study(tmp_path / "new", axes, waiting=["lite0-seed0"], extras=False)
    found = results.read(study)
    assert [cell.status for cell in found.cells] == ["waiting"]
    assert found.classes == ()
    assert found.table()["status"].tolist() == ["waiting"]


def test_a_run_that_is_half_trained_has_begun(study, tmp_path):
    make_study(tmp_path / "s", {"backbone": ("lite0",)}, extras=False)
    path = tmp_path / "s" / "runs" / "lite0-seed0" / "run.json"
    files.write_json(path, files.read_json(path) | {"status": "running"})
    assert results.read(tmp_path / "s").cells[0].status == "begun"


@pytest.mark.parametrize("damage", ["not a table", None])
def test_a_run_with_broken_predictions_is_a_failed_cell_and_not_the_end(tmp_path, damage):
    study = make_study(tmp_path / "s", {"backbone": ("lite0", "lite1")}, extras=False)
    path = study / "runs" / "lite0-seed0" / "predictions" / "test.parquet"
    if damage:
        path.write_text(damage)
    else:
        table = pd.read_parquet(path)
        table.assign(logit_normal=np.nan).to_parquet(path)
    found = results.read(study)
    assert [cell.status for cell in found.cells] == ["failed", "finished"]
    assert "predictions can't be read" in found.cells[0].failure["error"]


def test_a_folder_that_is_no_study_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(UserError, match="freezeframe study run"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    "content", [{"schema_version": 9}, [], {"schema_version": 1, "cells": [{}], "axes": {}}]
)
def test_a_broken_list_of_cells_is_refused(tmp_path, content):
    (tmp_path / "cells.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cells\.json"):
        results.read(tmp_path)


def test_folds_have_test_images_of_their_own(tmp_path):
    study = make_study(tmp_path / "s", {"backbone": ("lite0",)}, folds=3, extras=False)
    found = results.read(study)
    assert [cell.fold for cell in found.cells] == [0, 1, 2]
    tested = [set(cell.predictions["test"].images) for cell in found.cells]
    assert not tested[0] & tested[1]
    assert sum(map(len, tested)) == 160
