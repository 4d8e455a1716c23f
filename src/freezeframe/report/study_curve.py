"""What a learning curve says: its sentences, its figure, its tables, and its section of a study's page."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from freezeframe.evaluation.learning_curve import HORIZON
from freezeframe.report.language import Language
from freezeframe.report.rendering import INK, PALETTE, PAPER, SOFT, STYLE, Drawing
from freezeframe.report.study_sections import Section
from freezeframe.report.study_words import metric_title
from freezeframe.report.tables import Cell, Estimate, Quantity, Table
from freezeframe.study.learning_curve import Answer, Forecast

KEY = "learning-curve"
_POINTS = 60
# The figure goes as far as the target's size only where that leaves what was measured legible.
_FARTHEST = 30


def rounded(size: float) -> int:
    """Round a forecast size to two digits: more would be pretence.

    Examples
    --------
    >>> rounded(3412.7), rounded(87.4), rounded(151)
    (3400, 87, 150)
    """
    return int(float(f"{size:.2g}"))


def forecast_sentences(answer: Answer, language: Language) -> tuple[str, ...]:
    """Say what more data would bring, and how much the target takes where there is one."""
    main, metric = answer.main, metric_title(answer.main.metric, language)
    said = [
        language.text(
            "learning_more",
            times=times_of(answer, language),
            size=_size(answer.times * answer.largest.size, answer, language),
            metric=metric,
            value=language.number(main.more.value),
            interval=language.interval(main.more.low, main.more.high),
        )
    ]
    if main.needed is not None and answer.target is not None:
        said.append(_needed(answer, main, metric, language))
    return tuple(said)


def sentences(answer: Answer, language: Language) -> tuple[str, ...]:
    """Say all of the answer: the forecast, what it starts from, each class, the test on what is known, its limits."""
    largest = answer.largest
    said = list(forecast_sentences(answer, language))
    said.append(
        language.text(
            "learning_now",
            size=_size(largest.size, answer, language, exact=True),
            metric=metric_title(answer.main.metric, language),
            value=language.number(answer.main.now),
            draws=len(largest.scores),
        )
    )
    said += [
        language.text(
            "learning_class",
            name=name,
            metric=metric_title(one.metric.partition("/")[0], language),
            now=language.number(one.now),
            times=times_of(answer, language),
            value=language.number(one.more.value),
            interval=language.interval(one.more.low, one.more.high),
        )
        for name, one in answer.classes.items()
    ]
    return (*said, *_tested(answer, language), *caveats(language))


def caveats(language: Language) -> tuple[str, ...]:
    """Say what the forecast does not know."""
    return language.text("learning_caveat_same"), language.text("learning_caveat_interval")


def times_of(answer: Answer, language: Language) -> str:
    """Write how many times the data the forecast is for."""
    if answer.times == 2:
        return language.text("learning_twice")
    digits = 0 if answer.times == int(answer.times) else 2
    return language.text("learning_times", times=language.number(answer.times, digits))


def section(answer: Answer, language: Language) -> Section:
    """Make the section of a study's page."""
    classes = (_class_table(answer, language),) if answer.classes else ()
    return Section(
        KEY,
        language.text("study_heading_learning_curve"),
        (" ".join(forecast_sentences(answer, language)), *_tested(answer, language), *caveats(language)),
        drawings=(drawing(answer, language),),
        tables=(_size_table(answer, language), *classes),
        notes=((language.text("methods_title"), (language.text("learning_how"),)),),
        wide=True,
    )


def drawing(answer: Answer, language: Language) -> Drawing:
    """Draw every training, the fitted curves with their band, the forecast, and the target."""
    main, largest = answer.main, answer.largest.size
    reach = [answer.times * largest, largest]
    needed = main.needed.value if main.needed else None
    if needed is not None and needed <= _FARTHEST * largest:
        reach.append(needed)
    grid = np.geomspace(answer.sizes[0].size, max(reach) * 1.15, _POINTS)
    band = [main.curve.forecast(size) for size in grid.tolist()]
    title = metric_title(main.metric, language)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(
            grid,
            [one.low or 0.0 for one in band],
            [one.high or 0.0 for one in band],
            color=PALETTE[0],
            alpha=0.14,
            linewidth=0,
        )
        axes.plot(
            grid,
            [one.value or 0.0 for one in band],
            color=PALETTE[0],
            label=language.text("learning_legend_curve"),
        )
        points = [(one.size, score) for one in answer.sizes for score in one.scores if np.isfinite(score)]
        axes.plot(
            *zip(*points, strict=True), "o", color=INK, markersize=4, markerfacecolor=PAPER, zorder=3,
            label=language.text("learning_legend_training"),
        )  # fmt: skip
        axes.axvline(largest, color=SOFT, linewidth=0.8, linestyle=":")
        if main.more.value is not None:
            axes.errorbar(
                [answer.times * largest],
                [main.more.value],
                [
                    [main.more.value - (main.more.low or 0.0)],
                    [(main.more.high or 0.0) - main.more.value],
                ],
                fmt="D", color=PALETTE[1], markersize=5.5, capsize=3, zorder=4,
                label=language.text("learning_legend_forecast"),
            )  # fmt: skip
        if answer.target is not None:
            axes.axhline(
                answer.target, color=PALETTE[2], linewidth=1.1, linestyle="--",
                label=language.text("learning_legend_target"),
            )  # fmt: skip
            if needed is not None and needed in reach:
                axes.plot(needed, answer.target, "s", color=PALETTE[2], markersize=5.5, zorder=4)
        axes.set_xscale("log")
        axes.set_xticks(
            [one.size for one in answer.sizes] + ([answer.times * largest] if answer.times > 1 else [])
        )
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.integer(round(value))))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: language.number(value)))
        axes.set_xlabel(language.text(f"learning_axis_{answer.unit}"))
        axes.set_ylabel(title)
        figure.legend(loc="outside lower left", ncols=4)
    return Drawing(KEY, figure, language.text("learning_figure", metric=title))


def _needed(answer: Answer, forecast: Forecast, metric: str, language: Language) -> str:
    needed = forecast.needed
    assert needed is not None
    chance = language.percent(needed.out_of_reach, 0)
    values = {"metric": metric, "target": language.number(answer.target), "chance": chance}
    if needed.low is not None:
        values["low"] = language.integer(rounded(needed.low))
    if needed.high is not None:
        values["high"] = language.integer(rounded(needed.high))
    if needed.value is None:
        said = language.text("learning_needed_no", **values, horizon=HORIZON)
        if needed.low is None:
            return said
        least = language.text("learning_needed_least", low=_size(needed.low, answer, language))
        return f"{said} {least}"
    key = "learning_needed" if needed.high is not None else "learning_needed_open"
    if needed.high is not None and needed.value <= answer.largest.size:
        key = "learning_enough"
    return language.text(key, **values, size=_count(rounded(needed.value), answer.unit, language))


def _tested(answer: Answer, language: Language) -> list[str]:
    known = answer.hindcast
    if known is None:
        return []
    size, found = max(known.forecasts.items())
    return [
        language.text(
            "learning_hindcast",
            value=language.number(found.value),
            interval=language.interval(found.low, found.high),
            size=_count(round(size), answer.unit, language),
            measured=language.number(known.means[size]),
            held=known.held,
            trainings=known.trainings,
        )
    ]


def _size(size: float, answer: Answer, language: Language, exact: bool = False) -> str:
    """Write a size as patients with about so many images, or as images where no patients are known."""
    written = _count(round(size) if exact else rounded(size), answer.unit, language)
    if answer.unit == "images" or round(answer.images_each, 2) == 1:
        return written
    images = _count(rounded(size * answer.images_each), "images", language)
    return language.text("learning_of_patients", patients=written, images=images)


def _count(count: int, unit: str, language: Language) -> str:
    return language.text(f"learning_{unit}", count=count)


def _share(share: float, language: Language) -> str:
    return language.percent(share, 0 if (100 * share).is_integer() else 2)


def _size_table(answer: Answer, language: Language) -> Table:
    patients = (language.text("learning_axis_patients"),) if answer.unit == "patients" else ()
    columns = (
        language.text("learning_share"),
        *patients,
        language.text("learning_axis_images"),
        *(language.text(f"learning_{name}") for name in ("trainings", "mean", "least", "most")),
    )
    rows: list[tuple[Cell, ...]] = []
    for one in answer.sizes:
        scores = [score for score in one.scores if np.isfinite(score)]
        count: tuple[Cell, ...] = (one.size,) if patients else ()
        least, most = (min(scores), max(scores)) if scores else (None, None)
        rows.append(
            (
                _share(float(one.share), language),
                *count,
                round(one.images),
                len(scores),
                one.mean,
                least,
                most,
            )
        )
    caption = language.text("learning_sizes_caption", metric=metric_title(answer.main.metric, language))
    return Table("learning_curve", caption, columns, tuple(rows))


def _class_table(answer: Answer, language: Language) -> Table:
    asked = any(one.needed is not None for one in answer.classes.values())
    columns = [language.text(f"learning_{name}") for name in ("class_name", "metric", "mean", "forecast")]
    if asked:
        columns.append(language.text("learning_size_needed"))
    rows = []
    for name, one in answer.classes.items():
        row: list[Cell] = [
            name,
            metric_title(one.metric.partition("/")[0], language),
            one.now,
            Estimate(one.more.value, one.more.low, one.more.high),
        ]
        if asked:
            row.append(_needed_cell(one, language))
        rows.append(tuple(row))
    caption = language.text("learning_classes_caption", times=times_of(answer, language))
    return Table("learning_curve_classes", caption, tuple(columns), tuple(rows))


def _needed_cell(forecast: Forecast, language: Language) -> Cell:
    needed = forecast.needed
    if needed is None or needed.value is None:
        return Quantity(None, language.text("learning_unreachable"))
    low, high = (
        language.text("learning_unreachable") if end is None else language.integer(rounded(end))
        for end in (needed.low, needed.high)
    )
    size = rounded(needed.value)
    return Quantity(size, language.integer(size), language.text("interval", low=low, high=high))
