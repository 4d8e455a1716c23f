"""Rows of several associations in one transaction: each waits for its own, and the disk is waited for once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from freezeframe.pacs.database import Database

Work = Callable[[Session], None]


@dataclass(eq=False)
class _Entry:
    work: Work
    done: bool = False
    error: BaseException | None = None


class RowWriter:
    """Commits what its callers write; callers that come while a transaction runs share the next one.

    Parameters
    ----------
    database : Database
        Where to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Entry] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def write(self, work: Work) -> None:
        """Run `work` in a transaction, and return when that is committed.

        It is run a second time, in a transaction of its own, where the work of another caller spoiled the first.

        Raises
        ------
        Exception
            What `work` or the database raised; then nothing of it is written. Only if the connection to the database
            broke during the commit, it may be.
        """
        entry = _Entry(work)
        with self._guard:
            self._waiting.append(entry)
        with self._turn:  # whoever has the turn does it for all that wait
            if not entry.done:
                with self._guard:
                    entries, self._waiting = self._waiting, []
                self._commit(entries)
        if entry.error is not None:
            raise entry.error

    def _commit(self, entries: list[_Entry]) -> None:
        try:
            with self._database.transaction() as session:
                for entry in entries:
                    entry.work(session)
        except Exception as error:
            # A database that is locked, full or gone is so for all; each would wait for it again.
            if len(entries) == 1 or isinstance(error, OperationalError):
                for entry in entries:
                    entry.error = error
            else:
                for entry in entries:
                    self._commit([entry])
        finally:
            for entry in entries:
                entry.done = True
