"""`freezeframe ensemble`, from run folders to an ensemble's folder."""

import json

import numpy as np
import pandas as pd
import pytest
import typer
from scipy.special import softmax
from typer.testing import CliRunner

from factories import make_run
from freezeframe.cli.ensemble import command
from freezeframe.ensemble.rules import RULES
from freezeframe.errors import UserError
from freezeframe.verbs.ensemble import ensemble


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path, f"lite{i}", seed=i, n=240, skill=skill) for i, skill in enumerate((2.0, 1.2, 0.2))
    ]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_writes_probabilities_for_every_split(runs, tmp_path, rule):
    folder = ensemble(runs, tmp_path / "all", rule=rule)
    written = json.loads((folder / "ensemble.json").read_text())
    assert written["rule"] == rule
    assert sum(written["weights"].values()) == pytest.approx(1)
    for split in ("train", "validation", "test"):
        table = pd.read_parquet(folder / "predictions" / f"{split}.parquet")
        own = pd.read_parquet(runs[0] / "predictions" / f"{split}.parquet")
        assert table["image"].tolist() == own["image"].tolist()
        assert np.allclose(table[["probability_normal", "probability_pneumonia"]].sum(axis=1), 1)


def test_the_stored_mean_is_the_mean_of_the_members_probabilities(runs, tmp_path):
    folder = ensemble(runs, tmp_path / "all")
    stored = pd.read_parquet(folder / "predictions" / "test.parquet")["probability_pneumonia"]
    members = [
        softmax(
            pd.read_parquet(run / "predictions" / "test.parquet")[
                ["logit_normal", "logit_pneumonia"]
            ].to_numpy(float),
            1,
        )
        for run in runs
    ]
    assert np.allclose(stored, np.mean(members, axis=0)[:, 1])


def test_nothing_that_is_chosen_depends_on_the_test_images(runs, tmp_path):
    before = json.loads((ensemble(runs, tmp_path / "a", rule="weighted") / "ensemble.json").read_text())
    for run in runs:
        path = run / "predictions" / "test.parquet"
        table = pd.read_parquet(path)
        table[["logit_normal", "logit_pneumonia"]] *= -1
        table.to_parquet(path)
    after = json.loads((ensemble(runs, tmp_path / "b", rule="weighted") / "ensemble.json").read_text())
    assert before == after
    weights = list(before["weights"].values())
    assert weights == sorted(weights, reverse=True)


def test_the_operating_point_holds_a_fixed_sensitivity_on_validation(runs, tmp_path):
    folder = ensemble(runs, tmp_path / "all", sensitivity=0.95)
    point = json.loads((folder / "ensemble.json").read_text())["operating_point"]
    table = pd.read_parquet(folder / "predictions" / "validation.parquet")
    called = table["probability_pneumonia"] >= point["threshold"]
    ill = table["label"] == "pneumonia"
    assert called[ill].mean() == pytest.approx(point["validation"]["sensitivity"])
    assert point["validation"]["sensitivity"] >= 0.95
    assert (~called)[~ill].mean() == pytest.approx(point["validation"]["specificity"])


def test_three_classes_have_an_operating_point_only_for_a_named_class(tmp_path):
    classes = ("blight", "healthy", "rust")
    runs = [make_run(tmp_path, name, seed=seed, n=240, classes=classes) for seed, name in enumerate("ab")]
    without = json.loads((ensemble(runs, tmp_path / "x") / "ensemble.json").read_text())
    assert without["operating_point"] is None
    named = json.loads((ensemble(runs, tmp_path / "y", positive="rust") / "ensemble.json").read_text())
    assert named["operating_point"]["positive_class"] == "rust"
    with pytest.raises(UserError, match="Name one with --positive: blight, healthy, rust"):
        ensemble(runs, tmp_path / "z", sensitivity=0.9)


def test_mistakes_are_refused_with_the_right_word(runs, tmp_path):
    with pytest.raises(UserError, match="did you mean 'mean-logits'"):
        ensemble(runs, tmp_path / "all", rule="mean-logit")
    with pytest.raises(UserError, match="did you mean 'pneumonia'"):
        ensemble(runs, tmp_path / "all", positive="pnuemonia")
    with pytest.raises(UserError, match="one of them"):
        ensemble(runs, tmp_path / "all", sensitivity=0.9, specificity=0.9)
    with pytest.raises(UserError, match="is the folder of a run"):
        ensemble(runs, runs[0])
    with pytest.raises(UserError, match="one or more folders"):
        ensemble([], tmp_path / "all")


def test_the_command_prints_members_weights_and_the_operating_point(runs, tmp_path):
    arguments = [
        *map(str, runs),
        "--rule",
        "weighted",
        "--score",
        "log_loss",
        "--out",
        str(tmp_path / "all"),
    ]
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"}, catch_exceptions=False)
    assert result.exit_code == 0
    for words in (
        "lite0",
        "lite2",
        "ensemble (weighted)",
        "60 images of 60 patients",
        "Operating point (youden)",
    ):
        assert words in result.stdout
