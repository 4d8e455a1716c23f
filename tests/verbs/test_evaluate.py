"""`freezeframe evaluate`, from a model's folder to figures with intervals."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from typer.testing import CliRunner

from factories import make_manifest, make_run
from freezeframe.cli.evaluate import command
from freezeframe.data.manifest import Manifest
from freezeframe.ensemble.folder import read_ensemble
from freezeframe.errors import UserError
from freezeframe.evaluation.metrics import OVERALL
from freezeframe.verbs.ensemble import ensemble
from freezeframe.verbs.evaluate import evaluate


def read(folder, name="metrics.json"):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / name).read_text(), parse_constant=refuse)


@pytest.fixture
def model(tmp_path):
    runs = [make_run(tmp_path, f"lite{i}", seed=i, n=400, skill=0.8) for i in range(3)]
    return ensemble(runs, tmp_path / "all")


def test_the_figures_follow_from_the_stored_predictions(model, tmp_path):
    folder = evaluate(model, tmp_path / "eval", bootstrap=300)
    metrics, table = read(folder), pd.read_parquet(folder / "predictions.parquet")
    truth = table["label"] == "pneumonia"
    for found, prefix in (
        (metrics["ensemble"], ""),
        *((metrics["members"][f"lite{i}"], f"lite{i}_") for i in range(3)),
    ):
        positive = table[f"{prefix}probability_pneumonia"]
        assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, positive))
        assert found["accuracy"]["value"] == pytest.approx(accuracy_score(truth, positive > 0.5))
        for name in OVERALL:
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    assert metrics["ensemble"]["accuracy"]["value"] == pytest.approx(
        (table["predicted"] == table["label"]).mean()
    )
    assert (metrics["n_images"], metrics["n_patients"], metrics["split"]) == (len(table), len(table), "test")
    point = metrics["operating_point"]
    decided = table["predicted_at_operating_point"] == "pneumonia"
    assert (decided == (table["probability_pneumonia"] >= point["threshold"])).all()
    assert point["sensitivity"]["value"] == pytest.approx(recall_score(truth, decided))
    assert set(table["split"]) == {"test"}


def test_the_best_member_is_chosen_on_validation_even_where_test_says_otherwise(model, tmp_path):
    def auc(name, split):
        table = pd.read_parquet(tmp_path / name / "predictions" / f"{split}.parquet")
        return roc_auc_score(table["label"] == "pneumonia", table["logit_pneumonia"] - table["logit_normal"])

    on_validation, on_test = (
        {f"lite{i}": auc(f"lite{i}", split) for i in range(3)} for split in ("validation", "test")
    )
    best = max(on_validation, key=on_validation.get)
    metrics = read(evaluate(model, tmp_path / "eval", bootstrap=200))
    assert metrics["best_member"] == {"name": best, "chosen_by": "roc_auc", "chosen_on": "validation"}
    expected = metrics["ensemble"]["roc_auc"]["value"] - on_test[best]
    assert metrics["difference"]["roc_auc"]["value"] == pytest.approx(expected)
    assert best in metrics["summary"]


def test_the_operating_point_is_the_ensembles_own_until_another_is_asked_for(model, tmp_path):
    own = read(model, "ensemble.json")["operating_point"]
    metrics = read(evaluate(model, tmp_path / "a", bootstrap=100))
    assert metrics["operating_point"]["threshold"] == own["threshold"]
    other = read(evaluate(model, tmp_path / "b", bootstrap=100, sensitivity=0.98))["operating_point"]
    assert (other["rule"], other["target"]) == ("sensitivity", 0.98)
    assert other["threshold"] < own["threshold"]
    turned = read(evaluate(model, tmp_path / "c", bootstrap=100, positive="normal"))
    assert turned["positive_class"] == turned["operating_point"]["positive_class"] == "normal"


def test_a_single_run_is_evaluated_without_a_difference(tmp_path):
    run = make_run(tmp_path, "lite0")
    metrics = read(evaluate(run, tmp_path / "eval", bootstrap=100))
    assert metrics["difference"] == {}
    assert metrics["best_member"] is None
    assert metrics["members"] == {"lite0": metrics["ensemble"]}
    assert metrics["summary"].startswith("The network's AUC is 0.")


def test_three_classes_and_several_images_a_patient(tmp_path):
    classes = ("blight", "healthy", "rust")
    runs = [
        make_run(tmp_path, name, seed=seed, n=480, classes=classes, images_per_patient=3)
        for seed, name in enumerate("ab")
    ]
    folder = evaluate(ensemble(runs, tmp_path / "all"), tmp_path / "eval", bootstrap=200)
    metrics = read(folder)
    assert metrics["n_images"] == 3 * metrics["n_patients"]
    assert metrics["operating_point"] is metrics["positive_class"] is None
    assert {metrics["ensemble"][name]["method"] for name in OVERALL} == {"bca"}
    assert metrics["ensemble"]["roc_auc/rust"]["value"] > 0.7
    table = pd.read_parquet(folder / "predictions.parquet")
    assert table["predicted_at_operating_point"].tolist() == table["predicted"].tolist()


def test_a_test_split_of_one_class_gives_nulls_with_reasons_and_valid_json(tmp_path):
    manifest = make_manifest(tmp_path, n=160)
    test = (manifest.table["split"] == "test") & (manifest.table["label"] == "normal")
    table = manifest.table.assign(split=manifest.table["split"].mask(test, "train"))
    runs = [
        make_run(tmp_path, n, seed=s, manifest=replace(manifest, table=table)) for s, n in enumerate("ab")
    ]
    folder = evaluate(ensemble(runs, tmp_path / "all"), tmp_path / "eval", bootstrap=100)
    metrics = read(folder)
    assert metrics["ensemble"]["roc_auc"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "there is no image of class normal",
    }
    assert metrics["ensemble"]["sensitivity"]["value"] is not None
    assert metrics["operating_point"]["specificity"]["value"] is None
    assert "accuracy" in metrics["summary"]


def test_perfect_networks_and_a_test_split_of_two_images_have_no_nan(tmp_path):
    manifest = make_manifest(tmp_path, n=160)
    kept = manifest.table["split"].ne("test") | (manifest.table.groupby(["split", "label"]).cumcount() == 0)
    manifest = replace(manifest, table=manifest.table[kept].reset_index(drop=True))
    runs = [make_run(tmp_path, n, seed=s, skill=30, manifest=manifest) for s, n in enumerate("ab")]
    metrics = read(evaluate(ensemble(runs, tmp_path / "all"), tmp_path / "eval", bootstrap=200))
    assert metrics["n_images"] == 2
    assert metrics["ensemble"]["roc_auc"]["value"] == 1.0
    assert metrics["ensemble"]["roc_auc"]["low"] is None
    assert metrics["ensemble"]["accuracy"]["method"] == "wilson"


def test_what_the_report_needs_is_there(model, tmp_path):
    folder = evaluate(model, tmp_path / "eval", bootstrap=100)
    details = read(folder, "evaluation.json")
    assert details["runs"] == {f"lite{i}": f"../lite{i}" for i in range(3)}
    assert details["weights"] == read_ensemble(model).weights
    assert details["validation"].keys() == {"ensemble", "lite0", "lite1", "lite2"}
    assert Path(details["root"]) == Manifest.read(folder / "manifest.parquet").root
    manifest = Manifest.read(folder / "manifest.parquet")
    assert (
        manifest.table["image"].tolist() == pd.read_parquet(folder / "predictions.parquet")["image"].tolist()
    )


def test_other_splits_carry_a_warning(model, tmp_path):
    details = read(evaluate(model, tmp_path / "eval", split="validation", bootstrap=100), "evaluation.json")
    assert any("too good" in note for note in details["notes"])


def test_equal_calls_give_equal_files(model, tmp_path):
    one, other = (evaluate(model, tmp_path / name, bootstrap=200) for name in ("a", "b"))
    for name in ("metrics.json", "predictions.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_mistakes_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="did you mean 'validation'"):
        evaluate(model, tmp_path / "eval", split="valid")
    with pytest.raises(UserError, match="one rule"):
        evaluate(model, tmp_path / "eval", sensitivity=0.9, threshold="youden")
    with pytest.raises(UserError, match="'youden'"):
        evaluate(model, tmp_path / "eval", threshold="0.5")
    with pytest.raises(UserError, match="100 or more"):
        evaluate(model, tmp_path / "eval", bootstrap=10)
    with pytest.raises(UserError, match="is the folder of a model"):
        evaluate(model, model)
    assert not (tmp_path / "eval").exists()


def test_the_command_prints_a_table_and_a_sentence_and_needs_no_torch(model, tmp_path):
    code = """
import sys, typer
from freezeframe.cli.evaluate import command
app = typer.Typer()
app.command()(command)
app(sys.argv[1:], standalone_mode=False)
assert "torch" not in sys.modules
"""
    arguments = [str(model), "--out", str(tmp_path / "eval"), "--bootstrap", "200"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    for words in (
        "100 images of 100 patients",
        "ensemble - lite",
        "Operating point (youden",
        "The ensemble's AUC of 0.",
    ):
        assert words in result.stdout


def test_a_mapping_that_is_none_is_refused(model, tmp_path):
    app = typer.Typer()
    app.command()(command)
    arguments = [str(model), "--out", str(tmp_path / "eval"), "--data", str(tmp_path), "--map", "x"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UserError)
    assert "theirs=ours" in str(refused.exception)
