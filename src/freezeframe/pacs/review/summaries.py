"""Studies as the worklist shows them: each with the result that matters most, and what a reader said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from freezeframe.pacs.tables import Feedback, Result, Study

MOST_WORDS = 8
_SEARCHED = (Study.patient_name, Study.patient_id, Study.accession_number, Study.description)


@dataclass(frozen=True)
class Asked:
    """Which studies, in what order; what is '' does not choose.

    Attributes
    ----------
    state, outcome, source : str
        Of the study; outcome of its leading result.
    feedback : str
        A verdict, ``any`` where somebody said something, ``none`` where nobody did.
    text : str
        Words that all stand in the patient's name or identifier, the accession number or the description.
    newest : bool
        Newest first; otherwise positive ones without feedback come before, the most probable first.
    limit, offset : int
        Of the list.
    """

    state: str = ""
    outcome: str = ""
    source: str = ""
    feedback: str = ""
    text: str = ""
    newest: bool = False
    limit: int = 50
    offset: int = 0


def find(session: Session, asked: Asked, user: str) -> tuple[int, list[dict[str, Any]]]:
    """Return how many studies fit, and those of the asked part of the list."""
    query, leading, verdicts = _joined(user)
    query = query.where(*_conditions(asked, leading, verdicts))
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    is_urgent = and_(leading.c.outcome == "positive", verdicts.c.verdict.is_(None))
    urgent = (
        []
        if asked.newest
        else [
            case((is_urgent, 0), else_=1),
            case((is_urgent, func.coalesce(leading.c.probability, 0.0)), else_=0.0).desc(),
        ]
    )
    query = query.order_by(*urgent, Study.last_at.desc(), Study.id.desc())
    return total, _summaries(session, query.limit(asked.limit).offset(asked.offset))


def of_study(session: Session, study: Study, user: str) -> dict[str, Any]:
    """Return one study's summary."""
    query, _, _ = _joined(user)
    return _summaries(session, query.where(Study.id == study.id))[0]


def previous(session: Session, study: Study, user: str, most: int = 20) -> list[dict[str, Any]]:
    """Return the other studies under the same patient identifier, newest first; none where there is no identifier."""
    if not study.patient_id:
        return []
    query, _, _ = _joined(user)
    others = query.where(Study.patient_id == study.patient_id, Study.id != study.id)
    return _summaries(session, others.order_by(Study.last_at.desc(), Study.id.desc()).limit(most))


def leading_results() -> Subquery:
    """Choose of the current results of each study the one that matters most: a positive one, the most probable."""
    rank = (
        func.row_number()
        .over(
            partition_by=Result.study_id,
            order_by=(
                case({"positive": 0, "negative": 1}, value=Result.outcome, else_=2),
                func.coalesce(Result.probability, 0.0).desc(),
                Result.id.desc(),
            ),
        )
        .label("rank")
    )
    ranked = (
        select(Result.id, Result.study_id, Result.outcome, Result.probability, Result.bundle, rank)
        .where(Result.current)
        .subquery()
    )
    return select(ranked).where(ranked.c.rank == 1).subquery("leading")


def newest_verdicts(user: str | None = None) -> Subquery:
    """Choose of the feedback on each result the newest, of this user if there is any."""
    mine = [case((Feedback.user == user, 0), else_=1)] if user is not None else []
    rank = (
        func.row_number()
        .over(partition_by=Feedback.result_id, order_by=(*mine, Feedback.at.desc(), Feedback.id.desc()))
        .label("rank")
    )
    ranked = select(Feedback.result_id, Feedback.verdict, Feedback.label, rank).subquery()
    return select(ranked).where(ranked.c.rank == 1).subquery("verdicts")


def text_condition(text: str, columns: Sequence[Any] = _SEARCHED) -> ColumnElement[bool]:
    """Choose rows in which every word stands somewhere in the columns, however it is written.

    The words are taken literally: no character in them is a wildcard.
    """
    return and_(
        *(
            or_(*(column.icontains(form, autoescape=True) for column in columns for form in _forms(word)))
            for word in text.split()[:MOST_WORDS]
        )
    )


def _forms(word: str) -> tuple[str, ...]:
    # SQLite folds the case of ASCII only: other letters are looked for in both.
    return (word,) if word.isascii() else tuple(dict.fromkeys((word, word.lower(), word.upper())))


def _joined(user: str) -> tuple[Any, Subquery, Subquery]:
    leading, verdicts = leading_results(), newest_verdicts(user)
    query = (
        select(Study, leading.c.id.label("result_id"), verdicts.c.verdict)
        .outerjoin(leading, leading.c.study_id == Study.id)
        .outerjoin(verdicts, verdicts.c.result_id == leading.c.id)
    )
    return query, leading, verdicts


def _conditions(asked: Asked, leading: Subquery, verdicts: Subquery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if asked.state:
        conditions.append(Study.state == asked.state)
    if asked.source:
        conditions.append(Study.source == asked.source)
    if asked.outcome:
        conditions.append(leading.c.outcome == asked.outcome)
    if asked.feedback == "any":
        conditions.append(verdicts.c.verdict.is_not(None))
    elif asked.feedback == "none":
        conditions.append(and_(leading.c.id.is_not(None), verdicts.c.verdict.is_(None)))
    elif asked.feedback:
        conditions.append(verdicts.c.verdict == asked.feedback)
    if asked.text.strip():
        conditions.append(text_condition(asked.text))
    return conditions


def _summaries(session: Session, query: Any) -> list[dict[str, Any]]:
    rows = session.execute(query).all()
    result = aliased(Result)
    identifiers = [row.result_id for row in rows if row.result_id is not None]
    results = {found.id: found for found in session.scalars(select(result).where(result.id.in_(identifiers)))}
    return [_summary(row[0], results.get(row.result_id), row.verdict) for row in rows]


def _summary(study: Study, result: Result | None, verdict: str | None) -> dict[str, Any]:
    return {
        "study_uid": study.study_uid,
        "patient_name": study.patient_name,
        "patient_id": study.patient_id,
        "patient_sex": study.patient_sex,
        "patient_birth_date": study.patient_birth_date,
        "accession_number": study.accession_number,
        "study_date": study.study_date,
        "study_time": study.study_time,
        "description": study.description,
        "modalities": [modality for modality in study.modalities.split("\\") if modality],
        "source": study.source,
        "state": study.state,
        "version": study.version,
        "images": study.images,
        "received_at": study.last_at,
        "outcome": None if result is None else result.outcome,
        "probability": None if result is None else result.probability,
        "positive_class": None if result is None else result.reading["model"]["positive_class"],
        "threshold": None if result is None else result.reading["model"]["threshold"],
        "bundle": None if result is None else result.bundle,
        "warnings": 0
        if result is None
        else sum(len(image["warnings"]) for image in result.reading["images"])
        + len(result.reading["unreadable"]),
        "feedback": verdict,
        "reason": study.reason,
    }
