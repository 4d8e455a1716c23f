"""Durable before acknowledged: from a file that was received to an image that is kept."""

import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from freezeframe import files
from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, make_private
from freezeframe.pacs.intake.header import Header, NotAnImageError, read_header
from freezeframe.pacs.intake.offered import IMAGE_CLASSES
from freezeframe.pacs.intake.rows import RowWriter
from freezeframe.pacs.studies.arrival import arrived
from freezeframe.pacs.tables import Image, Refused, Study

LOGGER = logging.getLogger(__name__)
INCOMING, IMAGES, REFUSED = "incoming", "images", "refused"
OTHER_BYTES = "The SOP instance UID is known with other bytes."
"""Why a file is in the folder `refused`."""

# Made once: for each image anew they would take longer than they run.
_TABLE = Image.__table__.c
_FIND = select(_TABLE.id, _TABLE.sha256, _TABLE.path, _TABLE.size, _TABLE.deleted_at).where(
    _TABLE.sop_instance_uid == bindparam("uid")
)
_ADD = insert(Image.__table__)  # type: ignore[arg-type]


class CannotKeepError(FreezeframeError):
    """An image could not be made durable; its sender must keep it and try again."""


class MismatchError(NotAnImageError):
    """An image is another one than was announced."""


@dataclass(frozen=True)
class Origin:
    """Where a file came from: the name of the peer or source, and the AE title that it was sent with."""

    source: str
    calling_ae: str = ""


@dataclass(frozen=True)
class Kept:
    """What became of a file.

    Attributes
    ----------
    state : str
        'kept' is new and durable, 'known' was there with the same data set, 'refused' was there with another one: the
        new file is in the folder ``refused``.
    study_uid, sop_instance_uid : str
        Validated.
    """

    state: Literal["kept", "known", "refused"]
    study_uid: str
    sop_instance_uid: str


class Keeper:
    """Keeps received files in the node's folder and database; one of them for a folder, used by any number of threads.

    Parameters
    ----------
    database : Database
        For the rows.
    configuration : NodeConfiguration
        With the folder, the least free space and when studies are complete.
    """

    def __init__(self, database: Database, configuration: NodeConfiguration) -> None:
        self._database, self._configuration = database, configuration
        self._folder = make_private(configuration.folder)
        self._least_free = configuration.retention.least_free_gigabytes * 1e9
        for name in (INCOMING, IMAGES, REFUSED):
            make_private(self._folder / name)
        files.sync_folder(self._folder)
        self._rows = RowWriter(database)
        files.sync_folder(self._folder / IMAGES)  # folders of studies that a kill left unsynced
        self._unsynced: set[Path] = set()
        self._in_hand: set[str] = set()
        self._let_go = threading.Condition()

    def new_file(self) -> Path:
        """Return a path for a file that is to be received; nothing is there yet.

        Raises
        ------
        CannotKeepError
            If the disk has less free space than `retention.least_free_gigabytes`.
        """
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise CannotKeepError(f"The node's folder can't be reached ({error.strerror}).") from None
        if free < self._least_free:
            raise CannotKeepError(f"The disk has only {free / 1e9:.2f} GB of free space.")
        return self._folder / INCOMING / f"{secrets.token_hex(16)}.partial"

    def keep(
        self,
        path: Path,
        origin: Origin,
        expected_sop_instance_uid: str | None = None,
        expected_sop_class_uid: str | None = None,
        sha256: str | None = None,
    ) -> Kept:
        """Make an image durable: its file under its final name, and its row. After 'kept' and 'known' it is safe.

        The file is gone from `path` afterwards, whatever happens. What was not acknowledged never stands in the way of
        another try.

        Parameters
        ----------
        path : Path
            A DICOM file (PS3.10) that was written at a path of `new_file`, and is closed.
        origin : Origin
            Where it came from.
        expected_sop_instance_uid, expected_sop_class_uid : str, optional
            That the sender announced.
        sha256 : str, optional
            Of the data set, in hexadecimal, where the caller has it already.

        Raises
        ------
        NotAnImageError
            If it is none that this node keeps; `MismatchError` if it is not what was announced.
        CannotKeepError
            If disk or database fail.
        """
        try:
            header = read_header(path)
            if expected_sop_instance_uid not in (None, header.sop_instance_uid):
                raise MismatchError("Its SOP instance UID is another one than was announced.")
            if expected_sop_class_uid not in (None, header.sop_class_uid):
                raise MismatchError("Its SOP class is another one than was announced.")
            if header.sop_class_uid not in IMAGE_CLASSES:
                raise NotAnImageError(f"Objects of SOP class {header.sop_class_uid} are not taken.")
            arrival = _Arrival(path, header, origin, sha256 or _sha256(path, header.start), time.time())
            with self._alone(header.sop_instance_uid):
                state = self._settle(arrival)
        except (OSError, SQLAlchemyError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            LOGGER.error("image not kept", extra={"source": origin.source, "reason": reason})
            raise CannotKeepError(f"It can't be kept ({reason}).") from error
        finally:
            path.unlink(missing_ok=True)
        LOGGER.info(
            "image received",
            extra={
                "state": state,
                "study_uid": header.study.study_uid,
                "sop_instance_uid": header.sop_instance_uid,
                "source": origin.source,
            },
        )
        return Kept(state, header.study.study_uid, header.sop_instance_uid)

    @contextmanager
    def _alone(self, sop_instance_uid: str) -> Iterator[None]:
        """Let one thread at a time have to do with an image: a sender may send it twice at once."""
        with self._let_go:
            self._let_go.wait_for(lambda: sop_instance_uid not in self._in_hand)
            self._in_hand.add(sop_instance_uid)
        try:
            yield
        finally:
            with self._let_go:
                self._in_hand.discard(sop_instance_uid)
                self._let_go.notify_all()

    def _settle(self, arrival: "_Arrival") -> Literal["kept", "known", "refused"]:
        header = arrival.header
        with self._database.reading() as session:
            found = session.execute(_FIND, {"uid": header.sop_instance_uid}).one_or_none()
        if found is None:
            place = f"{IMAGES}/{header.study.study_uid}/{header.sop_instance_uid}.dcm"
            size = self._move(arrival.path, place)
            self._rows.write(lambda session: self._add(session, arrival, place, size))
            return "kept"
        if found.sha256 != arrival.sha256:
            place = f"{REFUSED}/{header.sop_instance_uid}.{arrival.sha256[:16]}.dcm"
            self._move(arrival.path, place)
            self._rows.write(lambda session: self._add_refused(session, arrival, place))
            return "refused"
        if found.deleted_at is not None or not _is_whole(self._folder / found.path, found.size):
            # It was deleted after delivery, or lost. What is acknowledged is there: a study can be read again by hand.
            size = self._move(arrival.path, found.path)
            self._rows.write(lambda session: _restore(session, found.id, size, arrival.at))
        return "known"

    def _move(self, path: Path, place: str) -> int:
        """Give a file its name such that neither is lost in a power cut; return its size in bytes."""
        target = self._folder / place
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        folder = target.parent
        if not folder.is_dir():
            self._unsynced.add(folder)
            folder.mkdir(mode=0o700, exist_ok=True)
        path.rename(target)
        files.sync_folder(folder)
        # After the other, which has written most of it on a file system with a journal. Also by whoever comes while
        # the thread that made the folder is not so far yet: an image is safe only in a folder that is.
        if folder in self._unsynced:
            files.sync_folder(folder.parent)
            self._unsynced.discard(folder)
        return size

    def _add(self, session: Session, arrival: "_Arrival", place: str, size: int) -> None:
        header, origin, now = arrival.header, arrival.origin, arrival.at
        patience = self._configuration.patience(origin.source)
        study_id = arrived(session, header.study, origin.source, patience, now)
        session.execute(
            _ADD,
            {
                "study_id": study_id,
                "sop_instance_uid": header.sop_instance_uid,
                "sop_class_uid": header.sop_class_uid,
                "series_uid": header.series_uid,
                "transfer_syntax_uid": header.transfer_syntax_uid,
                "path": place,
                "size": size,
                "sha256": arrival.sha256,
                "source": origin.source,
                "calling_ae": origin.calling_ae,
                "received_at": now,
                "deleted_at": None,
            },
        )

    def _add_refused(self, session: Session, arrival: "_Arrival", place: str) -> None:
        # A sender that tries again and again makes one file and one row, whose days begin again.
        known = session.scalars(select(Refused).where(Refused.path == place).limit(1)).first()
        if known is not None:
            known.received_at = arrival.at
        else:
            session.add(
                Refused(
                    sop_instance_uid=arrival.header.sop_instance_uid,
                    path=place,
                    sha256=arrival.sha256,
                    source=arrival.origin.source,
                    calling_ae=arrival.origin.calling_ae,
                    received_at=arrival.at,
                    reason=OTHER_BYTES,
                )
            )


@dataclass(frozen=True)
class _Arrival:
    path: Path
    header: Header
    origin: Origin
    sha256: str
    at: float


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _restore(session: Session, image_id: int, size: int, now: float) -> None:
    study_id = session.scalars(select(_TABLE.study_id).where(_TABLE.id == image_id)).one()
    session.get_one(Study, study_id, with_for_update=True)  # as retention does, which may be at it
    image = session.get_one(Image, image_id, populate_existing=True)
    # It has its days again: retention would take it away at its next look.
    image.deleted_at, image.size, image.received_at = None, size, now


def _sha256(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
