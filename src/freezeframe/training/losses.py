"""Losses, the remedies for unequal classes, and learning from a teacher."""

from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from freezeframe.recipe import Recipe


class Loss(Protocol):
    """From (N, C) logits, targets and, where there is a teacher, its (N, C) probabilities to a mean over the batch."""

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, lessons: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss."""
        ...


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
    """Return the training loss of a recipe.

    With a teacher it is (1 - w) of the loss by the labels and w of `distillation`. The remedies for unequal classes
    and label smoothing are about the labels: what the teacher says is taken as it is.
    """
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

    supervised = focal if recipe.imbalance == "focal" else cross_entropy

    def loss(
        logits: torch.Tensor, targets: torch.Tensor, lessons: torch.Tensor | None = None
    ) -> torch.Tensor:
        by_labels = supervised(logits, targets)
        if recipe.teacher is None:
            return by_labels
        assert lessons is not None
        by_teacher = distillation(logits, lessons, recipe.teacher_temperature)
        return (1 - recipe.teacher_weight) * by_labels + recipe.teacher_weight * by_teacher

    return loss


def distillation(logits: torch.Tensor, lessons: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute how far a student's softened answers are from its teacher's.

    T^2 KL(teacher || student) of Hinton et al. 2015 (https://arxiv.org/abs/1503.02531, section 2): the factor keeps
    the gradient's size where the temperature T changes.

    Parameters
    ----------
    logits : (N, C) float tensor
        Of the student.
    lessons : (N, C) float tensor
        The teacher's probabilities at the same temperature.
    temperature : float
        Above 0.

    Returns
    -------
    () float tensor
        Mean over the images; 0 where the student answers as the teacher does.
    """
    answers = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(answers, lessons, reduction="none").sum(dim=1).mean()
