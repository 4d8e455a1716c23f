"""One reading process: it claims jobs, reads them one after the other, and stores what was said."""

import errno
import logging
import os
import threading
import time
import traceback
from pathlib import Path

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

import freezeframe
from freezeframe import machine
from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.one_folder import check_folder
from freezeframe.pacs.reading import queue
from freezeframe.pacs.reading.finishing import finish_reading
from freezeframe.pacs.reading.queue import Claim
from freezeframe.pacs.reading.study_reader import BundleReader, open_readers
from freezeframe.pacs.reading.watch import Watch

IDLE = 0.1
"""Seconds between looks for work."""
LOST_DATABASE = 2.0
"""Seconds before it is asked again."""
_SOURCE = Path(freezeframe.__file__).parent

_log = logging.getLogger(__name__)


def run(
    configuration: NodeConfiguration, name: str, stop: threading.Event, parent: int | None = None
) -> None:
    """Read studies until told to stop; the reading in hand is ended first.

    Bundles are loaded, and their decoders started, once. Call it in the main thread of a process of its own
    (`python -m freezeframe.pacs.reading`): a reading beyond its limits ends the process.

    Parameters
    ----------
    configuration : NodeConfiguration
        Of the node.
    name : str
        Of this process; no other one alive has it, on no machine that shares the database. Claims that an earlier
        process of this name left are taken back at once.
    stop : threading.Event
        Set from a signal or another thread.
    parent : int, optional
        Process id of the parent, without which this process ends; the parent that it has now where left out.

    Raises
    ------
    UserError
        If the database or a bundle can't be opened.
    """
    parent = parent or os.getppid()
    database = open_database(configuration)
    check_folder(database, configuration.folder)
    threads = max(1, machine.available_cores() // max(1, configuration.limits.workers))
    readers = open_readers(configuration, threads)
    try:
        for reader in readers.values():
            reader.warm_up()
        queue.return_claims(database, name, configuration.limits, time.time())
        with Watch(database, name, configuration.limits, parent) as watch:
            _log.info("A worker is ready.", extra={"worker": name})
            _work(database, configuration, name, readers, watch, stop)
    finally:
        for reader in readers.values():
            reader.close()
        database.close()


def _work(
    database: Database,
    configuration: NodeConfiguration,
    name: str,
    readers: dict[str, BundleReader],
    watch: Watch,
    stop: threading.Event,
) -> None:
    limits = configuration.limits
    looked = 0.0
    while not stop.is_set():
        try:
            if time.monotonic() - looked > limits.lease_seconds / 2:
                queue.return_expired(database, limits, time.time())
                looked = time.monotonic()
            claim = queue.claim(database, name, limits.lease_seconds, time.time())
            if claim is None:
                stop.wait(IDLE)
            else:
                _read(database, configuration, claim, readers, watch)
        except (SQLAlchemyError, OSError) as error:
            # PostgreSQL's driver lets some errors of the network through as they are. What was claimed comes back when
            # its claim has run out.
            _log.error("The database does not answer a worker.", extra={"reason": type(error).__name__})
            stop.wait(LOST_DATABASE)


def _read(
    database: Database,
    configuration: NodeConfiguration,
    claim: Claim,
    readers: dict[str, BundleReader],
    watch: Watch,
) -> None:
    limits = configuration.limits
    reader = readers.get(claim.bundle)
    if reader is None:
        reason = "its bundle is not in the configuration of the node any more."
        queue.fail(database, claim, reason, limits, time.time())
        return
    begun = time.perf_counter()
    watch.begin(claim)
    try:
        reading = reader.read(claim, configuration.folder)
        seconds = time.perf_counter() - begun
        result = finish_reading(database, configuration, claim, reading, seconds, time.time())
    except (OperationalError, InterfaceError):  # the database is away: nothing is the study's fault
        raise
    except Exception as error:
        watch.end()
        reader.restart()
        queue.fail(database, claim, reason_of(error), limits, time.time(), counts=not disk_is_full(error))
        return
    finally:
        watch.end()
    _log.info(
        "A study was read.",
        extra={
            "study_uid": claim.study_uid,
            "job": claim.job_id,
            "result": result,
            "outcome": reading.outcome,
            "seconds": round(time.perf_counter() - begun, 3),
        },
    )


def reason_of(error: BaseException) -> str:
    """Say what failed and where, and nothing of what others' messages quote: it may be the patient's.

    Examples
    --------
    >>> reason_of(ValueError("PHANTOM^0001"))
    'ValueError.'
    """
    if isinstance(error, FreezeframeError):
        return str(error)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame.filename)]
    where = ""
    if places:
        last = places[-1]
        where = f" in {Path(last.filename).relative_to(_SOURCE).as_posix()}, line {last.lineno}"
    return f"{type(error).__name__}{where}."


def disk_is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, is that of a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(_SOURCE)
