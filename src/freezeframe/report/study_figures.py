"""The figures of a study: differences with the best, costs against score, and all training curves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from freezeframe.evaluation.intervals import Estimate
from freezeframe.report.language import Language
from freezeframe.report.rendering import INK, PALETTE, PAPER, SOFT, STYLE, Drawing

FARTHEST = 3.0
"""Of an axis that leaves out the few that are far off: as a multiple of how far the median is from the best."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Bar:
    """One line of a forest plot: a difference with its interval, and whether it is told from 0."""

    label: str
    difference: Estimate
    real: bool


@dataclass(frozen=True)
class Point:
    """A setting among costs and scores; `group` has a colour of its own."""

    label: str
    group: str
    cost: float
    score: Estimate
    front: bool
    best: bool


@dataclass(frozen=True)
class Line:
    """A training curve, in the panel and with the colour of two labels; a strong one lies over the others."""

    panel: str
    colour: str
    curve: pd.DataFrame
    strong: bool = False


def forest(name: str, bars: Sequence[Bar], axis: str, description: str, language: Language) -> Drawing:
    """Draw the differences of settings from the best one, one line each, with their intervals."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 1.25 + 0.23 * len(bars)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=SOFT, linewidth=0.9, linestyle=":")
        for row, bar in enumerate(bars):
            colour = PALETTE[1] if bar.real else PALETTE[0]
            if bar.difference.low is not None and bar.difference.high is not None:
                axes.plot(
                    [bar.difference.low, bar.difference.high],
                    [row, row],
                    color=colour,
                    linewidth=1.3,
                    alpha=0.75,
                )
            axes.plot(
                bar.difference.value or 0.0, row, "o", markersize=4.5, color=colour,
                markerfacecolor=colour if bar.real else PAPER,
            )  # fmt: skip
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.tick_params(axis="y", colors=INK)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        fine(axes.xaxis, language.signed)
        axes.set_xlabel(axis)
        handles = [
            Line2D(
                [],
                [],
                color=PALETTE[0],
                marker="o",
                markerfacecolor=PAPER,
                label=language.text("study_not_told"),
            ),
            Line2D([], [], color=PALETTE[1], marker="o", label=language.text("study_told")),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return Drawing(name, figure, description)


def costs(
    name: str,
    points: Sequence[Point],
    titles: tuple[str, str],
    kind: str,
    language: Language,
    groups_title: str = "",
) -> Drawing:
    """Draw scores against one cost, with the front: what nothing cheaper is better than.

    Parameters
    ----------
    points : sequence of Point
        At least one.
    titles : (str, str)
        Of the axes: cost and score.
    kind : str
        'parameters', 'seconds' or 'memory': how costs are written.
    groups_title : str
        What the groups are, above the legend.
    """
    write = {"parameters": _count, "seconds": language.duration, "memory": language.size}[kind]
    groups = list(dict.fromkeys(point.group for point in points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.7), layout="constrained")
        axes = figure.subplots()
        front = sorted((point.cost, point.score.value or 0.0) for point in points if point.front)
        axes.plot(*zip(*front, strict=True), color=SOFT, linewidth=0.9, drawstyle="steps-post", zorder=1)
        for point in points:
            index = groups.index(point.group)
            colour = PALETTE[index % len(PALETTE)]
            if point.score.low is not None and point.score.high is not None:
                axes.plot(
                    [point.cost] * 2,
                    [point.score.low, point.score.high],
                    color=colour,
                    linewidth=0.8,
                    alpha=0.3,
                )
            axes.plot(
                point.cost, point.score.value or 0.0, MARKERS[index % len(MARKERS)], color=colour, zorder=3,
                markersize=8 if point.best else 5, markerfacecolor=colour if point.front else PAPER,
                markeredgecolor=INK if point.best else colour, markeredgewidth=1.5 if point.best else 1.0,
            )  # fmt: skip
        lowest, highest = min(point.cost for point in points), max(point.cost for point in points)
        if kind == "parameters" and 0 < 10 * lowest <= highest:
            axes.set_xscale("log")
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.margins(x=0.12)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
        fine(axes.yaxis, language.number)
        axes.set_xlabel(titles[0])
        axes.set_ylabel(titles[1])
        handles = [
            Line2D(
                [], [], linestyle="none", marker=MARKERS[index % len(MARKERS)], color=PALETTE[index % len(PALETTE)],
                label=group,
            )
            for index, group in enumerate(groups)
            if group
        ]  # fmt: skip
        handles.append(Line2D([], [], color=SOFT, linewidth=0.9, label=language.text("study_front")))
        figure.legend(
            handles=handles, loc="outside lower left", ncols=legend_columns(handles, 40),
            title=groups_title or None, alignment="left", title_fontsize=8,
        )  # fmt: skip
    return Drawing(name, figure, f"{titles[1]} – {titles[0]}")


def curves(
    name: str,
    lines: Sequence[Line],
    column: str,
    titles: tuple[str, str],
    language: Language,
    window: tuple[float, float] | None = None,
) -> Drawing:
    """Draw a column of every cell's ``metrics.csv`` as a thin line: a panel and a colour for each label of two axes.

    Parameters
    ----------
    lines : sequence of Line
        At least one.
    column : str
        Of the curves' tables.
    titles : (str, str)
        Of the vertical axis, and of what the colours mean.
    window : (float, float), optional
        Ends of the vertical axis; all values where left out.
    """
    faint = 0.4 if any(line.strong for line in lines) else 0.8
    panels = list(dict.fromkeys(line.panel for line in lines))
    colours = list(dict.fromkeys(line.colour for line in lines))
    shades = _shades(colours)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(0.6 + (2.5 if columns > 1 else 5.4) * columns, 0.9 + (1.9 if rows > 1 else 2.2) * rows),
            layout="constrained",
        )
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for line in lines:
            axes = grid.flat[panels.index(line.panel)]
            alone = len(line.curve) < 2
            axes.plot(
                line.curve["epoch"], line.curve[column], color=shades[line.colour],
                linewidth=2.0 if line.strong else 0.9, alpha=1.0 if line.strong else faint,
                zorder=3 if line.strong else 2, marker="o" if alone else None, markersize=3,
            )  # fmt: skip
        for index, panel in enumerate(panels):
            axes = grid.flat[index]
            axes.set_title(panel, loc="left", fontsize=9, color=INK, fontweight="bold")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            fine(axes.yaxis, language.number)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.number(value, 0)))
            if index + columns >= len(panels):
                axes.set_xlabel(language.text("epoch"))
                axes.tick_params(labelbottom=True)
        if window is not None:
            grid.flat[0].set_ylim(*window)
        figure.supylabel(titles[0], fontsize=9, color=SOFT)
        if len(colours) > 1:
            handles = [Line2D([], [], color=shades[colour], label=colour) for colour in colours]
            across = legend_columns(handles, 30 * max(columns, 2))
            figure.legend(
                handles=handles,
                loc="outside lower left",
                ncols=across,
                title=titles[1] or None,
                alignment="left",
            )
    return Drawing(name, figure, f"{titles[0]}: {', '.join(panels)}")


def window(values: np.ndarray, lower: bool) -> tuple[float, float]:
    """Choose the ends of an axis that leave out what is much farther from the best than the median is.

    Parameters
    ----------
    values : ndarray of float (N,)
        At least one finite.
    lower : bool
        Whether lower is better.

    Examples
    --------
    >>> window(np.array([0.0, 10.0, 20.0, 30.0, 400.0]), lower=True)
    (-3.0, 63.0)
    """
    known = values[np.isfinite(values)]
    best = known.min() if lower else known.max()
    worst = known.max() if lower else known.min()
    reach = min(abs(worst - best), FARTHEST * abs(np.median(known) - best)) or max(0.05 * abs(best), 1e-6)
    sign = 1 if lower else -1
    ends = float(best - sign * 0.05 * reach), float(best + sign * 1.05 * reach)
    return min(ends), max(ends)


def fine(axis: Axis, write: Callable[[float, int], str]) -> None:
    """Write an axis' numbers with as many digits as they have: two or more, and not so many that all look alike."""

    def written(value: float, _: int | None = None) -> str:
        places = np.unique(axis.get_majorticklocs())
        step = np.diff(places).min() if len(places) > 1 else 0.1
        exact = (count for count in range(2, 5) if np.allclose(places, places.round(count), atol=step / 100))
        return write(value, next(exact, 5))

    axis.set_major_formatter(FuncFormatter(written))


def legend_columns(handles: Sequence[Line2D], room: int) -> int:
    """Choose how many columns of a legend fit into a width of so many letters."""
    longest = max(len(str(handle.get_label())) for handle in handles) + 5  # the line before the words
    return int(np.clip(room // longest, 1, 4))


def _shades(colours: Sequence[str]) -> Mapping[str, Any]:
    if len(colours) <= len(PALETTE):
        return dict(zip(colours, PALETTE, strict=False))
    scale = mpl.colormaps["viridis"]
    return dict(zip(colours, map(scale, np.linspace(0.05, 0.85, len(colours))), strict=True))


def _count(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
