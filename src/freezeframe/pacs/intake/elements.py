"""The elements of a DICOM data set one after another, without making objects of them or looking inside sequences.

A file from outside may declare anything: a value of four gigabytes, sequences in sequences a million deep. This walk
takes constant memory and at most `MOST_STEPS` steps, whatever it meets.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_STEPS = 200_000
DEEPEST = 64
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

Buffer = bytes | bytearray | memoryview | mmap.mmap


class BrokenDataSetError(ValueError):
    """The bytes are no data set, or one that goes beyond this module's bounds; the message has no values in it."""


@dataclass(frozen=True)
class Encoding:
    """How the elements of a data set are written (PS3.5, section 7.1)."""

    implicit: bool
    little: bool = True


@dataclass(frozen=True)
class Element:
    """Where an element's value is.

    Attributes
    ----------
    tag : int
        Group and element, such as 0x0020000D.
    start, length : int
        Of its value in bytes; the value may end beyond the buffer. The length is `UNDEFINED_LENGTH` where none is said.
    """

    tag: int
    start: int
    length: int


def walk(buffer: Buffer, start: int, encoding: Encoding, last: int = 0xFFFFFFFF) -> Iterator[Element]:
    """Yield the elements of the outermost level.

    It ends before the first element with a tag beyond `last`, at the end of the buffer, and after an element whose
    value goes beyond that end.

    Parameters
    ----------
    buffer : bytes-like
        The data set, whole or only its beginning.
    start : int
        Where it begins.
    encoding : Encoding
        Of its elements.
    last : int
        Largest tag that is of interest.

    Raises
    ------
    BrokenDataSetError
        If sequences are nested deeper than `DEEPEST`, or there are more than `MOST_STEPS` elements and items.
    """
    walker = _Walker(buffer, encoding.little)
    position, size = start, len(buffer)
    while position + 8 <= size and walker.tag(position) <= last:
        element, unknown = walker.read(position, encoding.implicit)
        yield element
        if element.length == UNDEFINED_LENGTH:
            # An unknown value of undefined length is a sequence with implicit representation (PS3.5, section 6.2.2).
            position = walker.skip_sequence(element.start, encoding.implicit or unknown)
        else:
            position = element.start + element.length


class _Walker:
    def __init__(self, buffer: Buffer, little: bool) -> None:
        self._buffer = buffer
        order = "<" if little else ">"
        self._tag = struct.Struct(f"{order}HH")
        self._long = struct.Struct(f"{order}L")
        self._short = struct.Struct(f"{order}H")
        self._steps = 0

    def tag(self, position: int) -> int:
        group, number = self._tag.unpack_from(self._buffer, position)
        return group << 16 | number

    def read(self, position: int, implicit: bool) -> tuple[Element, bool]:
        """Return the element that begins at a position, and whether its representation is unknown."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise BrokenDataSetError(f"more than {MOST_STEPS} elements")
        try:
            tag = self.tag(position)
            if implicit or tag >> 16 == 0xFFFE:
                return Element(
                    tag, position + 8, self._long.unpack_from(self._buffer, position + 4)[0]
                ), False
            representation = self._buffer[position + 4 : position + 6]
            if representation in _LONG_VRS:
                length = self._long.unpack_from(self._buffer, position + 8)[0]
                return Element(tag, position + 12, length), representation == b"UN"
            if not (representation[:1].isalpha() and representation[1:].isalpha()):  # type: ignore[union-attr]
                raise BrokenDataSetError("an element without a value representation")
            return Element(tag, position + 8, self._short.unpack_from(self._buffer, position + 6)[0]), False
        except struct.error:
            raise BrokenDataSetError("it ends within an element") from None

    def skip_sequence(self, position: int, implicit: bool) -> int:
        """Return where a sequence of undefined length ends; also encapsulated pixel data, which is written alike."""
        # Each open level: whether it is an item (of elements) or a sequence (of items), and its representation.
        levels = [(False, implicit)]
        while levels:
            in_item, implicit = levels[-1]
            element, unknown = self.read(position, implicit)
            position = element.start
            if element.tag == (_ITEM_END if in_item else _SEQUENCE_END):
                levels.pop()
            elif element.length != UNDEFINED_LENGTH:
                position += element.length
            elif in_item or element.tag == _ITEM:
                levels.append((not in_item, implicit or unknown))
                if len(levels) > DEEPEST:
                    raise BrokenDataSetError(f"sequences nested deeper than {DEEPEST}")
            else:
                raise BrokenDataSetError("a sequence that holds something else than items")
        return position
