"""What a received file says of itself: read from its first bytes, with bounds, before it is kept."""

import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from freezeframe.errors import FreezeframeError
from freezeframe.pacs import uids
from freezeframe.pacs.intake.elements import UNDEFINED_LENGTH, BrokenDataSetError, Buffer, Encoding, walk
from freezeframe.pacs.studies.arrival import StudyHeader

MOST_INFLATED = 4 << 20
"""Bytes that a deflated data set is inflated to for its header."""
LONGEST_VALUE = 4096
"""Bytes; a longer value of an element that is read here is taken as missing."""

_PREAMBLE = 128
_TRANSFER_SYNTAX = 0x00020010
_CHARACTER_SET = 0x00080005
_SOP_CLASS, _SOP_INSTANCE, _SERIES, _STUDY = 0x00080016, 0x00080018, 0x0020000E, 0x0020000D
_TEXTS = {
    "modality": 0x00080060,
    "patient_id": 0x00100020,
    "patient_name": 0x00100010,
    "patient_sex": 0x00100040,
    "patient_birth_date": 0x00100030,
    "accession_number": 0x00080050,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "description": 0x00081030,
}
_WANTED = {_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _SERIES, _STUDY, *_TEXTS.values()}
_NAMES = {_SOP_CLASS: "SOP class", _SOP_INSTANCE: "SOP instance", _SERIES: "series", _STUDY: "study"}


class NotAnImageError(FreezeframeError):
    """A file is not what this node keeps; the message says why, without patient data."""


@dataclass(frozen=True)
class Header:
    """Identity of an image, and what it says of its study.

    Attributes
    ----------
    study : StudyHeader
        Of the study, with its UID.
    sop_class_uid, sop_instance_uid, series_uid, transfer_syntax_uid : str
        Validated; they may be used in a path.
    start : int
        Offset of the data set in the file, in bytes: what is before it is preamble and file meta information.
    """

    study: StudyHeader
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    transfer_syntax_uid: str
    start: int


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file (PS3.10).

    Raises
    ------
    NotAnImageError
        If it is none, lacks a UID or has an invalid one, or goes beyond the bounds of `elements.walk`.
    OSError
        If it can't be read.
    """
    with path.open("rb") as stream:
        if not stream.read(_PREAMBLE + 4).endswith(b"DICM"):
            raise NotAnImageError("It is no DICOM file (PS3.10): it has no preamble with DICM.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _header(content)
            except BrokenDataSetError as error:
                raise NotAnImageError(f"Its data set can't be read: {error}.") from None


def _header(content: mmap.mmap) -> Header:
    start, meta = _PREAMBLE + 4, {}
    for element in walk(content, start, Encoding(implicit=False), last=0x0002FFFF):
        if element.length == UNDEFINED_LENGTH:
            raise NotAnImageError("Its file meta information is broken.")
        start = element.start + element.length
        if element.tag == _TRANSFER_SYNTAX:
            meta[element.tag] = content[element.start : element.start + min(element.length, LONGEST_VALUE)]
    syntax = _uid(meta.get(_TRANSFER_SYNTAX, b""), "transfer syntax")
    data_set: Buffer = content
    first = start
    if syntax == DeflatedExplicitVRLittleEndian:
        data_set, first = _inflated(content, start), 0
    # Some devices write another representation than they say, so the first element decides; it is always short.
    representation = bytes(data_set[first + 4 : first + 6])
    implicit = not (representation.isalpha() and representation.isupper())
    encoding = Encoding(implicit, implicit or syntax != ExplicitVRBigEndian)
    values = _values(data_set, first, encoding)
    texts = _texts(values)
    return Header(
        StudyHeader(_uid(values.get(_STUDY, b""), _NAMES[_STUDY]), **texts),
        *(_uid(values.get(tag, b""), _NAMES[tag]) for tag in (_SOP_CLASS, _SOP_INSTANCE, _SERIES)),
        transfer_syntax_uid=syntax,
        start=start,
    )


def _inflated(content: mmap.mmap, start: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(
            content[start : start + MOST_INFLATED], MOST_INFLATED
        )
    except zlib.error:
        raise NotAnImageError("Its data set can't be inflated.") from None


def _values(buffer: Buffer, start: int, encoding: Encoding) -> dict[int, bytes]:
    size = len(buffer)
    return {
        element.tag: bytes(buffer[element.start : element.start + element.length])
        for element in walk(buffer, start, encoding, last=_SERIES)
        # A value that is cut off would be another one: a UID of somebody else's series.
        if element.tag in _WANTED and element.length <= min(LONGEST_VALUE, size - element.start)
    }


def _uid(value: bytes, what: str) -> str:
    if not value.rstrip(b"\0 "):
        raise NotAnImageError(f"It has no {what} UID.")
    try:
        return uids.checked(value.decode("ascii"))
    except (UnicodeDecodeError, uids.InvalidUidError):
        raise NotAnImageError(f"Its {what} UID is none (PS3.5, section 9.1).") from None


def _texts(values: dict[int, bytes]) -> dict[str, str]:
    named = values.get(_CHARACTER_SET, b"").decode("ascii", "replace").replace("\0", "").split("\\")
    named = [name.strip() for name in named]
    # Text in a character set that nobody knows is read as Latin-1, which takes any byte.
    encodings = convert_encodings(named) if set(named) <= python_encoding.keys() else ["latin-1"]
    return {name: _text(values.get(tag, b""), encodings) for name, tag in _TEXTS.items()}


def _text(value: bytes, encodings: list[str]) -> str:
    if value.isascii() and b"\x1b" not in value:
        text = value.decode("ascii")
    else:
        try:
            text = decode_bytes(value, encodings, {0x5C, 0x5E, 0x3D})
        except (UnicodeDecodeError, LookupError, ValueError):
            text = value.decode("latin-1")
    return text.replace("\0", "").strip()
