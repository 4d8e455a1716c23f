import csv
import io
import json
import re
from importlib import resources

import pytest

from freezeframe.report import study_page, study_sections, study_sentences, study_tables
from freezeframe.report.language import FILES, load
from freezeframe.report.study_sections import Section
from freezeframe.report.study_words import label, probability
from freezeframe.report.tables import Estimate, Quantity, Table
from freezeframe.study import findings, results
from studies import make_study

ENGLISH, SPANISH = load("en"), load("es")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    study = make_study(
        tmp_path_factory.mktemp("studies") / "skin",
        n=480,
        failed=["lite0-head-none-seed0"],
        waiting=["lite1-head-flip-seed0"],
    )
    return findings.find(results.read(study))


@pytest.fixture(scope="module")
def remedies(tmp_path_factory):
    axes = {"imbalance": ("none", "weights", "focal")}
    return findings.find(
        results.read(make_study(tmp_path_factory.mktemp("studies") / "i", axes, seeds=(0, 1)))
    )


def test_the_table_has_depths_across_and_networks_and_augmentations_down(found):
    table = study_tables.grid(found, "roc_auc", ENGLISH)
    assert table.columns == ("Network", "Augmentation", "head only", "2 layers", "4 layers")
    assert [row[:2] for row in table.rows] == [
        ("lite0", "none"), ("lite0", "flip"), ("lite1", "none"), ("lite1", "flip"),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    cell = next(one for one in found.results.cells if one.name == "lite1-layers-4-flip-seed0")
    assert float(rows[3]["4 layers"]) == pytest.approx(cell.scores["test"]["roc_auc"])
    assert rows[0]["head only"] == ""


def test_the_best_and_what_can_not_be_told_from_it_are_marked_and_missing_cells_say_why(found):
    table = study_tables.grid(found, "accuracy", ENGLISH)
    marks = [cell.mark for row in table.rows for cell in row if isinstance(cell, Estimate)]
    assert marks.count("best") == 1
    assert marks.count("equal") == len(found.indistinguishable) > 0
    said = [cell.text for row in table.rows for cell in row if isinstance(cell, Quantity)]
    assert said == ["failed", "waiting"]
    latex = table.latex(ENGLISH)
    assert latex.count(r"\textbf{") == 1
    assert latex.count(r"\underline{") == len(found.indistinguishable)


def test_a_study_of_one_axis_has_its_labels_down_and_the_metrics_across(remedies):
    [(_, table)] = study_tables.grids(remedies, ENGLISH)
    assert [row[0] for row in table.rows] == ["none", "weights", "focal loss"]
    assert "Sensitivity" in table.columns


def test_the_first_sentence_names_the_best_its_score_and_how_many_are_as_good(found):
    text = study_sentences.answer(found, ENGLISH)
    score = found.best.test["roc_auc"]
    assert ENGLISH.interval(score.low, score.high) in text
    assert f"{len(found.indistinguishable)} of 9 others" in text
    assert "lite1" in text


def test_the_largest_number_of_the_table_is_only_claimed_where_it_survives(found):
    highest = max((one for one in found.ranked), key=lambda one: one.test["roc_auc"].value)
    text = " ".join(study_sentences.claims(found, ENGLISH))
    assert "With 120 test images" in text
    assert ("is also that of the setting chosen" in text) == (highest is found.best)
    assert ("That does not survive" in text) == (highest in found.indistinguishable)


def test_the_width_is_wilsons_for_the_accuracy_of_the_best_on_so_many_patients(found):
    half = study_sentences.half_width(found)
    accuracy = found.best.test["accuracy"]
    assert half == pytest.approx((accuracy.high - accuracy.low) / 2)


def test_failed_trainings_are_listed_with_their_error_and_waiting_ones_too(found):
    table = study_tables.unfinished(found, ENGLISH)
    assert table.rows == (
        ("lite0-head-none-seed0", "failed", "The loss is not a number.", 2),
        ("lite1-head-flip-seed0", "waiting", "", None),
    )


def test_remedies_have_a_section_with_the_moved_threshold(remedies):
    section = study_sections.imbalance(remedies, ENGLISH)
    assert [row[0] for row in section.tables[0].rows] == ["none", "threshold moved", "weights", "focal loss"]
    assert section.tables[0].columns[-3] == f"F1 of {remedies.remedies[0].minority} (rarest class)"


def test_every_section_of_a_study_is_made_and_those_without_content_are_left_out(found, remedies):
    keys = [section.key for section in study_sections.all_sections(found, ENGLISH)]
    assert keys == [
        "results", "differences", "effects", "costs", "curves", "beside", "unfinished", "effort", "reproduce",
    ]  # fmt: skip
    others = [section.key for section in study_sections.all_sections(remedies, ENGLISH)]
    assert "imbalance" in others
    assert "effects" not in others
    assert "unfinished" not in others


def test_a_section_that_others_add_stands_before_the_cost_and_its_table_is_written_too(found):
    table = Table("forecast", "A forecast.", ("Images", "AUC"), ((100, Estimate(0.9, 0.8, 0.95)),))
    more = Section("learning-curve", "How much data", ("More helps.",), tables=(table,))
    report = study_page.make(found, ENGLISH, [more])
    assert (
        report.page.index('id="beside"')
        < report.page.index('id="learning-curve"')
        < report.page.index('id="effort"')
    )
    assert table in report.tables


def test_the_same_study_gives_the_same_page_and_figures_have_names_of_their_own(found):
    first, second = (study_page.make(found, SPANISH) for _ in range(2))
    assert first.page == second.page
    names = [one.name for one in first.drawings]
    assert len(names) == len(set(names)) >= 5
    tables = [one.name for one in first.tables]
    assert len(tables) == len(set(tables))


def test_labels_of_the_recipe_are_said_in_the_readers_language_and_others_left_alone():
    assert label("layers 1", SPANISH) == "1 capa"
    assert label("head", SPANISH) == "solo la cabeza"
    assert label("layers 2 3", SPANISH) == "layers 2 3"
    assert label("mobilenetv3", ENGLISH) == "mobilenetv3"


def test_a_tiny_p_value_is_not_written_as_zero():
    assert probability(1e-9, ENGLISH) == "< 0.001"
    assert probability(0.0312, SPANISH) == "0,031"
    assert probability(None, ENGLISH) == "–"


def test_every_message_of_a_study_is_used_and_no_key_stands_in_two_files():
    folder = resources.files("freezeframe.report")
    common, own = (
        json.loads(folder.joinpath("locale", name.format(code="en")).read_text("utf-8")) for name in FILES
    )
    assert not common.keys() & own.keys()
    source = "".join(
        path.read_text("utf-8")
        for where in (folder, folder.joinpath("templates"))
        for path in where.iterdir()
        if path.name.startswith("study")
    )
    named = set(re.findall(r"study_\w+", source))
    built = ("study_state_", "study_count_", "study_cost_", "study_effort_", "study_how_", "study_method_")
    unused = [
        key for key in own if key.startswith("study_") and key not in named and not key.startswith(built)
    ]
    assert unused == []
