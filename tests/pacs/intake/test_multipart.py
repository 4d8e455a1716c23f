"""Parts of a multipart body."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.pacs.intake.multipart import BrokenMultipartError, MultipartReader, media_type

BOUNDARY = "b0--x"


class Gathered:
    def __init__(self) -> None:
        self.parts: list[tuple[dict[str, str], bytes]] = []
        self._content = bytearray()

    def begin(self, headers):
        self._headers = dict(headers)
        self._content = bytearray()

    def write(self, data):
        self._content += data

    def end(self):
        self.parts.append((self._headers, bytes(self._content)))


def joined(contents: list[bytes], boundary: str = BOUNDARY) -> bytes:
    parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + part for part in contents]
    return b"\r\n".join([*parts, f"--{boundary}--".encode()])


def read(body: bytes, size: int = 1 << 16, boundary: str = BOUNDARY) -> list[tuple[dict[str, str], bytes]]:
    sink = Gathered()
    reader = MultipartReader(boundary, sink)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    reader.finish()
    return sink.parts


# Contents that are made of what a boundary is made of.
tricky = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"b0", b"b0--", b"\r\n--b0-", b"\r\n--", b"x", b"\0", b"\xff"]
    ),
    max_size=12,
).map(b"".join)


@given(st.lists(tricky | st.binary(max_size=40), min_size=1, max_size=4), st.integers(1, 60))
def test_what_was_joined_is_divided_again_however_it_is_cut_into_pieces(contents, size):
    contents = [part for part in contents if f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + part] or [b"x"]
    assert [content for _, content in read(joined(contents), size)] == contents


@given(st.binary(max_size=300) | tricky, st.integers(1, 50))
def test_any_bytes_are_divided_or_refused(body, size):
    with contextlib.suppress(BrokenMultipartError):
        read(body, size)


@given(tricky, st.integers(0, 60))
def test_a_body_that_ends_early_is_refused(content, kept):
    body = joined([content, b"second"])
    with pytest.raises(BrokenMultipartError):
        read(body[: min(kept, len(body) - 1)])


def test_headers_are_known_by_their_names_in_lower_case():
    body = b"--b0--x\r\nContent-TYPE:application/dicom\r\nX-Other:  a b \r\n\r\n1\r\n--b0--x--\r\nepilogue"
    assert read(body, 3) == [({"content-type": "application/dicom", "x-other": "a b"}, b"1")]


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 5000 + b"\r\n",
        b"X-Other: a\r\n" * 30,
        b"a" * 5000 + b": b\r\n",
        b"no colon\r\n",
        b": no name\r\n",
    ],
)
def test_headers_beyond_bounds_or_broken_are_refused(head):
    with pytest.raises(BrokenMultipartError):
        read(b"--b0--x\r\n" + head + b"\r\n1\r\n--b0--x--", 100)


@pytest.mark.parametrize("boundary", ["", "a" * 71, "ends with ", "line\nfeed", 'quote"', "ümlaut"])
def test_a_boundary_that_is_none_is_refused(boundary):
    with pytest.raises(BrokenMultipartError, match="boundary"):
        MultipartReader(boundary, Gathered())


def test_another_boundary_within_is_content():
    inner = joined([b"inner"], "b0")
    assert read(joined([inner])) == [({"content-type": "application/dicom"}, inner)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('multipart/related; boundary="a b;c"', ("multipart/related", {"boundary": "a b;c"})),
        ("Application/DICOM", ("application/dicom", {})),
        ("", ("", {})),
        ("multipart/related; boundary=\xe4", ("", {})),
    ],
)
def test_a_content_type_is_divided(header, expected):
    assert media_type(header) == expected


@given(st.text(max_size=80))
def test_any_content_type_is_divided(header):
    media_type(header)
