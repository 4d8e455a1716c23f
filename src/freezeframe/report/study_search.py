"""What a search found: its sentences, its tables, and its section of a study's page."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from freezeframe.evaluation import metrics
from freezeframe.evaluation.intervals import LEVEL, Estimate
from freezeframe.report import study_search_figures as figures
from freezeframe.report import study_tables
from freezeframe.report.language import Language
from freezeframe.report.study_sections import Section
from freezeframe.report.study_words import (
    axis_title,
    axis_word,
    metric_title,
    metric_word,
    probability,
    setting_name,
    trial_number,
    trial_title,
    value_number,
    value_text,
)
from freezeframe.report.tables import Cell, Quantity, Table
from freezeframe.report.tables import Estimate as EstimateCell
from freezeframe.study.findings import Findings
from freezeframe.study.settings import Setting

KEY = "search"
TOP = 10
"""Of the trials that are listed open; all are in a folded table."""
# What a search calls how a trial is, and what the study's words do.
_STATES = {"finished": "finished", "pruned": "pruned", "failed": "failed", "running": "begun"}
_NO_FIELDS = ("trial", "name", "state", "value", "best", "seconds")


@dataclass(frozen=True)
class Gain:
    """How the best trial differs from the base recipe on the test images.

    Attributes
    ----------
    difference : Estimate
        Best minus base, in the metric of the paired tests.
    p : float
        Of this one comparison: it was fixed before the search began, so it is not adjusted for others.
    """

    difference: Estimate
    p: float


def base(findings: Findings) -> Setting | None:
    """Return trial 0, the base recipe, where it has a validation score."""
    return next((one for one in findings.ranked if trial_number(one.name) == 0), None)


def gain(findings: Findings) -> Gain | None:
    """Compare the best trial with the base recipe on the test images; None where they are one, or one has none."""
    default, main = base(findings), findings.main
    if default is None or main is None or default.name not in main.comparisons:
        return None
    found = main.comparisons[default.name]
    low, high = (None if end is None else -end for end in (found.high, found.low))
    return Gain(Estimate(-found.difference, low, high), found.p)


def answer(findings: Findings, trials: pd.DataFrame, language: Language) -> tuple[str, ...]:
    """Say first which trial is the best, what it scores on the test images, and whether it beats the base recipe.

    Parameters
    ----------
    findings : Findings
        Of a search.
    trials : DataFrame
        As `freezeframe.study.search.history` returns it.
    language : Language
        Of the sentences.
    """
    best = findings.best
    if best is None:
        return ()
    metric = findings.compared
    said = [
        language.text(
            "study_search_answer",
            count=len(trials),
            best=setting_name(best, findings, language),
            metric=metric_word(metric, language),
            value=_written(best.test.get(metric), language),
        )
    ]
    default, found = base(findings), gain(findings)
    if default is None:
        said.append(language.text("study_search_no_base"))
    elif default is best:
        said.append(language.text("study_search_base_is_best"))
    elif found is not None:
        difference = found.difference
        shown = language.signed(difference.value)
        if difference.low is not None and difference.high is not None:
            low, high = language.signed(difference.low), language.signed(difference.high)
            shown += f" ({language.text('interval', low=low, high=high)})"
        key = "study_search_chance"
        if found.p < 1 - LEVEL:
            key = "study_search_better" if (difference.value or 0.0) > 0 else "study_search_worse"
        values = {"value": _written(default.test.get(metric), language), "difference": shown}
        said.append(language.text(key, **values, p=_equation(found.p, language)))
    return tuple(said)


def section(
    findings: Findings, trials: pd.DataFrame, shares: Mapping[str, float], language: Language
) -> Section:
    """Make the section of a study's page.

    Parameters
    ----------
    findings : Findings
        Of a search.
    trials : DataFrame
        As `freezeframe.study.search.history` returns it, with at least one row.
    shares : mapping of str to float
        As `freezeframe.study.search.importances` returns them; empty where nothing can be said.
    """
    lower = findings.results.metric in metrics.LOWER_IS_BETTER
    title = metric_title(findings.results.metric, language)
    named = {axis_title(field, language): share for field, share in shares.items()}
    drawings, tables, folded = [], [], []
    if findings.best is not None:
        number = trial_number(findings.best.name)
        drawings.append(figures.history(trials, number, lower, title, language))
    if named:
        drawings.append(figures.importances(named, language))
    if findings.ranked:
        tables.append(_top(findings, trials, language))
    folded.append((language.text("study_search_all"), _all(trials, title, language)))
    if findings.ranked:
        folded.append((language.text("study_search_scores"), study_tables.settings(findings, language)))
    return Section(
        KEY,
        language.text("study_heading_search"),
        sentences(findings, trials, shares, language),
        drawings=tuple(drawings),
        tables=tuple(tables),
        folded=tuple(folded),
        wide=True,
    )


def sentences(
    findings: Findings, trials: pd.DataFrame, shares: Mapping[str, float], language: Language
) -> tuple[str, ...]:
    """Say how the trials ended, what the best one does otherwise than the base recipe, and which fields matter."""
    counts = Counter(trials["state"].tolist())
    parts = [
        language.text(f"study_count_{word}", count=counts[state])
        for state, word in _STATES.items()
        if state in counts
    ]
    said = [language.text("study_search_counts", count=len(trials), states=language.enumerate(parts))]
    if _off_scale(trials, findings.results.metric in metrics.LOWER_IS_BETTER):
        said[0] += f" {language.text('study_search_edge')}"
    best, default = findings.best, base(findings)
    if best is not None and default is not None and default is not best:
        metric = findings.results.metric
        said.append(
            language.text(
                "study_search_validation",
                best=setting_name(best, findings, language),
                metric=metric_word(metric, language),
                value=language.number(best.validation[metric]),
                base=language.number(default.validation[metric]),
            )
        )
        changes = _changes(trials, trial_number(best.name), language)
        if changes:
            name = setting_name(best, findings, language)
            said.append(language.text("study_search_changes", best=name, changes="; ".join(changes)))
    finished = counts["finished"]
    if shares:
        names = [
            f"{axis_word(field, language)} {language.percent(share, 0)}" for field, share in shares.items()
        ]
        said.append(
            language.text("study_search_importance", count=finished, names=language.enumerate(names[:3]))
        )
    else:
        said.append(language.text("study_search_no_importance", count=finished))
    return tuple(said)


def _off_scale(trials: pd.DataFrame, lower: bool) -> bool:
    """Whether some trial's mark stands on the edge of the figure."""
    finished = trials.query("state == 'finished'")
    if finished.empty:
        return False
    low, high = figures.ends(finished, lower)
    values = np.asarray(trials.query("state in ('finished', 'pruned')")["value"], dtype=float)
    return not bool(((low <= values) & (values <= high)).all())


def fields(trials: pd.DataFrame) -> list[str]:
    """Name the fields that a search's trials differ in.

    Examples
    --------
    >>> fields(pd.DataFrame(columns=["trial", "name", "state", "value", "best", "seconds", "learning_rate"]))
    ['learning_rate']
    """
    return [column for column in trials.columns if column not in _NO_FIELDS]


def _changes(trials: pd.DataFrame, number: int, language: Language) -> list[str]:
    """Say of each field that the best trial and the base recipe do not share what it is, and was."""
    rows = trials.set_index("trial")
    changes = []
    for field in fields(trials):
        new, old = rows.at[number, field], rows.at[0, field]
        if pd.isna(new) or new == old:
            continue
        text = value_text(new, language)
        if not pd.isna(old):
            text = language.text("study_instead_of", level=text, reference=value_text(old, language))
        changes.append(f"{axis_word(field, language)} {text}")
    return changes


def _top(findings: Findings, trials: pd.DataFrame, language: Language) -> Table:
    """List the best trials with their values, and the base recipe below where it is none of them."""
    shown = list(findings.ranked[:TOP])
    default = base(findings)
    if default is not None and default not in shown:
        shown.append(default)
    metric, compared = findings.results.metric, findings.compared
    columns, values = _field_columns(trials, language)
    rows: list[tuple[Cell, ...]] = []
    for one in shown:
        test = one.test.get(compared, Estimate(None))
        mark = "best" if one is findings.best else "equal" if one in findings.indistinguishable else ""
        number = trial_number(one.name)
        scores = (one.validation[metric], EstimateCell(test.value, test.low, test.high, mark=mark))
        rows.append((trial_title(number, language), *scores, *values[number]))
    titles = (
        language.text("study_search_trial_title"),
        language.text("study_validation", metric=metric_title(metric, language)),
        language.text("study_search_test", metric=metric_title(compared, language)),
        *columns,
    )
    caption = language.text("study_search_top_caption", count=min(TOP, len(findings.ranked)))
    return Table("search_top", caption, titles, tuple(rows), language.text("study_grid_note"))


def _all(trials: pd.DataFrame, title: str, language: Language) -> Table:
    """List all trials in their order."""
    columns, values = _field_columns(trials, language)
    rows: list[tuple[Cell, ...]] = []
    for number, state, score, seconds in zip(
        trials["trial"], trials["state"], trials["value"], trials["seconds"], strict=True
    ):
        spent = None if pd.isna(seconds) else float(seconds)
        rows.append(
            (
                trial_title(number, language),
                language.text(f"study_state_{_STATES[state]}"),
                None if pd.isna(score) else float(score),
                Quantity(spent, language.duration(spent)),
                *values[number],
            )
        )
    titles = (
        language.text("study_search_trial_title"),
        language.text("study_state"),
        language.text("study_validation", metric=title),
        language.text("study_search_seconds"),
        *columns,
    )
    return Table(
        "search_trials",
        language.text("study_search_all_caption"),
        titles,
        tuple(rows),
        language.text("study_search_all_note"),
    )


def _field_columns(
    trials: pd.DataFrame, language: Language
) -> tuple[tuple[str, ...], dict[int, tuple[Cell, ...]]]:
    """Write the values of all fields: their titles, and a row for each trial's number."""
    names = fields(trials)
    columns: list[list[Cell]] = []
    for name in names:
        values = trials[name].astype(object).tolist()
        known = [value for value in values if not pd.isna(value)]
        # One column holds numbers, or words: 64 beside 'default' is a word.
        numeric = all(value_number(value) is not None for value in known)
        columns.append([_cell(value, numeric, language) for value in values])
    rows = zip(*columns, strict=True)
    return tuple(axis_title(name, language) for name in names), dict(
        zip(trials["trial"].tolist(), rows, strict=True)
    )


def _cell(value: str | float, numeric: bool, language: Language) -> Cell:
    if pd.isna(value):
        return None if numeric else language.number(None)
    text = value_text(value, language)
    return Quantity(value_number(value), text) if numeric else text


def _written(found: Estimate | None, language: Language) -> str:
    if found is None or found.low is None or found.high is None:
        return language.number(None if found is None else found.value)
    return f"{language.number(found.value)} ({language.interval(found.low, found.high)})"


def _equation(p: float, language: Language) -> str:
    text = probability(p, language)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
