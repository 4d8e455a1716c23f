"""The log of a node: JSON lines in its folder, the same for people on standard error, and nothing of any patient."""

import json
import logging
import logging.handlers
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.database import make_private
from freezeframe.pacs.watching.privacy import cleaned, cleaned_text, is_private

LARGEST_FILE = 20_000_000
"""Bytes of one file of the log; then a new one begins."""
OLDER_FILES = 10
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",  # uvicorn's copy of the message
}
# Below these levels the libraries print data sets, queries and each request.
_CHATTER = {
    "pynetdicom": logging.CRITICAL,  # who uses it says in one line what it says in five
    "pydicom": logging.ERROR,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "urllib3": logging.WARNING,
    "dicomweb_client": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "PIL": logging.WARNING,
    "highdicom": logging.WARNING,
    "uvicorn": logging.INFO,
    "uvicorn.access": logging.WARNING,
    "multipart": logging.WARNING,
    "python_multipart": logging.WARNING,
}


class PatientFilter(logging.Filter):
    """Takes patients' data out of each record before any handler sees it; lets every record through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the message and the fields, and replace an exception by where it came from."""
        if record.args:
            record.args = (
                {key: cleaned(value) for key, value in record.args.items()}
                if isinstance(record.args, dict)
                else tuple(_argument(value) for value in record.args)
            )
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = "[a message that can't be formatted]"
        record.msg, record.args = cleaned_text(message), None
        if record.exc_info:
            record.exc_text = _where(record.exc_info)
            record.exc_info = None
        record.stack_info = None
        for key in fields(record):
            if is_private(key):
                del record.__dict__[key]
            else:
                record.__dict__[key] = cleaned(record.__dict__[key])
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of ``extra``, and where an exception was."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


class ForPeople(logging.Formatter):
    """A line that a person reads, with the fields behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        shown = " ".join(f"{key}={value}" for key, value in fields(record).items())
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        parts = [f"{moment} {record.levelname.lower():<8}{record.getMessage()}"]
        if shown:
            parts.append(f"({shown})")
        if record.exc_text:
            parts.append(f"[{record.exc_text}]")
        return " ".join(parts)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as ``extra``, without what libraries note for themselves (Ray: ``_ray_timestamp_ns``)."""
    return {
        key: value
        for key, value in record.__dict__.items()
        if key not in _STANDARD and not key.startswith("_")
    }


def set_up(folder: Path, name: str = "node") -> Path:
    """Send everything that this process logs to ``folder/log/NAME.jsonl`` and to standard error.

    Call it once, first of all, in each process. Calling it again replaces what it had set up.

    Parameters
    ----------
    folder : Path
        The node's; ``log`` in it is made where it is missing, and only its owner may read it.
    name : str
        Of this process, as several can't share a file that begins anew when it is full.

    Returns
    -------
    Path
        The file.
    """
    path = make_private(folder / "log") / f"{name}.jsonl"
    file = logging.handlers.RotatingFileHandler(
        path, maxBytes=LARGEST_FILE, backupCount=OLDER_FILES, encoding="utf-8"
    )
    file.setFormatter(JsonLines())
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(ForPeople())
    end()
    root = logging.getLogger()
    for handler in (file, screen):
        handler.of_the_node = True  # type: ignore[attr-defined]
        handler.addFilter(PatientFilter())
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for logger, level in _CHATTER.items():
        known = logging.getLogger(logger)
        known.setLevel(level)
        known.propagate = True
        for handler in list(known.handlers):  # uvicorn and pynetdicom may have brought their own
            known.removeHandler(handler)
    logging.captureWarnings(capture=True)
    return path


def end() -> None:
    """Let go of what `set_up` has set up, for a process that goes on without a node."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if getattr(handler, "of_the_node", False)]:
        root.removeHandler(handler)
        handler.close()


def _argument(value: Any) -> Any:
    # Kept as they are, because messages format them: "%d", "%.1f".
    return value if isinstance(value, bool | int | float) else str(cleaned(value))


def _where(info: Any) -> str:
    """Say what kind of exception it was and where, without its text: that may hold what was sent or stored."""
    kind, error, trace = info
    if kind is None:
        return ""
    frames = traceback.extract_tb(trace)[-6:]
    places = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )
    # Our own errors are worded by us, and hold no patient's data by the project's rule; a second net is drawn anyway.
    said = f": {cleaned_text(str(error))}" if isinstance(error, FreezeframeError) else ""
    return f"{kind.__name__}{said} at {places}" if places else f"{kind.__name__}{said}"
