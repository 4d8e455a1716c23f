"""What passes between this process and its worker processes: typed messages that are checked, never unpickled.

A hostile image may take the process that decodes it over. So nothing a worker process says is believed: an answer has a
largest size and a deadline, and becomes nothing but values of the types that the function's annotation promises.
"""

import socket
import struct
import time
import typing
from collections.abc import Callable
from math import prod
from typing import Any

import msgspec
import numpy as np

_LENGTH = struct.Struct("!Q")
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
    """Receive a message.

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
        If it is longer.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, deadline))
    if length > most:
        raise BadMessage(f"a message of {length:,} bytes")
    return _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytearray:
    content = bytearray(count)
    rest = memoryview(content)
    while rest:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        received = connection.recv_into(rest)
        if received == 0:
            raise EOFError
        rest = rest[received:]
    return content


def encode(value: Any) -> bytes:
    """Write a value: None, truth values, numbers, text, bytes, arrays, and lists, tuples, dicts, dataclasses of these.

    Raises
    ------
    TypeError, ValueError
        If there is anything else in it.
    """
    return _ENCODER.encode(value)


class Decoder:
    """Reads values of one type.

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
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_decode)

    def decode(self, message: "bytes | bytearray | msgspec.Raw") -> Any:
        """Return the value; arrays are copies, and can be written to.

        Raises
        ------
        BadMessage
            If it is none of the type.
        """
        try:
            return self._decoder.decode(message)
        except (ValueError, RecursionError) as error:  # msgspec's DecodeError is a ValueError
            raise BadMessage(str(error)) from error


class OutcomeDecoder:
    """Reads what `success` and `failure` write.

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
        self._both = Decoder(tuple[bool, msgspec.Raw])
        self._result, self._reason = Decoder(_returned(function)), Decoder(str)

    def decode(self, message: bytes | bytearray) -> tuple[bool, Any]:
        """Return (True, result) or (False, reason).

        Raises
        ------
        BadMessage
            If it is neither.
        """
        succeeded, value = self._both.decode(message)
        return succeeded, (self._result if succeeded else self._reason).decode(value)


def success(result: Any) -> bytes:
    """Write what a function has returned."""
    return encode((True, result))


def failure(reason: str) -> bytes:
    """Write why there is nothing to return."""
    return encode((False, reason.encode("utf-8", "backslashreplace").decode()))


def _returned(function: Callable[..., Any]) -> Any:
    inner = getattr(function, "func", function)  # of a functools.partial
    annotation = getattr(inner, "__annotations__", {}).get("return", Any)
    if annotation is Any or isinstance(annotation, str | typing.TypeVar):
        raise TypeError(f"{inner!r} must say in its annotation what it returns")
    return annotation


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.str in _DTYPES:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic) and value.dtype.str in _DTYPES:
        return value.item()
    raise TypeError(f"a {type(value).__name__} can't be sent")


def _decode(kind: type, value: Any) -> Any:
    if kind is not np.ndarray:
        raise TypeError(f"a {kind.__name__} can't be received")
    name, shape, content = value
    dtype, sizes = _DTYPES.get(str(name)), tuple(shape)
    if dtype is None or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError("no such array can be")
    if not isinstance(content, bytes) or prod(sizes) * dtype.itemsize != len(content):
        raise ValueError("the array's size is wrong")
    return np.frombuffer(content, dtype).reshape(sizes).copy()


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode)
