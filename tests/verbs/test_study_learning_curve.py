"""`freezeframe study learning-curve` on real radiographs: the answer, its files, resuming, and what is refused."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from freezeframe import files
from freezeframe.cli.main import app
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.report.language import load
from freezeframe.study import results, sharing
from freezeframe.study.folder import StudyFolder
from freezeframe.study.shares import study_of
from freezeframe.training.shared import Shared
from freezeframe.verbs.study_learning_curve import study_learning_curve
from freezeframe.verbs.study_report import study_report

pytestmark = pytest.mark.slow
SHARES = (0.2, 0.35, 0.5, 1)


@pytest.fixture(scope="module")
def recipe(radiographs, tmp_path_factory) -> dict:
    """A recipe that trains in a second."""
    return {
        "data": str(radiographs),
        "backbone": "efficientnet-lite0",
        "preprocess": [{"resize": {"size": 64}}],
        "views": 2,
        "epochs": 2,
        "batch_size": 16,
        "store": str(tmp_path_factory.mktemp("curve-store")),
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "curve"
    study_learning_curve(recipe, folder, SHARES, draws=2, target=0.97, workers=1)
    return folder


def trained(folder: Path) -> dict[str, float]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/run.json")}


def test_the_sizes_are_those_of_the_trainings_and_the_scores_those_of_their_test_images(study):
    found = files.read_json(study / "learning_curve.json")
    read = results.read(study)
    assert [one["patients"] for one in found["sizes"]] == [11, 20, 28, 56]
    assert [one["training_images"] for one in found["sizes"]] == [11, 20, 28, 56]
    for one in found["sizes"]:
        cells = [cell for cell in read.cells if cell.values["split.train_share"] == one["share"]]
        assert one["scores"] == [cell.scores["test"]["roc_auc"] for cell in cells]
    assert {len(cell.predictions["test"].labels) for cell in read.cells} == {12}


def test_the_sentences_in_both_languages_have_the_numbers_of_the_json(study):
    found = files.read_json(study / "learning_curve.json")
    more = found["forecast"]["more"]
    for code, lines in found["sentences"].items():
        words = load(code)
        assert f"{words.number(more['value'])} ({words.interval(more['low'], more['high'])})" in lines[0]
        for name, one in found["classes"].items():
            [line] = [line for line in lines if line.startswith(f"{name}:")]
            assert words.number(one["now"]) in line
            assert words.interval(one["more"]["low"], one["more"]["high"]) in line
        assert words.number(found["hindcast"]["forecasts"][0]["value"]) in " ".join(lines)
    assert len(found["sentences"]["en"]) == len(found["sentences"]["es"])


def test_with_two_classes_each_has_its_sensitivity_and_the_targets_size_is_of_the_studys_metric_alone(study):
    found = files.read_json(study / "learning_curve.json")
    assert [one["metric"] for one in found["classes"].values()] == [
        "sensitivity/NORMAL",
        "sensitivity/PNEUMONIA",
    ]
    assert all(one["needed"] is None for one in found["classes"].values())
    assert 0 <= found["forecast"]["needed"]["out_of_reach"] <= 1


def test_the_page_has_the_figure_and_the_sentence_in_both_languages(study, tmp_path):
    for code in ("en", "es"):
        page = study_report(study, tmp_path / f"{code}.html", code).read_text(encoding="utf-8")
        assert '<section id="learning-curve">' in page
        said = files.read_json(study / "learning_curve.json")["sentences"][code][0]
        assert said in page
        assert (tmp_path / f"{code}_files/figures/learning-curve.svg").is_file()
        assert (tmp_path / f"{code}_files/tables/learning_curve.csv").is_file()
        section = page[page.index('<section id="learning-curve">') :]
        assert re.search(r"<svg[^>]*aria-label", section[: section.index("</section>")])


def test_another_question_trains_nothing_again_and_more_draws_add_what_is_missing(study, recipe):
    before = trained(study)
    begun = time.monotonic()
    answer = study_learning_curve(recipe, study, SHARES, draws=2, times=4, workers=1)
    assert time.monotonic() - begun < 15
    assert answer.main.needed is None
    assert trained(study) == before
    study_learning_curve(recipe, study, SHARES, draws=3, workers=1)
    after = trained(study)
    assert len(after) == len(before) + len(SHARES)
    assert {name: after[name] for name in before} == before


def test_a_study_that_lost_a_training_goes_on_to_the_same_answer(study, recipe, tmp_path):
    whole = files.read_json(study / "learning_curve.json")
    shutil.copytree(study, tmp_path / "broken")
    folder = StudyFolder(tmp_path / "broken")
    shutil.rmtree(folder.run("0.5-seed1"))
    (folder.path / "learning_curve.json").unlink()
    draws = len(whole["sizes"][0]["scores"])
    again = study_learning_curve(recipe, folder.path, SHARES, draws, times=whole["times"], workers=1)
    assert [list(one.scores) for one in again.sizes] == [one["scores"] for one in whole["sizes"]]
    assert again.main.more.value == whole["forecast"]["more"]["value"]


def test_the_activations_of_all_patients_serve_every_share_and_draw(recipe, tmp_path):
    recipes = [
        cell.recipe
        for cell in study_of(Recipe.parse({**recipe, "store": str(tmp_path)}), shares=SHARES, draws=2).cells()
    ]
    whole = [one for one in recipes if one.split.train_share == 1][:1]
    computed = sharing.fill(whole, Shared())
    assert computed > 0
    assert sharing.fill(recipes, Shared()) == 0


def test_the_command_says_the_answer_and_where_the_report_is(study, recipe, tmp_path):
    Recipe.parse(recipe).write(tmp_path / "lite0.yaml")
    line = ["study", "learning-curve", str(tmp_path / "lite0.yaml"), "--out", str(study), "--workers", "1"]
    line += ["--shares", "1/5,0.35,1/2,1", "--draws", "2", "--target", "0.97", "--lang", "es"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "el doble de datos" in result.output
    assert str(study / "report.html") in result.output.replace("\n", "")


def test_a_question_without_an_answer_is_refused_before_anything_is_trained(recipe, tmp_path):
    questions: list[dict[str, Any]] = [{"target": 1.2}, {"target": 0}, {"times": 0}, {"lang": "de"}]
    for question in questions:
        with pytest.raises(UserError):
            study_learning_curve(recipe, tmp_path / "none", SHARES, **question)
    assert not (tmp_path / "none").exists()


def test_shares_that_are_no_numbers_are_refused():
    result = CliRunner().invoke(app, ["study", "learning-curve", "lite0.yaml", "--shares", "half,1"])
    assert isinstance(result.exception, UserError)
