"""Log lines that strangers can cause: the same one once a minute with a count, so that the log keeps what matters."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

SECONDS = 60.0
"""In which a line is written once, however often it would be repeated."""
MOST_LINES = 30
"""Different ones of a group in this time; what goes beyond is counted in one line."""
BEYOND = "further lines left out"


@dataclass
class _Line:
    level: int
    fields: dict[str, Any]
    at: float
    repeated: int = 0


class LimitedLog:
    """Writes each different line at once, and then at most once in `SECONDS`, with how often it was ``repeated``.

    What was left out is told with the next line of any kind that comes later, and by `flush`.

    Parameters
    ----------
    logger : Logger
        That writes.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str, str, str], _Line] = {}

    def write(self, level: int, message: str, fields: dict[str, Any], group: str, now: float) -> None:
        """Write a line, or count it.

        Parameters
        ----------
        level : int
            Of `logging`.
        message : str
            A constant; with ``caller`` and ``reason`` of the fields it says which lines are the same.
        fields : dict
            The ``extra`` of the line; of lines that are the same the newest are told.
        group : str
            Lines of one group do not take the place of another's.
        now : float
            Seconds of a clock that only goes forward.
        """
        with self._lock:
            self._tell(now, SECONDS)
            key = (group, message, str(fields.get("caller", "")), str(fields.get("reason", "")))
            told = sum(entry[0] == group and entry[1] != BEYOND for entry in self._lines)
            if key not in self._lines and told >= MOST_LINES:
                key, fields = (group, BEYOND, "", ""), {"of": group}
            known = self._lines.get(key)
            if known is None:
                self._lines[key] = _Line(level, fields, now)
                self._logger.log(level, key[1], extra=fields)
            else:
                known.level, known.fields = level, fields
                known.repeated += 1

    def flush(self, now: float) -> None:
        """Write what was only counted so far."""
        with self._lock:
            self._tell(now, 0.0)

    def _tell(self, now: float, after: float) -> None:
        """Tell how often lines were repeated that are older than some seconds, and forget those that were not."""
        for key, line in list(self._lines.items()):
            if now - line.at < after:
                continue
            if line.repeated:
                self._logger.log(line.level, key[1], extra={**line.fields, "repeated": line.repeated})
                line.at, line.repeated = now, 0
            else:
                del self._lines[key]
