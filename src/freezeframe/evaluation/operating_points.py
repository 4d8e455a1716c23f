"""The decision threshold, chosen on validation images only."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from freezeframe.errors import UserError

Rule = Literal["youden", "sensitivity", "specificity"]


@dataclass(frozen=True)
class OperatingPoint:
    """An image is called positive when its probability of the positive class is at least the threshold.

    Attributes
    ----------
    rule : str
        'youden' (largest sensitivity + specificity - 1), 'sensitivity' or 'specificity' (at least the
        target).
    target : float or None
        Of the two latter rules.
    positive_class : str
        Its name.
    threshold : float
        In [0, 1]; 0 calls everything positive. Above 1 nothing is called positive.
    sensitivity, specificity : float
        On the validation images.
    positives, negatives : int
        Number of validation images.
    """

    rule: Rule
    target: float | None
    positive_class: str
    threshold: float
    sensitivity: float
    specificity: float
    positives: int
    negatives: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what holds for the validation images is under ``validation``."""
        plain = asdict(self)
        names = ("sensitivity", "specificity", "positives", "negatives")
        return plain | {"validation": {name: plain.pop(name) for name in names}}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "OperatingPoint":
        """Make it from what `to_dict` returned; other keys are passed over."""
        names = ("rule", "target", "positive_class", "threshold")
        return cls(**{name: plain[name] for name in names}, **plain["validation"])


def choose(
    positive: np.ndarray,
    scores: np.ndarray,
    positive_class: str,
    rule: Rule = "youden",
    target: float | None = None,
) -> OperatingPoint:
    """Choose the threshold on validation images.

    Candidates lie half-way between neighbouring scores, so that no image sits on the threshold and a
    rounding error of another machine changes no decision; one below and one above all scores call
    everything positive or negative, so that every target can be met. Of thresholds that serve equally well,
    the rule for a fixed sensitivity takes the most specific, that for a fixed specificity the most
    sensitive, and Youden's (Cancer 1950) the most sensitive.

    Parameters
    ----------
    positive : ndarray of bool (N,)
        Which validation images are of the positive class.
    scores : ndarray of float (N,)
        Their probabilities of it.
    positive_class : str
        Its name.
    rule : str
        See `OperatingPoint`.
    target : float, optional
        In (0, 1]: least sensitivity or specificity.

    Raises
    ------
    UserError
        If the target is out of range or the validation images lack the positive class or any other.

    Examples
    --------
    >>> point = choose(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.3, 0.8]), "pneumonia")
    >>> round(point.threshold, 3), point.sensitivity, point.specificity
    (0.2, 1.0, 0.5)
    """
    if rule != "youden" and (target is None or not 0 < target <= 1):
        raise UserError(
            f"The target {rule} is {target}.", "a number above 0 and up to 1.", f"For example --{rule} 0.95."
        )
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        raise UserError(
            f"Of the validation images {positives:,} are '{positive_class}' and {negatives:,} of others; "
            "no threshold can be chosen.",
            "at least one of each.",
            "Train with a larger validation split, or choose another class with --positive.",
        )
    distinct = np.unique(scores)
    thresholds = np.r_[0.0, (distinct[1:] + distinct[:-1]) / 2, np.nextafter(max(1.0, distinct[-1]), 2)]
    sensitivity = 1 - np.searchsorted(np.sort(scores[positive]), thresholds, side="left") / positives
    specificity = np.searchsorted(np.sort(scores[~positive]), thresholds, side="left") / negatives
    if rule == "youden":
        index = int(np.argmax(np.round(sensitivity + specificity, 12)))
    elif rule == "sensitivity":
        index = int(np.flatnonzero(sensitivity >= float(target or 0) - 1e-12)[-1])
    else:
        index = int(np.flatnonzero(specificity >= float(target or 0) - 1e-12)[0])
    return OperatingPoint(
        rule,
        target if rule != "youden" else None,
        positive_class,
        float(thresholds[index]),
        float(sensitivity[index]),
        float(specificity[index]),
        positives,
        negatives,
    )


def decide(probabilities: np.ndarray, classes: tuple[str, ...], point: OperatingPoint | None) -> np.ndarray:
    """Return the class (N,) decided on for each image.

    The positive class where its probability reaches the threshold, else the most probable of the others;
    without an operating point the most probable class.
    """
    if point is None:
        return probabilities.argmax(axis=1)
    index = classes.index(point.positive_class)
    others = probabilities.copy()
    others[:, index] = -1
    return np.where(probabilities[:, index] >= point.threshold, index, others.argmax(axis=1))
