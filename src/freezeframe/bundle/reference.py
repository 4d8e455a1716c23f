"""What a bundle keeps of its training images, to tell others from them: of their features and of their look."""

import numpy as np
from safetensors.numpy import save
from sklearn.decomposition import PCA

from freezeframe.bundle.runtime.screening import LEAST_ALIKE, correlation, residual, unit
from freezeframe.errors import FreezeframeError
from freezeframe.progress import say

COMPONENTS = 64
"""Directions that are kept, but at most one for four training images. With 1,280 features they take 0.3 MB."""
FEWEST = 20
"""Training images, and validation images: of fewer the mean image might show one patient."""
FLAGGED = 0.01
"""Share of the validation images that is flagged."""


def fit_reference(
    training_features: np.ndarray, validation_features: np.ndarray, training_thumbnails: np.ndarray
) -> bytes | None:
    """Describe the training images of one member, as `runtime.screening.Reference` reads it.

    docs/inference.md has the distances that were measured, of which this one was the best.
    No image can be had back: what is kept are means and principal directions of many.

    Parameters
    ----------
    training_features : ndarray of float32 (N, F)
        The member's ``features`` of the training images, not augmented.
    validation_features : ndarray of float32 (M, F)
        Of the validation images, which set the threshold.
    training_thumbnails : ndarray of float32 (N, 32, 32)
        `pixel_facts.thumbnail` of the training images as this member's preprocessing prepares them.

    Returns
    -------
    bytes or None
        A safetensors file; None, which is said, with fewer than `FEWEST` training or validation images.

    Raises
    ------
    FreezeframeError
        If features are not finite, or no feature varies.
    """
    count, fewest = len(training_features), min(len(training_features), len(validation_features))
    if fewest < FEWEST:
        say(
            f"Images unlike the training images will not be flagged: that takes {FEWEST} training and {FEWEST} "
            f"validation images, and there are {count:,} and {len(validation_features):,}."
        )
        return None
    training = training_features.astype(np.float64)
    if not (np.isfinite(training).all() and np.isfinite(validation_features).all()):
        raise FreezeframeError("The network gives features that are not finite.")
    training = unit(training)
    centre = training.mean(axis=0)
    if np.ptp(training, axis=0).max() < 1e-6:
        raise FreezeframeError("The network gives the same features for all training images.")
    kept = min(COMPONENTS, count // 4, training.shape[1] - 1)
    components = np.asarray(PCA(kept, svd_solver="full").fit(training).components_)
    distances = [residual(features, centre, components) for features in unit(validation_features)]
    tensors = {
        "centre": centre,
        "components": components,
        # A network of few features may leave nothing over.
        "threshold": np.array(max(np.quantile(distances, 1 - FLAGGED), 1e-6)),
    }
    least = _likeness(training_thumbnails)
    if least >= LEAST_ALIKE:
        tensors |= {"look": training_thumbnails.mean(axis=0), "look_least": np.array(least)}
    return save({name: np.array(tensor, np.float32, order="C") for name, tensor in tensors.items()})


def _likeness(thumbnails: np.ndarray) -> float:
    """Return the correlation that 99 % of the thumbnails reach, each with the mean of the others."""
    total = thumbnails.sum(axis=0, dtype=np.float64)
    alike = [correlation(one, (total - one) / (len(thumbnails) - 1)) for one in thumbnails]
    return float(np.quantile(alike, FLAGGED))
