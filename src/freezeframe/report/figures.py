"""The figures of a report, with matplotlib's object interface: the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from freezeframe.report.language import Language
from freezeframe.report.rendering import INK, PALETTE, PAPER, SOFT, STYLE, Drawing

LINE_STYLES = ("-", "--", "-.", ":")
# From paper to the ensemble's blue; light enough in between for dark digits, dark enough at the end for light ones.
BLUES = LinearSegmentedColormap.from_list("freezeframe", ["#f3f7fa", "#9cc6e2", "#0072b2"])


@dataclass(frozen=True)
class Curve:
    """A line of a figure: points, its legend, and whether it is the one that matters most."""

    x: np.ndarray
    y: np.ndarray
    label: str
    main: bool = False


def training_curves(
    name: str, title: str, table: pd.DataFrame, best_epoch: int | None, language: Language
) -> Drawing:
    """Draw the losses and the validation scores over the epochs of one member.

    Parameters
    ----------
    table : DataFrame
        With the columns of a run's ``metrics.csv``.
    best_epoch : int or None
        The epoch whose weights were kept; marked.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 4.0), layout="constrained")
        losses, scores = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
        marker = "o" if len(table) < 2 else None
        for axes, columns in (
            (losses, ("train_loss", "validation_loss")),
            (scores, ("validation_roc_auc", "validation_accuracy")),
        ):
            for index, column in enumerate(columns):
                if column in table and bool(table[column].notna().to_numpy().any()):
                    style = {
                        "color": PALETTE[(1, 0)[index] if axes is losses else (0, 2)[index]],
                        "marker": marker,
                    }
                    dashes = "--" if index != (axes is losses) else "-"
                    axes.plot(table["epoch"], table[column], dashes, label=language.text(column), **style)
            _numbers(axes, language, x_digits=0)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=SOFT, linewidth=0.8, linestyle=":")
        losses.set_ylabel(language.text("loss"))
        losses.set_ylim(bottom=0)
        losses.set_title(title, loc="left", fontsize=9.5, color=INK, fontweight="bold")
        scores.set_ylabel(language.text("score"))
        scores.set_xlabel(language.text("epoch"))
        scores.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        handles = [handle for axes in (losses, scores) for handle in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside lower left", ncols=2, handlelength=2.2)
    return Drawing(name, figure, language.text("curves_description", member=title))


def confusion(
    name: str, title: str, matrix: np.ndarray, classes: Sequence[str], language: Language
) -> Drawing:
    """Draw a confusion matrix, (C, C) counts with the truth in rows; shade and percentage are of the row."""
    count = len(classes)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        side = min(max(3.0, 0.62 * count + 1.4), 8.0)
        figure = Figure(figsize=(side, side * 0.86), layout="constrained")
        axes = figure.subplots()
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        # Cells are drawn as vector areas, so that no bitmap is embedded and edges stay sharp.
        axes.pcolormesh(shares, cmap=BLUES, vmin=0, vmax=1, edgecolors=PAPER, linewidth=2)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        size = 9 if count <= 4 else max(4.5, 9.5 - 0.4 * count)
        if count <= 15:
            for row in range(count):
                for column in range(count):
                    dark = shares[row, column] > 0.62
                    text = language.integer(int(matrix[row, column]))
                    share = language.percent(shares[row, column], 1 if count <= 4 else 0)
                    # Not INK and PAPER: the cells keep their colour in the dark mode, and so does what they hold.
                    colour = "#fffffe" if dark else "#1c2531"
                    axes.text(
                        column + 0.5, row + 0.44, text, ha="center", va="bottom" if count <= 8 else "center",
                        color=colour, fontsize=size * (1.35 if count <= 4 else 1), fontweight="bold",
                    )  # fmt: skip
                    if count <= 8:
                        axes.text(
                            column + 0.5,
                            row + 0.54,
                            share,
                            ha="center",
                            va="top",
                            color=colour,
                            fontsize=size * 0.9,
                        )
        labels = [_shorten(name, 16) for name in classes]
        axes.set_xticks(
            np.arange(count) + 0.5,
            labels,
            rotation=0 if count <= 3 else 40,
            ha="center" if count <= 3 else "right",
        )
        axes.set_yticks(np.arange(count) + 0.5, labels, rotation=90 if count <= 3 else 0, va="center")
        axes.tick_params(colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(language.text("predicted"))
        axes.set_ylabel(language.text("truth"))
        axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
    cells = "; ".join(
        language.text(
            "confusion_cell", truth=classes[row], predicted=classes[column], number=int(matrix[row, column])
        )
        for row in range(count)
        for column in range(count)
        if matrix[row, column] and count <= 8
    )
    return Drawing(name, figure, f"{language.text('confusion_description', model=title)} {cells}".strip())


def roc(name: str, curves: Sequence[Curve], point: tuple[float, float] | None, language: Language) -> Drawing:
    """Draw ROC curves, with the operating point (1 - specificity, sensitivity)."""
    with mpl.rc_context(STYLE):
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        _curves(axes, curves, point, language, steps="post")
        axes.set_xlabel(language.text("false_positive_rate"))
        axes.set_ylabel(language.text("sensitivity"))
        _legend_below(figure, axes)
    return Drawing(
        name, figure, language.text("roc_description", curves="; ".join(curve.label for curve in curves))
    )


def precision_recall(
    name: str,
    curves: Sequence[Curve],
    point: tuple[float, float] | None,
    prevalence: float | None,
    language: Language,
) -> Drawing:
    """Draw precision-recall curves, with the operating point (sensitivity, PPV) and the prevalence as base line."""
    with mpl.rc_context(STYLE):
        figure, axes = _square()
        if prevalence is not None:
            axes.axhline(prevalence, color=SOFT, linewidth=0.8, linestyle=":")
        _curves(axes, curves, point, language, steps="pre")
        axes.set_xlabel(language.text("recall_axis"))
        axes.set_ylabel(language.text("precision_axis"))
        _legend_below(figure, axes)
    description = language.text(
        "precision_recall_description", curves="; ".join(curve.label for curve in curves)
    )
    return Drawing(name, figure, description)


def reliability(name: str, points: Sequence[Mapping[str, float]], language: Language, axis: str) -> Drawing:
    """Draw a reliability diagram: observed frequency against mean predicted probability, with the counts below.

    Parameters
    ----------
    points : sequence of mapping
        As `freezeframe.evaluation.calibration.reliability_curve` returns them.
    axis : str
        Title of the axis of probabilities.
    """
    probability, observed, low, high, counts = (
        np.array([point[key] for point in points])
        for key in ("probability", "observed", "low", "high", "count")
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 4.4), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":", label=language.text("perfect"))
        axes.vlines(
            probability,
            low,
            high,
            color=PALETTE[0],
            linewidth=1,
            alpha=0.55,
            label=language.text("wilson_bar"),
        )
        axes.plot(
            probability,
            observed,
            "o-",
            color=PALETTE[0],
            linewidth=1.2,
            markersize=4.5,
            label=language.text("bin"),
        )
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel(language.text("observed_frequency"))
        below.bar(probability, counts, 0.055, color=PALETTE[0], alpha=0.45, linewidth=0)
        for place, count in zip(probability, counts, strict=True):
            below.text(place, count, language.integer(int(count)), ha="center", va="bottom", fontsize=6.5)
        below.set_ylim(0, max(counts) * 1.35)
        below.set_ylabel(language.text("images"))
        below.set_xlabel(axis)
        below.set_xlim(-0.03, 1.03)
        below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
        _numbers(axes, language, x_digits=1, y_digits=1)
        _numbers(below, language, x_digits=1, y_digits=0)
        figure.align_ylabels([axes, below])
        _legend_below(figure, axes)
    return Drawing(name, figure, language.text("reliability_description"))


def stages(name: str, seconds: Mapping[str, Mapping[str, float]], language: Language) -> Drawing:
    """Draw the seconds that each member spent in each stage, as stacked bars."""
    names = list(seconds)
    kinds = list(dict.fromkeys(kind for row in seconds.values() for kind in row))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.1 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(names))
        for index, kind in enumerate(kinds):
            values = np.array([seconds[member].get(kind, 0.0) for member in names])
            axes.barh(
                names, values, left=left, height=0.62, color=PALETTE[index % len(PALETTE)],
                label=language.known(f"stage_{kind}", kind), edgecolor=PAPER, linewidth=0.8,
            )  # fmt: skip
            left += values
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(language.text("seconds"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.integer(round(value))))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.tick_params(axis="y", colors=INK)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    totals = "; ".join(f"{member}: {language.duration(sum(row.values()))}" for member, row in seconds.items())
    return Drawing(name, figure, language.text("stages_description", totals=totals))


def thin(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Keep at most about `most` points of a monotone curve, evenly along its length, ends included."""
    if len(x) <= most:
        return x, y
    length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)).clip(0, len(x) - 1))
    kept = np.union1d(kept, [0, len(x) - 1])
    return x[kept], y[kept]


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.9, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_box_aspect(1)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    return figure, axes


def _curves(
    axes: Axes, curves: Sequence[Curve], point: tuple[float, float] | None, language: Language, steps: str
) -> None:
    others = 0
    for curve in curves:
        x, y = thin(curve.x, curve.y)
        if curve.main:
            colour, width, style, order = PALETTE[0], 2.2, "-", 4
        else:
            colour, width, order = PALETTE[1 + others % (len(PALETTE) - 1)], 1.1, 3
            style = LINE_STYLES[(1 + others) % len(LINE_STYLES)]
            others += 1
        axes.plot(
            x,
            y,
            style,
            color=colour,
            linewidth=width,
            label=curve.label,
            zorder=order,
            drawstyle=f"steps-{steps}",
        )
    if point is not None:
        axes.plot(
            *point, "o", markersize=7, markerfacecolor=PAPER, markeredgecolor=INK, markeredgewidth=1.6, zorder=5,
            linestyle="none", label=language.text("operating_point"),
        )  # fmt: skip
    _numbers(axes, language, x_digits=1, y_digits=1)


def _legend_below(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=1, handlelength=2.2)


def _numbers(axes: Axes, language: Language, x_digits: int, y_digits: int = 2) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.number(value, x_digits)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: language.number(value, y_digits)))


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
