"""Mean scores over seeds and folds, with intervals that do not count what was seen twice as two witnesses."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

from freezeframe.evaluation.intervals import LEVEL, Estimate


def over_seeds(scores: ArrayLike, highest: float = 1.0, level: float = LEVEL) -> Estimate:
    """Average scores over seeds, with Student's t interval.

    The interval says how much training varies on the same data and test images. How far another test set would
    be off it can't say: that is what the intervals over patients are for.

    Parameters
    ----------
    scores : array_like of float (R,)
        Not negative, one a seed; NaN where there is none, such as of a training that failed.
    highest : float
        The metric's largest value, where the interval ends at the latest; infinite for the log loss.
    level : float
        Of confidence.

    Examples
    --------
    >>> found = over_seeds([0.90, 0.92, 0.94])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.92, 0.87, 0.97)
    >>> over_seeds([0.9]).reason
    'there is one repeat'
    """
    known = _known(scores)
    return _student(known, 1 / max(len(known), 1), highest, level, "student t over seeds", "repeat")


def over_folds(
    scores: ArrayLike, ratio: float | None = None, highest: float = 1.0, level: float = LEVEL
) -> Estimate:
    """Average scores over the folds of a cross-validation, with the corrected interval.

    Trainings of different folds share most of their training images, so their scores are not independent, and
    no unbiased estimate of the mean's variance exists (Bengio and Grandvalet, JMLR 2004). Nadeau and Bengio
    (Machine Learning 2003) widen it from s^2 / k to s^2 (1 / k + test / train), which in their simulations holds
    the level.

    Parameters
    ----------
    scores : array_like of float (k,)
        Not negative, one a fold; NaN where there is none.
    ratio : float, optional
        Test images to training images of a fold; 1 / (k - 1) where left out. Larger where part of the rest
        is for validation.
    highest, level : float
        As in `over_seeds`.

    Examples
    --------
    >>> found = over_folds([0.90, 0.92, 0.94, 0.92, 0.92])
    >>> round(found.low, 4), round(found.high, 4)
    (0.8937, 0.9463)
    """
    folds = max(np.asarray(scores).size, 2)
    known = _known(scores)
    factor = 1 / max(len(known), 1) + (1 / (folds - 1) if ratio is None else ratio)
    return _student(known, factor, highest, level, "corrected t over folds", "fold")


def over_seeds_and_folds(
    scores: ArrayLike, ratio: float | None = None, highest: float = 1.0, level: float = LEVEL
) -> Estimate:
    """Average scores over seeds and the same folds for each seed, with the corrected interval over folds.

    Seeds are averaged first: the same test images judge all seeds of a fold, so k folds times R seeds are k
    witnesses, not k R.

    Parameters
    ----------
    scores : array_like of float (R, k)
        Not negative, one a seed and fold; NaN where there is none.
    ratio, highest, level : float
        As in `over_folds`.
    """
    grid = np.asarray(scores, dtype=np.float64)
    counts = np.isfinite(grid).sum(axis=0)
    means = np.where(counts > 0, np.nansum(grid, axis=0) / np.maximum(counts, 1), np.nan)
    return over_folds(means, ratio, highest, level)


def _known(scores: ArrayLike) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    return values[np.isfinite(values)]


def _student(
    scores: np.ndarray, factor: float, highest: float, level: float, method: str, unit: str
) -> Estimate:
    if len(scores) == 0:
        return Estimate(None, reason="there are no scores")
    value = float(scores.mean())
    if len(scores) == 1:
        return Estimate(value, reason=f"there is one {unit}")
    half = t.ppf((1 + level) / 2, len(scores) - 1) * scores.std(ddof=1) * np.sqrt(factor)
    return Estimate(value, float(max(value - half, 0)), float(min(value + half, highest)), method)
