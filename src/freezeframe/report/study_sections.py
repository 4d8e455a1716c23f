"""The sections of a study's report: what each says, draws and tabulates. One without content is None."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from freezeframe.report import study_drawings as drawings
from freezeframe.report import study_sentences as sentences
from freezeframe.report import study_tables as tables
from freezeframe.report.language import Language
from freezeframe.report.rendering import Drawing
from freezeframe.report.study_words import metric_title, searched, setting_name, several
from freezeframe.report.tables import Table
from freezeframe.study.findings import Findings

MOST_ROWS = 20
"""Of trainings without a result that are listed open."""


@dataclass(frozen=True)
class Section:
    """A part of the page, with a heading and an entry in its table of contents.

    Attributes
    ----------
    key : str
        The part's anchor in the page.
    title : str
        Its heading.
    paragraphs : tuple of str
        What it says first.
    drawings : tuple of Drawing
        Its figures, side by side, or a line each where `wide`.
    tables : tuple of Table
        Shown open.
    folded : tuple of (str, Table)
        Shown when their title is clicked.
    texts : tuple of (str, str)
        Folded texts of a fixed width, such as a recipe.
    notes : tuple of (str, tuple of str)
        Folded paragraphs under a title.
    wide : bool
    """

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    wide: bool = False


def all_sections(findings: Findings, language: Language) -> list[Section]:
    """Make the sections that this study has content for, in the order of the page."""
    makers = (results, differences, effects, costs, curves, beside, imbalance, unfinished, effort, reproduce)
    made = (make(findings, language) for make in makers)
    return [section for section in made if section is not None]


def results(findings: Findings, language: Language) -> Section | None:
    """Show the table as papers print it, one for each main metric; a search's trials are no such table."""
    if findings.best is None or searched(findings):
        return None
    (_, first), *others = tables.grids(findings, language)
    return Section(
        "results",
        language.text("study_heading_results"),
        sentences.claims(findings, language),
        tables=(first,),
        folded=(*others, (language.text("study_all_settings"), tables.settings(findings, language))),
    )


def differences(findings: Findings, language: Language) -> Section | None:
    """Say which differences from the best setting are real."""
    if findings.main is None:
        return None
    drawing = drawings.forest(findings, language)
    others = [metric for metric in findings.against_best if metric != findings.compared]
    return Section(
        "differences",
        language.text("study_heading_differences"),
        sentences.differences(findings, language),
        drawings=(drawing,),
        folded=tuple(
            (
                language.text("study_paired_title", metric=metric_title(metric, language)),
                tables.comparisons(findings, metric, language),
            )
            for metric in (findings.compared, *others)
            if metric in findings.against_best
        ),
        wide=True,
    )


def effects(findings: Findings, language: Language) -> Section | None:
    """Say what each axis changes on average; a search's trials rarely differ in one field only."""
    if not findings.effects or len(several(findings)) < 2 or searched(findings):
        return None
    return Section(
        "effects",
        language.text("study_heading_effects"),
        (language.text("study_effects_intro"),),
        tables=(tables.effects(findings, language),),
    )


def costs(findings: Findings, language: Language) -> Section | None:
    """Show scores against what they cost."""
    made = drawings.costs(findings, language)
    if not made:
        return None
    return Section(
        "costs",
        language.text("study_heading_costs"),
        (language.text("study_costs_intro"),),
        drawings=tuple(made),
    )


def curves(findings: Findings, language: Language) -> Section | None:
    """Show the training curves of all cells."""
    made = drawings.curves(findings, language)
    if not made:
        return None
    return Section(
        "curves",
        language.text("study_heading_curves"),
        (language.text("study_search_curves_intro" if searched(findings) else "study_curves_intro"),),
        drawings=tuple(made),
        wide=True,
    )


def beside(findings: Findings, language: Language) -> Section | None:
    """Compare baselines and ensembles with the best setting."""
    if not findings.beside:
        return None
    return Section(
        "beside",
        language.text("study_heading_beside"),
        (language.text("study_beside_intro"),),
        tables=(tables.beside(findings, language),),
    )


def imbalance(findings: Findings, language: Language) -> Section | None:
    """Compare the remedies against unequal classes; in a search much else differs between them."""
    if not findings.remedies or searched(findings):
        return None
    return Section(
        "imbalance",
        language.text("study_heading_imbalance"),
        (language.text("study_imbalance_intro", minority=findings.remedies[0].minority),),
        tables=(tables.remedies(findings, language),),
    )


def unfinished(findings: Findings, language: Language) -> Section | None:
    """List the cells that failed or are still to do."""
    table = tables.unfinished(findings, language)
    if table is None:
        return None
    return Section(
        "unfinished",
        language.text("study_heading_unfinished"),
        (sentences.states(findings, language),),
        tables=(table,) if len(table.rows) <= MOST_ROWS else (),
        folded=() if len(table.rows) <= MOST_ROWS else ((table.caption, table),),
    )


def effort(findings: Findings, language: Language) -> Section | None:
    """Compare what the study took with what was planned, and with doing it naively."""
    table = tables.effort(findings, language)
    if table is None:
        return None
    return Section(
        "effort",
        language.text("study_heading_effort"),
        (language.text("study_effort_intro"),),
        tables=(table,),
    )


def reproduce(findings: Findings, language: Language) -> Section:
    """Say how to do it again, and how the figures were made."""
    texts = [(language.text("study_specification"), _yaml(findings.results.specification))]
    if findings.best is not None:
        recipe = findings.best.cells[0].recipe()
        name = setting_name(findings.best, findings, language)
        texts.append((language.text("recipe_of", member=name), _yaml(recipe)))
    return Section(
        "reproduce",
        language.text("heading_reproduce"),
        (language.text("study_reproduce_intro"),),
        texts=tuple((title, text) for title, text in texts if text),
        notes=((language.text("methods_title"), sentences.methods(findings, language)),),
    )


def _yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True) if content else ""


def flat_tables(sections: Sequence[Section]) -> tuple[Table, ...]:
    """Return all tables of sections, open and folded."""
    return tuple(
        table for section in sections for table in (*section.tables, *(table for _, table in section.folded))
    )
