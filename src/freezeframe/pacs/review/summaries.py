"""Studies as the worklist shows them: each with the result that matters most, and what a reader said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select
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
    leading = Leading(user)
    conditions = _conditions(asked, leading)
    is_urgent = and_(leading.result.outcome == "positive", leading.feedback.verdict.is_(None))
    urgent = [
        case((is_urgent, 0), else_=1),
        case((is_urgent, func.coalesce(leading.result.probability, 0.0)), else_=0.0).desc(),
    ]

    def chosen(columns: Any, needs_results: bool) -> Any:
        query = select(columns).select_from(Study)
        return (leading.join(query) if needs_results else query).where(*conditions)

    chooses_by_result = bool(asked.outcome or asked.feedback)
    total = session.scalar(chosen(func.count(), chooses_by_result)) or 0
    # First only which ones: what is shown of a study is gathered for those that are shown.
    query = chosen(Study.id, chooses_by_result or not asked.newest)
    query = query.order_by(*([] if asked.newest else urgent), Study.last_at.desc(), Study.id.desc())
    identifiers = list(session.scalars(query.limit(asked.limit).offset(asked.offset)))
    place = {identifier: number for number, identifier in enumerate(identifiers)}
    shown = _summarised(leading).where(Study.id.in_(identifiers)).order_by(case(place, value=Study.id))
    return total, _summaries(session, shown) if identifiers else []


def of_study(session: Session, study: Study, user: str) -> dict[str, Any]:
    """Return one study's summary."""
    return _summaries(session, _summarised(Leading(user)).where(Study.id == study.id))[0]


def previous(session: Session, study: Study, user: str, most: int = 20) -> list[dict[str, Any]]:
    """Return the other studies under the same patient identifier, newest first; none where there is no identifier."""
    if not study.patient_id:
        return []
    others = _summarised(Leading(user)).where(Study.patient_id == study.patient_id, Study.id != study.id)
    return _summaries(session, others.order_by(Study.last_at.desc(), Study.id.desc()).limit(most))


class Leading:
    """Joins to each study the result that matters most, and to that the verdict that counts.

    Subqueries for each row are used, which the indexes answer at once; ranking all results with a window function took
    several times as long at 10,000 studies.

    Parameters
    ----------
    user : str, optional
        Whose own verdict goes before newer ones of others.
    """

    def __init__(self, user: str | None = None) -> None:
        self.result, self.feedback = aliased(Result), aliased(Feedback)
        self._user = user

    def join(self, query: Any) -> Any:
        """Join both to a query of studies; either may be missing."""
        return query.outerjoin(self.result, self.result.id == _leading_result()).outerjoin(
            self.feedback, self.feedback.id == newest_feedback(self.result.id, self._user)
        )


def _leading_result() -> Any:
    """Choose of the current results of a study a positive one, the most probable."""
    return (
        select(Result.id)
        .where(Result.study_id == Study.id, Result.current)
        .order_by(
            case({"positive": 0, "negative": 1}, value=Result.outcome, else_=2),
            func.coalesce(Result.probability, 0.0).desc(),
            Result.id.desc(),
        )
        .limit(1)
        .correlate(Study)
        .scalar_subquery()
    )


def newest_feedback(result_id: Any, user: str | None = None) -> Any:
    """Choose of the feedback on a result the newest, of this user if there is any.

    Parameters
    ----------
    result_id : column
        Of the query around it.
    user : str, optional
        Whose own verdict goes before newer ones of others.
    """
    mine = [case((Feedback.user == user, 0), else_=1)] if user is not None else []
    return (
        select(Feedback.id)
        .where(Feedback.result_id == result_id)
        .order_by(*mine, Feedback.at.desc(), Feedback.id.desc())
        .limit(1)
        .correlate(result_id.parent)
        .scalar_subquery()
    )


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


def _summarised(leading: Leading) -> Any:
    columns = (Study, leading.result.id.label("result_id"), leading.feedback.verdict)
    return leading.join(select(*columns).select_from(Study))


def _conditions(asked: Asked, leading: Leading) -> list[ColumnElement[bool]]:
    result, feedback = leading.result, leading.feedback
    conditions: list[ColumnElement[bool]] = []
    if asked.state:
        conditions.append(Study.state == asked.state)
    if asked.source:
        conditions.append(Study.source == asked.source)
    if asked.outcome:
        conditions.append(result.outcome == asked.outcome)
    if asked.feedback == "any":
        conditions.append(feedback.verdict.is_not(None))
    elif asked.feedback == "none":
        conditions.append(and_(result.id.is_not(None), feedback.verdict.is_(None)))
    elif asked.feedback:
        conditions.append(feedback.verdict == asked.feedback)
    if asked.text.strip():
        conditions.append(text_condition(asked.text))
    return conditions


def _summaries(session: Session, query: Any) -> list[dict[str, Any]]:
    rows = session.execute(query).all()
    identifiers = [row.result_id for row in rows if row.result_id is not None]
    found = session.scalars(select(Result).where(Result.id.in_(identifiers)))
    results = {result.id: result for result in found}
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
