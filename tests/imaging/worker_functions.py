"""Functions that worker processes import in the tests of `freezeframe.imaging.workers`."""

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.imaging.image import UnreadableImage


def behave(reference: Any) -> tuple[int, int]:
    """Do what the file's name says, else return its number."""
    name = Path(reference.path).stem
    what, _, number = name.partition("-")
    if what == "segfault":
        ctypes.string_at(0)
    if what == "hang":
        time.sleep(3600)
    if what == "stuck":  # in C, with the interpreter's lock held and signals ignored
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(3600)
    if what == "raise":
        raise KeyError("surprise")
    if what == "unreadable":
        raise UnreadableImage(reference.path, "it is meant to be.")
    if what == "exit":
        sys.exit(3)
    if what == "memory":
        return int(np.ones(8 * 1024**3, np.uint8)[0]), 0
    if what == "wrong":
        return name, None  # type: ignore[return-value]
    if what == "unsendable":
        return Path(name), 0  # type: ignore[return-value]
    if what in TAKEN_OVER:
        take_over(what, Path(reference.path))
    if what == "noise":
        os.write(1, b"noise" * 100_000)
        os.write(2, b"noise" * 100_000)
    if what == "once":  # dies the first time only, as if an earlier image had damaged the process
        marker = Path(f"{reference.path}.tried")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return int(number), reference.frame


def large(reference: Any) -> np.ndarray:
    """Return 4 MB."""
    return np.full((2000, 2000), reference.frame % 256, np.uint8)


def process_id(reference: Any) -> tuple[int, str]:
    """Return the worker's process id and its number of threads for computing."""
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def modules(reference: Any) -> list[str]:
    """Return what the worker has imported."""
    return sorted(sys.modules)


def unsaid(reference: Any):
    """Return something of a type that its annotation does not say."""
    return reference.frame


class MakesAFolder:
    """When it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


TAKEN_OVER = ("pickle", "huge", "short", "drip", "junk", "silent")


def take_over(what: str, path: Path) -> None:
    """Do what a process may do that a hostile image has taken over: write to the parent itself."""
    content = pickle.dumps((True, MakesAFolder(path.parent / "made")))
    written = {
        "pickle": struct.pack("!Q", len(content)) + content,
        "huge": struct.pack("!Q", 2**62),
        "short": struct.pack("!Q", 100) + b"x",
        "drip": struct.pack("!Q", 100),
        "junk": struct.pack("!Q", 3) + b"\xc1\xc1\xc1",
    }.get(what, b"")
    if what == "silent":
        os.closerange(3, 64)
        time.sleep(3600)
    for descriptor in range(3, 64):  # one of them is the socket to the parent
        with contextlib.suppress(OSError):
            os.write(descriptor, written)
            while what == "drip":
                time.sleep(0.05)
                os.write(descriptor, b"[")
    if what == "short":
        os._exit(0)
    time.sleep(3600)
