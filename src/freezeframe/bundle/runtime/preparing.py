"""What a worker process does with one image: decode it once, prepare it for every member, and measure it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from freezeframe.bundle.runtime.pixel_facts import PixelFacts, measure
from freezeframe.imaging.decode import decode
from freezeframe.imaging.preprocess import Preprocessing, Reference


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image, ready for a bundle.

    Attributes
    ----------
    images : tuple of ndarray
        For each distinct preprocessing (H, W) grey or (H, W, 3) colour, uint8 or uint16.
    size : (int, int)
        Height and width of the decoded image.
    attributes : dict
        As of `DecodedImage`: the file's mode and bits, and what a DICOM header says.
    notes : tuple of str
        Keys of `steps.NOTES`: steps that could not do what they are for.
    pixels : PixelFacts
        What the screening looks at; the thumbnail is of the first prepared image.
    """

    images: tuple[np.ndarray, ...]
    size: tuple[int, int]
    attributes: dict[str, Any]
    notes: tuple[str, ...]
    pixels: PixelFacts


def distinct(preprocessings: Sequence[Preprocessing]) -> tuple[Preprocessing, ...]:
    """Return one preprocessing for each kind of prepared pixels, in the order of their first occurrence.

    Members that differ in mean and standard deviation alone share the prepared image.
    """
    first: dict[str, Preprocessing] = {}
    for entry in preprocessings:
        first.setdefault(entry.key(), entry)
    return tuple(first.values())


def prepare(reference: Reference, preprocessings: tuple[Preprocessing, ...]) -> Prepared:
    """Decode one image and prepare it, as ``functools.partial(prepare, preprocessings=...)`` for `map_images`.

    Parameters
    ----------
    reference : Reference
        Path and frame of the image.
    preprocessings : tuple of Preprocessing
        Distinct ones: `Predictor.preprocessings`.

    Raises
    ------
    UnreadableImage
        With the reason.
    """
    decoded = decode(reference.path, reference.frame)
    channels = 1 if decoded.pixels.ndim == 2 else 3
    results = [entry.prepare_with_notes(decoded, channels, decoded.pixels.dtype) for entry in preprocessings]
    images = tuple(pixels for pixels, _ in results)
    notes = dict.fromkeys(note for _, found in results for note in found)
    return Prepared(
        images, decoded.pixels.shape[:2], decoded.attributes, tuple(notes), measure(decoded.pixels, images[0])
    )
