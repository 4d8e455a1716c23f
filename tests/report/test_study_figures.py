import pandas as pd
import pytest
from matplotlib.figure import Figure

from freezeframe.evaluation.intervals import Estimate
from freezeframe.report import study_figures as figures
from freezeframe.report.language import load
from freezeframe.report.study_figures import Bar, Line, Point

ENGLISH, SPANISH = load("en"), load("es")


def texts(axis) -> list[str]:
    return [label.get_text() for label in axis.get_majorticklabels()]


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01, 0.001])
def test_neighbouring_numbers_of_an_axis_are_told_apart_however_close_the_scores(scale):
    bars = [Bar("a", Estimate(-0.5 * scale, -scale, 0.1 * scale), False), Bar("b", Estimate(-scale), True)]
    drawing = figures.forest("differences", bars, "Difference", "Differences.", ENGLISH)
    shown = [text for text in texts(drawing.figure.axes[0].xaxis) if text]
    assert len(shown) == len(set(shown)) > 2


@pytest.mark.parametrize("step", [0.2, 0.025, 0.0125, 0.002])
def test_numbers_of_an_axis_are_those_at_which_it_is_marked(step):
    figure = Figure()
    axis = figure.subplots().yaxis
    axis.set_ticks([0.8 + step * count for count in range(4)])
    figures.fine(axis, ENGLISH.number)
    assert [float(text) for text in texts(axis)] == pytest.approx([0.8 + step * count for count in range(4)])


def test_long_names_of_a_legend_stand_below_each_other_and_short_ones_side_by_side():
    def columns(groups):
        points = [
            Point(group, group, float(cost + 1), Estimate(0.9 + cost / 100), True, False)
            for cost, group in enumerate(groups)
        ]
        drawing = figures.costs("cost", points, ("Seconds", "ROC AUC"), "seconds", ENGLISH)
        return drawing.figure.legends[0]._ncols

    assert columns(("lite0", "lite1")) > 1
    assert columns(("efficientnet-lite2-for-mobilenet-v2", "efficientnet-lite1-for-densenet121")) == 1


def test_numbers_of_parameters_a_thousand_times_apart_stand_on_a_logarithmic_scale():
    def scale(costs):
        points = [Point(str(cost), "a", cost, Estimate(0.9), True, False) for cost in costs]
        drawing = figures.costs("cost", points, ("Parameters", "ROC AUC"), "parameters", ENGLISH)
        return drawing.figure.axes[0].get_xscale()

    assert scale((2e3, 2e6)) == "log"
    assert scale((1e6, 2e6)) == scale((0.0, 2e6)) == "linear"


def test_each_training_is_a_line_in_the_panel_and_colour_of_its_labels():
    curve = pd.DataFrame({"epoch": [0, 1], "validation_loss": [0.5, 0.4]})
    lines = [Line(panel, colour, curve) for panel in ("lite0", "lite1") for colour in ("head", "2 layers")]
    drawing = figures.curves("curves", lines, "validation_loss", ("Loss", "Depth"), SPANISH)
    axes = drawing.figure.axes
    assert [one.get_title(loc="left") for one in axes] == ["lite0", "lite1"]
    colours = [[line.get_color() for line in one.lines] for one in axes]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 2


def test_more_labels_than_the_palette_has_get_shades_of_their_own():
    curve = pd.DataFrame({"epoch": [0, 1], "validation_loss": [0.5, 0.4]})
    lines = [Line("", str(number), curve) for number in range(12)]
    drawing = figures.curves("curves", lines, "validation_loss", ("Loss", "Rate"), ENGLISH)
    assert len({tuple(line.get_color()) for line in drawing.figure.axes[0].lines}) == 12
