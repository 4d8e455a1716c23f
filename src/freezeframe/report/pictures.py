"""The gallery's pictures: thumbnails, with a heat map laid over."""

import io
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from PIL import Image

SIDE = 224
QUALITY = 82
OPACITY = 0.62
"""Of the hottest place: bright enough to be found, thin enough that the anatomy stays readable below."""


@dataclass(frozen=True)
class Picture:
    """An image of the gallery: JPEG bytes of the image and of its heat map, or the reason why there is none.

    `reason` is a key of the locale, such as ``"image_gone"``.
    """

    image: bytes | None = None
    heat: bytes | None = None
    reason: str = ""


def thumbnail(prepared: np.ndarray) -> np.ndarray:
    """Scale a prepared image, (H, W) or (H, W, 3) of uint8 or uint16, to (224, 224, 3) uint8."""
    eight_bit = prepared if prepared.dtype == np.uint8 else np.rint(prepared / 257).astype(np.uint8)
    image = Image.fromarray(eight_bit).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def resize(heat: np.ndarray) -> np.ndarray:
    """Scale a heat map, (H, W) float in [0, 1], to (224, 224) float32."""
    return np.asarray(
        Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    )


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map over an image.

    The colours are matplotlib's inferno, which grows evenly in brightness and reads the same with every common
    colour blindness; the usual rainbow does neither.

    Parameters
    ----------
    image : ndarray (224, 224, 3), uint8
    heat : ndarray (224, 224), float, in [0, 1]

    Returns
    -------
    ndarray (224, 224, 3), uint8
    """
    colours = mpl.colormaps["inferno"](0.25 + 0.75 * heat)[..., :3] * 255
    # Colour images are shown grey below, so that the map's colours are the only ones.
    grey = image @ np.array([0.299, 0.587, 0.114])
    weight = OPACITY * heat[..., None]
    return np.rint(grey[..., None] * (1 - weight) + colours * weight).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 as JPEG, without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
