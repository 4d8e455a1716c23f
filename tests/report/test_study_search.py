"""The section of a search, from real trials whose trainings are made up."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from freezeframe.evaluation.paired import Answers, compare
from freezeframe.report import study_page, study_search, study_search_figures, study_sections, study_sentences
from freezeframe.report.language import load
from freezeframe.report.study_words import setting_name, value_text
from freezeframe.report.tables import Quantity
from freezeframe.study import findings, results, search
from searches import SPACE, make_search

ENGLISH, SPANISH = load("en"), load("es")
TRIALS = 18


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_search(tmp_path_factory.mktemp("studies") / "lungs", TRIALS)


@pytest.fixture(scope="module")
def found(folder):
    return findings.find(results.read(folder))


@pytest.fixture(scope="module")
def trials(folder):
    return search.history(folder)


@pytest.fixture(scope="module")
def shares(folder):
    return search.importances(folder)


def without(found, name):
    """Take a trial's result away."""
    return replace(found, ranked=tuple(one for one in found.ranked if one.name != name))


def test_the_gain_over_the_base_recipe_is_the_paired_difference_with_a_p_of_its_own(found):
    cells = {cell.name: cell.predictions["test"] for cell in found.results.finished}
    answers = [
        [Answers(one.labels, one.patients, one.probabilities[None])]
        for one in (cells[found.best.name], cells["trial-0000"])
    ]
    expected = compare(*answers, "roc_auc", found.results.positive)
    made = study_search.gain(found)
    assert made.difference.value == pytest.approx(expected.difference)
    assert (made.difference.low, made.difference.high) == pytest.approx((expected.low, expected.high))
    assert made.p == pytest.approx(expected.p)
    assert made.difference.low <= made.difference.value <= made.difference.high


def test_the_page_says_first_how_the_best_trial_compares_with_the_base_recipe(found, trials):
    said = " ".join(study_search.answer(found, trials, ENGLISH))
    default = next(one for one in found.ranked if one.name == "trial-0000")
    score, difference = default.test["roc_auc"], study_search.gain(found).difference
    assert said.startswith(f"Best of {TRIALS} trials on validation images: ")
    assert f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})" in said
    assert ENGLISH.signed(difference.value) in said
    assert "a gain of" in said


def test_a_difference_that_can_be_chance_and_one_for_the_worse_are_called_so(found, trials):
    main = found.main
    default = main.comparisons["trial-0000"]

    def said(**changes):
        comparisons = {**main.comparisons, "trial-0000": replace(default, **changes)}
        against = {found.compared: replace(main, comparisons=comparisons)}
        return study_search.answer(replace(found, against_best=against), trials, ENGLISH)[1]

    assert "can be chance (p = 0.200)" in said(difference=-0.01, low=-0.03, high=0.01, p=0.2)
    worse = said(difference=0.04, low=0.01, high=0.07, p=0.01)
    assert "a loss of \u22120.040 (\u22120.070 to \u22120.010), more than chance" in worse


def test_a_base_recipe_that_failed_or_is_itself_the_best_is_said_and_not_compared(found, trials):
    assert "has no result" in study_search.answer(without(found, "trial-0000"), trials, ENGLISH)[1]
    base = tuple(one for one in found.ranked if one.name == "trial-0000")
    alone = replace(found, ranked=base, against_best={})
    assert "No trial is better" in study_search.answer(alone, trials, ENGLISH)[1]
    assert study_search.gain(alone) is None


def test_what_the_best_trial_does_otherwise_is_said_field_by_field(found, trials, shares):
    text = " ".join(study_search.sentences(found, trials, shares, ENGLISH))
    cell = next(one for one in found.results.cells if one.name == found.best.name)
    rate = value_text(float(cell.values["learning_rate"]), ENGLISH)
    assert f"learning rate {rate} instead of 0.001" in text
    assert f"Of {TRIALS} trials, " in text
    assert "were given up as hopeless" in text


def test_fields_that_matter_are_named_only_where_enough_trials_say_so(found, trials):
    few = study_search.sentences(found, trials, {}, ENGLISH)[-1]
    assert "do not say which field matters" in few
    many = study_search.sentences(found, trials, {"learning_rate": 0.61, "unfreeze": 0.39}, ENGLISH)[-1]
    assert "learning rate 61% and depth 39%" in many


def test_the_table_has_the_ten_best_trials_and_the_base_recipe_with_a_column_a_field(found, trials, shares):
    [table] = study_search.section(found, trials, shares, ENGLISH).tables
    assert table.columns[3:] == (
        "Depth", "Learning rate", "Weight decay", "Hidden layer", "Optimiser", "Momentum",
    )  # fmt: skip
    names = [row[0] for row in table.rows]
    expected = [setting_name(one, found, ENGLISH) for one in found.ranked[: study_search.TOP]]
    assert names[: study_search.TOP] == expected
    assert "base recipe (trial 0)" in names
    assert [row[2].mark for row in table.rows].count("best") == 1
    numbers = trials.set_index("name")
    rates = [row[4] for row in table.rows]
    assert all(isinstance(one, Quantity) for one in rates)
    assert rates[0].value == pytest.approx(numbers.at[found.best.name, "learning_rate"])
    # A choice of words and numbers is a column of words.
    assert {row[6] for row in table.rows} <= {"default", "64", "256"}


def test_the_base_recipe_stands_last_where_ten_others_are_better(found, trials):
    others = tuple(one for one in found.ranked if one.name != "trial-0000")
    default = next(one for one in found.ranked if one.name == "trial-0000")
    many = replace(found, ranked=(*others, *others, default))
    [table] = study_search.section(many, trials, {}, ENGLISH).tables
    assert len(table.rows) == study_search.TOP + 1
    assert table.rows[-1][0] == "base recipe (trial 0)"


def test_all_trials_are_listed_also_those_given_up_failed_and_running(found, trials):
    table = trials.assign(state=["finished", "failed", "running", *trials["state"][3:]])
    _, listed = study_search.section(found, table, {}, SPANISH).folded[0]
    assert len(listed.rows) == TRIALS
    assert [row[1] for row in listed.rows[:3]] == ["terminado", "fallido", "empezado"]
    assert "abandonado" in {row[1] for row in listed.rows}


def test_the_history_draws_the_best_so_far_and_marks_what_was_given_up(found, trials):
    number = int(found.best.name[-4:])
    [axes] = study_search_figures.history(trials, number, False, "ROC AUC", ENGLISH).figure.axes
    lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.get_lines()}
    assert len(lines["given up"]) == (trials["state"] == "pruned").sum() > 0
    assert len(lines["finished"]) == (trials["state"] == "finished").sum()
    assert np.diff(lines["best so far"][:, 1]).min() >= 0
    low, high = axes.get_ylim()
    assert low <= lines["base recipe (trial 0)"][0, 1] <= high


@pytest.mark.parametrize("lower", [True, False])
def test_a_trial_far_off_does_not_press_the_others_flat_and_the_base_recipe_is_in_sight(lower):
    sign = 1 if lower else -1
    scores = sign * np.array([5.0, 0.30, 0.32, 0.31, 0.35, 0.30, 90.0])
    finished = pd.DataFrame({"trial": range(7), "value": scores})
    low, high = study_search_figures.ends(finished, lower)
    assert low <= scores[0] <= high
    assert high - low < 6
    bare = finished[finished["trial"] > 0]
    low, high = study_search_figures.ends(bare, lower)
    assert high - low < 0.2


def test_a_trial_given_up_without_a_score_stands_on_the_worse_end_of_the_axis(found, trials):
    unknown = trials.assign(value=trials["value"].where(trials["state"] == "finished"))
    number = int(found.best.name[-4:])
    [axes] = study_search_figures.history(unknown, number, False, "ROC AUC", ENGLISH).figure.axes
    crosses = next(line for line in axes.get_lines() if line.get_label() == "given up")
    assert set(np.asarray(crosses.get_ydata(), dtype=float)) == {axes.get_ylim()[0]}
    assert any("on the edge" in one for one in study_search.sentences(found, unknown, {}, ENGLISH))


def test_bars_of_importance_begin_with_the_largest(shares):
    shares = shares or {"learning_rate": 0.8, "unfreeze": 0.2}
    [axes] = study_search_figures.importances(shares, ENGLISH).figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(widths, reverse=True)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_a_searchs_page_has_no_papers_table_no_effects_and_no_legend_of_sampled_numbers(
    found, trials, shares
):
    own = study_search.section(found, trials, shares, ENGLISH)
    report = study_page.make(found, ENGLISH, [own], study_search.answer(found, trials, ENGLISH))
    keys = re.findall(r'<section id="([\w-]+)">', report.page)
    assert keys == ["search", "differences", "costs", "curves", "effort", "reproduce"]
    legends = [
        [text.get_text() for text in legend.get_texts()]
        for drawing in report.drawings
        for legend in drawing.figure.legends
    ]
    assert max(map(len, legends)) <= 4
    assert not any(re.search(r"\d\.\d", text) for legend in legends for text in legend)
    names = [table.name for table in report.tables]
    assert len(names) == len(set(names))
    assert {"search_top", "search_trials"} <= set(names)


def test_costs_are_coloured_by_the_first_field_of_named_choices(found):
    [points, *_] = study_sections.costs(found, ENGLISH).drawings
    legend = [text.get_text() for text in points.figure.legends[0].get_texts()]
    assert set(legend) == {"head only", "2 layers", "4 layers", "front"}
    assert points.figure.legends[0].get_title().get_text() == "Depth"


def test_a_search_over_numbers_only_has_no_colours_of_costs(found):
    space = {name: {"choices": None, "when": {}, "low": 0.0, "high": 1.0} for name in SPACE}
    specification = {**found.results.specification, "search": {"space": space}}
    bare = replace(found, results=replace(found.results, specification=specification))
    [points, *_] = study_sections.costs(bare, ENGLISH).drawings
    assert [text.get_text() for text in points.figure.legends[0].get_texts()] == ["front"]


def test_the_best_trial_and_the_base_recipe_lie_over_thin_lines_and_one_that_diverged_is_off_the_scale(found):
    drawings = study_sections.curves(found, ENGLISH).drawings
    loss = next(one for one in drawings if one.name == "curves-validation-loss")
    [axes] = loss.figure.axes
    widths = [line.get_linewidth() for line in axes.get_lines()]
    assert len(widths) == TRIALS
    assert sum(width > 1 for width in widths) == 2
    assert axes.get_ylim()[1] < 3


def test_the_whole_curve_of_the_base_recipe_is_in_sight_however_far_it_begins_from_the_others(found):
    cells = []
    for cell in found.results.cells:
        scores = np.linspace(0.96, 0.99, len(cell.curves))
        if cell.name == "trial-0000":
            scores = np.linspace(0.5, 0.95, len(cell.curves))
        cells.append(replace(cell, curves=cell.curves.assign(validation_roc_auc=scores)))
    close = replace(found, results=replace(found.results, cells=tuple(cells)))
    [axes] = study_sections.curves(close, ENGLISH).drawings[0].figure.axes
    assert axes.get_ylim()[0] < 0.5


def test_trials_that_were_given_up_are_no_trainings_without_a_result(found):
    assert any(cell.status == "pruned" for cell in found.results.cells)
    assert study_sections.unfinished(found, ENGLISH) is None


def test_the_title_names_a_search_and_its_fields(found):
    assert study_sentences.title(found, ENGLISH) == (
        "lungs: a search over depth, learning rate, weight decay, hidden layer, optimiser and momentum"
    )


@pytest.mark.parametrize(
    ("value", "english", "spanish"),
    [
        (0.0068731, "0.00687", "0,00687"),
        (1.2345e-5, "1.23e\u22125", "1,23e\u22125"),
        (0.5, "0.5", "0,5"),
        (64, "64", "64"),
        ("0.25", "0.25", "0,25"),
        (-0.1, "\u22120.1", "\u22120,1"),
        (0.0, "0", "0"),
        ("nan", "nan", "nan"),
        ("layers 2", "2 layers", "2 capas"),
    ],
)
def test_values_of_fields_are_written_as_the_reader_writes_numbers(value, english, spanish):
    assert value_text(value, ENGLISH) == english
    assert value_text(value, SPANISH) == spanish
