"""Hair removal for dermoscopy, in the style of DullRazor (Lee et al., Comput Biol Med 27 (1997) 533-543)."""

from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from freezeframe.imaging.filters import luminance
from freezeframe.imaging.steps import Noted, Parameters, step

# A closing has to bridge the thickest hair: some 3 % of the side in dermoscopic images.
SEARCH_SIDE = 448
BRIDGE = 0.045
# As shares of the short side: how long a piece of hair is straight, and how long a hair is at least.
STRAIGHT, SHORTEST = 0.07, 0.12
SLENDER, LOOSE = 0.2, 0.35
MOST = 0.5
# Weight of the known pixels below which a mean would rest on a few far ones.
ENOUGH = 0.05


class RemoveHairParameters(Parameters):
    """What counts as hair."""

    contrast: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.06, description="how much darker than its surroundings hair is, black to white being 1"
    )


@step("remove-hair", RemoveHairParameters)
def remove_hair(pixels: np.ndarray, parameters: RemoveHairParameters) -> np.ndarray | Noted:
    """Find dark hairs by a black-hat transform and fill them from their surroundings.

    Filled is by normalised convolution (Knutsson and Westin 1993): each hair pixel becomes the weighted mean of the
    pixels around it that are none. Where more than half of the image would be hair it is something else: nothing is
    filled, and the step says so.
    """
    hair = find_hair(pixels, parameters.contrast)
    if not hair.any():
        return pixels
    if hair.mean() > MOST:
        return Noted(pixels, "hair-not-plausible")
    return fill(pixels, hair)


def fill(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill masked pixels by the weighted mean of those around them that are not masked.

    The Gaussian of the weights starts at 1.2 % of the side and doubles for what lies too deep inside the mask.

    Parameters
    ----------
    pixels : ndarray
        (H, W) or (H, W, 3), uint8 or uint16.
    mask : ndarray of bool
        (H, W), at least one pixel of it false.

    Returns
    -------
    ndarray
        Of the same shape and dtype; what is not masked is unchanged.
    """
    from scipy.ndimage import gaussian_filter

    known = (~mask).astype(np.float32)
    planes = np.atleast_3d(pixels).astype(np.float32)
    result = np.atleast_3d(pixels).copy()
    open_places, spread = mask.copy(), max(1.0, 0.012 * min(mask.shape))
    while open_places.any():
        weight = gaussian_filter(known, spread)
        now = open_places & (weight > ENOUGH)
        for channel in range(planes.shape[2]):
            mean = gaussian_filter(planes[..., channel] * known, spread)[now] / weight[now]
            result[now, channel] = np.clip(np.rint(mean), 0, np.iinfo(pixels.dtype).max)
        open_places &= ~now
        spread *= 2
    return result.reshape(pixels.shape)


def find_hair(pixels: np.ndarray, contrast: float) -> np.ndarray:
    """Find thin, long, dark structures.

    Parameters
    ----------
    pixels : ndarray
        (H, W) or (H, W, 3), uint8 or uint16.
    contrast : float
        How much darker than its surroundings hair is, black to white being 1.

    Returns
    -------
    ndarray of bool
        (H, W), true on hair and its rim.
    """
    from scipy.ndimage import binary_dilation, grey_closing
    from skimage.measure import label, regionprops

    grey = luminance(pixels)
    scale = min(1.0, SEARCH_SIDE / min(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)) if scale < 1 else grey
    side = min(small.shape)
    # What stays dark in some direction is long; dots and the meshes of a pigment network are lifted in each.
    long = np.minimum.reduce([grey_closing(small, footprint=line) for line in _lines(STRAIGHT * side)])
    bridge = 2 * max(1, round(BRIDGE * side / 2)) + 1
    dark = grey_closing(long, size=(bridge, bridge)) - long > contrast
    hair = np.zeros(small.shape, bool)
    for region in regionprops(label(dark, connectivity=2)):
        rows, columns = region.bbox[2] - region.bbox[0], region.bbox[3] - region.bbox[1]
        long_enough = np.hypot(rows, columns) >= SHORTEST * side and _width(region.image) <= 0.75 * bridge
        # One hair is slender; a bow or a tangle leaves most of its hull free. A pigment network does neither.
        slender = region.axis_minor_length <= SLENDER * region.axis_major_length
        if long_enough and (slender or region.solidity <= LOOSE):
            hair[region.slice] |= region.image
    hair = binary_dilation(hair, np.ones((3, 3), bool), iterations=max(1, round(side / 224)))
    if scale < 1:
        large = Image.fromarray(hair.astype(np.uint8)).resize(grey.shape[::-1], Image.Resampling.NEAREST)
        hair = np.asarray(large).astype(bool)
    return hair


def _lines(length: float) -> list[np.ndarray]:
    """Return digital lines of a length in pixels as masks, in 24 directions: half a pixel off at most."""
    from skimage.draw import line

    reach = max(1, round(length / 2))
    masks = []
    for angle in np.arange(24) * np.pi / 24:
        down, across = round(reach * np.sin(angle)), round(reach * np.cos(angle))
        mask = np.zeros((2 * abs(down) + 1, 2 * abs(across) + 1), bool)
        mask[line(abs(down) - down, abs(across) - across, abs(down) + down, abs(across) + across)] = True
        masks.append(mask)
    return masks


def _width(mask: np.ndarray) -> float:
    """Return the typical width of a structure: four times the mean distance to its rim."""
    from scipy.ndimage import distance_transform_edt

    distances = np.asarray(distance_transform_edt(np.pad(mask, 1)))
    return 4 * float(distances[distances > 0].mean()) - 2
