"""Whether a smaller or faster variant may be offered: what it loses against float32 on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from freezeframe.evaluation import paired
from freezeframe.evaluation.operating_points import OperatingPoint, decide

LARGEST_LOSS = 0.01
"""Of the AUC: the upper end of the interval of what is lost may be this at most."""
MOST_PROBABLE = "most-probable"
"""What stands for an operating point where there is none."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images that both are asked about.

    Attributes
    ----------
    names, labels, patients : ndarray (N,)
        Name, index of the class, and whose each image is.
    classes : tuple of str
        Names of the C classes.
    positive : int
        Index of the positive class of two.
    """

    names: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    classes: tuple[str, ...]
    positive: int


@dataclass(frozen=True, eq=False)
class Side:
    """What one of the two says.

    Attributes
    ----------
    probabilities : ndarray of float (N, C)
        Combined and not calibrated.
    points : mapping of str to OperatingPoint
        Its own; a network that was trained anew has thresholds of its own. Without any the most probable class is
        decided on.
    """

    probabilities: np.ndarray
    points: Mapping[str, OperatingPoint]

    def decisions(self, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Return the index of the class decided on, int64 (N,), for each operating point."""
        points = dict(self.points) or {MOST_PROBABLE: None}
        return {name: decide(self.probabilities, classes, point) for name, point in points.items()}


@dataclass(frozen=True)
class Verdict:
    """What a variant loses.

    Attributes
    ----------
    loss : float
        AUC of float32 minus the variant's.
    low, high : float or None
        95 % interval of the loss; None where all patients are ranked alike, so that nothing varies.
    method : str
        'delong' or 'obuchowski', see `evaluation.paired`.
    changed : dict of str to int
        Images with another decision, for each operating point.
    images : int
        All of them.
    largest_difference : float
        Of a probability.
    limit : float
        Of the upper end of the loss.
    """

    loss: float
    low: float | None
    high: float | None
    method: str
    changed: dict[str, int]
    images: int
    largest_difference: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether at most the limit is lost, with the uncertainty that so many images leave."""
        return (self.loss if self.high is None else self.high) <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "auc_loss": {"value": self.loss, "low": self.low, "high": self.high, "method": self.method},
            "decisions_changed": self.changed,
            "images": self.images,
            "largest_difference": self.largest_difference,
            "limit": self.limit,
            "passed": self.passed,
        }


def judge(images: Images, float32: Side, variant: Side, limit: float = LARGEST_LOSS) -> Verdict:
    """Compare a variant with float32, image by image.

    The AUC's loss has DeLong's interval for paired answers (Obuchowski's where patients have several images), so it
    is about these networks on new patients. Decisions are compared at the operating points that both have.

    Raises
    ------
    UserError
        If there are fewer than two patients of a class.
    """
    first, second = (
        paired.Answers(images.labels, images.patients, side.probabilities[None])
        for side in (float32, variant)
    )
    found = paired.compare([first], [second], "roc_auc", images.positive)
    ours, theirs = float32.decisions(images.classes), variant.decisions(images.classes)
    return Verdict(
        found.difference,
        found.low,
        found.high,
        found.method,
        {name: int(np.sum(ours[name] != theirs[name])) for name in ours if name in theirs},
        len(images.labels),
        float(np.abs(variant.probabilities - float32.probabilities).max()),
        limit,
    )


def side_by_side(images: Images, float32: Side, variant: Side) -> pd.DataFrame:
    """Tabulate both sides of each image: probabilities, decisions, and whether any decision changed."""
    columns: dict[str, Any] = {
        "image": images.names,
        "patient": images.patients,
        "label": [images.classes[label] for label in images.labels],
    }
    for index, label in enumerate(images.classes):
        columns[f"float32_{label}"] = float32.probabilities[:, index]
        columns[f"variant_{label}"] = variant.probabilities[:, index]
    changed = np.zeros(len(images.labels), dtype=bool)
    ours, theirs = float32.decisions(images.classes), variant.decisions(images.classes)
    for name in ours:
        if name in theirs:
            for side, decided in (("float32", ours[name]), ("variant", theirs[name])):
                columns[f"{side}_decision_{name}"] = [images.classes[index] for index in decided]
            changed |= ours[name] != theirs[name]
    return pd.DataFrame(columns | {"changed": changed})
