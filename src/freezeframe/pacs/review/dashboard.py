"""Numbers over time: how many studies, how long they waited, and how the results agree with the readers."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from freezeframe.evaluation.intervals import wilson
from freezeframe.pacs.review.summaries import Leading, newest_feedback
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry, Cursor, Feedback, Result, Study
from freezeframe.pacs.watching.drift import CURSOR as DRIFT

DAY = 86400.0


@dataclass(frozen=True)
class Judged:
    """A result that a reader judged.

    Attributes
    ----------
    week : str
        Monday of the week in which it was made, ISO 8601, in the node's time zone.
    agreed : bool
        Whether the reader agreed.
    said_positive, is_positive : bool
        What the result said, and what the reader holds to be true.
    """

    week: str
    agreed: bool
    said_positive: bool
    is_positive: bool


def compute(session: Session, days: int, now: float) -> dict[str, Any]:
    """Compute the dashboard of the last days.

    Only results of the newest version of each study count, and of several readers' verdicts the newest.

    Parameters
    ----------
    session : Session
        That reads.
    days : int
        Back from now.
    now : float
        Seconds since 1970.
    """
    since = now - days * DAY
    judged = _judged(session, since)
    weeks: dict[str, list[Judged]] = defaultdict(list)
    for entry in judged:
        weeks[entry.week].append(entry)
    return {
        "volumes": _volumes(session, since, now),
        "waiting": _waiting(session, since),
        "agreement": [
            {"week": week, "reviewed": len(entries), "agreed": sum(entry.agreed for entry in entries)}
            for week, entries in sorted(weeks.items())
        ],
        "sensitivity": sensitivity(judged),
        "specificity": specificity(judged),
        "over_time": [
            {"week": week, "sensitivity": sensitivity(entries), "specificity": specificity(entries)}
            for week, entries in sorted(weeks.items())
        ],
        "states": _states(session),
        "drift": _drift(session),
    }


def sensitivity(judged: Iterable[Judged]) -> dict[str, float | int | None]:
    """Return the share of what readers hold to be positive that the results called so, with Wilson's 95 % interval."""
    return _share([entry.said_positive for entry in judged if entry.is_positive])


def specificity(judged: Iterable[Judged]) -> dict[str, float | int | None]:
    """Return the share of what readers hold to be negative that the results called so, with Wilson's 95 % interval."""
    return _share([not entry.said_positive for entry in judged if not entry.is_positive])


def truth(
    verdict: str, label: str, said_positive: bool, positive_class: str | None, classes: list[str]
) -> bool:
    """Return whether a reader holds a study to be positive.

    Whoever agrees says what the result says; whoever corrects names the class; whoever only disagrees says the other.
    Without an operating point every class but the first is positive, as for the result itself.
    """
    if verdict == "agree":
        return said_positive
    if verdict == "correct":
        return label == positive_class if positive_class is not None else label != classes[0]
    return not said_positive


def _share(hits: list[bool]) -> dict[str, float | int | None]:
    if not hits:
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = wilson(sum(hits), len(hits))
    return {"value": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)}


def _judged(session: Session, since: float) -> list[Judged]:
    is_correction = Feedback.verdict == "correct"
    query = (
        select(
            Result.created_at,
            Result.outcome,
            Feedback.verdict,
            Feedback.label,
            # The reading is large: it is only looked into where it is needed.
            case((is_correction, Result.reading["model"])),
        )
        .join(Feedback, Feedback.id == newest_feedback(Result.id))
        .where(Result.current, Result.created_at >= since, Result.outcome != "refused")
    )
    found = []
    for created_at, outcome, verdict, label, model in session.execute(query):
        said = outcome == "positive"
        classes = [entry["label"] for entry in model["classes"]] if model else []
        held = truth(verdict, label, said, model["positive_class"] if model else None, classes)
        found.append(Judged(_monday(created_at), verdict == "agree", said, held))
    return found


def _volumes(session: Session, since: float, now: float) -> list[dict[str, Any]]:
    leading = Leading()
    query = select(Study.last_at, leading.result.outcome).select_from(Study).where(Study.last_at >= since)
    studies: Counter[date] = Counter()
    outcomes: Counter[tuple[date, str]] = Counter()
    rows: Iterable[Any] = session.execute(leading.join(query))
    for last_at, outcome in rows:
        day = date.fromtimestamp(last_at)
        studies[day] += 1
        outcomes[day, outcome or ""] += 1
    first, last = min([*studies, date.fromtimestamp(now)]), max([*studies, date.fromtimestamp(now)])
    every_day = (first + timedelta(number) for number in range((last - first).days + 1))
    return [
        {
            "day": day.isoformat(),
            "studies": studies[day],
            "positive": outcomes[day, "positive"],
            "refused": outcomes[day, "refused"],
        }
        for day in every_day
    ]


def _waiting(session: Session, since: float) -> dict[str, Any]:
    """Return percentiles from a study's last image to its result; what was read again on order tells nothing."""
    ordered = select(AuditEntry.target).where(AuditEntry.what == audit.RERUN)
    query = (
        select(Result.created_at - Study.last_at)
        .join(Study, Study.id == Result.study_id)
        .where(
            Result.current,
            Result.version == Study.version,
            Result.created_at >= since,
            Result.created_at >= Study.last_at,
            Study.study_uid.not_in(ordered),
        )
    )
    seconds = list(session.scalars(query))
    names = {"p50": 50, "p95": 95, "p99": 99}
    if not seconds:
        return {**dict.fromkeys(names), "unit": "s", "n": 0}
    found = np.percentile(seconds, list(names.values()))
    return {
        **{name: float(value) for name, value in zip(names, found, strict=True)},
        "unit": "s",
        "n": len(seconds),
    }


def _states(session: Session) -> dict[str, int]:
    query = select(Study.state, func.count()).group_by(Study.state)
    return {row[0]: row[1] for row in session.execute(query)}


def _drift(session: Session) -> list[dict[str, Any]]:
    cursor = session.get(Cursor, DRIFT)
    signals = cursor.value.get("signals", []) if cursor is not None else []
    names = ("bundle", "name", "state", "value", "low", "high", "alarm")
    return [{name: signal.get(name) for name in names} for signal in signals]


def _monday(moment: float) -> str:
    day = date.fromtimestamp(moment)
    return (day - timedelta(day.weekday())).isoformat()
