"""One instance on its way into a file: written and hashed as it arrives, so that its size takes no memory."""

import contextlib
import hashlib
import logging
import os
import struct
from pathlib import Path

from freezeframe.pacs.intake import commands
from freezeframe.pacs.intake.commands import Command
from freezeframe.pacs.intake.header import NotAnImageError
from freezeframe.pacs.intake.keeping import CannotKeepError, Keeper, Kept, MismatchError, Origin
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOGGER = logging.getLogger(__name__)
LARGEST_INSTANCE = 2 << 30
"""Bytes of a data set."""


class Answer(Exception):  # noqa: N818 - it is what the sender is told, not always an error of ours
    """A status other than success, and its comment."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment


class Incoming:
    """The data set of one C-STORE request.

    After a problem the rest is taken and dropped, so that the association goes on.

    Parameters
    ----------
    keeper : Keeper
        Gives the file, and makes it durable.
    command : Command
        The request.
    sop_class_uid, transfer_syntax_uid : str
        Of the presentation context.
    origin : Origin
        Whose association it is.
    """

    def __init__(
        self, keeper: Keeper, command: Command, sop_class_uid: str, transfer_syntax_uid: str, origin: Origin
    ) -> None:
        self._keeper, self._command, self._origin = keeper, command, origin
        self._digest, self._size = hashlib.sha256(), 0
        self._path: Path | None = None
        self._descriptor = -1
        self._problem: Answer | None = None
        if not command.sop_instance_uid:
            self._problem = Answer(commands.INVALID_INSTANCE, "The SOP instance UID is none")
        elif command.sop_class_uid != sop_class_uid:
            comment = "Another SOP class than the presentation context has"
            self._problem = Answer(commands.CLASS_NOT_SUPPORTED, comment)
        else:
            self._begin(transfer_syntax_uid)

    def write(self, data: memoryview) -> None:
        """Take a fragment of the data set."""
        if self._problem is not None:
            return
        self._size += len(data)
        if self._size > LARGEST_INSTANCE:
            self._fail(Answer(commands.TOO_LARGE, f"Larger than {LARGEST_INSTANCE >> 30} GiB"))
            return
        self._digest.update(data)
        try:
            self._put(data)
        except OSError as error:
            self._fail(self._no_room(error))

    def finish(self) -> Kept:
        """Make it durable.

        Raises
        ------
        Answer
            What the sender is told instead of success.
        """
        if self._problem is not None:
            raise self._problem
        path = self._path
        assert path is not None
        try:
            self._close()
        except OSError as error:  # of a network file system that wrote late
            problem = self._no_room(error)
            self._fail(problem)
            raise problem from None
        self._path = None  # from here on the keeper's
        try:
            kept = self._keeper.keep(
                path,
                self._origin,
                self._command.sop_instance_uid,
                self._command.sop_class_uid,
                self._digest.hexdigest(),
            )
        except MismatchError:
            raise Answer(commands.MISMATCH, "SOP class or instance UID differ from the data set's") from None
        except NotAnImageError as error:
            LOGGER.warning("object refused", extra={"source": self._origin.source, "reason": str(error)})
            raise Answer(commands.CANNOT_UNDERSTAND, str(error)) from None
        except CannotKeepError as error:
            raise Answer(commands.OUT_OF_RESOURCES, str(error)) from None
        if kept.state == "refused":
            raise Answer(commands.OTHER_BYTES, "This SOP instance UID is known with other bytes")
        return kept

    def abandon(self) -> None:
        """Remove what was written; the sender will not end it."""
        path, self._path = self._path, None
        with contextlib.suppress(OSError):
            self._close()
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _begin(self, transfer_syntax_uid: str) -> None:
        try:
            self._path = self._keeper.new_file()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._put(memoryview(_file_meta(self._command, transfer_syntax_uid)))
        except CannotKeepError as error:
            LOGGER.error("no room for images", extra={"source": self._origin.source, "reason": str(error)})
            self._fail(Answer(commands.OUT_OF_RESOURCES, str(error)))
        except OSError as error:
            self._fail(self._no_room(error))

    def _no_room(self, error: OSError) -> Answer:
        reason = error.strerror or type(error).__name__
        LOGGER.error("image not kept", extra={"source": self._origin.source, "reason": reason})
        return Answer(commands.OUT_OF_RESOURCES, f"It can't be written ({reason})")

    def _put(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _fail(self, problem: Answer) -> None:
        self._problem = problem
        self.abandon()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _file_meta(command: Command, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta information (PS3.10, section 7.1), as bytes at once: every image has its own."""
    elements = _FIRST_META + b"".join(
        (
            _meta(0x0002, b"UI", command.sop_class_uid),
            _meta(0x0003, b"UI", command.sop_instance_uid),
            _meta(0x0010, b"UI", transfer_syntax_uid),
            _meta(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


_FIRST_META = struct.pack("<HH2sHL2s", 0x0002, 0x0001, b"OB", 0, 2, b"\0\1")


def _meta(element: int, representation: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if representation == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, element, representation, len(value)) + value
