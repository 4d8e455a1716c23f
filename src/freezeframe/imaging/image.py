"""What decoding gives: an image, or the reason why there is none."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# The largest radiographs and mammograms have some 30 million pixels; a crafted file declares billions.
MAX_PIXELS = 100_000_000


class UnreadableImage(Exception):  # noqa: N818 - the name is what a person reads in a list of images
    """An image that was left out, and why.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        A plain sentence without the path, such as ``"it is empty (zero bytes)."``.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image as it is stored, before any preparation.

    Attributes
    ----------
    pixels : ndarray
        (H, W) for grey or (H, W, 3) for colour (RGB), uint8 or uint16, 0 = black.
    attributes : dict
        ``mode`` (the file's own pixel layout), ``bits`` (stored per sample), ``notes`` (what was odd and how
        it was read, in sentences; missing where nothing was), and for DICOM the attributes of
        `freezeframe.imaging.dicom.ATTRIBUTES` that the file has, under their DICOM keywords.
    """

    pixels: np.ndarray
    attributes: dict[str, Any] = field(default_factory=dict)


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse an image with no pixels or more than `MAX_PIXELS`, before memory is taken for it."""
    if height < 1 or width < 1:
        raise UnreadableImage(path, f"it declares {width:,} x {height:,} pixels.")
    if height * width > MAX_PIXELS:
        raise UnreadableImage(
            path,
            f"it declares {width:,} x {height:,} = {height * width / 1e6:,.0f} million pixels; "
            f"the limit is {MAX_PIXELS // 10**6} million. Make it smaller.",
        )


def scale_to_full_range(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Scale unsigned samples of some bits to the whole range of uint8 (up to 8 bits) or uint16.

    Parameters
    ----------
    pixels : ndarray of unsigned integers
        Any shape, values from 0 to ``2**bits - 1``.
    bits : int
        From 1 to 32.
    """
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    if bits == dtype.itemsize * 8:
        return pixels.astype(dtype, copy=False)
    return np.rint(pixels * (np.iinfo(dtype).max / (math.ldexp(1, bits) - 1))).astype(dtype)
