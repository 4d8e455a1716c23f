"""Steps that change the grey values and keep the size: equalisation, sharpening, smoothing, noise reduction.

Lengths are in pixels of the image as the step meets it: before a resize of the file, after it of the network's input.
scikit-image and SciPy are imported where they are used: a recipe without these steps does not wait for them.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from freezeframe.imaging.steps import Parameters, step


class EqualiseParameters(Parameters):
    """How strongly, and how locally, contrast is equalised."""

    clip: Annotated[float, Field(gt=0, le=1)] = Field(
        0.01,
        description="largest share of a tile's pixels in one of 256 grey values: 1 equalises without a limit",
    )
    tiles: Annotated[int, Field(ge=1, le=64)] = Field(8, description="tiles along each side")


class SharpenParameters(Parameters):
    """Which edges are enhanced, and how much."""

    radius: Annotated[float, Field(gt=0, le=100)] = Field(
        2.0, description="standard deviation of the Gaussian that is taken away, in pixels"
    )
    amount: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="factor on the difference that is added"
    )


class SmoothParameters(Parameters):
    """How an image is smoothed."""

    mode: Literal["gaussian", "median", "bilateral"] = Field(
        "gaussian", description="gaussian; median: removes specks; bilateral: keeps edges"
    )
    radius: Annotated[float, Field(gt=0, le=20)] = Field(
        1.0,
        description="in pixels: standard deviation of the Gaussian, also of the bilateral one; the median's window is "
        "2 x radius + 1",
    )
    tolerance: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="bilateral: difference of values, black to white being 1, that counts as an edge"
    )


class DenoiseParameters(Parameters):
    """Non-local means: which patches are compared, and how alike they have to be."""

    strength: Annotated[float, Field(gt=0, le=10)] = Field(
        0.8,
        description="times the image's own noise, which is estimated: how different averaged patches may be",
    )
    patch: Annotated[int, Field(ge=3, le=15)] = Field(
        5, description="side of the compared patches, in pixels"
    )
    distance: Annotated[int, Field(ge=1, le=15)] = Field(
        6, description="how far away patches are looked for, in pixels"
    )


@step("equalise", EqualiseParameters)
def equalise(pixels: np.ndarray, parameters: EqualiseParameters) -> np.ndarray:
    """Equalise contrast locally with a limit (CLAHE, Zuiderveld 1994); of colour only the lightness L* of CIELAB.

    The darkest and the brightest value are stretched to black and white first, whatever the limit. An image of one grey
    value, or with a side below 2 pixels, stays as it is.
    """
    from skimage.exposure import equalize_adapthist

    if min(pixels.shape[:2]) < 2:
        return pixels

    def clahe(values: np.ndarray) -> np.ndarray:
        if values.max() == values.min():
            return values
        kernel = [max(1, round(side / parameters.tiles)) for side in values.shape]
        return equalize_adapthist(values, kernel_size=kernel, clip_limit=parameters.clip)

    return _on_lightness(pixels, clahe)


@step("sharpen", SharpenParameters)
def sharpen(pixels: np.ndarray, parameters: SharpenParameters) -> np.ndarray:
    """Enhance edges by unsharp masking: ``image + amount * (image - blurred)``, cut off at black and white."""
    from skimage.filters import unsharp_mask

    return _restored(
        unsharp_mask(
            _unit(pixels),
            radius=parameters.radius,
            amount=parameters.amount,
            channel_axis=_channel_axis(pixels),
        ),
        pixels.dtype,
    )


@step("smooth", SmoothParameters)
def smooth(pixels: np.ndarray, parameters: SmoothParameters) -> np.ndarray:
    """Smooth by a Gaussian, a median or a bilateral filter (Tomasi and Manduchi 1998).

    An image with a side below 2 pixels stays as it is.
    """
    if min(pixels.shape[:2]) < 2:
        return pixels
    if parameters.mode == "median":
        from scipy.ndimage import median_filter

        window = 2 * round(parameters.radius) + 1
        return median_filter(pixels, size=(window, window, 1)[: pixels.ndim], mode="nearest")
    if parameters.mode == "bilateral":
        from skimage.restoration import denoise_bilateral

        # Two standard deviations: a wider window costs more than it changes.
        window = 2 * int(np.ceil(2 * parameters.radius)) + 1
        values = _unit(pixels)
        if values.max() == values.min():
            return pixels
        return _restored(
            denoise_bilateral(
                values,
                win_size=window,
                sigma_color=parameters.tolerance,
                sigma_spatial=parameters.radius,
                mode="edge",
                channel_axis=_channel_axis(pixels),
            ),
            pixels.dtype,
        )
    from scipy.ndimage import gaussian_filter

    spread = (parameters.radius, parameters.radius, 0)[: pixels.ndim]
    return _restored(gaussian_filter(_unit(pixels), spread, mode="nearest"), pixels.dtype)


@step("denoise", DenoiseParameters)
def denoise(pixels: np.ndarray, parameters: DenoiseParameters) -> np.ndarray:
    """Reduce noise by non-local means (Buades et al. 2005; fast form of Darbon et al. 2008).

    The noise is estimated on each image. An image without noise, or smaller than a patch, stays as it is.
    """
    from skimage.restoration import denoise_nl_means

    values = _unit(pixels)
    if min(pixels.shape[:2]) < parameters.patch:
        return pixels
    deviation = estimate_noise(values)
    if deviation == 0:
        return pixels
    return _restored(
        denoise_nl_means(
            values,
            patch_size=parameters.patch,
            patch_distance=parameters.distance,
            h=parameters.strength * deviation,
            sigma=deviation,
            fast_mode=True,
            channel_axis=_channel_axis(pixels),
        ),
        pixels.dtype,
    )


def estimate_noise(values: np.ndarray) -> float:
    """Estimate the standard deviation of Gaussian noise in an image; the mean over the channels.

    Immerkær, Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996) 300-302: the mask is a
    difference of two Laplacians, which no straight edge and no ramp answers.

    Parameters
    ----------
    values : ndarray of floats
        (H, W) or (H, W, C), each side at least 3.

    Returns
    -------
    float
        In the image's own unit.
    """
    from scipy.ndimage import convolve

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    answer = convolve(values, mask[..., None] if values.ndim == 3 else mask)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * np.abs(answer).mean() / 6)


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance (ITU-R BT.601) of grey or colour pixels as (H, W) float32 in [0, 1]."""
    values = _unit(pixels)
    return values if values.ndim == 2 else values @ np.array([0.299, 0.587, 0.114], np.float32)


def _on_lightness(pixels: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if pixels.ndim == 2:
        return _restored(function(_unit(pixels)), pixels.dtype)
    from skimage.color import lab2rgb, rgb2lab

    lab = rgb2lab(_unit(pixels))
    lab[..., 0] = 100 * function(np.clip(lab[..., 0] / 100, 0, 1))
    # Some of the new colours are brighter than a screen's: they are cut off, and that is meant.
    return _restored(lab2rgb(lab), pixels.dtype)


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def _restored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    greatest = np.iinfo(dtype).max
    return np.clip(np.rint(values * greatest), 0, greatest).astype(dtype)


def _channel_axis(pixels: np.ndarray) -> int | None:
    return 2 if pixels.ndim == 3 else None
