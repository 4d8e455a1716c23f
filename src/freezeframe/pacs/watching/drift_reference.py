"""What a bundle keeps of its validation images that drift can be judged against."""

import io
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import UsedBundle

PARITY = "parity.parquet"
FLAGGED = 0.01
"""Share of the validation images beyond distance 1 (`bundle.reference.FLAGGED`)."""
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Validation:
    """Of the validation images of a bundle; None where it keeps nothing of the kind.

    Attributes
    ----------
    scores : ndarray of float64 (N,) or None
        Probabilities of the operating point's positive class.
    positives : (int, int) or None
        How many of how many were found positive.
    unlike : (int, int) or None
        How many of how many were farther than 1 from the training images.
    """

    scores: np.ndarray | None = None
    positives: tuple[int, int] | None = None
    unlike: tuple[int, int] | None = None


def validation_of(used: UsedBundle) -> Validation:
    """Read what a bundle keeps; nothing, and a line in the log, where it can't be opened."""
    try:
        return _read(used.path, used.operating_point)
    except (FreezeframeError, OSError, ValueError, KeyError):
        _LOGGER.warning("Drift: the bundle's validation can't be read.", extra={"bundle": used.name})
        return Validation()


@lru_cache(maxsize=8)
def _read(path: Path, operating_point: str | None) -> Validation:
    bundle = open_bundle(path)
    points = bundle.contents.operating_points
    chosen = [point for point in points if operating_point in (None, point.name)]
    unlike = _unlike(bundle)
    if not chosen or PARITY not in bundle.checksums:
        return Validation(unlike=unlike)
    threshold = chosen[0].threshold()
    table = pd.read_parquet(io.BytesIO(bundle.read(PARITY)))
    scores = table[f"bundle_{threshold.positive_class}"].to_numpy(np.float64)
    return Validation(scores, (int((scores >= threshold.threshold).sum()), len(scores)), unlike)


def _unlike(bundle: Bundle) -> tuple[int, int] | None:
    """Return how many validation images set the threshold of the distance: a share of few is itself uncertain."""
    images = int(bundle.contents.parity.get("images", 0))
    if not images or all(member.reference is None for member in bundle.contents.members):
        return None
    return round(FLAGGED * images), images
