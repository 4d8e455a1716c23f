"""The main job on the synthetic hospital, from nothing to the report."""

import json
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml

from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.verbs import demo as module
from freezeframe.verbs.demo import demo


def test_too_few_patients_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="at least 40"):
        demo(tmp_path / "demo", patients=10)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small demo: fewer people and epochs, otherwise the whole of it."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEZEFRAME_HOME", str(folder / "home"))
        patch.setattr(
            module,
            "TRAINING",
            {**module.TRAINING, "augment": "none", "views": 1, "epochs": 1, "unfreeze": "head"},
        )
        demo(folder / "demo", patients=60, language="es")
        yield folder / "demo"


@pytest.mark.slow
def test_the_report_is_a_page_in_the_language_that_was_asked_for(finished):
    text = (finished / "report.html").read_text(encoding="utf-8")
    HTMLParser().feed(text)
    assert re.search(r'<html[^>]*lang="es"', text)


@pytest.mark.slow
def test_three_members_and_the_ensemble_are_evaluated_on_held_out_patients(finished):
    metrics = json.loads((finished / "evaluation" / "metrics.json").read_text())
    assert set(metrics["members"]) == {"lite0", "lite1", "lite2"}
    assert metrics["split"] == "test"
    assert 0 <= metrics["ensemble"]["roc_auc"]["low"] <= metrics["ensemble"]["roc_auc"]["high"] <= 1


@pytest.mark.slow
def test_the_recipes_can_be_used_to_go_on(finished):
    for path in sorted((finished / "recipes").glob("*.yaml")):
        assert Recipe.read(path).backbone == f"efficientnet-{path.stem}"
        assert "SYNTHETIC" in path.read_text()
        assert yaml.safe_load(path.read_text())["data"]["table"] == str(finished / "hospital" / "labels.csv")


@pytest.mark.slow
def test_the_same_call_again_keeps_the_finished_runs_and_a_changed_recipe(finished, monkeypatch):
    monkeypatch.setenv("FREEZEFRAME_HOME", str(finished.parent / "home"))
    weights = sorted(finished.rglob("best.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert len(weights) == 3
    page = demo(finished, patients=60)
    assert page == finished / "report.html"
    assert [path.stat().st_mtime_ns for path in weights] == before


@pytest.mark.slow
def test_the_bundle_passed_the_gate_and_answered_for_every_film(finished):
    parity = json.loads((finished / "bundle" / "bundle.json").read_text())["parity"]
    assert parity["images"] > 0
    assert parity["decisions_changed"] == {"default": 0}
    assert 0 <= parity["largest_difference"] <= 1e-4
    answers = pd.read_csv(finished / "answers.csv")
    assert len(answers) == len(list((finished / "hospital" / "dicom").rglob("*.dcm")))
    assert answers["error"].isna().all()


@pytest.mark.slow
def test_an_environment_without_torch_answers_as_the_evaluation_does(finished, node, tmp_path):
    done = subprocess.run(
        [node / "freezeframe", "predict", finished / "bundle", finished / "hospital", "--out", "answers.csv"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answers = pd.read_csv(tmp_path / "answers.csv").dropna(subset=["decision"])
    evaluated = pd.read_parquet(finished / "evaluation" / "predictions.parquet")
    found = answers.set_index(answers["image"].map(lambda path: path.rsplit("/", 1)[1]))
    found = found.loc[[image.rsplit("/", 1)[-1] for image in evaluated["image"]]]
    np.testing.assert_allclose(found["probability_opacity"], evaluated["probability_opacity"], atol=1e-4)
    assert (found["decision"].to_numpy() == evaluated["predicted_at_operating_point"].to_numpy()).all()
