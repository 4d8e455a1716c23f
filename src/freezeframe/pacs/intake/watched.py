"""A folder in which DICOM files appear."""

import contextlib
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from freezeframe.pacs.configuration import NodeConfiguration, WatchedFolder
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.header import NotAnImageError, read_header
from freezeframe.pacs.intake.keeping import CannotKeepError, Keeper, Origin
from freezeframe.pacs.intake.offered import IMAGE_CLASSES
from freezeframe.pacs.intake.put_aside import put_aside
from freezeframe.pacs.intake.receiving import LARGEST_INSTANCE
from freezeframe.pacs.intake.whole import is_whole
from freezeframe.pacs.watching.counters import REFUSALS

SETTLE_SECONDS = 60
"""For which a file that is no image, or no whole one, must stay as it is before it is put aside: a copy may stall."""
RETRY_SECONDS = 30
"""After a full disk or a database that does not answer."""
MOST_AT_ONCE = 100
"""Files that one call takes, so that its caller can do other things in between."""
MOST_FILES = 50_000
"""That are looked at in one go; the rest waits until these are gone."""

CUT_OFF = "It is cut off: its pixel data is missing or incomplete."
_log = logging.getLogger(__name__)

Mark = tuple[int, int, int, int]
"""What changes when a file does: size, time of change, inode, device."""


@dataclass
class _Seen:
    mark: Mark
    since: float
    not_before: float = 0.0


class FolderWatch:
    """Takes the files of one folder and its sub-folders, whatever their names.

    A file is taken when it was the same in two looks that follow one another, and is removed when it is kept. A file
    that is no image, or is cut off, goes to the node's folder ``refused`` once it has been unchanged for
    `SETTLE_SECONDS`. Symbolic links, names that begin with a dot (as of files that rsync is writing), and files of more
    than `LARGEST_INSTANCE` bytes are left where they are; so are folders. A kill between keeping and removing does no
    harm: the file is known at the next look, and removed then.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        With the node's folder.
    keeper : Keeper
        Of that folder.
    source : WatchedFolder
        Which folder, and how often it is looked at.
    """

    def __init__(
        self, database: Database, configuration: NodeConfiguration, keeper: Keeper, source: WatchedFolder
    ) -> None:
        self._database, self._configuration, self._keeper, self._source = (
            database,
            configuration,
            keeper,
            source,
        )
        self._seen: dict[str, _Seen] = {}
        self._next = 0.0
        self._was_there = True

    def step(self, now: float) -> int:
        """Look at the folder if it is time to, and take what can be taken; call it again and again, from one thread.

        Returns
        -------
        int
            How many files were kept or put aside.
        """
        if now < self._next:
            return 0
        self._next = now + self._source.seconds
        found = dict(self._look())
        self._seen = {
            path: known if (known := self._seen.get(path)) and known.mark == mark else _Seen(mark, now)
            for path, mark in found.items()
        }
        ready = [
            path
            for path, seen in self._seen.items()
            if max(seen.since + self._source.seconds, seen.not_before) <= now
        ]
        if len(ready) > MOST_AT_ONCE:
            self._next = now
        taken = 0
        for path in ready[:MOST_AT_ONCE]:
            try:
                taken += self._take(path, self._seen[path], now)
            except (CannotKeepError, SQLAlchemyError, OSError) as error:
                self._log(logging.ERROR, "A watched folder waits.", reason=type(error).__name__)
                self._next = now + RETRY_SECONDS
                break
        return taken

    def _look(self) -> Iterator[tuple[str, Mark]]:
        there = self._source.path.is_dir()
        if there != self._was_there:
            self._log(
                logging.INFO if there else logging.ERROR,
                "A watched folder is back." if there else "A watched folder is missing.",
            )
        self._was_there = there
        count = 0
        for folder, folders, names in os.walk(self._source.path):  # which does not follow links
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder) / name
                with contextlib.suppress(OSError):  # gone again, or not ours to see
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode) and not name.startswith("."):
                        yield str(path), _mark(found)
                        count += 1
                if count == MOST_FILES:
                    return

    def _take(self, path: str, seen: _Seen, now: float) -> int:
        copy = self._copied(path, seen)
        if copy is None:
            return 0
        problem = _problem(copy)
        if problem is None:
            kept = self._keeper.keep(copy, Origin(self._source.name))
            if kept.state == "refused":
                REFUSALS.labels("folder", "other bytes").inc()
        elif now < seen.since + SETTLE_SECONDS:
            copy.unlink()
            seen.not_before = seen.since + SETTLE_SECONDS
            return 0
        else:
            place = put_aside(
                self._database, self._configuration.folder, copy, self._source.name, problem, now
            )
            REFUSALS.labels("folder", "no image").inc()
            self._log(
                logging.WARNING, "A file of a watched folder was put aside.", file=place, reason=problem
            )
        try:
            if _mark(os.lstat(path)) == seen.mark:  # else it is another file by now
                Path(path).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log(logging.ERROR, "A file can't be removed from a watched folder.", reason=error.strerror)
            seen.not_before = float("inf")
        return 1

    def _copied(self, path: str, seen: _Seen) -> Path | None:
        """Copy a file into the node's folder, where nobody changes it; None where it is not to be taken now."""
        if seen.mark[0] > LARGEST_INSTANCE:
            self._log(
                logging.ERROR, "A file of a watched folder is too large.", reason=f"{seen.mark[0]} bytes"
            )
            seen.not_before = float("inf")
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._log(logging.ERROR, "A file of a watched folder can't be read.", reason=error.strerror)
                seen.not_before = float("inf")  # until it changes, or the node starts again
            return None
        with os.fdopen(descriptor, "rb") as source:
            if _mark(os.fstat(descriptor)) != seen.mark:
                return None
            copy = self._keeper.new_file()
            try:
                with copy.open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                if _mark(os.fstat(descriptor)) == seen.mark:
                    return copy
            except BaseException:
                copy.unlink(missing_ok=True)
                raise
            copy.unlink()
            return None

    def _log(self, level: int, message: str, **fields: object) -> None:
        _log.log(level, message, extra={"source": self._source.name, **fields})


def _mark(found: os.stat_result) -> Mark:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _problem(path: Path) -> str | None:
    """Say in words, without patient data, why a file is no image."""
    try:
        header = read_header(path)
    except NotAnImageError as error:
        return str(error)
    if header.sop_class_uid not in IMAGE_CLASSES:
        return f"Objects of SOP class {header.sop_class_uid} are not taken."
    return None if is_whole(path, header) else CUT_OFF
