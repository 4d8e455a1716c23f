"""The audit trail: who did what, when. Lines are only ever added, and each holds the hash of the one before it.

The hash chain shows that a line was changed, taken out or moved, even by who may write to the database. Lines cut off
at the end are shown where the newest line was noted elsewhere: in the syslog messages, and in the node's log by
`note_head`. Triggers of the database (`tables.py`) refuse changes besides.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import AuditEntry

LOGGER = logging.getLogger(__name__)

STARTED, STOPPED = "node started", "node stopped"
LOGIN, LOGOUT, LOGIN_FAILED = "login", "logout", "login failed"
ACCESS_REFUSED, ASSOCIATION_REFUSED = "access refused", "association refused"
USERS_CHANGED = "users changed"
STUDY_OPENED, IMAGE_OPENED, HEAT_MAP_OPENED = "study opened", "image opened", "heat map opened"
STUDIES_LISTED, AUDIT_READ = "studies listed", "audit trail read"
FEEDBACK, RERUN, RETRY, WITHHELD = "feedback", "rerun", "delivery retried", "delivery withheld"
IMAGES_RECEIVED, RESULT_SENT, IMAGES_QUERIED = "images received", "result sent", "images queried"
IMAGES_DELETED, IMAGES_EXPORTED = "images deleted", "images exported"
ALARM_ACKNOWLEDGED = "alarm acknowledged"
"""What can have happened (`what`). Another text is taken too; its audit message then is an application activity."""

NODE = "node"
"""Who does what nobody asked for."""
SUCCESS, FAILURE = "success", "failure"
BEGINNING = "0" * 64
"""Stands as `previous` in the first line."""
_LOCK = 7366731
_COLUMNS = ("id", "at", "who", "what", "target", "outcome", "detail", "previous")


@dataclass(frozen=True)
class Head:
    """The newest line at some moment: its number and its hash."""

    id: int
    hash: str


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes
    ----------
    lines : int
        That are whole, counted from the first.
    head : Head or None
        The last of them; None where there is none.
    broken : int or None
        Number of the first line that is not as it was written; None where all are.
    problem : str
        What is wrong with it, as a sentence; '' where all are whole.
    """

    lines: int
    head: Head | None
    broken: int | None = None
    problem: str = ""


def record(
    session: Session,
    who: str,
    what: str,
    target: str = "",
    outcome: str = SUCCESS,
    detail: str = "",
    now: float | None = None,
) -> Head:
    """Add a line within the caller's transaction, so that it is there exactly if what it tells of is.

    On PostgreSQL writers wait here for each other until their transactions end: call it late in a transaction.

    Parameters
    ----------
    session : Session
        Of `Database.transaction`.
    who : str
        User, or the other side of a transfer, such as ``peer:pacs`` or ``destination:pacs``, or `NODE`; 128
        characters.
    what : str
        One of this module's constants; 64 characters.
    target : str
        What it was done to, such as a study UID; 300 characters. No patient data.
    outcome : str
        `SUCCESS` or `FAILURE`.
    detail : str
        More, for a reader. No patient data.
    now : float, optional
        Seconds since 1970.

    Returns
    -------
    Head
        The new line's number and hash.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    newest = _newest(session)
    line = {
        "id": newest.id + 1 if newest else 1,
        "at": round(time.time() if now is None else now, 6),
        "who": _storable(who, 128),
        "what": _storable(what, 64),
        "target": _storable(target, 300),
        "outcome": _storable(outcome, 16),
        "detail": _storable(detail, 4000),
        "previous": newest.hash if newest else BEGINNING,
    }
    head = Head(line["id"], line_hash(line))
    session.add(AuditEntry(**line, hash=head.hash))
    session.flush()
    return head


def canonical(line: Mapping[str, Any]) -> bytes:
    """Return the one way in which a line is written for its hash: JSON with sorted keys, no spaces, only ASCII."""
    plain = {name: line[name] for name in _COLUMNS}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def line_hash(line: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a line, which holds the hash of the line before it as `previous`."""
    return hashlib.sha256(canonical(line)).hexdigest()


def verify(database: Database, noted: Head | None = None) -> Verified:
    """Check the whole trail, and name the first line that is not as it was written.

    Parameters
    ----------
    database : Database
        Whose trail it is.
    noted : Head, optional
        That was noted elsewhere, such as in the node's log: the trail must still hold it. Without one, lines that were
        cut off at the end are not missed.
    """
    head: Head | None = None
    with database.reading() as session:
        query = select(AuditEntry).order_by(AuditEntry.id).execution_options(yield_per=1000)
        for entry in session.scalars(query):
            number = head.id + 1 if head else 1
            problem = ""
            if entry.id != number:
                problem = f"Line {number} is missing: line {entry.id} follows on {number - 1}."
            elif entry.previous != (head.hash if head else BEGINNING):
                problem = f"Line {number} does not follow on the line before it."
            elif entry.hash != line_hash({name: getattr(entry, name) for name in _COLUMNS}):
                problem = f"Line {number} is not as it was written."
            elif noted is not None and noted.id == number and noted.hash != entry.hash:
                problem = f"Line {number} is another one than was noted."
            if problem:
                return Verified(number - 1, head, number, problem)
            head = Head(entry.id, entry.hash)
            session.expunge(entry)
    lines = head.id if head else 0
    if noted is not None and noted.id > lines:
        problem = f"Line {lines + 1} is missing: the trail once went on to line {noted.id}."
        return Verified(lines, head, lines + 1, problem)
    return Verified(lines, head)


def note_head(database: Database) -> Head | None:
    """Write the newest line's number and hash to the log, so that a cut of the trail's end is noticed.

    Call it at the node's start, then once an hour.
    """
    with database.reading() as session:
        head = _newest(session)
    if head is not None:
        LOGGER.info("newest line of the audit trail", extra={"audit_line": head.id, "audit_hash": head.hash})
    return head


def _newest(session: Session) -> Head | None:
    found = session.execute(select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1))
    row = found.first()
    return None if row is None else Head(row.id, row.hash)


def _storable(content: str, most: int) -> str:
    """Return what both databases take and give back unchanged: no NUL, no lone surrogates, not too long."""
    return content.replace("\0", "").encode(errors="replace").decode()[:most]
