"""At the start: what a kill, a power cut or a hand left between the files and the rows is put right, or said loudly."""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.header import NotAnImageError, read_header
from freezeframe.pacs.intake.keeping import IMAGES, INCOMING, CannotKeepError, Keeper, Origin
from freezeframe.pacs.intake.put_aside import put_aside
from freezeframe.pacs.studies.lost import LOST, put_study_aside
from freezeframe.pacs.tables import (
    JOB_CLAIMED,
    JOB_WAITING,
    QUARANTINED,
    READING,
    RECEIVING,
    WAITING,
    Image,
    Job,
    Study,
)

RECOVERED = "recovered"
"""Source of an image whose row was never written, so that it is not known who sent it."""
MOST_CHECKED = 200
"""Newest images whose bytes are compared with their SHA-256; a power cut hits what was written last."""
MOST_CHECKED_BYTES = 2 << 30
DAMAGED = "Its bytes are not those that were acknowledged."

_AT_ONCE = 500
_log = logging.getLogger(__name__)
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Reconciled:
    """What was found at the start.

    Attributes
    ----------
    leftovers : int
        Files of transfers that were cut off; removed, as they were never acknowledged.
    kept : int
        Whole files without a row; kept now. They were not acknowledged, so their sender will send them again, and be
        told that they are known.
    dropped : int
        Files without a row that are no images, or whose row says that they are deleted; removed.
    missing, damaged : int
        Images that were acknowledged and are not there, or are not what they were. Their studies are put aside.
    restored : int
        Studies that had been put aside for that, and have all their images again.
    freed : int
        Studies that waited for a reading that nobody had ordered.
    """

    leftovers: int = 0
    kept: int = 0
    dropped: int = 0
    missing: int = 0
    damaged: int = 0
    restored: int = 0
    freed: int = 0


def reconcile(database: Database, configuration: NodeConfiguration, now: float | None = None) -> Reconciled:
    """Compare the node's folder with its database, and put right what can be.

    To be called before anything is received, by the one process that takes images into this folder.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    now : float, optional
        Seconds since 1970; the clock's where left out.

    Raises
    ------
    OSError
        If the folder can't be written.
    """
    now = time.time() if now is None else now
    folder = configuration.folder
    keeper = Keeper(database, configuration)
    leftovers = _remove_leftovers(folder / INCOMING)
    kept, dropped = _adopt(database, keeper, folder)
    missing = {image.id: image.study_id for image in _rows(database) if not (folder / image.path).is_file()}
    damaged = _check_newest(database, folder, now)
    lost: dict[int, int] = {}
    for study_id in (*missing.values(), *damaged.values()):
        lost[study_id] = lost.get(study_id, 0) + 1
    for study_id, count in lost.items():
        _put_study_aside(database, study_id, count, now)
    restored = _restore(database, folder, lost, now)
    freed = _free(database, now)
    found = Reconciled(leftovers, kept, dropped, len(missing), len(damaged), restored, freed)
    _log.log(
        logging.ERROR if lost else logging.INFO,
        "The folder and the database were compared.",
        extra=dict(vars(found)),
    )
    return found


def _remove_leftovers(folder: Path) -> int:
    count = 0
    for path in folder.iterdir():
        path.unlink()
        count += 1
    return count


def _adopt(database: Database, keeper: Keeper, folder: Path) -> tuple[int, int]:
    """Keep files that have no row, and remove those whose row says that they are deleted."""
    kept = dropped = 0
    for paths in _batches((folder / IMAGES).glob("*/*.dcm")):
        places = {f"{IMAGES}/{path.parent.name}/{path.name}": path for path in paths}
        with database.reading() as session:
            rows = session.execute(
                select(Image.path, Image.deleted_at).where(
                    Image.sop_instance_uid.in_([path.stem for path in paths])
                )
            ).all()
        known = {row.path: row.deleted_at for row in rows}
        for place, path in places.items():
            if place not in known:
                try:
                    waiting = keeper.new_file()
                    path.rename(waiting)
                    keeper.keep(waiting, Origin(RECOVERED))
                    kept += 1
                except NotAnImageError:
                    dropped += 1
                except CannotKeepError as error:  # it was not acknowledged: the node may start all the same
                    _log.error(
                        "Files without a row are left for the next start.", extra={"reason": str(error)}
                    )
                    return kept, dropped
            elif known[place] is not None:
                path.unlink()
                files.sync_folder(path.parent)
                dropped += 1
    return kept, dropped


def _check_newest(database: Database, folder: Path, now: float) -> dict[int, int]:
    """Return the studies of the newest images whose bytes changed, by image; their files are put aside."""
    with database.reading() as session:
        images = session.scalars(
            select(Image).where(Image.deleted_at.is_(None)).order_by(Image.id.desc()).limit(MOST_CHECKED)
        ).all()
    damaged: dict[int, int] = {}
    total = 0
    for image in images:
        path = folder / image.path
        total += image.size
        if total > MOST_CHECKED_BYTES:
            break
        if path.is_file() and _sha256(path) != image.sha256:
            damaged[image.id] = image.study_id
            _log.error("An image is damaged.", extra={"sop_instance_uid": image.sop_instance_uid})
            # Out of the way, so that the image is restored when it is sent again.
            put_aside(database, folder, path, image.source, DAMAGED, now)
            files.sync_folder(path.parent)
    return damaged


def _sha256(path: Path) -> str | None:
    try:
        start = read_header(path).start
    except NotAnImageError:
        return None
    with path.open("rb") as stream:
        stream.seek(start)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put_study_aside(database: Database, study_id: int, count: int, now: float) -> None:
    with database.transaction() as session:
        study = session.get_one(Study, study_id, with_for_update=True)
        put_study_aside(session, study, count, now)
    _log.error("A study has lost images.", extra={"study_uid": study.study_uid, "images": count})


def _restore(database: Database, folder: Path, lost: Iterable[int], now: float) -> int:
    count = 0
    with database.reading() as session:
        put_aside_before = session.scalars(
            select(Study.id).where(
                Study.state == QUARANTINED, Study.reason.startswith(LOST), Study.id.not_in(list(lost))
            )
        ).all()
    for study_id in put_aside_before:
        with database.transaction() as session:
            paths = session.scalars(
                select(Image.path).where(Image.study_id == study_id, Image.deleted_at.is_(None))
            ).all()
            if all((folder / path).is_file() for path in paths):
                _reopen(session, study_id, now)
                count += 1
    return count


def _free(database: Database, now: float) -> int:
    """Have studies looked at again that wait for a reading, although no job of theirs is open."""
    open_job = exists().where(Job.study_id == Study.id, Job.state.in_((JOB_WAITING, JOB_CLAIMED)))
    with database.transaction() as session:
        stuck = session.scalars(select(Study.id).where(Study.state.in_((WAITING, READING)), ~open_job)).all()
        for study_id in stuck:
            _reopen(session, study_id, now)
    return len(stuck)


def _reopen(session: Session, study_id: int, now: float) -> None:
    study = session.get_one(Study, study_id, with_for_update=True)
    study.state, study.deadline, study.reason = RECEIVING, now, ""


def _rows(database: Database) -> Iterator[Image]:
    """Yield the images that should be there."""
    last = 0
    while True:
        with database.reading() as session:
            some = session.scalars(
                select(Image)
                .where(Image.id > last, Image.deleted_at.is_(None))
                .order_by(Image.id)
                .limit(_AT_ONCE)
            ).all()
        if not some:
            return
        yield from some
        last = some[-1].id


def _batches(entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    iterator = iter(entries)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some
