"""A body of multipart/related (RFC 2387, RFC 2046), divided into its parts while it comes."""

import re
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from freezeframe.errors import FreezeframeError

DICOM = "application/dicom"
MOST_HEADERS = 20
LONGEST_HEADER = 4096
"""Characters."""

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1


class BrokenMultipartError(FreezeframeError):
    """A body is not what its content type says."""


class PartSink(Protocol):
    """What takes the parts of a body, one after another."""

    def begin(self, headers: dict[str, str]) -> None:
        """Take the headers of the next part, by their names in lower case."""
        ...

    def write(self, data: memoryview) -> None:
        """Take more of the part's content; the memory is good during the call only."""
        ...

    def end(self) -> None:
        """Learn that the part is whole."""
        ...


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """Divide a Content-Type into the type in lower case and its parameters.

    Examples
    --------
    >>> media_type('Multipart/Related; type="application/dicom"; boundary=abc')
    ('multipart/related', {'type': 'application/dicom', 'boundary': 'abc'})
    """
    if not content_type.isascii():
        return "", {}
    found, parameters = parse_options_header(content_type)
    return found.decode("latin-1"), {
        key.decode("latin-1"): value.decode("latin-1") for key, value in parameters.items()
    }


class MultipartReader:
    """Finds the parts in a body that is fed to it in pieces of any size.

    Parameters
    ----------
    boundary : str
        Of the content type.
    sink : PartSink
        Takes the parts; what it raises goes through to whoever feeds.

    Raises
    ------
    BrokenMultipartError
        If the boundary is none (RFC 2046).
    """

    def __init__(self, boundary: str, sink: PartSink) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise BrokenMultipartError("The boundary is none: 1 to 70 characters of those of RFC 2046.")
        self._sink = sink
        self._headers: dict[str, str] = {}
        self._name, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: sink.write(memoryview(data)[start:end]),
                "on_part_end": sink.end,
                "on_end": self._end,
            },
            max_header_count=MOST_HEADERS,
            max_header_size=LONGEST_HEADER,
        )

    def feed(self, block: bytes) -> None:
        """Take the next piece of the body.

        Raises
        ------
        BrokenMultipartError
            If it can't be what it should.
        """
        try:
            self._parser.write(block)
        except FormParserError:
            raise BrokenMultipartError(
                "The body is no multipart message with the boundary that is stated."
            ) from None

    def finish(self) -> None:
        """Take the end of the body.

        Raises
        ------
        BrokenMultipartError
            If its last boundary has not come.
        """
        if not self._ended:
            raise BrokenMultipartError("The body ends before its last boundary.")

    def _begin(self) -> None:
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        self._sink.begin(self._headers)

    def _end(self) -> None:
        self._ended = True
