"""The figures of a study's report, chosen and filled from its findings."""

from collections.abc import Sequence

import numpy as np

from freezeframe.evaluation.intervals import Estimate
from freezeframe.evaluation.pareto import front
from freezeframe.report import study_figures as figures
from freezeframe.report.language import Language
from freezeframe.report.rendering import PALETTE, Drawing
from freezeframe.report.study_figures import Bar, Line, Point
from freezeframe.report.study_words import (
    axis_title,
    label,
    metric_title,
    metric_word,
    searched,
    setting_name,
    several,
    trial_number,
    trial_title,
)
from freezeframe.study.findings import Findings
from freezeframe.study.results import Cell
from freezeframe.study.settings import COSTS

MOST_BARS = 40
"""Of the forest plot; with more settings those best on validation are drawn, and the table has all."""


def forest(findings: Findings, language: Language) -> Drawing:
    """Draw each setting's difference from the best, in the metric of the paired tests."""
    main = findings.main
    assert main is not None
    shown = [setting for setting in findings.ranked if setting.name in main.comparisons][:MOST_BARS]
    shown.sort(key=lambda setting: -main.comparisons[setting.name].difference)
    bars = [
        Bar(
            setting_name(setting, findings, language),
            Estimate(found.difference, found.low, found.high),
            setting.name not in main.indistinguishable,
        )
        for setting in shown
        for found in (main.comparisons[setting.name],)
    ]
    axis = language.text("study_difference_axis", metric=metric_word(findings.compared, language))
    description = language.text("study_forest_description", metric=metric_word(findings.compared, language))
    return figures.forest("differences", bars, axis, description, language)


def costs(findings: Findings, language: Language) -> list[Drawing]:
    """Draw score against trainable parameters, time and memory, as far as they are known and differ."""
    metric = findings.compared
    group_axis = _group_axis(findings)
    made = []
    for kind in COSTS:
        known = [
            (setting, cost, setting.test[metric])
            for setting in findings.ranked
            if (cost := setting.costs[kind]) is not None
            and metric in setting.test
            and setting.test[metric].value is not None
        ]
        if len({cost for _, cost, _ in known}) < 2:
            continue
        on_front = front(
            {setting.name: cost for setting, cost, _ in known},
            {setting.name: score.value or 0.0 for setting, _, score in known},
        )
        points = [
            Point(
                setting_name(setting, findings, language),
                label(setting.values.get(group_axis, ""), language),
                cost,
                score,
                setting.name in on_front,
                setting is findings.best,
            )
            for setting, cost, score in known
        ]
        titles = (language.text(f"study_cost_{kind}"), metric_title(metric, language))
        groups_title = axis_title(group_axis, language)
        made.append(figures.costs(f"cost-{kind}", points, titles, kind, language, groups_title))
    return made


def curves(findings: Findings, language: Language) -> list[Drawing]:
    """Draw the validation score and the losses of all cells that have them."""
    made = []
    for column in ("validation_roc_auc", "validation_accuracy", "validation_loss", "train_loss"):
        cells = [
            cell
            for cell in findings.results.cells
            if {"epoch", column} <= set(cell.curves)
            and np.isfinite(cell.curves[column].to_numpy(dtype=float)).any()
        ]
        if not cells or (column == "validation_accuracy" and made):
            continue
        lines, colours = (_trials if searched(findings) else _settings)(findings, cells, language)
        titles = (language.text(column), colours)
        name = f"curves-{column.replace('_', '-')}"
        window = None
        if searched(findings):
            window = _window(lines, column)
        made.append(figures.curves(name, lines, column, titles, language, window))
    return made


def _window(lines: Sequence[Line], column: str) -> tuple[float, float]:
    """Leave out trials that diverged, which would press all others flat; the strong lines are in sight."""
    values = np.concatenate([line.curve[column].to_numpy(dtype=float) for line in lines])
    low, high = figures.window(values, lower=column.endswith("loss"))
    for line in lines:
        own = line.curve[column].to_numpy(dtype=float)
        if line.strong and np.isfinite(own).any():
            margin = 0.03 * (high - low)
            low, high = min(low, np.nanmin(own) - margin), max(high, np.nanmax(own) + margin)
    return low, high


def _settings(findings: Findings, cells: Sequence[Cell], language: Language) -> tuple[list[Line], str]:
    """Give each cell the panel and the colour of its labels on two axes; also returns what colours mean."""
    axes = several(findings)
    panel_axis = _group_axis(findings) if len(axes) > 1 else ""
    colour_axis = "unfreeze" if "unfreeze" in axes and panel_axis != "unfreeze" else axes[-1] if axes else ""
    lines = [
        Line(
            label(cell.values.get(panel_axis, ""), language),
            label(cell.values.get(colour_axis, ""), language),
            cell.curves,
        )
        for cell in cells
    ]
    return lines, axis_title(colour_axis, language)


def _trials(findings: Findings, cells: Sequence[Cell], language: Language) -> tuple[list[Line], str]:
    """Give the best trial and the base recipe a colour each, and all others one for how they ended."""
    best = findings.best.name if findings.best else ""
    lines: list[tuple[int, Line]] = []
    for cell in cells:
        number = trial_number(cell.name)
        if cell.name == best or number == 0:
            role, strong, words = int(cell.name != best), True, trial_title(number, language)
        else:
            role, strong = (3, False) if cell.status == "pruned" else (2, False)
            words = language.text("study_state_pruned" if role == 3 else "study_search_others")
        lines.append((role, Line("", words, cell.curves, strong)))
    return [line for _, line in sorted(lines, key=lambda one: one[0])], ""


def _group_axis(findings: Findings) -> str:
    """Choose the axis of colours or panels: the networks where they differ, else the first that does.

    In a search, the first whose choices were named: the numbers drawn from a range are as many as there are trials.
    """
    axes = several(findings)
    if searched(findings):
        space = findings.results.specification["search"]["space"]
        axes = [
            axis
            for axis in axes
            if 0 < len(space[axis].get("choices") or ()) <= len(PALETTE) and not space[axis].get("when")
        ]
    return "backbone" if "backbone" in axes else axes[0] if axes else ""
