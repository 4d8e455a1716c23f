"""Masking of what is no anatomy: uniform frames around a radiograph, and letters that are burned into it."""

from typing import Annotated

import numpy as np
from pydantic import Field

from freezeframe.imaging.filters import luminance
from freezeframe.imaging.steps import Noted, Parameters, step

# As shares of the short side: no letter is larger, and no stroke of one wider.
LARGEST_MARKER, WIDEST_STROKE, SMALLEST_MARKER = 0.14, 0.045, 0.012
# Letters stand at the side of a film: outside this share of its middle.
MIDDLE = 0.5
MOST = 0.6
BLURRED_EDGE = 0.006


class MaskBorderParameters(Parameters):
    """What is masked."""

    frame: bool = Field(True, description="rows and columns of one value along the edges, of any brightness")
    markers: bool = Field(True, description="small bright marks outside the middle half, such as L and R")
    tolerance: Annotated[float, Field(ge=0, le=0.2)] = Field(
        0.02, description="how far the values of a frame may lie apart, black to white being 1"
    )
    contrast: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="how much brighter than its surroundings a mark is"
    )


@step("mask-border", MaskBorderParameters)
def mask_border(pixels: np.ndarray, parameters: MaskBorderParameters) -> np.ndarray | Noted:
    """Paint uniform frames black, and burned-in marks in the colour of their surroundings.

    Where the frame would be more than 60 % of the image nothing is masked, and the step says so.
    """
    grey = luminance(pixels)
    inside = find_frame(grey, parameters.tolerance) if parameters.frame else (slice(None), slice(None))
    if grey[inside].size < (1 - MOST) * grey.size:
        return Noted(pixels, "border-not-plausible")
    result = pixels.copy()
    if parameters.markers:
        _erase(result[inside], find_markers(grey[inside], parameters.contrast))
    outside = np.ones(grey.shape, bool)
    outside[inside] = False
    result[outside] = 0
    return result


def find_frame(grey: np.ndarray, tolerance: float) -> tuple[slice, slice]:
    """Return rows and columns of an image, (H, W) floats in [0, 1], within its uniform frame.

    From each edge inwards, rows and columns belong to the frame while their values (but for the extreme 2 % at
    either end, for noise) lie within the tolerance of each other and of the outermost row or column. A shutter's
    edge is blurred: where there is a frame, the next 0.6 % of the side (at least 2 pixels) go with it.
    """
    top, bottom = _uniform(grey, tolerance), _uniform(grey[::-1], tolerance)
    rows = slice(top, max(top, grey.shape[0] - bottom))
    body = grey[rows]
    left, right = (_uniform(turned, tolerance) for turned in (body.T, body.T[::-1]))
    return rows, slice(left, max(left, grey.shape[1] - right))


def _uniform(lines: np.ndarray, tolerance: float) -> int:
    """Count the uniform lines at the beginning, and those of their blurred edge."""
    if not lines.size:
        return 0
    count = _leading(lines, tolerance)
    return min(len(lines), count + max(2, round(BLURRED_EDGE * len(lines)))) if count else 0


def _leading(lines: np.ndarray, tolerance: float) -> int:
    """Count the lines at the beginning that are uniform and alike."""
    outermost = np.quantile(lines[:1], [0.5], axis=1)[0, 0]  # as of all lines, to the last bit
    # In growing blocks: most images have no frame, and sorting all their lines would take longer than the rest.
    start, size = 0, 4
    while start < len(lines):
        block = lines[start : start + size]
        low, middle, high = np.quantile(block, [0.02, 0.5, 0.98], axis=1)
        other = (high - low > tolerance) | (np.abs(middle - outermost) > tolerance)
        if other.any():
            return start + int(other.argmax())
        start, size = start + size, 2 * size
    return len(lines)


def find_markers(grey: np.ndarray, contrast: float) -> np.ndarray:
    """Find letters: small, bright, of thin strokes, outside the middle half of the width or in the top tenth.

    Parameters
    ----------
    grey : ndarray of floats
        (H, W) in [0, 1].
    contrast : float
        How much brighter than its surroundings a mark is.

    Returns
    -------
    ndarray of bool
        (H, W), true on marks and their rim.
    """
    from scipy.ndimage import grey_opening
    from skimage.measure import label, regionprops

    side = min(grey.shape)
    stroke = 2 * max(1, round(WIDEST_STROKE * side / 2)) + 1
    marks = np.zeros(grey.shape, bool)
    if side < 32:
        return marks
    # An opening takes away whatever is narrower than the widest stroke; the difference is what it took.
    strokes = grey - grey_opening(grey, size=(stroke, stroke)) > contrast
    for region in regionprops(label(strokes, connectivity=2)):
        tall, wide = region.bbox[2] - region.bbox[0], region.bbox[3] - region.bbox[1]
        row, column = region.centroid[0] / grey.shape[0], region.centroid[1] / grey.shape[1]
        small = SMALLEST_MARKER * side <= max(tall, wide) <= LARGEST_MARKER * side
        # A rib or a clavicle is longer; a catheter's piece is thinner than any letter is in both directions.
        if (
            small
            and min(tall, wide) >= 0.25 * max(tall, wide)
            and (abs(column - 0.5) > MIDDLE / 2 or row < 0.1)
        ):
            _add_isolated(marks, region.coords, grey, contrast, rim=max(1, round(0.008 * side)))
    return marks


def _add_isolated(marks: np.ndarray, places: np.ndarray, grey: np.ndarray, contrast: float, rim: int) -> None:
    """Add a mark and its rim, unless something bright goes on beyond it: that is a rib or a device."""
    from scipy.ndimage import binary_dilation

    top, left = np.maximum(places.min(0) - 2 * rim - 1, 0)
    bottom, right = places.max(0) + 2 * rim + 2
    window = (slice(top, bottom), slice(left, right))
    mark = np.zeros(grey[window].shape, bool)
    mark[tuple((places - (top, left)).T)] = True
    block = np.ones((3, 3), bool)
    mark = np.asarray(binary_dilation(mark, block, iterations=rim), bool)
    around = np.asarray(binary_dilation(mark, block, iterations=rim + 1)) & ~mark
    ring = grey[window][around]
    if ring.size and np.quantile(ring, 0.9) - np.median(ring) < contrast / 2:
        marks[window] |= mark


def _erase(pixels: np.ndarray, marks: np.ndarray) -> None:
    """Paint marks in the median of the ring around each, in place."""
    from scipy.ndimage import binary_dilation
    from skimage.measure import label, regionprops

    for region in regionprops(label(marks, connectivity=2)):
        top, left, bottom, right = region.bbox
        reach = 3  # pixels: the ring lies beyond the rim of the mark, so that it is the film itself
        window = (
            slice(max(0, top - reach), bottom + reach),
            slice(max(0, left - reach), right + reach),
        )
        ring = np.asarray(binary_dilation(marks[window], iterations=reach)) & ~marks[window]
        if ring.any():
            values = np.median(pixels[window][ring], axis=0)
            pixels[top:bottom, left:right][region.image] = np.rint(values).astype(pixels.dtype)
