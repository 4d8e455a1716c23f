"""The figures of a search: the score of each trial as the search went on, and which field explains the scores."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from freezeframe.report.language import Language
from freezeframe.report.rendering import INK, PALETTE, PAPER, SOFT, STYLE, Drawing
from freezeframe.report.study_figures import fine, legend_columns, window


def ends(finished: pd.DataFrame, lower: bool) -> tuple[float, float]:
    """Choose the ends of the axis of scores: few bad trials do not press all others flat.

    Parameters
    ----------
    finished : DataFrame
        The finished trials of a history; at least one.
    lower : bool
        Whether lower scores are better.
    """
    low, high = window(np.asarray(finished["value"], dtype=float), lower)
    for value in finished.query("trial == 0")["value"].tolist():
        # What a search is compared with is always in sight.
        low, high = min(low, value - 0.03 * (high - low)), max(high, value + 0.03 * (high - low))
    return low, high


def history(trials: pd.DataFrame, best: int, lower: bool, title: str, language: Language) -> Drawing:
    """Draw each trial's validation score, the best so far as a line, and the trials that were given up as crosses.

    Parameters
    ----------
    trials : DataFrame
        As `freezeframe.study.search.history` returns it.
    best : int
        Number of the best trial, which is finished.
    lower : bool
        Whether lower scores are better.
    title : str
        The metric's.
    """
    finished, pruned = trials.query("state == 'finished'"), trials.query("state == 'pruned'")
    low, high = ends(finished, lower)
    base = finished.query("trial == 0")["value"].tolist()
    worst = high if lower else low
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.set_ylim(low, high)
        for value in base:
            axes.axhline(
                value,
                color=PALETTE[1],
                linewidth=1.1,
                linestyle="--",
                label=language.text("study_search_base"),
            )
        axes.plot(
            trials["trial"], trials["best"], color=PALETTE[0], drawstyle="steps-post",
            label=language.text("study_search_best_so_far"),
        )  # fmt: skip
        for part, marker, colour, key in (
            (finished, "o", INK, "study_state_finished"),
            (pruned, "x", SOFT, "study_state_pruned"),
        ):
            if len(part):
                # One whose score is unknown, or beyond the axis, stands on its worse end.
                score = np.nan_to_num(np.asarray(part["value"], dtype=float), nan=worst).clip(low, high)
                axes.plot(
                    part["trial"], score, marker, color=colour, markersize=4.5, markerfacecolor=PAPER,
                    zorder=3, clip_on=False, label=language.text(key),
                )  # fmt: skip
        score = trials.set_index("trial")["value"].loc[best]
        axes.plot(best, score, "o", color=PALETTE[0], markersize=7.5, markeredgecolor=INK, zorder=4)
        axes.set_xlim(-0.5, max(len(trials), 2) - 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.integer(round(value))))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        fine(axes.yaxis, language.number)
        axes.set_xlabel(language.text("study_search_number"))
        axes.set_ylabel(language.text("study_validation", metric=title))
        handles = [one for one in axes.get_lines() if not str(one.get_label()).startswith("_")]
        figure.legend(handles=handles, loc="outside lower left", ncols=legend_columns(handles, 112))
    return Drawing("search-history", figure, language.text("study_search_history_description", metric=title))


def importances(shares: Mapping[str, float], language: Language) -> Drawing:
    """Draw what share of the scores' variance each field explains, the largest on top.

    Parameters
    ----------
    shares : mapping of str to float
        The fields' names as the reader knows them; at least one.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.75 + 0.27 * len(shares)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(shares))
        axes.barh(places, list(shares.values()), height=0.62, color=PALETTE[0])
        for place, share in zip(places, shares.values(), strict=True):
            axes.annotate(
                language.percent(share, 0), (share, place), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set_yticks(places, list(shares))
        axes.set_ylim(len(shares) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(*shares.values(), 0.01))
        axes.tick_params(axis="y", colors=INK)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: language.percent(value, 0)))
        axes.set_xlabel(language.text("study_search_importance_axis"))
    return Drawing("search-importances", figure, language.text("study_search_importance_description"))
