"""The queue of jobs: who reads what, and what becomes of a reading that fails or never ends.

A claim is held for some seconds and renewed while its worker lives. The attempt's number is the claim's fence: a worker
that was taken for dead, and comes back, can neither finish nor fail a job that somebody else has claimed meanwhile.

Rows are locked study first, job second, everywhere; what only looks for work skips rows that are locked.
"""

import logging
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, Select, select, update
from sqlalchemy.orm import Session

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import Limits
from freezeframe.pacs.database import Database
from freezeframe.pacs.reading.backoff import waits
from freezeframe.pacs.tables import (
    DELIVERING,
    JOB_CLAIMED,
    JOB_DONE,
    JOB_OVERTAKEN,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    READING,
    WAITING,
    Image,
    Job,
    Study,
)

SILENT = "its worker was silent for longer than its claim: killed, out of memory, or cut off."
_AT_ONCE = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimedImage:
    """One image of a job.

    Attributes
    ----------
    sop_instance_uid, sop_class_uid, series_uid : str
        Of the image.
    path : str or None
        Below the node's folder; None where retention has deleted the file.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    path: str | None


@dataclass(frozen=True)
class Claim:
    """A job that a worker may read, and nobody else meanwhile.

    Attributes
    ----------
    job_id, study_id : int
        Rows of the database.
    study_uid : str
        Of the study.
    version : int
        Of the study, from 1.
    bundle : str
        Its name in the configuration.
    images : tuple of ClaimedImage
        In the order of the job.
    worker : str
        Who holds it.
    attempt : int
        From 1.
    created_at : float
        When the reading was ordered: the time that its objects carry, so that each attempt makes the same bytes.
    """

    job_id: int
    study_id: int
    study_uid: str
    version: int
    bundle: str
    images: tuple[ClaimedImage, ...]
    worker: str
    attempt: int
    created_at: float


def claim(database: Database, worker: str, lease_seconds: float, now: float) -> Claim | None:
    """Take the first job that is due: by priority, then by how long it has been due.

    Parameters
    ----------
    database : Database
        Of the node.
    worker : str
        Name of the process; no other one alive has it.
    lease_seconds : float
        How long the claim holds without `renew`.
    now : float
        Seconds since 1970.

    Returns
    -------
    Claim or None
        None where nothing is due.
    """
    due = _in_order(Job.state == JOB_WAITING, Job.not_before <= now)
    with database.reading() as session:  # so that waiting for work takes nobody's right to write
        if session.execute(due.with_only_columns(Job.id)).first() is None:
            return None
    with database.transaction() as session:
        # Both rows are locked at once or not at all, so nothing waits here, and no two workers take the same job.
        row = session.execute(due.with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        job, study = row
        job.state, job.claimed_by, job.claimed_until = JOB_CLAIMED, worker, now + lease_seconds
        job.attempts += 1
        if study.state == WAITING:
            study.state = READING
        return Claim(
            job.id,
            study.id,
            study.study_uid,
            job.version,
            job.bundle,
            _images(session, job.image_uids),
            worker,
            job.attempts,
            job.created_at,
        )


def renew(database: Database, held: Claim, lease_seconds: float, now: float) -> bool:
    """Hold a claim for longer.

    Returns
    -------
    bool
        False where it was lost: whatever its holder finds is dropped.
    """
    with database.transaction() as session:
        changed = session.execute(
            update(Job).where(*_is_held(held)).values(claimed_until=now + lease_seconds).returning(Job.id)
        )
        return changed.first() is not None


def finish(session: Session, held: Claim, now: float) -> bool:
    """Mark a job as done within the transaction that stores its result; the first thing that is done in it.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    held : Claim
        From `claim`.
    now : float
        Seconds since 1970.

    Returns
    -------
    bool
        Whether the result counts. False where the claim was lost, or a later version of the study is there: nothing
        is to be stored then.
    """
    locked = _lock(session, held)
    if locked is None:
        return False
    study, job = locked
    overtaken = _is_overtaken(session, held)
    job.state = JOB_OVERTAKEN if overtaken else JOB_DONE
    job.claimed_by, job.claimed_until, job.finished_at, job.reason = "", None, now, ""
    session.flush()
    _settle(session, study)
    return not overtaken


def fail(
    database: Database, held: Claim, reason: str, limits: Limits, now: float, counts: bool = True
) -> str | None:
    """Give a job back that could not be read: it waits for its next attempt, or is put aside after the last one.

    Parameters
    ----------
    database : Database
        Of the node.
    held : Claim
        From `claim`.
    reason : str
        A sentence without patient data.
    limits : Limits
        Of the configuration.
    now : float
        Seconds since 1970.
    counts : bool
        Whether it was an attempt: False where it can't be the study's fault, such as a full disk.

    Returns
    -------
    str or None
        The job's new state; None where the claim was lost.
    """
    with database.transaction() as session:
        locked = _lock(session, held)
        if locked is None:
            return None
        study, job = locked
        _give_back(session, study, job, reason, limits, now, counts)
        return job.state


def return_expired(database: Database, limits: Limits, now: float) -> int:
    """Take back the claims of workers that were silent for too long, each an attempt, and return how many."""
    return _take_back(database, limits, now, Job.claimed_until <= now)


def return_claims(database: Database, worker: str, limits: Limits, now: float) -> int:
    """Take back the claims of a worker that is known to be dead, each an attempt, and return how many."""
    return _take_back(database, limits, now, Job.claimed_by == worker)


def rerun(session: Session, job_id: int, now: float) -> int:
    """Order a reading again.

    A job that was put aside gets all its attempts again. One that is done has a result that readers may have judged
    and a PACS may hold, so it stays as it is: a further version of the study is ordered. If that says the same, of
    the same bundle, nothing new is stored or sent.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    job_id : int
        Of the job.
    now : float
        Seconds since 1970.

    Returns
    -------
    int
        The job that will be read: the same, or the new version's.

    Raises
    ------
    UserError
        If there is no such job, it waits or is being read, a later version has come, new images are coming in, or
        an image was deleted.
    """
    study_id = session.scalar(select(Job.study_id).where(Job.id == job_id))
    if study_id is None:
        raise UserError(f"There is no reading {job_id}.", "one of a study's.")
    study = session.get_one(Study, study_id, with_for_update=True, populate_existing=True)
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    _check_can_rerun(session, study, job)
    if job.state == JOB_DONE:
        study.version += 1
        job = Job(
            study_id=study.id,
            version=study.version,
            bundle=job.bundle,
            rule=job.rule,
            image_uids=job.image_uids,
            priority=job.priority,
            attempts=0,
        )
        session.add(job)
    job.state, job.attempts, job.reason = JOB_WAITING, 0, ""
    job.not_before = job.created_at = now
    job.finished_at = None
    study.state, study.reason = WAITING, ""
    session.flush()
    return job.id


def _in_order(*conditions: ColumnElement[bool]) -> Select[Job, Study]:
    return (
        select(Job, Study)
        .join(Study, Study.id == Job.study_id)
        .where(*conditions)
        .order_by(Job.priority, Job.not_before, Job.id)
        .limit(1)
    )


def _images(session: Session, image_uids: list[str]) -> tuple[ClaimedImage, ...]:
    found = {
        image.sop_instance_uid: image
        for image in session.scalars(select(Image).where(Image.sop_instance_uid.in_(image_uids)))
    }
    return tuple(
        ClaimedImage(uid, image.sop_class_uid, image.series_uid, None if image.deleted_at else image.path)
        for uid in image_uids
        if (image := found.get(uid)) is not None
    )


def _is_held(held: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.id == held.job_id,
        Job.state == JOB_CLAIMED,
        Job.claimed_by == held.worker,
        Job.attempts == held.attempt,
    )


def _is_overtaken(session: Session, one: Claim | Job) -> bool:
    """Tell whether a later version of the study has a job for the same bundle."""
    same = Job.study_id == one.study_id, Job.bundle == one.bundle
    later = select(Job.id).where(*same, Job.version > one.version).limit(1)
    return session.execute(later).first() is not None


def _lock(session: Session, held: Claim) -> tuple[Study, Job] | None:
    study = session.get_one(Study, held.study_id, with_for_update=True, populate_existing=True)
    job = session.scalar(select(Job).where(*_is_held(held)).with_for_update())
    return None if job is None else (study, job)


def _take_back(database: Database, limits: Limits, now: float, condition: ColumnElement[bool]) -> int:
    wanted = _in_order(Job.state == JOB_CLAIMED, condition)
    count = 0
    for _ in range(_AT_ONCE):
        with database.reading() as session:
            if session.execute(wanted.with_only_columns(Job.id)).first() is None:
                break
        with database.transaction() as session:
            row: Row[Job, Study] | None = session.execute(wanted.with_for_update(skip_locked=True)).first()
            if row is None:
                break
            job, study = row
            _give_back(session, study, job, SILENT, limits, now)
            count += 1
    return count


def _give_back(
    session: Session, study: Study, job: Job, reason: str, limits: Limits, now: float, counts: bool = True
) -> None:
    last = counts and job.attempts >= limits.attempts
    job.state = JOB_QUARANTINED if last else JOB_WAITING
    job.not_before = now + waits(job.attempts, job.id, limits)
    if not counts:
        job.attempts -= 1
    job.reason, job.claimed_by, job.claimed_until = reason, "", None
    if last:
        job.finished_at = now
    session.flush()
    _settle(session, study)
    level = logging.ERROR if last else logging.WARNING
    fields = {"study_uid": study.study_uid, "job": job.id, "attempt": job.attempts, "reason": reason}
    _log.log(
        level, "A reading was put aside." if last else "A reading failed and will be repeated.", extra=fields
    )


def _settle(session: Session, study: Study) -> None:
    """Derive a study's state from its jobs; of each bundle the latest counts."""
    if study.state not in (WAITING, READING, DELIVERING, QUARANTINED):
        return  # new images are coming in, or nothing of it is open
    latest: dict[str, Job] = {}
    for job in session.scalars(select(Job).where(Job.study_id == study.id).order_by(Job.version)):
        latest[job.bundle] = job
    states = {job.state for job in latest.values()}
    put_aside = [job for job in latest.values() if job.state == JOB_QUARANTINED]
    study.reason = put_aside[0].reason if put_aside else ""
    if JOB_CLAIMED in states:
        study.state = READING
    elif JOB_WAITING in states:
        study.state = WAITING
    else:
        study.state = QUARANTINED if put_aside else DELIVERING


def _check_can_rerun(session: Session, study: Study, job: Job) -> None:
    if job.state in (JOB_WAITING, JOB_CLAIMED):
        raise UserError("This study waits to be read, or is being read.", action="Wait for the result.")
    if job.state == JOB_OVERTAKEN or _is_overtaken(session, job):
        raise UserError("A later version of this study is there.", action="Read that one again.")
    if study.deadline is not None:
        raise UserError("New images of this study are coming in.", action="It is read when they are there.")
    images = _images(session, job.image_uids)
    if len(images) < len(job.image_uids) or any(image.path is None for image in images):
        raise UserError(
            "Images of this study were deleted after the time that retention gives them.",
            action="Have your PACS send the study again.",
        )
