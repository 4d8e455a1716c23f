"""What passes between this process and its worker processes: typed messages that are checked, never unpickled.

A hostile image may take the process that decodes it over. So nothing a worker process says is believed: an answer has a
largest size and a deadline, and becomes nothing but values of the types that the function's annotation promises. A
message is a header, MessagePack of at most `MOST_HEADER` bytes, with the arrays behind it as they lie in memory.
"""

import socket
import struct
import time
import typing
from collections.abc import Callable
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np

MOST_HEADER = 1 << 20
"""Bytes; as objects they may take some hundred times as many."""
MOST_REASON = 1000
"""Characters."""
_MOST_DIMENSIONS = 8
_LENGTH, _HEADER_LENGTH = struct.Struct("!Q"), struct.Struct("!I")
_ALIGNMENT = 16
_FIRST_BLOCK = 1 << 20
_ORDERS = ("<", ">")
# Truth values and real numbers, by NumPy's names of them; NumPy's own reading of names is a parser of much more.
_DTYPES = {
    dtype.str: dtype
    for name in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
    for dtype in (np.dtype(order + name) for order in _ORDERS)
}


class BadMessage(Exception):  # noqa: N818 - what came, not what went wrong here
    """Something came that is none of the values expected."""


def send(connection: socket.socket, message: bytes) -> None:
    """Send a message: its length in 8 bytes, and the bytes.

    Raises
    ------
    OSError
        If the other side is gone, or does not take it in the socket's time (`TimeoutError`).
    """
    connection.sendall(_LENGTH.pack(len(message)))
    connection.sendall(message)


def receive(connection: socket.socket, most: int, deadline: float | None = None) -> bytearray:
    """Receive a message; memory is taken as its bytes come, whatever length it claims.

    Parameters
    ----------
    connection : socket
        Its timeout is changed where there is a deadline.
    most : int
        Bytes that it may have.
    deadline : float, optional
        Of `time.monotonic`, for all of it.

    Raises
    ------
    TimeoutError
        If it is not there in time.
    EOFError, OSError
        If the other side is gone.
    BadMessage
        If it is longer, or than there is memory for.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, deadline))
    if length > most:
        raise BadMessage(f"a message of {length:,} bytes")
    try:
        return _exactly(connection, length, deadline)
    except MemoryError as error:
        raise BadMessage(f"no memory for a message of {length:,} bytes") from error


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytearray:
    content, there = bytearray(min(count, _FIRST_BLOCK)), 0
    while there < count:
        if there == len(content):
            content.extend(bytes(min(count, 2 * there) - there))
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        with memoryview(content) as view:
            received = connection.recv_into(view[there:])
        if received == 0:
            raise EOFError
        there += received
    return content


def encode(value: Any) -> bytes:
    """Write a value: None, truth values, numbers, text, bytes, arrays, and lists, tuples, dicts, dataclasses of these.

    Raises
    ------
    TypeError, ValueError
        If there is anything else in it, or too much of it besides arrays.
    """
    arrays: list[bytes] = []
    end = 0

    def hook(part: Any) -> Any:
        nonlocal end
        if isinstance(part, np.ndarray) and part.dtype.str in _DTYPES:
            begin, content = end, part.tobytes()
            arrays.append(content + bytes(-len(content) % _ALIGNMENT))
            end += len(arrays[-1])
            return part.dtype.str, part.shape, begin
        if isinstance(part, np.generic) and part.dtype.str in _DTYPES:
            return part.item()
        raise TypeError(f"a {type(part).__name__} can't be sent")

    header = msgspec.msgpack.encode(value, enc_hook=hook)
    if len(header) > MOST_HEADER:
        raise ValueError(f"{len(header):,} bytes besides arrays can't be sent")
    padding = bytes(-(len(header) + _HEADER_LENGTH.size) % _ALIGNMENT)
    return b"".join((_HEADER_LENGTH.pack(len(header)), header, padding, *arrays))


class Decoder:
    """Reads values of one type; for one thread.

    Parameters
    ----------
    kind : type
        Such as ``tuple[np.ndarray, str]`` or a dataclass.

    Raises
    ------
    TypeError
        If values of this type can't be sent.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=self._array)
        self._message, self._body = bytearray(), 0

    def decode(self, message: bytearray) -> Any:
        """Return the value; its arrays lie in the message, and can be written to.

        Raises
        ------
        BadMessage
            If it is none of the type.
        """
        try:
            if len(message) < _HEADER_LENGTH.size:
                raise ValueError("it is too short")
            (length,) = _HEADER_LENGTH.unpack_from(message)
            end = _HEADER_LENGTH.size + length
            if length > MOST_HEADER or end > len(message):
                raise ValueError("its header is too long")
            self._message, self._body = message, end + -end % _ALIGNMENT
            return self._decoder.decode(bytes(message[_HEADER_LENGTH.size : end]))
        except (ValueError, RecursionError, MemoryError) as error:  # msgspec's DecodeError is a ValueError
            raise BadMessage(str(error)) from error
        finally:
            self._message = bytearray()

    def _array(self, kind: type, value: Any) -> np.ndarray:
        if kind is not np.ndarray:
            raise TypeError(f"a {kind.__name__} can't be received")
        name, shape, begin = value
        dtype, sizes = _DTYPES.get(str(name)), tuple(shape)
        if dtype is None or len(sizes) > _MOST_DIMENSIONS or type(begin) is not int or begin < 0:
            raise ValueError("no such array can be")
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError("no such array can be")
        count, start = prod(sizes), self._body + begin
        if count and start + count * dtype.itemsize > len(self._message):
            raise ValueError("the array is larger than its message")
        if not count:
            return np.empty(sizes, dtype)
        return np.frombuffer(self._message, dtype, count, start).reshape(sizes)


class OutcomeDecoder:
    """Reads what `success` and `failure` write; for one thread.

    Parameters
    ----------
    function : callable
        Whose result it is; its annotation says of what type. Or a `functools.partial` of one.

    Raises
    ------
    TypeError
        If the function does not say what it returns, or that can't be sent.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._result = Decoder(_returned(function))
        self._reason = Decoder(Annotated[str, msgspec.Meta(max_length=MOST_REASON)])

    def decode(self, message: bytearray) -> tuple[bool, Any]:
        """Return (True, result) or (False, reason).

        Raises
        ------
        BadMessage
            If it is neither.
        """
        succeeded = bool(message) and message[0] == _SUCCESS[0]
        if not succeeded and (not message or message[0] != _FAILURE[0]):
            raise BadMessage("it is neither a result nor a reason")
        del message[: len(_SUCCESS)]
        return succeeded, (self._result if succeeded else self._reason).decode(message)


_SUCCESS, _FAILURE = (bytes([first]) + bytes(_ALIGNMENT - 1) for first in (1, 0))


def success(result: Any) -> bytes:
    """Write what a function has returned."""
    return _SUCCESS + encode(result)


def failure(reason: str) -> bytes:
    """Write why there is nothing to return."""
    return _FAILURE + encode(reason.encode("utf-8", "backslashreplace").decode()[:MOST_REASON])


def _returned(function: Callable[..., Any]) -> Any:
    inner = getattr(function, "func", function)  # of a functools.partial
    annotation = getattr(inner, "__annotations__", {}).get("return", Any)
    if annotation is Any or isinstance(annotation, str | typing.TypeVar):
        raise TypeError(f"{inner!r} must say in its annotation what it returns")
    return annotation
