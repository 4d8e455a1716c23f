"""Pixels for the page, decoded in processes of their own: a file that crashes its decoder costs only its own answer."""

import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from freezeframe.imaging.image import MAX_PIXELS, UnreadableImage
from freezeframe.imaging.messages import MOST_HEADER
from freezeframe.imaging.worker_process import Reference
from freezeframe.imaging.workers import Pool

MEMORY_LIMIT = 3 * 1024**3
"""Bytes of address space of one process; the largest image that is taken needs some 2 GB."""
_ANSWER_LIMIT = 6 * MAX_PIXELS + 2 * MOST_HEADER
_SECONDS = 60.0
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

    def __post_init__(self) -> None:
        """Refuse what no header says, as a process that an image has taken over may."""
        counts = (self.rows, self.columns, self.frames)
        if not all(0 <= count < 2**31 for count in counts) or not _can_be(self.pixel_spacing or (1.0, 1.0)):
            raise ValueError("no image has such a header")


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
        self._pools = [_pool() for _ in range(processes)]
        self._idle: queue.LifoQueue[Pool] = (
            queue.LifoQueue()
        )  # the first is asked again before a second starts
        for pool in reversed(self._pools):
            self._idle.put(pool)
        self._lock, self._closed = threading.Lock(), False
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
        frame = _frame(path, self._ask(path, number)[1])
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
        return self._ask(path, _DESCRIBE)[0]

    def close(self) -> None:
        """End the processes; nothing can be decoded any more."""
        with self._lock:
            self._closed, pools = True, list(self._pools)
        for pool in pools:
            pool.close()

    def _ask(self, path: Path, number: int) -> "tuple[Description, np.ndarray | None]":
        pool = self._idle.get()
        try:
            ((_, outcome),) = pool.map([Reference(path, number)])  # type: ignore[list-item]
        except Exception:  # its process could not be started, perhaps for want of memory
            pool = self._replaced(pool)
            raise
        finally:
            self._idle.put(pool)
        if isinstance(outcome, UnreadableImage):
            raise outcome
        with self._lock:
            self._descriptions[path] = outcome[0]
            while len(self._descriptions) > 10_000:
                self._descriptions.popitem(last=False)
        return outcome

    def _replaced(self, pool: Pool) -> Pool:
        """Return a pool for one that has closed itself, unless all are closed."""
        with self._lock:
            if self._closed:
                return pool
            fresh = self._pools[self._pools.index(pool)] = _pool()
            return fresh


def _pool() -> Pool:
    return Pool(read, 1, _SECONDS, MEMORY_LIMIT, _ANSWER_LIMIT)


def _frame(path: Path, pixels: np.ndarray | None) -> Frame:
    """Take pixels only where they are an image: a process that an image has taken over may say anything."""
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16) or not _is_picture(pixels.shape):
        raise UnreadableImage(path, "its decoder gave no image.")
    channels, bits = 3 if pixels.ndim == 3 else 1, 8 * pixels.dtype.itemsize
    content = pixels.astype(f"<u{bits // 8}").tobytes()
    return Frame(pixels.shape[0], pixels.shape[1], channels, bits, content)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or shape[2:] == (3,)


def read(reference: Reference) -> tuple[Description, np.ndarray | None]:
    """Read a file's header and decode a frame, none where its number is -1; runs in the process."""
    from freezeframe.imaging.decode import decode

    if reference.frame == _DESCRIBE:
        return _describe(reference.path), None
    pixels = decode(reference.path, reference.frame).pixels
    return _describe(reference.path), pixels


def _describe(path: Path) -> Description:
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
        return Description(int(header.Rows), int(header.Columns), frames, spacing)


def _spacing(values: list[float]) -> tuple[float, float] | None:
    """Return two distances that can be, in millimetres; None for anything else."""
    return (values[0], values[1]) if len(values) == 2 and _can_be(values) else None


def _can_be(distances: Iterable[float]) -> bool:
    return all(0 < distance < 1000 for distance in distances)  # false for NaN, too
