"""What a bundle keeps of its training images, to tell others from them: of their features and of their look."""

import numpy as np
from safetensors.numpy import save
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from freezeframe.bundle.runtime.screening import LEAST_ALIKE, Reference, correlation
from freezeframe.errors import FreezeframeError
from freezeframe.progress import say

COMPONENTS = 128
"""Directions that are kept; each needs four training images. With 1,280 features they take 0.7 MB."""
FEWEST = 20
"""Training images, and validation images: of fewer the mean image might show one patient."""
FLAGGED = 0.01
"""Share of the validation images that is flagged."""


def fit_reference(
    training_features: np.ndarray, validation_features: np.ndarray, training_thumbnails: np.ndarray
) -> bytes | None:
    """Describe the training images of one member, as `runtime.screening.Reference` reads it.

    The distance is Mahalanobis' with a covariance that is shrunk after Ledoit and Wolf (J Multivariate Anal 2004)
    along the principal components, and isotropic outside them; docs/inference.md has what was measured against it.
    No image can be had back: what is kept are means and covariances of many.

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
    centre, scale = training.mean(axis=0), training.std(axis=0)
    varies = scale > 1e-6 * scale.max()
    if not varies.any():
        raise FreezeframeError("The network gives the same features for all training images.")
    inverse_scale = np.where(varies, 1 / np.where(varies, scale, 1), 0)
    standard = (training - centre) * inverse_scale
    kept = min(COMPONENTS, count // 4, int(varies.sum()))
    components = np.asarray(PCA(kept, svd_solver="full").fit(standard).components_)
    inside = standard @ components.T
    tensors = {
        "centre": centre,
        "inverse_scale": inverse_scale,
        "components": components,
        "precision": LedoitWolf(assume_centered=True).fit(inside).precision_,
        "outside": np.array(_outside(standard, inside, int(varies.sum()))),
        "threshold": np.array(1.0),
    }
    least = _likeness(training_thumbnails)
    if least >= LEAST_ALIKE:
        tensors |= {"look": training_thumbnails.mean(axis=0), "look_least": np.array(least)}
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
    reference = Reference.load(save(tensors))
    distances = [reference.squared_distance(features) for features in validation_features]
    tensors["threshold"] = np.array(np.quantile(distances, 1 - FLAGGED), np.float32)
    return save(tensors)


def _outside(standard: np.ndarray, inside: np.ndarray, dimensions: int) -> float:
    """Return the inverse variance of each direction outside the components; 0 where there is none."""
    count, kept = inside.shape
    rest = float((standard**2).sum() - (inside**2).sum())
    if dimensions == kept or rest < 1e-9 * (standard**2).sum():
        return 0.0
    # The components were fitted to these images, so that new ones have more outside them.
    return (dimensions - kept) * (count - kept - 1) / rest


def _likeness(thumbnails: np.ndarray) -> float:
    """Return the correlation that 99 % of the thumbnails reach, each with the mean of the others."""
    total = thumbnails.sum(axis=0, dtype=np.float64)
    alike = [correlation(one, (total - one) / (len(thumbnails) - 1)) for one in thumbnails]
    return float(np.quantile(alike, FLAGGED))
