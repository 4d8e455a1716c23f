"""What watches a worker from within: says that it lives, holds its claim, and ends it when it costs too much."""

import contextlib
import faulthandler
import logging
import os
import threading
import time
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from freezeframe.pacs.configuration import Limits
from freezeframe.pacs.database import Database
from freezeframe.pacs.reading import queue
from freezeframe.pacs.reading.queue import Claim
from freezeframe.pacs.tables import Worker

TICK = 0.25
OVER_LIMIT = 3
"""Exit code of a worker that ended itself."""
GRACE = 30.0
"""Seconds after the limit in which it may still write down why; then it is ended without a word."""

_log = logging.getLogger(__name__)


class Watch:
    """A thread beside the reading; use as a context manager.

    Each reading gets `limits.seconds`, and the process `limits.memory_gigabytes` more than it held when it was ready.
    Beyond them the job is given back with the reason, and the process ends: nothing else stops native code. Where
    even this thread can't run any more, a timer of the system's ends the process `GRACE` later, and the claim runs out.
    The process also ends when its parent is gone.

    Parameters
    ----------
    database : Database
        Of the node.
    worker : str
        Name of the process.
    limits : Limits
        Of the configuration.
    parent : int
        Process id of the parent.
    """

    def __init__(self, database: Database, worker: str, limits: Limits, parent: int) -> None:
        self._database, self._worker, self._limits = database, worker, limits
        self._beat = min(5.0, limits.lease_seconds / 4)
        self._lock = threading.Lock()
        self._claim: Claim | None = None
        self._ends = float("inf")
        self._before = _resident()
        self._parent = parent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._say_alive(None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(SQLAlchemyError), self._database.transaction() as session:
            session.execute(delete(Worker).where(Worker.name == self._worker))

    def begin(self, claim: Claim) -> None:
        """Watch a reading from now on."""
        with self._lock:
            self._claim, self._ends = claim, time.monotonic() + self._limits.seconds
        faulthandler.dump_traceback_later(self._limits.seconds + GRACE, exit=True)

    def end(self) -> None:
        """Watch no longer: the reading has ended, and what comes of it is its worker's."""
        faulthandler.cancel_dump_traceback_later()
        with self._lock:
            self._claim = None

    def _run(self) -> None:
        next_beat = time.monotonic() + self._beat
        while not self._stop.wait(TICK):
            if os.getppid() != self._parent:
                os._exit(OVER_LIMIT)
            with self._lock:
                claim = self._claim
                if claim is not None and (excess := self._excess()):
                    self._give_up(claim, excess)  # with the lock: a reading that ends now has ended too late
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat
                self._say_alive(claim)

    def _excess(self) -> str:
        if time.monotonic() > self._ends:
            return f"it took longer than {self._limits.seconds:g} s."
        if _resident() - self._before > self._limits.memory_gigabytes * 1024**3:
            return f"it took more than {self._limits.memory_gigabytes:g} GB of memory."
        return ""

    def _give_up(self, claim: Claim, reason: str) -> None:
        try:
            queue.fail(self._database, claim, reason, self._limits, time.time())
        except Exception:
            _log.warning(
                "A reading that costs too much could not be given back.", extra={"job": claim.job_id}
            )
        finally:
            os._exit(OVER_LIMIT)

    def _say_alive(self, claim: Claim | None) -> None:
        now = time.time()
        try:
            if claim is not None:
                queue.renew(self._database, claim, self._limits.lease_seconds, now)
            with self._database.transaction() as session:
                row = session.get(Worker, self._worker)
                if row is None:
                    row = Worker(name=self._worker, started_at=now)
                    session.add(row)
                row.seen_at, row.job_id = now, claim.job_id if claim else None
        # It is tried again with the next beat; until then the claim holds. Whatever it is, the watching goes on.
        except Exception:
            _log.warning("The database does not answer a worker.", extra={"worker": self._worker})


def _resident() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
