"""Studies whose time has come: each gets its next version, and a job for each bundle that its rules name."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.studies.looking import Look, Wanted, look
from freezeframe.pacs.studies.lost import put_study_aside
from freezeframe.pacs.tables import (
    DELIVERING,
    DELIVERY_SENT,
    DELIVERY_WAITING,
    DONE,
    IGNORED,
    JOB_CLAIMED,
    JOB_DONE,
    JOB_OVERTAKEN,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    READING,
    WAITING,
    Delivery,
    Image,
    Job,
    Result,
    ResultObject,
    Study,
)

MOST_AT_ONCE = 100
"""Studies that one call completes, so that its caller can do other things in between."""

_AT_ONCE_IN_A_QUERY = 500  # a database takes only so many values in one question
_log = logging.getLogger(__name__)


def complete_due(database: Database, configuration: NodeConfiguration, now: float) -> int:
    """Complete the studies whose deadline has passed, each in a short transaction of its own.

    The files are read before that transaction. If an image came meanwhile, or another process was faster, the study is
    left to a later call. Two processes may call it at the same time. What came back from a PACS as a result of ours,
    or changes nothing of what a bundle has read or will read, makes no new version.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Its rules and its folder.
    now : float
        Seconds since 1970.

    Returns
    -------
    int
        How many studies were completed; `MOST_AT_ONCE` at most.
    """
    with database.reading() as session:
        due = session.scalars(
            select(Study.id).where(Study.deadline <= now).order_by(Study.deadline).limit(MOST_AT_ONCE)
        ).all()
    return sum(_complete_or_put_aside(database, configuration, study_id, now) for study_id in due)


def _complete_or_put_aside(
    database: Database, configuration: NodeConfiguration, study_id: int, now: float
) -> bool:
    try:
        return _complete(database, configuration, study_id, now)
    except SQLAlchemyError:  # of all studies, not of this one
        raise
    except Exception as error:
        # It would be the first that is due again and again, and no other's turn would come.
        reason = f"Its images can't be looked at ({type(error).__name__})."
        with database.transaction() as session:
            study = session.get_one(Study, study_id, with_for_update=True)
            study.state, study.deadline, study.reason = QUARANTINED, None, reason
        _log.error("A study was put aside.", extra={"study_uid": study.study_uid, "reason": reason})
        return True


def _complete(database: Database, configuration: NodeConfiguration, study_id: int, now: float) -> bool:
    with database.reading() as session:
        before = session.get_one(Study, study_id)
        images = session.scalars(
            select(Image).where(Image.study_id == study_id, Image.deleted_at.is_(None)).order_by(Image.id)
        ).all()
        ours = _results_among(session, [image.sop_instance_uid for image in images])
    found = look(configuration.folder, images, configuration.rules, ours)
    with database.transaction() as session:
        study = session.scalars(
            select(Study)
            .where(
                Study.id == study_id,
                Study.deadline <= now,
                Study.version == before.version,
                Study.images == before.images,
            )
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if study is None:
            return False
        if found.missing:
            put_study_aside(session, study, found.missing, now)
        made = 0 if found.missing else _order(session, study, found, now)
        extra = {"study_uid": study.study_uid, "version": study.version, "images": study.images, "jobs": made}
        if study.reason:
            extra["reason"] = study.reason
    _log.info("A study is complete.", extra=extra)
    return True


def _order(session: Session, study: Study, found: Look, now: float) -> int:
    """Write the jobs and the state of a study that is locked; return the number of new jobs."""
    latest: dict[str, Job] = {}
    jobs = session.scalars(select(Job).where(Job.study_id == study.id).order_by(Job.version)).all()
    for job in jobs:
        latest[job.bundle] = job
    deleted = _deleted_among(session, study)
    asked = [_with_deleted(wanted, latest.get(wanted.bundle), deleted) for wanted in found.wanted]
    new = [wanted for wanted in asked if not _is_ordered(latest.get(wanted.bundle), wanted)]
    study.deadline, study.reason = None, ""
    if new or not jobs:
        study.version += 1
    for wanted in new:
        for job in jobs:
            if job.bundle == wanted.bundle and job.state == JOB_WAITING:
                job.state, job.finished_at = JOB_OVERTAKEN, now
        session.add(
            Job(
                study_id=study.id,
                version=study.version,
                bundle=wanted.bundle,
                rule=wanted.rule,
                image_uids=list(wanted.image_uids),
                priority=wanted.priority,
                state=JOB_WAITING,
                not_before=now,
                created_at=now,
            )
        )
    if new:
        study.state = WAITING
    elif jobs:
        study.state, study.reason = _state_of(session, study, list(latest.values()))
    elif found.unreadable:  # it may be what a rule is for
        study.state, study.reason = QUARANTINED, found.in_words()
    else:
        study.state, study.reason = IGNORED, found.in_words()
    return len(new)


def _deleted_among(session: Session, study: Study) -> set[str]:
    return set(
        session.scalars(
            select(Image.sop_instance_uid).where(Image.study_id == study.id, Image.deleted_at.is_not(None))
        )
    )


def _with_deleted(wanted: Wanted, latest: Job | None, deleted: set[str]) -> Wanted:
    """Add the images that the bundle has read before and that retention has deleted since.

    The reading says of each that it is gone. Without them a study's new result would be of its late images alone, and
    would take the place of one of the whole study without a word.
    """
    before = () if latest is None else latest.image_uids
    gone = tuple(uid for uid in before if uid in deleted)
    return replace(wanted, image_uids=wanted.image_uids + gone)


def _is_ordered(latest: Job | None, wanted: Wanted) -> bool:
    """Return whether the newest job of a bundle is of the same images, and did not fail."""
    return (
        latest is not None
        and set(latest.image_uids) == set(wanted.image_uids)
        and latest.state in (JOB_WAITING, JOB_CLAIMED, JOB_DONE)
    )


def _state_of(session: Session, study: Study, latest: Sequence[Job]) -> tuple[str, str]:
    """Return the state, and its reason, of a study that was opened by an image that changes nothing."""
    states = {job.state for job in latest}
    if JOB_CLAIMED in states:
        return READING, ""
    if JOB_WAITING in states:
        return WAITING, ""
    for job in latest:
        if job.state == JOB_QUARANTINED:
            return QUARANTINED, job.reason
    pending = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.object_id)
        .join(Result, Result.id == ResultObject.result_id)
        .where(
            Result.study_id == study.id,
            Result.current,
            Delivery.state.in_((DELIVERY_WAITING, DELIVERY_SENT)),
        )
    )
    return (DELIVERING if session.scalars(pending.limit(1)).first() is not None else DONE), ""


def _results_among(session: Session, sop_instance_uids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(sop_instance_uids), _AT_ONCE_IN_A_QUERY):
        some = sop_instance_uids[start : start + _AT_ONCE_IN_A_QUERY]
        found.update(
            session.scalars(
                select(ResultObject.sop_instance_uid).where(ResultObject.sop_instance_uid.in_(some))
            )
        )
    return found
