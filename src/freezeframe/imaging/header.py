"""DICOM headers, read so that what is odd in one costs no more than itself."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from freezeframe.imaging.image import UnreadableImage

# What pydicom says of oddities is kept in the image's notes; its log would print it a second time.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

PIXEL_DATA = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A DICOM file whose header was read and whose pixel data was not.

    Attributes
    ----------
    path : Path
        The file.
    header : FileDataset
        All elements before the pixel data.
    keyword : str
        ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``; '' where the file has none.
    stream : BinaryIO
        Where the pixel data's value is read from; it may be short of the declared length.
    start, length : int
        Offset of that value in the stream and its number of bytes (`UNDEFINED_LENGTH` when encapsulated).
    value_representation : str
        Of the pixel data, '' with implicit encoding.
    notes : list of str
        What was odd and how it was read; readers of the pixels add to it.
    """

    path: Path
    header: FileDataset
    keyword: str
    stream: BinaryIO
    start: int
    length: int
    value_representation: str
    notes: list[str]

    @property
    def available(self) -> int:
        """Number of bytes of the pixel data that the file really has."""
        self.stream.seek(0, os.SEEK_END)
        return max(0, min(self.stream.tell() - self.start, self.length))


@contextmanager
def opened(path: Path) -> Iterator[OpenedFile]:
    """Read a DICOM file up to its pixel data, also without preamble, file meta or transfer syntax.

    Raises
    ------
    UnreadableImage
        If the file can't be read as DICOM; also for whatever pydicom or a codec raises inside the block.
    """
    path = Path(path)
    notes: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught, path.open("rb") as stream:
            warnings.simplefilter("always")
            yield _open(path, stream, notes)
            notes.extend(
                dict.fromkeys(str(warning.message).partition(" Please see")[0] for warning in caught)
            )
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage(path, "there is not enough memory to decode it.") from None
    except OSError as error:
        raise UnreadableImage(path, f"it can't be read ({error.strerror or error}).") from error
    # Parsers and codecs raise whatever a broken file leads them to: struct.error, KeyError, RecursionError ...
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UnreadableImage(path, f"its DICOM data is damaged or not supported ({reason}).") from error


def _open(path: Path, stream: BinaryIO, notes: list[str]) -> OpenedFile:
    found: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: Any, representation: str | None, length: int) -> bool:
        if int(tag) in PIXEL_DATA:
            found.append((int(tag), representation, length))
            return True
        return False

    header = read_partial(stream, stop_when=at_pixels, force=True)
    if len(header) == 0 and not found:
        raise UnreadableImage(path, "it holds no DICOM elements.")
    if not found:
        return OpenedFile(path, header, "", stream, 0, 0, "", notes)
    tag, representation, length = found[0]
    if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        value = dcmread(stream, force=True).get_item(tag).value  # type: ignore[union-attr]
        return OpenedFile(
            path, header, PIXEL_DATA[tag], BytesIO(value), 0, len(value), representation or "", notes
        )
    start = stream.tell() + (12 if representation in _LONG_VRS else 8)
    return OpenedFile(path, header, PIXEL_DATA[tag], stream, start, length, representation or "", notes)


def number(dataset: Dataset, keyword: str, default: float | None = None) -> float | None:
    """Return the (first) value of an element as a finite number, or the default where it is missing or is none."""
    try:
        value: Any = dataset.get(keyword)
        if isinstance(value, bytes):
            value = int.from_bytes(value[:2], "little")  # 'US or SS' in a private or unknown representation
        elif not isinstance(value, str | int | float) and value is not None:
            value = value[0]
        result = float(value)  # type: ignore[arg-type]
    except Exception:  # an element may be broken in any way
        return default
    return result if math.isfinite(result) else default


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return the (first) value of an element as a whole number, or None where it is missing or is none."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text without surrounding blanks, or '' where it is missing or can't be read."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else str(value).strip(" \0")
    except Exception:  # an element may be broken in any way
        return ""


def first_item(dataset: Dataset, keyword: str, frame: int = 0) -> Dataset | None:
    """Return the first item of a sequence that applies to a frame.

    It is looked for in the data set, then in the frame's own and in the shared functional groups (PS3.3 C.7.6.16).
    """
    for holder in (dataset, *_functional_groups(dataset, frame)):
        try:
            return holder[keyword][0]
        except Exception:  # noqa: S112 - missing, empty or broken: look further
            continue
    return None


def _functional_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    groups = []
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        try:
            groups.append(dataset[keyword][index])
        except Exception:  # noqa: S112 - not an enhanced object, or a broken one
            continue
    return groups
