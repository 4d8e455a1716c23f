"""What runs inside a worker process; imports next to nothing, so that it starts at once."""

import contextlib
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from freezeframe.imaging import messages


class Reference(NamedTuple):
    """A manifest's ImageReference as the worker sees it; importing the manifest would cost it pandas, a second."""

    path: Path
    frame: int


def serve(descriptor: int, parent: int, memory_limit: int) -> None:
    """Answer chunks of references over a socket until the parent closes it or dies.

    The first message is the pickled function; the answer is None or, as text, why it can't be had. Then each message
    is a list of (path, frame), and each reference has one answer: `messages.success` or `messages.failure`.

    Parameters
    ----------
    descriptor : int
        Of the socket to the parent.
    parent : int
        The parent's process id.
    memory_limit : int
        Most bytes of address space.
    """
    confine(parent, memory_limit)
    chunks = messages.Decoder(list[tuple[bytes, int]])
    with (
        socket.socket(fileno=descriptor) as connection,
        contextlib.suppress(EOFError, OSError),  # the parent is gone
    ):
        try:
            function = pickle.loads(messages.receive(connection, memory_limit))  # noqa: S301 - our own parent sent it
        except (EOFError, OSError):
            raise
        except BaseException:
            messages.send(connection, messages.encode(traceback.format_exc()))
            return
        messages.send(connection, messages.encode(None))
        silence()
        while True:
            for path, frame in chunks.decode(messages.receive(connection, memory_limit)):
                messages.send(connection, _answer(function, Reference(Path(os.fsdecode(path)), frame)))


def confine(parent: int, memory_limit: int) -> None:
    """Take from this process what decoding does not need, and have it end with its parent's thread.

    Parameters
    ----------
    parent : int
        The parent's process id.
    memory_limit : int
        Most bytes of address space.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    _die_with(parent)
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def silence() -> None:
    """Let codecs print what they like from here on: what matters comes back as a reason."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _answer(function: Callable[[Reference], Any], reference: Reference) -> bytes:
    try:
        return messages.success(function(reference))
    except MemoryError:
        return messages.failure("it takes more memory than a worker process may use.")
    except Exception as error:
        reason = getattr(error, "reason", None)  # of an UnreadableImage
        return messages.failure(reason or f"it failed with {type(error).__name__}: {error}")


def _die_with(parent: int) -> None:
    """Have the system kill this process when the parent's thread that started it ends, however it ends."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
