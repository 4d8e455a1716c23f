"""Losses and the remedies for unequal classes."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from freezeframe.recipe import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def class_weights(labels: np.ndarray, n_classes: int) -> torch.Tensor:
    """Weigh classes inversely to their frequency; the mean over images is 1.

    Parameters
    ----------
    labels : (N,) int64 array
        Class of each training image.
    n_classes : int
        Number of classes.

    Returns
    -------
    (C,) float32 tensor
        N / (C * count), as scikit-learn's ``class_weight="balanced"``.
    """
    counts = np.bincount(labels, minlength=n_classes)
    return torch.tensor(len(labels) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


def make_loss(recipe: Recipe, labels: np.ndarray, n_classes: int) -> Loss:
    """Return the training loss of a recipe: from (N, C) logits and targets to a mean over the batch."""
    weight = class_weights(labels, n_classes) if recipe.imbalance == "weights" else None

    def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weights = None if weight is None else weight.to(logits.device)
        # Not its own mean, which divides by the weights of a part: parts of a batch must add up to the whole.
        losses = F.cross_entropy(
            logits, targets, weight=weights, label_smoothing=recipe.label_smoothing, reduction="none"
        )
        return losses.mean()

    def focal(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Lin et al. 2017, equation 4, for a softmax: easy images count less."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, n_classes).to(logits.dtype)
        smoothed = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / n_classes
        log_probabilities = F.log_softmax(logits, dim=1)
        ease = (1 - log_probabilities.exp()) ** recipe.focal_gamma
        return -(smoothed * ease * log_probabilities).sum(dim=1).mean()

    return focal if recipe.imbalance == "focal" else cross_entropy
