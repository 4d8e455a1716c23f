"""DICOM files that come as parts of an HTTP body: written while they come, then kept, each with what became of it."""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.intake import commands
from freezeframe.pacs.intake.header import NotAnImageError, read_header
from freezeframe.pacs.intake.keeping import CannotKeepError, Keeper, Origin
from freezeframe.pacs.intake.multipart import DICOM, media_type
from freezeframe.pacs.intake.offered import IMAGE_CLASSES
from freezeframe.pacs.intake.receiving import LARGEST_INSTANCE

MOST_PARTS = 10_000
_log = logging.getLogger(__name__)


class TooLargeError(FreezeframeError):
    """More was sent than is taken at once."""


@dataclass(frozen=True)
class Outcome:
    """What became of one part.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
        Of the image; '' where the part has none that is valid.
    failure : int or None
        Status of PS3.4, table B.2-1; None where the image is kept, now or before.
    is_new : bool
        Whether it was not there before.
    study_uid : str
        That it was kept in; '' where it was not.
    """

    sop_class_uid: str
    sop_instance_uid: str
    failure: int | None
    is_new: bool = False
    study_uid: str = ""


class PartKeeper:
    """Keeps the parts of one body; a `PartSink`.

    Parameters
    ----------
    keeper : Keeper
        Makes them durable.
    origin : Origin
        Where they come from.
    study_uid : str, optional
        That all must belong to.
    """

    def __init__(self, keeper: Keeper, origin: Origin, study_uid: str | None = None) -> None:
        self.outcomes: list[Outcome] = []
        self._keeper, self._origin, self._study_uid = keeper, origin, study_uid
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._failure: int | None = None

    def begin(self, headers: dict[str, str]) -> None:
        """Open a file for the next part.

        Raises
        ------
        TooLargeError
            If there are more than `MOST_PARTS`.
        """
        if len(self.outcomes) == MOST_PARTS:
            raise TooLargeError(f"More than {MOST_PARTS} parts.")
        self._size, self._failure = 0, None
        encoding = headers.get("content-transfer-encoding", "binary").lower()
        if media_type(headers.get("content-type", DICOM))[0] != DICOM or encoding not in ("binary", "8bit"):
            self._failure = commands.CANNOT_UNDERSTAND
            return
        try:
            self._path = self._keeper.new_file()
            self._file = self._path.open("xb")
        except (CannotKeepError, OSError):
            self._give_up(commands.OUT_OF_RESOURCES)

    def write(self, data: memoryview) -> None:
        """Write more of the part; after a problem the rest of it is dropped.

        Raises
        ------
        TooLargeError
            If the part is larger than `LARGEST_INSTANCE`.
        """
        self._size += len(data)
        if self._size > LARGEST_INSTANCE:
            raise TooLargeError(f"A part of more than {LARGEST_INSTANCE >> 30} GiB.")
        if self._file is not None:
            try:
                self._file.write(data)
            except OSError:
                self._give_up(commands.OUT_OF_RESOURCES)

    def end(self) -> None:
        """Keep the part, and note what became of it."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._give_up(commands.OUT_OF_RESOURCES)
        path, self._path, self._file = self._path, None, None
        outcome = Outcome("", "", self._failure) if path is None else self._keep(path)
        if outcome.failure is not None:
            extra = {"source": self._origin.source, "reason": f"{outcome.failure:04X}"}
            _log.warning(
                "An image was refused.", extra=extra | {"sop_instance_uid": outcome.sop_instance_uid}
            )
        self.outcomes.append(outcome)

    def close(self) -> None:
        """Remove what is left of a part that never became whole."""
        self._give_up(None)

    def _keep(self, path: Path) -> Outcome:
        sop_class_uid = sop_instance_uid = ""
        try:
            header = read_header(path)
            sop_class_uid, sop_instance_uid = header.sop_class_uid, header.sop_instance_uid
            failure = None
            if sop_class_uid not in IMAGE_CLASSES:
                failure = commands.CLASS_NOT_SUPPORTED
            elif self._study_uid not in (None, header.study.study_uid):
                failure = commands.MISMATCH
            if failure is None:
                kept = self._keeper.keep(path, self._origin)
                if kept.state == "refused":
                    return Outcome(sop_class_uid, sop_instance_uid, commands.OTHER_BYTES)
                is_new = kept.state == "kept"
                return Outcome(sop_class_uid, sop_instance_uid, None, is_new, kept.study_uid)
        except NotAnImageError:
            failure = commands.CANNOT_UNDERSTAND
        except (CannotKeepError, OSError):
            failure = commands.OUT_OF_RESOURCES
        path.unlink(missing_ok=True)
        return Outcome(sop_class_uid, sop_instance_uid, failure)

    def _give_up(self, failure: int | None) -> None:
        self._failure = failure
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it could not write
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = self._file = None
