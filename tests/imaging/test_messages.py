"""Messages between this process and its workers: what is sent comes back, and what is not of the type is refused."""

import socket
import struct
import threading
import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from freezeframe.imaging import messages


class Facts(NamedTuple):
    share: float
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Prepared:
    images: tuple[np.ndarray, ...]
    size: tuple[int, int]
    attributes: dict[str, Any]
    facts: Facts | None


def function(reference: Any) -> Prepared:
    raise NotImplementedError(reference)


def decoded(kind: Any, message: bytes) -> Any:
    return messages.Decoder(kind).decode(bytearray(message))


def written(value: Any, *behind: bytes) -> bytes:
    """A message as `messages.encode` writes it, of a header that it would not write."""
    header = msgspec.msgpack.encode(value)
    return struct.pack("!I", len(header)) + header + bytes(-(len(header) + 4) % 16) + b"".join(behind)


DTYPES = st.one_of(
    st_numpy.boolean_dtypes(), st_numpy.integer_dtypes(), st_numpy.unsigned_integer_dtypes(),
    st_numpy.floating_dtypes(sizes=(16, 32, 64)),
)  # fmt: skip
ARRAYS = st_numpy.arrays(DTYPES, st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(array=ARRAYS)
def test_an_array_comes_back_bit_by_bit_and_can_be_written_to(array):
    back = decoded(np.ndarray, messages.encode(array))
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.flags.writeable


def test_an_array_that_is_no_single_block_comes_back():
    array = np.arange(24, dtype=">u2").reshape(4, 6)[::2, ::-1]
    np.testing.assert_array_equal(decoded(np.ndarray, messages.encode(array)), array)


@given(images=st.lists(ARRAYS, max_size=2), values=st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
def test_a_dataclass_comes_back(images, values):
    facts = Facts(float(np.float32(0.5)), np.ones(2, np.float32))
    sent = Prepared(tuple(images), (3, 4), values, facts)
    succeeded, back = messages.OutcomeDecoder(partial(function)).decode(bytearray(messages.success(sent)))
    assert succeeded
    assert (type(back), back.size, back.attributes, back.facts.share) == (Prepared, (3, 4), values, 0.5)
    assert [image.tobytes() for image in back.images] == [image.tobytes() for image in images]


def test_numbers_of_numpy_come_back_as_numbers():
    numbers = (np.float32(0.5), np.int16(-3), np.bool_(True))
    assert decoded(tuple[float, int, bool], messages.encode(numbers)) == (0.5, -3, True)


def test_a_reason_comes_back_whatever_its_letters():
    decoder = messages.OutcomeDecoder(function)
    assert decoder.decode(bytearray(messages.failure("a\udcff \u00e9"))) == (False, "a\\udcff \u00e9")


@given(message=st.binary(max_size=200))
def test_any_bytes_are_a_result_or_refused(message):
    decoder = messages.OutcomeDecoder(function)
    try:
        succeeded, value = decoder.decode(bytearray(message))
    except messages.BadMessage:
        return
    assert type(value) is (Prepared if succeeded else str)


@given(data=st.data())
def test_any_damage_gives_a_result_or_is_refused(data):
    sent = Prepared((np.ones((2, 3), np.uint8),), (2, 3), {"mode": "L"}, None)
    message = bytearray(messages.success(sent))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        succeeded, value = messages.OutcomeDecoder(function).decode(message)
    except messages.BadMessage:
        return
    assert type(value) is (Prepared if succeeded else str)


@pytest.mark.parametrize(
    "value",
    [
        ("|O", [1], 0), ("|V1", [1], 0), ("|S1", [1], 0), ("<M8[s]", [1], 0), ("<u2", [9], 0), ("<u2", [1], 15),
        ("<u2", [-1], 0), ("<u2", [2**62, 4], 0), ("<u2", [2**63, 2], 0), ("<u2", [1.0], 0), ("<u2", [True], 0),
        ("<u2", 1, 0),
        ("<u2", [1], "12"), ("<u2", [1], -2), ("<u2", [1], 2**63), ("<u2", [1], None), ("<u2", [1] * 9, 0),
        ("<u2", [2**63] * 100_000, 0), ("no", [1], 0), ("u1,u1", [1], 0), (None, [1], 0), ([], [0], 0), ("(2,", [1], 0),
        "x", None, ["<u2", [1]],
    ],
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(messages.BadMessage):
        decoded(np.ndarray, written(value, b"0123456789abcdef"))


def test_a_message_is_read_as_it_is_written():
    assert decoded(np.ndarray, written(("<u2", [8], 0), b"0123456789abcdef")).tobytes() == b"0123456789abcdef"


@pytest.mark.parametrize(
    "message",
    [b"", b"\0\0", struct.pack("!I", 5) + b"\x80", struct.pack("!I", 2**31), struct.pack("!I", messages.MOST_HEADER + 1)
     + bytes(messages.MOST_HEADER + 1), struct.pack("!I", 5000) + b"\x91" * 5000],
)  # fmt: skip
def test_what_is_no_message_is_refused(message):
    with pytest.raises(messages.BadMessage):
        decoded(np.ndarray, message)


def test_a_reason_without_end_is_cut_where_it_is_written_and_refused_where_it_is_not():
    decoder = messages.OutcomeDecoder(function)
    assert decoder.decode(bytearray(messages.failure("x" * 10_000))) == (False, "x" * messages.MOST_REASON)
    with pytest.raises(messages.BadMessage):
        decoder.decode(bytearray(messages.failure("")[:16] + messages.encode("x" * 10_000)))


def test_much_besides_arrays_can_not_be_sent():
    with pytest.raises(ValueError, match="besides arrays"):
        messages.encode(["x" * 1000] * 2000)


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["a"]), 2**64, {1j}, b"x".decode])
def test_what_can_not_be_sent_is_refused(value):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        messages.encode(value)


def test_lists_in_lists_without_end_are_refused():
    with pytest.raises(messages.BadMessage):
        header = b"\x81\xa1a" + b"\x91" * 100_000
        decoded(dict[str, Any], struct.pack("!I", len(header)) + header)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@given(message=st.binary(max_size=100_000))
def test_a_message_comes_through(message):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = threading.Thread(target=messages.send, args=(theirs, message))
        sending.start()
        assert messages.receive(ours, len(message), time.monotonic() + 60) == message
        sending.join()


def test_a_message_longer_than_allowed_is_refused_before_it_is_received(pair):
    pair[1].sendall(struct.pack("!Q", 11))
    with pytest.raises(messages.BadMessage, match="11 bytes"):
        messages.receive(pair[0], 10, time.monotonic() + 60)


def test_memory_is_taken_as_bytes_come_and_not_as_they_are_announced(pair):
    pair[1].sendall(struct.pack("!Q", 2**40) + b"x")
    pair[1].shutdown(socket.SHUT_WR)
    tracemalloc.start()
    with pytest.raises(EOFError):
        messages.receive(pair[0], 2**41)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_message_that_never_comes_is_given_up(pair):
    pair[1].sendall(struct.pack("!Q", 10) + b"half")
    with pytest.raises(TimeoutError):
        messages.receive(pair[0], 10, time.monotonic() + 0.2)


def test_the_end_of_the_other_side_is_told(pair):
    pair[1].sendall(struct.pack("!Q", 10) + b"half")
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        messages.receive(pair[0], 10)
