"""Steps that find the lung fields of a chest radiograph, or the lesion of a dermoscopic image, and crop to them.

Both look for contours on a copy of some 256 pixels a side. What they find is judged by its size, place and form; where
nothing is plausible the image stays whole, and the step says so (`Noted`). They are for cropping, not for measuring:
the contour's inside is not used, only its bounding box and a margin.
"""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from freezeframe.imaging.filters import luminance
from freezeframe.imaging.steps import Noted, Parameters, step

SEARCH_SIDE = 256
THRESHOLDS = tuple(np.linspace(0.15, 0.6, 12))
OPENINGS = (3, 8)
# Share of the best pair's score from which another pair counts too.
GOOD = 0.5
# The limits here were chosen by looking at some fifty radiographs of children and fifty lesions, without their labels.
# Height by width of the box around both lungs: what is flatter has lost the lower half.
UPRIGHT = 0.58
# Black to white being 1: standard deviation of the blurred image, and what a lesion is darker than skin. Noise has
# less; of the children's radiographs the flattest has 0.11.
FLATTEST_CHEST, FAINTEST_LESION = 0.03, 0.03


class CropParameters(Parameters):
    """How much is kept around what was found."""

    margin: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="added on each side, as a share of the box's height and width"
    )


class Box(NamedTuple):
    """A box as shares of the image's sides, each from 0 to 1."""

    top: float
    left: float
    bottom: float
    right: float


@step("crop-lungs", CropParameters, crops=True)
def crop_lungs(pixels: np.ndarray, parameters: CropParameters) -> np.ndarray | Noted:
    """Crop a frontal chest radiograph to its lung fields."""
    box = find_lungs(pixels)
    return Noted(pixels, "lungs-not-found") if box is None else _crop(pixels, box, parameters.margin)


@step("crop-lesion", CropParameters, crops=True)
def crop_lesion(pixels: np.ndarray, parameters: CropParameters) -> np.ndarray | Noted:
    """Crop a dermoscopic image to its lesion, the darkest plausible thing in the middle."""
    box = find_lesion(pixels)
    return Noted(pixels, "lesion-not-found") if box is None else _crop(pixels, box, parameters.margin)


def find_lungs(pixels: np.ndarray) -> Box | None:
    """Find the two lung fields of a frontal chest radiograph.

    At a ladder of thresholds the dark regions that do not touch the image's edge are collected, for the two lungs may
    be unequally dark; of all pairs that could be lungs (one on each side, at one height, upright, filled) the best is
    taken.

    Parameters
    ----------
    pixels : ndarray
        (H, W) or (H, W, 3), uint8 or uint16, air dark.

    Returns
    -------
    Box or None
        Around both; None where no pair is plausible.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.exposure import equalize_adapthist

    small = _small(pixels)
    if small is None or gaussian_filter(small, 4).std() < FLATTEST_CHEST:
        return None  # local equalisation would find regions in noise
    # Local equalisation makes lungs of thin and of dense chests equally dark; the blur closes ribs.
    even = gaussian_filter(equalize_adapthist(small, kernel_size=64, clip_limit=0.01), 2.5)
    # A coarser opening parts lungs from the air beside a thin chest wall; a finer one keeps small lungs.
    steps = product(np.quantile(even, THRESHOLDS), OPENINGS)
    lungs = [lung for threshold, radius in steps for lung in _lung_candidates(even < threshold, radius)]
    pairs = [(_pair_score(left, right, small.shape), left, right) for left, right in product(lungs, lungs)]
    best = max((score for score, _, _ in pairs), default=0.0)
    if best == 0:
        return None
    # Around all good pairs: one threshold finds the apex, another the base, and a box too large costs less than a cut.
    good = [lung for score, left, right in pairs if score >= GOOD * best for lung in (left, right)]
    return _around(good, small.shape)


def find_lesion(pixels: np.ndarray) -> Box | None:
    """Find the lesion of a dermoscopic image.

    Otsu's threshold on the blurred luminance within the microscope's circle; of the dark regions the one that is large,
    filled and near the middle.

    Parameters
    ----------
    pixels : ndarray
        (H, W) or (H, W, 3), uint8 or uint16.

    Returns
    -------
    Box or None
        None where no region is plausible, as where the lesion fills the image.
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops
    from skimage.morphology import disk, opening

    small = _small(pixels)
    if small is None or small.max() == small.min():
        return None
    even = gaussian_filter(small, 3)
    # The black corners around a round view would take the threshold for themselves.
    seen = even > 0.08
    if seen.mean() < 0.2 or even[seen].max() == even[seen].min():
        return None
    dark = (even < threshold_otsu(even[seen])) & seen
    if even[seen & ~dark].mean() - even[dark].mean() < FAINTEST_LESION:
        return None
    dark = binary_fill_holes(opening(dark, disk(4)))
    height, width = small.shape
    best, found = 0.0, None
    for region in regionprops(label(dark)):
        row, column = region.centroid[0] / height, region.centroid[1] / width
        off = max(abs(row - 0.5), abs(column - 0.5))
        share = region.area / small.size
        touched = sum(_touches(region, small.shape))
        if not 0.01 <= share <= 0.7 or off > 0.3 or region.solidity < 0.55 or touched > 2:
            continue
        score = share * (1 - 2 * off)
        if score > best:
            best, found = score, _around([region], small.shape)
    return found


class _Lung(NamedTuple):
    """What may be a lung: box and centre in pixels, area in pixels, and its share of its convex hull."""

    bbox: tuple[int, int, int, int]
    centroid: tuple[float, float]
    area: float
    solidity: float


def _lung_candidates(dark: np.ndarray, radius: int) -> Iterator[_Lung]:
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import label, regionprops
    from skimage.segmentation import clear_border

    # An opening by a disk, at the price of two distance transforms whatever the radius.
    core = np.asarray(distance_transform_edt(dark)) > radius
    regions = label(clear_border(np.asarray(distance_transform_edt(~core)) <= radius))
    for region in regionprops(regions):
        share = region.area / dark.size
        if (
            0.012 <= share <= 0.25
            and region.solidity >= 0.45
            and 0.1 <= region.centroid[0] / dark.shape[0] <= 0.75
        ):
            yield _Lung(region.bbox, region.centroid, region.area, region.solidity)


def _pair_score(left: _Lung, right: _Lung, shape: tuple[int, ...]) -> float:
    """Judge two regions as a pair of lungs: 0 where they can't be, else more for more, and more even, area."""
    height, width = shape
    if not left.centroid[1] < right.centroid[1]:
        return 0.0
    middle = (left.centroid[1] + right.centroid[1]) / 2 / width
    apart = (right.centroid[1] - left.centroid[1]) / width
    uneven = abs(left.centroid[0] - right.centroid[0]) / height
    smaller, larger = sorted((left.area, right.area))
    top, first, bottom, last = _around([left, right], shape)
    upright = (bottom - top) * height / ((last - first) * width)
    tall = min((region.bbox[2] - region.bbox[0]) / height for region in (left, right))
    if not (0.2 <= apart <= 0.65 and 0.35 <= middle <= 0.65 and uneven <= 0.22):
        return 0.0
    if smaller < 0.2 * larger or tall < 0.22 or not 0.47 <= bottom - top <= 0.95 or upright < UPRIGHT:
        return 0.0
    area = (left.area + right.area) / (height * width)
    return area * (smaller / larger) ** 0.5 * min(left.solidity, right.solidity)


def _touches(region: Any, shape: tuple[int, ...]) -> tuple[bool, bool, bool, bool]:
    top, left, bottom, right = region.bbox
    return top == 0, left == 0, bottom == shape[0], right == shape[1]


def _around(regions: list[Any], shape: tuple[int, ...]) -> Box:
    boxes = np.array([region.bbox for region in regions])
    (top, left), (bottom, right) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    return Box(top / shape[0], left / shape[1], bottom / shape[0], right / shape[1])


def _small(pixels: np.ndarray) -> np.ndarray | None:
    """Scale the luminance to a short side of 256, aspect kept; None for what is too small or too long for a body."""
    height, width = pixels.shape[:2]
    if min(height, width) < 32 or max(height, width) > 4 * min(height, width):
        return None
    scale = SEARCH_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    grey = Image.fromarray(luminance(pixels)).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(grey), 0, 1)


def _crop(pixels: np.ndarray, box: Box, margin: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    down, across = margin * (box.bottom - box.top), margin * (box.right - box.left)
    top, bottom = (round(height * min(max(edge, 0), 1)) for edge in (box.top - down, box.bottom + down))
    left, right = (round(width * min(max(edge, 0), 1)) for edge in (box.left - across, box.right + across))
    return np.ascontiguousarray(pixels[top:bottom, left:right])
