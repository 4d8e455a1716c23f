"""What runs inside a decoding process of the page, and how it answers; imports next to nothing, to start at once.

A hostile image may take the process over, so that nothing it says is unpickled: an answer is a length of 4 bytes, so
many bytes of JSON, and the pixels, of which the JSON says the size. Requests are of the same kind.
"""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from freezeframe.imaging.worker_process import Reference, confine, silence

MOST_TEXT = 64 * 1024
"""Bytes of JSON that an answer may have."""
_MOST_REASON = 1000
_LENGTH = struct.Struct("!I")

Answer = tuple[dict[str, Any], bytes]
"""Header and pixels."""


def serve(descriptor: int, parent: int, memory_limit: int, function: str) -> None:
    """Answer requests over a socket until the parent closes it or dies.

    The first message says that it is ready: an empty header. Then each request is a header with ``path`` and
    ``frame``, and has one answer: what the function gives, or a header with nothing but the ``reason``.

    Parameters
    ----------
    descriptor : int
        Of the socket to the parent.
    parent : int
        The parent's process id.
    memory_limit : int
        Most bytes of address space.
    function : str
        ``module:name`` of what takes a `Reference` and returns header and pixels.
    """
    confine(parent, memory_limit)
    module, _, name = function.partition(":")
    called: Callable[[Reference], Answer] = getattr(import_module(module), name)
    silence()
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(EOFError, OSError):
        send(connection, {})
        while True:  # until the parent is gone
            asked = receive_header(connection)
            send(connection, *_answer(called, Reference(Path(asked["path"]), asked["frame"])))


def _answer(function: Callable[[Reference], Answer], reference: Reference) -> Answer:
    try:
        return function(reference)
    except MemoryError:
        reason = "it takes more memory than a worker process may use."
    except Exception as error:
        # Of an UnreadableImage.
        reason = getattr(error, "reason", None) or f"it failed with {type(error).__name__}: {error}"
    return {"reason": str(reason)[:_MOST_REASON]}, b""


def send(connection: socket.socket, header: dict[str, Any], content: bytes = b"") -> None:
    """Send a header, and pixels where there are any."""
    text = json.dumps(header).encode()  # in ASCII, so that a path of any bytes comes through
    connection.sendall(_LENGTH.pack(len(text)) + text)
    connection.sendall(content)


def receive_header(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Receive a header, of which nothing is believed but that it is a JSON object.

    Raises
    ------
    EOFError, OSError
        If the other side is gone, sends something else, or takes longer than until the deadline (`TimeoutError`).
    """
    (length,) = _LENGTH.unpack(receive(connection, _LENGTH.size, deadline))
    if length > MOST_TEXT:
        raise ConnectionError("the header is too long")
    try:
        header = json.loads(receive(connection, length, deadline))
    except (ValueError, RecursionError) as error:
        raise ConnectionError("the header is no JSON") from error
    if not isinstance(header, dict):
        raise ConnectionError("the header is no object")
    return header


def receive(connection: socket.socket, count: int, deadline: float | None = None) -> bytearray:
    """Receive so many bytes, until the deadline (of `time.monotonic`; `TimeoutError` after it)."""
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
