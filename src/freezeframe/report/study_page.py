"""A study's report as one HTML file."""

from collections.abc import Sequence

from freezeframe.report import study_sentences as sentences
from freezeframe.report.language import Language
from freezeframe.report.page import Report, render
from freezeframe.report.study_sections import Section, all_sections, flat_tables
from freezeframe.study.findings import Findings


def make(
    findings: Findings, language: Language, more: Sequence[Section] = (), answer: Sequence[str] = ()
) -> Report:
    """Make a study's report.

    Parameters
    ----------
    findings : Findings
        Of the study.
    language : Language
        Of everything that a reader sees.
    more : sequence of Section
        Of what a study may hold besides its cells, such as a learning curve; shown before the cost, or first
        where they give the answer.
    answer : sequence of str
        What the page says first; which setting is the best where left out.
    """
    made = all_sections(findings, language)
    last = [section for section in made if section.key in ("unfinished", "effort", "reproduce")]
    own = [section for section in made if section not in last]
    sections = [*more, *own, *last] if answer else [*own, *more, *last]
    page = render(
        "study.html.j2",
        language,
        title=sentences.title(findings, language),
        answer=" ".join(answer) or sentences.answer(findings, language),
        state=""
        if {cell.status for cell in findings.results.cells} <= {"finished", "pruned"}
        else sentences.states(findings, language),
        cards=sentences.cards(findings, language),
        sections=sections,
    )
    drawings = tuple(drawing for section in sections for drawing in section.drawings)
    return Report(page, drawings, flat_tables(sections), language)
