"""The main region of a heat map, as an outline that a SCOORD can hold."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import approximate_polygon, find_contours, label

from freezeframe.pacs.reading.findings import Region

MOST_POINTS, LEAST_POINTS = 60, 4
"""The first and the last are the same: four make a triangle."""
SHARE = 0.5
"""Of the map's maximum that belongs to the region: the half that is usual for outlines of activation maps."""
DECIMALS = 2
"""Of a pixel: what readers and viewers can tell apart, and what 32-bit floats of a SCOORD hold everywhere."""


def main_region(heat: np.ndarray, rows: int, columns: int) -> Region | None:
    """Outline the part of a heat map that speaks most for the class.

    It is the connected part above half of the maximum whose values have the largest sum. Its outer edge is simplified
    until it has at most `MOST_POINTS` points, and never crosses itself; holes are filled.

    Parameters
    ----------
    heat : ndarray of float (H, W)
        In [0, 1], over the whole of the original image.
    rows, columns : int
        Of the original image, in pixels.

    Returns
    -------
    Region or None
        Inside the image; None where the map is 0 everywhere.
    """
    threshold = SHARE * float(heat.max(initial=0.0))
    if not threshold > 0:
        return None
    # Four neighbours, as find_contours joins them: two parts that touch at a corner have two outlines.
    parts = np.asarray(label(heat > threshold, connectivity=1))
    mass = np.bincount(parts.ravel(), weights=heat.ravel())
    mass[0] = 0
    alone = np.where((parts > 0) & (parts != mass.argmax()), 0, heat)
    # The border of zeros closes outlines at the edges of the image, half a pixel outside its outermost centres at most.
    contours = find_contours(np.pad(alone, 1), threshold, fully_connected="low")
    outline = max(contours, key=lambda points: abs(_area(points)))
    # From indices of pixels' centres in the padded map to (column, row) of the original image.
    scale = np.array([columns / heat.shape[1], rows / heat.shape[0]])
    limits = np.array([columns, rows], float)
    for points in _simpler(outline):
        placed = np.round(np.clip((points[:, ::-1] - 0.5) * scale, 0, limits), DECIMALS)
        placed = _without_repeats(placed)
        if LEAST_POINTS <= len(placed) <= MOST_POINTS and abs(_area(placed)) > 0 and is_simple(placed):
            return Region(tuple((float(column), float(row)) for column, row in placed))
    top_left, bottom_right = (outline[:, ::-1].min(0) - 0.5) * scale, (outline[:, ::-1].max(0) - 0.5) * scale
    return _box(np.clip(top_left, 0, limits), np.clip(bottom_right, 0, limits))


def is_simple(points: np.ndarray) -> bool:
    """Tell whether a closed outline (N, 2), whose last point is its first, neither crosses nor touches itself."""
    starts, ends = points[:-1], points[1:]
    count = len(starts)
    for one in range(count):
        for other in range(one + 1, count):
            if other == one + 1 or (one == 0 and other == count - 1):  # they share a point
                shared, before, after = (
                    (ends[one], starts[one], ends[other])
                    if other == one + 1
                    else (starts[one], ends[one], starts[other])
                )
                if _turn(before, shared, after) == 0 and np.dot(before - shared, after - shared) > 0:
                    return False
            elif _meet(starts[one], ends[one], starts[other], ends[other]):
                return False
    return True


def _simpler(outline: np.ndarray) -> Iterator[np.ndarray]:
    """Go through outlines of fewer and fewer points, then that of the convex hull, the same way."""
    tolerances = [0.25 * 2.0**step for step in range(10)]
    for tolerance in tolerances:  # one after the other: the first ones mostly do
        yield approximate_polygon(outline, tolerance)
    try:
        hull = outline[ConvexHull(outline).vertices]
    except QhullError:  # all points on one line
        return
    hull = np.concatenate([hull, hull[:1]])
    yield hull
    for tolerance in tolerances:
        yield approximate_polygon(hull, tolerance)


def _box(top_left: np.ndarray, bottom_right: np.ndarray) -> Region:
    (left, top), (right, bottom) = top_left.tolist(), bottom_right.tolist()
    return Region(((left, top), (right, top), (right, bottom), (left, bottom), (left, top)))


def _without_repeats(points: np.ndarray) -> np.ndarray:
    differs = np.any(points[1:] != points[:-1], axis=1)
    return np.concatenate([points[:1], points[1:][differs]])


def _area(points: np.ndarray) -> float:
    """Return the signed area within a closed outline (N, 2), by the shoelace formula."""
    first, second = points[:, 0], points[:, 1]
    return float(np.dot(first[:-1], second[1:]) - np.dot(first[1:], second[:-1])) / 2


def _turn(one: np.ndarray, two: np.ndarray, three: np.ndarray) -> float:
    """Return which way three points turn: above 0, below 0, or 0 where they are in line."""
    return float(np.sign((two[0] - one[0]) * (three[1] - one[1]) - (two[1] - one[1]) * (three[0] - one[0])))


def _meet(one: np.ndarray, two: np.ndarray, three: np.ndarray, four: np.ndarray) -> bool:
    """Tell whether two line segments have a point in common."""
    if np.any(np.maximum(one, two) < np.minimum(three, four)):
        return False
    if np.any(np.maximum(three, four) < np.minimum(one, two)):
        return False
    return (
        _turn(one, two, three) * _turn(one, two, four) <= 0
        and _turn(three, four, one) * _turn(three, four, two) <= 0
    )
