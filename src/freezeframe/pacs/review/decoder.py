"""Pixels for the page, decoded in processes of their own: a file that crashes its decoder costs only its own answer."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe.imaging.image import MAX_PIXELS, UnreadableImage
from freezeframe.imaging.worker_process import Reference
from freezeframe.pacs.review.decoder_process import Answer, receive, receive_header, send

MEMORY_LIMIT = 3 * 1024**3
"""Bytes of address space of one process; the largest image that is taken needs some 2 GB."""
_START_SECONDS, _SECONDS = 120.0, 60.0
_DESCRIBE = -1


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes
    ----------
    rows, columns : int
        In pixels.
    channels : int
        1 for grey, 3 for RGB.
    bits : int
        8 or 16.
    content : bytes
        Row by row, little-endian; 0 is black.
    """

    rows: int
    columns: int
    channels: int
    bits: int
    content: bytes


@dataclass(frozen=True)
class Description:
    """What a file's header says of its image.

    Attributes
    ----------
    rows, columns, frames : int
        Of the image.
    pixel_spacing : (float, float) or None
        Millimetres between rows and between columns, at the detector where the patient's are not known.
    """

    rows: int
    columns: int
    frames: int
    pixel_spacing: tuple[float, float] | None


class Decoder:
    """A few processes that decode, and a memory of what they decoded last.

    Parameters
    ----------
    processes : int
        At most so many, which start when they are needed.
    cache_bytes : int
        Of decoded frames that are remembered.
    """

    def __init__(self, processes: int = 2, cache_bytes: int = 256 * 1024**2) -> None:
        # A process dies with the thread that started it: threads of this pool stay until it is closed.
        self._pool = ThreadPoolExecutor(processes, "decoder")
        self._local = threading.local()
        self._processes: set[_Process] = set()
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[Path, int], Frame] = OrderedDict()
        self._descriptions: OrderedDict[Path, Description] = OrderedDict()
        self._bytes, self._most = 0, cache_bytes

    def frame(self, path: Path, number: int) -> Frame:
        """Decode a frame as `imaging.decode` does, and as the bundle saw it.

        Raises
        ------
        UnreadableImage
            With the reason.
        """
        key = (path, number)
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        frame = self._pool.submit(self._ask, path, number).result()
        with self._lock:
            if key not in self._frames and len(frame.content) <= self._most // 2:
                self._frames[key] = frame
                self._bytes += len(frame.content)
                while self._bytes > self._most:
                    self._bytes -= len(self._frames.popitem(last=False)[1].content)
        return frame

    def describe(self, path: Path) -> Description:
        """Read a file's header.

        Raises
        ------
        UnreadableImage
            If it is no image.
        """
        with self._lock:
            if path in self._descriptions:
                return self._descriptions[path]
        description = self._pool.submit(self._ask, path, _DESCRIBE).result()
        with self._lock:
            self._descriptions[path] = description
            while len(self._descriptions) > 10_000:
                self._descriptions.popitem(last=False)
        return description

    def close(self) -> None:
        """End the processes; nothing can be decoded any more."""
        with self._lock:
            processes = list(self._processes)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()

    def _ask(self, path: Path, number: int) -> Any:
        process: _Process | None = getattr(self._local, "process", None)
        for fresh in (False, True):  # an earlier image may have damaged the process
            if process is None:
                process = self._local.process = _Process()
                with self._lock:
                    self._processes.add(process)
            try:
                return process.ask(path, number)
            except (EOFError, OSError) as error:
                with self._lock:
                    self._processes.discard(process)
                process.end()
                process = self._local.process = None
                if fresh or isinstance(error, TimeoutError):
                    reason = (
                        "it takes too long" if isinstance(error, TimeoutError) else "it crashes its decoder"
                    )
                    raise UnreadableImage(path, f"{reason}.") from error
        raise AssertionError("the second attempt returns or raises")


class _Process:
    """One process of `decoder_process` that answers `read`."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        search = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        program = (
            "from freezeframe.pacs.review.decoder_process import serve; "
            f"serve({theirs.fileno()}, {os.getpid()}, {MEMORY_LIMIT}, '{read.__module__}:{read.__name__}')"
        )
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **single, "PYTHONPATH": search},
            )
        try:
            receive_header(self._connection, time.monotonic() + _START_SECONDS)
        except (EOFError, OSError) as error:
            self.end()
            raise RuntimeError("a decoding process could not be started") from error

    def ask(self, path: Path, number: int) -> Frame | Description:
        deadline = time.monotonic() + _SECONDS
        self._connection.settimeout(_SECONDS)
        send(self._connection, {"path": str(path), "frame": number})
        header = receive_header(self._connection, deadline)
        reason = header.get("reason")
        if isinstance(reason, str):
            raise UnreadableImage(path, reason)
        # A process that an image has taken over may say anything.
        rows, columns = _whole(header, "rows", MAX_PIXELS), _whole(header, "columns", MAX_PIXELS)
        if number == _DESCRIBE:
            frames = _whole(header, "frames", 2**31 - 1)
            return Description(rows, columns, frames, _spacing(header.get("pixel_spacing")))
        channels, bits = _whole(header, "channels", 3), _whole(header, "bits", 16)
        if not 0 < rows * columns <= MAX_PIXELS or channels not in (1, 3) or bits not in (8, 16):
            raise ConnectionError("there is no such image")
        size = rows * columns * channels * bits // 8
        return Frame(rows, columns, channels, bits, bytes(receive(self._connection, size, deadline)))

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        self._connection.close()


def _whole(header: dict[str, Any], name: str, most: int) -> int:
    value = header.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise ConnectionError(f"{name} can't be right")
    return value


def _spacing(values: Any) -> tuple[float, float] | None:
    """Return two distances that can be, in millimetres; None for anything else."""
    if not isinstance(values, list) or len(values) != 2:
        return None
    if not all(type(value) is float and 0 < value < 1000 for value in values):
        return None
    return (values[0], values[1])


def read(reference: Reference) -> Answer:
    """Decode a frame, or describe the file where the frame is -1; runs in the process."""
    from freezeframe.imaging import decode

    if reference.frame == _DESCRIBE:
        return _describe(reference.path), b""
    pixels = decode.decode(reference.path, reference.frame).pixels
    bits = 8 * pixels.dtype.itemsize
    header = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "channels": 1 if pixels.ndim == 2 else 3,
        "bits": bits,
    }
    return header, np.ascontiguousarray(pixels, dtype=f"<u{bits // 8}").tobytes()


def _describe(path: Path) -> dict[str, Any]:
    from freezeframe.imaging import dicom
    from freezeframe.imaging.header import opened

    frames = dicom.count_frames(path)
    with opened(path) as file:
        header = file.header
        spacing = None
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            with contextlib.suppress(Exception):  # broken spacing is no reason to show nothing
                spacing = _spacing([float(value) for value in header[keyword].value])
                if spacing is not None:
                    break
        return {
            "rows": int(header.Rows),
            "columns": int(header.Columns),
            "frames": frames,
            "pixel_spacing": spacing,
        }
