"""Having a whole study read again, whatever became of it."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from freezeframe.errors import UserError
from freezeframe.pacs.reading.queue import rerun
from freezeframe.pacs.tables import IGNORED, JOB_QUARANTINED, RECEIVING, Job, Study


def put_aside_or_newest(session: Session, study_id: int) -> list[Job]:
    """Return what of a study is read again: what was put aside, else the newest version by every bundle."""
    query = select(Job).where(Job.study_id == study_id).order_by(Job.version, Job.id)
    newest = {job.bundle: job for job in session.scalars(query)}
    aside = [job for job in newest.values() if job.state == JOB_QUARANTINED]
    return sorted(aside or newest.values(), key=lambda job: job.id)


def read_again(session: Session, study_id: int, now: float) -> list[int]:
    """Order the readings of a study again.

    A study that was put aside before any reading was ordered, such as for files that could not be read, is looked at
    again: the rules decide as at its first completion.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    study_id : int
        Of the study.
    now : float
        Seconds since 1970.

    Returns
    -------
    list of int
        Jobs that will be read; empty where the study is looked at again.

    Raises
    ------
    UserError
        If no rule wanted the study, or as of `queue.rerun`.
    """
    jobs = put_aside_or_newest(session, study_id)
    if jobs:
        return [rerun(session, job.id, now) for job in jobs]
    study = session.get_one(Study, study_id, with_for_update=True, populate_existing=True)
    if study.state == IGNORED:
        raise UserError("No rule wanted this study: there is no reading to repeat.")
    if study.deadline is not None:
        raise UserError("Images of this study are coming in.", action="It is read when they are there.")
    study.state, study.deadline, study.reason = RECEIVING, now, ""
    session.flush()
    return []
