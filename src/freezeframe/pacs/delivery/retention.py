"""What is deleted: images, some days after all that was made of them is delivered, and files that were put aside.

Of images rows first, files second: a kill between them leaves files whose rows say that they are deleted, which the
reconciliation at the next start takes away. Of files that were put aside the file first, then the row: nothing is
made of them, so that a row without its file does no harm until it is looked at again.
"""

import logging
from contextlib import suppress
from pathlib import Path

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.claims import studies_with_open
from freezeframe.pacs.intake.keeping import REFUSED
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    DONE,
    IGNORED,
    JOB_CLAIMED,
    JOB_WAITING,
    Delivery,
    Image,
    Job,
    Refused,
    Result,
    ResultObject,
    Study,
)

LOGGER = logging.getLogger(__name__)
DAY = 86400.0
STUDIES_AT_ONCE = 20
MOST_STUDIES = 1000
"""Of one call, so that it ends."""
FILES_AT_ONCE, MOST_FILES = 200, 2000


def delete_all_due(database: Database, configuration: NodeConfiguration, now: float) -> int:
    """Delete what `delete_due` and `delete_refused` delete; return how many files."""
    return delete_due(database, configuration, now) + delete_refused(database, configuration, now)


def delete_due(database: Database, configuration: NodeConfiguration, now: float) -> int:
    """Delete the images of studies that are done with for `retention.image_days`; return how many.

    A study is done with when it is done or ignored, no job is open, and every delivery is done, withheld or overtaken.
    Its days count from the last of: its last image, also one that was sent again, its last result, its last delivery.
    Studies that are open or quarantined keep their images, and so do all where `image_days` is null. Results, heat
    maps, feedback and the audit trail stay.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    now : float
        Seconds since 1970.
    """
    days = configuration.retention.image_days
    if days is None:
        return 0
    deleted = 0
    for _ in range(MOST_STUDIES // STUDIES_AT_ONCE):
        marked = _mark(database, configuration.folder, now, now - days * DAY)
        if not marked:
            break
        for path, identity in marked:
            _unlink(path, identity)
        for folder in {path.parent for path, _ in marked}:
            with suppress(OSError):  # other images came, or it is gone
                folder.rmdir()
        deleted += len(marked)
    return deleted


def delete_refused(database: Database, configuration: NodeConfiguration, now: float) -> int:
    """Delete the files that were put aside `retention.refused_days` ago; return how many. Their rows stay.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    now : float
        Seconds since 1970.
    """
    days = configuration.retention.refused_days
    if days is None:
        return 0
    before, last, deleted = now - days * DAY, 0, 0
    for _ in range(MOST_FILES // FILES_AT_ONCE):
        due = select(Refused.id, Refused.path).where(
            Refused.path != "", Refused.received_at <= before, Refused.id > last
        )
        with database.reading() as session:
            rows = session.execute(due.order_by(Refused.id).limit(FILES_AT_ONCE)).all()
        if not rows:
            break
        last = rows[-1].id
        gone = [row.id for row in rows if _unlink_refused(configuration.folder / row.path)]
        with suppress(OSError):
            files.sync_folder(configuration.folder / REFUSED)
        if gone:
            with database.transaction() as session:
                # Not of a file that was put aside once more since.
                still = update(Refused).where(Refused.id.in_(gone), Refused.received_at <= before)
                session.execute(still.values(path=""))
                detail = f"{len(gone)} files that were put aside"
                audit.record(session, audit.NODE, audit.IMAGES_DELETED, detail=detail, now=now)
        deleted += len(gone)
    return deleted


def _unlink_refused(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        LOGGER.error("A file that was put aside could not be deleted.", extra={"reason": error.strerror})
        return False
    return True


def _mark(
    database: Database, root: Path, now: float, before: float
) -> list[tuple[Path, tuple[int, int] | None]]:
    """Write down that images are deleted, before they are; return their files."""
    ids = select(Study.id).where(*_is_over(before)).order_by(Study.id).limit(STUDIES_AT_ONCE)
    with database.reading() as session:
        if session.scalar(ids.limit(1)) is None:
            return []
    with database.transaction() as session:
        # An image that arrives waits for this, or is seen by it: arrival locks the study's row.
        study_ids = session.scalars(ids.with_for_update(skip_locked=True, of=Study)).all()
        marked = []
        for study_id in study_ids:
            marked += _mark_study(session, root, study_id, now)
        return marked


def _mark_study(
    session: Session, root: Path, study_id: int, now: float
) -> list[tuple[Path, tuple[int, int] | None]]:
    study_uid = session.get_one(Study, study_id).study_uid
    marked = []
    for image in session.scalars(
        select(Image).where(Image.study_id == study_id, Image.deleted_at.is_(None)).order_by(Image.id)
    ):
        path = root / image.path
        image.deleted_at = now
        marked.append((path, _identity(path)))
    session.flush()
    audit.record(
        session, audit.NODE, audit.IMAGES_DELETED, study_uid, detail=f"{len(marked)} images", now=now
    )
    LOGGER.info("Images are deleted.", extra={"study_uid": study_uid})
    return marked


def _is_over(before: float) -> tuple[ColumnElement[bool], ...]:
    of_study = (Result.study_id == Study.id, ResultObject.result_id == Result.id)
    deliveries = (*of_study, Delivery.object_id == ResultObject.id)
    return (
        Study.state.in_((DONE, IGNORED)),
        Study.last_at <= before,
        exists().where(Image.study_id == Study.id, Image.deleted_at.is_(None)),
        ~exists().where(Image.study_id == Study.id, Image.deleted_at.is_(None), Image.received_at > before),
        ~exists().where(Job.study_id == Study.id, Job.state.in_((JOB_WAITING, JOB_CLAIMED))),
        ~exists().where(Result.study_id == Study.id, Result.created_at > before),
        Study.id.not_in(studies_with_open()),
        ~exists().where(*deliveries, func.coalesce(Delivery.done_at, 0) > before),
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _unlink(path: Path, identity: tuple[int, int] | None) -> None:
    # A sender may have sent the image again since: then its new file is there, and stays.
    if identity is None or _identity(path) != identity:
        return
    try:
        path.unlink()
    except OSError as error:
        LOGGER.error("An image could not be deleted.", extra={"reason": error.strerror})
        return
    with suppress(OSError):
        files.sync_folder(path.parent)
