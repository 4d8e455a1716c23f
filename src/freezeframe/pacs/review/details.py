"""One study in full: its images, every result with feedback and deliveries, and the patient's other studies."""

from collections import defaultdict
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from freezeframe.bundle.runtime.sentences import SENTENCES, InputWarning
from freezeframe.pacs.review import summaries
from freezeframe.pacs.tables import Delivery, Feedback, Image, Job, Result, ResultObject, Study

Language = Literal["en", "es"]


def images_of(session: Session, study: Study) -> list[Image]:
    """Return the images of a study, in the order in which they are shown."""
    query = select(Image).where(Image.study_id == study.id).order_by(Image.series_uid, Image.id)
    return list(session.scalars(query))


def detail(session: Session, study: Study, user: str, language: Language) -> dict[str, Any]:
    """Return all but the images' sizes, which are in their files.

    Parameters
    ----------
    session : Session
        That reads.
    study : Study
        Which one.
    user : str
        Who asks: their own feedback comes first.
    language : 'en' or 'es'
        Of the warnings' sentences.
    """
    query = (
        select(Result).where(Result.study_id == study.id).order_by(Result.version.desc(), Result.id.desc())
    )
    results = list(session.scalars(query))
    identifiers = [result.id for result in results]
    feedback, deliveries = _feedback(session, identifiers), _deliveries(session, identifiers)
    job = session.scalars(
        select(Job).where(Job.study_id == study.id).order_by(Job.version.desc(), Job.id.desc()).limit(1)
    ).first()
    return {
        "study": summaries.of_study(session, study, user),
        "results": [
            {
                "id": result.id,
                "version": result.version,
                "current": result.current,
                "bundle": result.bundle,
                "bundle_name": result.bundle_name,
                "bundle_sha256": result.bundle_sha256,
                "outcome": result.outcome,
                "probability": result.probability,
                "created_at": result.created_at,
                "seconds": result.seconds,
                "reading": result.reading,
                "warnings": _warnings(result.reading, language),
                "feedback": feedback[result.id],
                "deliveries": deliveries[result.id],
            }
            for result in results
        ],
        "previous": summaries.previous(session, study, user),
        "job": None
        if job is None
        else {"id": job.id, "state": job.state, "attempts": job.attempts, "reason": job.reason},
    }


def _warnings(reading: dict[str, Any], language: Language) -> list[dict[str, str]]:
    return [
        {
            "sop_instance_uid": image["sop_instance_uid"],
            "key": key,
            # A result of another release may have a warning that this one does not know.
            "sentence": InputWarning(key, found).sentence(language) if key in SENTENCES[language] else key,
        }
        for image in reading["images"]
        for key, found in image["warnings"]
    ]


def _feedback(session: Session, results: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the newest verdict of each reader, the newest first."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    query = select(Feedback).where(Feedback.result_id.in_(results))
    for entry in session.scalars(query.order_by(Feedback.at.desc(), Feedback.id.desc())):
        if all(other["user"] != entry.user for other in found[entry.result_id]):
            found[entry.result_id].append(
                {
                    "user": entry.user,
                    "verdict": entry.verdict,
                    "label": entry.label,
                    "remark": entry.remark,
                    "at": entry.at,
                }
            )
    return found


def _deliveries(session: Session, results: list[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    query = (
        select(Delivery, ResultObject)
        .join(ResultObject, ResultObject.id == Delivery.object_id)
        .where(ResultObject.result_id.in_(results))
        .order_by(Delivery.id)
    )
    for delivery, made in session.execute(query):
        found[made.result_id].append(
            {
                "id": delivery.id,
                "destination": delivery.destination,
                "kind": made.kind,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "reason": delivery.reason,
                "done_at": delivery.done_at,
            }
        )
    return found
