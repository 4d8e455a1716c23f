"""The learning curve's words, tables and figure, from forecasts of scores that are known."""

from dataclasses import replace

import numpy as np
import pytest

from freezeframe.evaluation.learning_curve import SizeForecast, fit, hindcast
from freezeframe.report.language import load
from freezeframe.report.study_curve import drawing, forecast_sentences, rounded, section, sentences
from freezeframe.report.tables import Quantity
from freezeframe.study.learning_curve import Answer, Forecast, Size

ENGLISH, SPANISH = load("en"), load("es")
COUNTS = (100, 200, 400, 800, 1600)


def forecast(metric: str, ceiling: float, target: float | None) -> Forecast:
    sizes = np.repeat(COUNTS, 3)
    scores = ceiling - 1.2 * sizes**-0.5 + np.tile([-0.002, 0, 0.002], len(COUNTS))
    curve = fit(sizes, scores)
    needed = None if target is None else curve.size_for(target)
    return Forecast(metric, float(scores[-3:].mean()), curve, curve.forecast(3200), needed)


@pytest.fixture(scope="module")
def answer() -> Answer:
    main = forecast("roc_auc", 0.98, 0.965)
    scores = {
        size: tuple((0.98 - 1.2 * size**-0.5 + np.array([-0.002, 0, 0.002])).tolist()) for size in COUNTS
    }
    sizes = tuple(
        Size(share, size, 1.5 * size, scores[size])
        for share, size in zip(("0.0625", "0.125", "0.25", "0.5", "1"), COUNTS, strict=True)
    )
    classes = {
        "virus": forecast("roc_auc/virus", 0.95, 0.965),
        "bacteria": forecast("roc_auc/bacteria", 0.985, 0.965),
    }
    known = hindcast(np.repeat(COUNTS, 3), [score for size in COUNTS for score in scores[size]])
    return Answer("patients", sizes, 2.0, 0.965, main, classes, known)


def asked(answer: Answer, **needed) -> Answer:
    return replace(answer, main=replace(answer.main, needed=SizeForecast(**needed)))


def test_the_forecast_is_said_with_its_interval_in_patients_and_images(answer):
    more = answer.main.more
    said = forecast_sentences(answer, ENGLISH)[0]
    assert said == (
        f"With twice the data, 3,200 patients (about 4,800 images), expect ROC AUC {more.value:.3f} "
        f"({more.low:.3f} to {more.high:.3f})."
    )
    spanish = forecast_sentences(answer, SPANISH)[0]
    assert "el doble de datos, 3200 pacientes (unas 4800 imágenes)" in spanish
    assert f"{more.value:.3f}".replace(".", ",") in spanish


def test_images_are_counted_where_no_patients_are_known(answer):
    text = forecast_sentences(replace(answer, unit="images", times=1.5), ENGLISH)[0]
    assert text.startswith("With 1.50 times the data, 2,400 images, expect")


@pytest.mark.parametrize(
    ("needed", "english", "spanish"),
    [
        (
            {"value": 3412.0, "low": 2098.0, "high": 9011.0, "out_of_reach": 0.0},
            "For ROC AUC 0.965 you would need about 3,400 patients (2,100 to 9,000).",
            "Para AUC ROC 0,965 harían falta cerca de 3400 pacientes (2100 a 9000).",
        ),
        (
            {"value": 3412.0, "low": 2098.0, "high": None, "out_of_reach": 0.21},
            "about 3,400 patients, and at least 2,100; with a probability of 21% it is out of reach.",
            "cerca de 3400 pacientes, y al menos 2100; con una probabilidad de 21\u00a0% es inalcanzable.",
        ),
        (
            {"value": None, "low": 5010.0, "high": None, "out_of_reach": 0.8},
            "would do. If it can be reached, then hardly with fewer than 5,000 patients (about 7,500 images).",
            "es inalcanzable con una probabilidad de 80\u00a0%",
        ),
        (
            {"value": None, "low": None, "high": None, "out_of_reach": 1.0},
            "out of reach with a probability of 100%: no size, or only one beyond 100 times the training data,",
            "es inalcanzable",
        ),
        (
            {"value": 812.0, "low": 640.0, "high": 1020.0, "out_of_reach": 0.0},
            "about 810 patients are enough (640 to 1,000), which is no more than there is.",
            "bastan cerca de 810 pacientes (640 a 1000)",
        ),
    ],
)  # fmt: skip
def test_how_much_the_target_takes_is_said_or_that_it_is_out_of_reach(answer, needed, english, spanish):
    found = asked(answer, **needed)
    text = forecast_sentences(found, ENGLISH)[1]
    assert english in text
    assert spanish in forecast_sentences(found, SPANISH)[1]
    # Nothing follows where no size is known.
    assert ("hardly" in text) == (needed["value"] is None and needed["low"] is not None)


def test_without_a_target_nothing_is_said_of_one(answer):
    bare = replace(answer, target=None, main=replace(answer.main, needed=None))
    assert len(forecast_sentences(bare, ENGLISH)) == 1
    assert "need" not in " ".join(sentences(bare, ENGLISH)[:2])


def test_all_of_the_answer_says_each_class_what_was_tested_and_what_it_does_not_know(answer):
    text = " ".join(sentences(answer, ENGLISH))
    for name, one in answer.classes.items():
        assert f"{name}: ROC AUC {one.now:.3f} now" in text
    assert "With all of the training data, 1,600 patients (about 2,400 images)" in text
    assert f"{answer.hindcast.held} of 3 trainings lie in the interval" in text
    assert "same hospitals and devices" in text


def test_too_few_sizes_for_a_test_on_what_is_known_leave_it_out(answer):
    assert "Tested on what is known" not in " ".join(sentences(replace(answer, hindcast=None), ENGLISH))


@pytest.mark.parametrize("words", [ENGLISH, SPANISH], ids=["en", "es"])
def test_the_section_has_the_figure_a_row_a_size_and_a_row_a_class(answer, words):
    made = section(answer, words)
    assert made.key == "learning-curve"
    [drawn] = made.drawings
    assert "aria-label" in drawn.inline()
    sizes, classes = made.tables
    assert [row[1] for row in sizes.rows] == list(COUNTS)
    assert [row[2] for row in sizes.rows] == [150, 300, 600, 1200, 2400]
    assert sizes.rows[0][0] == words.percent(0.0625, 2)
    assert [row[0] for row in classes.rows] == ["virus", "bacteria"]
    unreachable = classes.rows[0][-1]
    assert isinstance(unreachable, Quantity)
    assert unreachable.text == words.text("learning_unreachable")


def test_the_figure_shows_trainings_band_forecast_and_target(answer):
    [axes] = drawing(answer, ENGLISH).figure.axes
    assert np.asarray(axes.lines[1].get_xydata()).shape == (15, 2)
    assert len(axes.collections) >= 1
    labels = axes.get_legend_handles_labels()[1]
    assert set(labels) == {"power law, 95% interval", "one training", "forecast", "target"}
    assert axes.get_xscale() == "log"


def test_the_figure_stays_legible_where_the_target_is_far_beyond(answer):
    far = asked(answer, value=150_000.0, low=90_000.0, high=None, out_of_reach=0.1)
    [axes] = drawing(far, ENGLISH).figure.axes
    assert axes.get_xlim()[1] < 5000


def test_a_size_is_said_with_two_digits():
    assert [rounded(size) for size in (3412.7, 87.4, 151, 99.6, 4)] == [3400, 87, 150, 100, 4]


def test_the_json_holds_what_the_sentences_say(answer):
    plain = answer.to_dict()
    assert [one["patients"] for one in plain["sizes"]] == list(COUNTS)
    assert plain["forecast"]["more"]["value"] == answer.main.more.value
    assert plain["forecast"]["needed"]["out_of_reach"] == answer.main.needed.out_of_reach
    assert plain["hindcast"]["held"] == answer.hindcast.held
    assert set(plain["classes"]) == {"virus", "bacteria"}
