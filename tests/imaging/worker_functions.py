"""Functions that worker processes import in the tests of `freezeframe.imaging.workers`."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.imaging.image import UnreadableImage


def behave(reference: Any) -> Any:
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
        return np.ones(8 * 1024**3, np.uint8)
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
