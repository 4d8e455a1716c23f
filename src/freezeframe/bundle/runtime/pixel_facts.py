"""What is measured on each image before it is scored: how much of it is border, its contrast, and a thumbnail."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from freezeframe.imaging.borders import find_frame
from freezeframe.imaging.filters import luminance

THUMBNAIL = 32
LOOKED_AT = 256
"""Longest side, in pixels, at which borders and contrast are measured."""
BORDER_TOLERANCE = 0.02
"""How far the values of a border may lie apart, black to white being 1 (as `mask-border` has it)."""


class PixelFacts(NamedTuple):
    """What is measured on one image.

    Attributes
    ----------
    border : float
        Share of the decoded image that is a frame of one value along its edges, in [0, 1].
    contrast : float
        Distance from the 1st to the 99th percentile of its grey values, black to white being 1.
    thumbnail : ndarray of float32 (32, 32)
        Grey, in [0, 1], of the prepared image.
    """

    border: float
    contrast: float
    thumbnail: np.ndarray


def measure(decoded: np.ndarray, prepared: np.ndarray) -> PixelFacts:
    """Measure an image.

    Parameters
    ----------
    decoded, prepared : ndarray
        (H, W) or (H, W, 3), uint8 or uint16, before and after preprocessing.
    """
    height, width = decoded.shape[:2]
    scale = min(1.0, LOOKED_AT / max(height, width))
    grey = _shrunk(decoded, max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = find_frame(grey, BORDER_TOLERANCE)
    low, high = np.quantile(grey, [0.01, 0.99])
    return PixelFacts(1 - grey[rows, columns].size / grey.size, float(high - low), thumbnail(prepared))


def thumbnail(prepared: np.ndarray) -> np.ndarray:
    """Shrink a prepared image, (H, W) or (H, W, 3), uint8 or uint16, to (32, 32) float32 grey in [0, 1].

    Examples
    --------
    >>> thumbnail(np.full((64, 64), 255, np.uint8)).max()
    np.float32(1.0)
    """
    return _shrunk(prepared, THUMBNAIL, THUMBNAIL)


def _shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    grey = luminance(pixels).astype(np.float32)
    # Means of areas: every pixel counts, and noise does not.
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))
