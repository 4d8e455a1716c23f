"""The figures of a study's report, chosen and filled from its findings."""

import numpy as np

from freezeframe.evaluation.intervals import Estimate
from freezeframe.evaluation.pareto import front
from freezeframe.report import study_figures as figures
from freezeframe.report.language import Language
from freezeframe.report.rendering import Drawing
from freezeframe.report.study_figures import Bar, Line, Point
from freezeframe.report.study_words import axis_title, label, metric_title, metric_word, setting_name, several
from freezeframe.study.findings import Findings
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
        made.append(figures.costs(f"cost-{kind}", points, titles, kind, language))
    return made


def curves(findings: Findings, language: Language) -> list[Drawing]:
    """Draw the validation score and the losses of all cells that have them."""
    axes = several(findings)
    panel_axis = _group_axis(findings) if len(axes) > 1 else ""
    colour_axis = "unfreeze" if "unfreeze" in axes and panel_axis != "unfreeze" else axes[-1] if axes else ""
    made = []
    for column in ("validation_roc_auc", "validation_accuracy", "validation_loss", "train_loss"):
        lines = [
            Line(
                label(cell.values.get(panel_axis, ""), language),
                label(cell.values.get(colour_axis, ""), language),
                cell.curves,
            )
            for cell in findings.results.cells
            if {"epoch", column} <= set(cell.curves)
            and np.isfinite(cell.curves[column].to_numpy(dtype=float)).any()
        ]
        if not lines or (column == "validation_accuracy" and made):
            continue
        titles = (language.text(column), axis_title(colour_axis, language))
        made.append(figures.curves(f"curves-{column.replace('_', '-')}", lines, column, titles, language))
    return made


def _group_axis(findings: Findings) -> str:
    """Choose the axis of colours or panels: the networks where they differ, else the first that does."""
    axes = several(findings)
    return "backbone" if "backbone" in axes else axes[0] if axes else ""
