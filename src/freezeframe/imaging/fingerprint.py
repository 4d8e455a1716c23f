"""What is measured of each image before training: a thumbnail to find duplicates, numbers to find shortcuts."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from freezeframe.data.manifest import ImageReference
from freezeframe.imaging.decode import decode
from freezeframe.imaging.image import DecodedImage

THUMBNAIL = 96
BORDER = 0.05


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of one image.

    Attributes
    ----------
    pixel_hash : str
        Hash of the decoded pixels, their shape and type; equal for a picture saved twice without loss.
    thumbnail : ndarray
        (96, 96) uint8 luminance, the aspect ratio not kept, stretched to the image's own range.
    mode : str
        The file's mode, such as ``L``, ``RGB``, ``I;16``, or a DICOM's photometric interpretation.
    bits : int
        Bits a channel that the file declares.
    channels : int
        1 or 3.
    width, height : int
        In pixels, as displayed.
    file_bytes : int
        Size of the file.
    brightness, contrast : float
        Mean and standard deviation of the luminance, 0..1 of the type's range.
    border_brightness : float
        Mean luminance of the outer 5 % on each side, 0..1.
    sharpness : float
        Mean absolute difference of neighbouring pixels, 0..1.
    colourfulness : float
        Of Hasler and Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007 (2003), on 0..1.
    """

    pixel_hash: str
    thumbnail: np.ndarray
    mode: str
    bits: int
    channels: int
    width: int
    height: int
    file_bytes: int
    brightness: float
    contrast: float
    border_brightness: float
    sharpness: float
    colourfulness: float


def fingerprint(reference: ImageReference) -> Fingerprint:
    """Decode one image and measure it.

    Parameters
    ----------
    reference : ImageReference
        Path and frame of the image.

    Raises
    ------
    UnreadableImage
        If it can't be decoded.
    """
    return measure(decode(reference.path, reference.frame), reference.path.stat().st_size)


def measure(image: DecodedImage, file_bytes: int) -> Fingerprint:
    """Measure a decoded image.

    Parameters
    ----------
    image : DecodedImage
        Its pixels are (H, W) or (H, W, 3), uint8 or uint16.
    file_bytes : int
        Size of its file.
    """
    pixels = image.pixels
    height, width = pixels.shape[:2]
    scale = np.float32(1 / np.iinfo(pixels.dtype).max)
    luminance = _luminance(pixels) * scale
    return Fingerprint(
        pixel_hash=_hash(pixels),
        thumbnail=_thumbnail(luminance),
        mode=str(image.attributes.get("mode", "L" if pixels.ndim == 2 else "RGB")),
        bits=int(image.attributes.get("bits", pixels.dtype.itemsize * 8)),
        channels=1 if pixels.ndim == 2 else 3,
        width=width,
        height=height,
        file_bytes=file_bytes,
        brightness=float(luminance.mean()),
        contrast=float(luminance.std()),
        border_brightness=_border(luminance),
        sharpness=_sharpness(luminance),
        colourfulness=_colourfulness(pixels, float(scale)) if pixels.ndim == 3 else 0.0,
    )


def _luminance(pixels: np.ndarray) -> np.ndarray:
    # ITU-R BT.601, as Pillow's conversion to "L".
    return (
        pixels.astype(np.float32)
        if pixels.ndim == 2
        else pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    )


def _hash(pixels: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _thumbnail(luminance: np.ndarray) -> np.ndarray:
    small = Image.fromarray(luminance).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    values = np.asarray(small)
    low, high = float(luminance.min()), float(luminance.max())
    # Stretched, so that 12 bits in a 16-bit file keep their detail; a nearly flat image is not blown up to noise.
    return np.clip((values - low) * (255 / max(high - low, 0.05)), 0, 255).astype(np.uint8)


def _border(luminance: np.ndarray) -> float:
    height, width = luminance.shape
    rows, columns = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    inner = luminance[rows : height - rows, columns : width - columns]
    count = luminance.size - inner.size
    return float((luminance.sum(dtype=np.float64) - inner.sum(dtype=np.float64)) / count)


def _sharpness(luminance: np.ndarray) -> float:
    steps = [np.abs(np.diff(luminance, axis=axis)) for axis in (0, 1) if luminance.shape[axis] > 1]
    return float(np.mean([step.mean() for step in steps])) if steps else 0.0


def _colourfulness(pixels: np.ndarray, scale: float) -> float:
    red, green, blue = (pixels[..., channel].astype(np.float32) * scale for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
