"""Studies of which the node has lost images: put aside as a whole, since an answer without them would be of less."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from freezeframe.pacs.tables import JOB_CLAIMED, JOB_QUARANTINED, JOB_WAITING, QUARANTINED, Job, Study

LOST = "Images that were acknowledged are missing or damaged on this node's disk"


def put_study_aside(session: Session, study: Study, count: int, now: float) -> None:
    """Put a study that has lost images aside, with what was to be read of it.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    study : Study
        Of the session, locked.
    count : int
        How many images are lost.
    now : float
        Seconds since 1970.
    """
    reason = f"{LOST}: {count}. Have the study sent again, and start the node again."
    study.state, study.deadline, study.reason = QUARANTINED, None, reason
    # Also those that a worker holds, or held when the power went: given back, they would be read without what is lost.
    unread = Job.study_id == study.id, Job.state.in_((JOB_WAITING, JOB_CLAIMED))
    for job in session.scalars(select(Job).where(*unread).with_for_update()):
        job.state, job.reason, job.finished_at = JOB_QUARANTINED, reason, now
        job.claimed_by, job.claimed_until = "", None
