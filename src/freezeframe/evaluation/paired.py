"""Two settings, the same test images: is one of them better? McNemar's and DeLong's tests, by patient.

Accuracy is compared with the sign-flip test of the patients' differences, which with one repeat and one image a
patient is McNemar's; the AUC with DeLong's test, after Obuchowski where patients have several images. Repeats
(seeds) are averaged, folds are strata. Both answer whether these trained models differ on new patients. Whether
the settings differ when trained anew is another question, and has a p value of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm, t

from freezeframe.errors import UserError
from freezeframe.evaluation.intervals import LEVEL
from freezeframe.evaluation.placements import (
    Influence,
    accuracy_influence,
    auc_influence,
    retraining_variance,
    variance,
)
from freezeframe.evaluation.sign_flips import sign_flip_p

Metric = Literal["accuracy", "roc_auc"]
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Answers:
    """What the repeats of one setting say about the images of one test set.

    Attributes
    ----------
    labels : ndarray of int (N,)
        Index of each image's class, in [0, C).
    patients : ndarray (N,)
        Whose each image is.
    probabilities : ndarray of float (R, N, C)
        Of each of R repeats (seeds).
    """

    labels: np.ndarray
    patients: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 3 or not (
            self.probabilities.shape[1:2] == self.labels.shape == self.patients.shape
        ):
            raise ValueError(
                f"labels {self.labels.shape}, patients {self.patients.shape} and probabilities "
                f"{self.probabilities.shape} do not belong together; expected (N,), (N,) and (R, N, C)"
            )


@dataclass(frozen=True)
class Comparison:
    """A difference of two settings.

    Attributes
    ----------
    difference : float
        First minus second; the mean over repeats, and for the AUC over folds.
    low, high : float or None
        95 % interval for new patients and these trained models; None where nothing varies.
    p : float
        Two-sided, of the same question.
    p_retrained : float or None
        Two-sided, of the question whether the settings differ on new patients when trained anew with other
        seeds. None where a setting has fewer than two repeats.
    method : str
        'mcnemar', 'sign flips', 'delong' or 'obuchowski'.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    p_retrained: float | None
    method: str

    def to_dict(self) -> dict[str, float | str | None]:
        """Return plain data, one key an attribute."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Fold:
    """The answers to one test set, reduced to what comparisons need.

    Attributes
    ----------
    influence : Influence
        The scores of the repeats, and the patients' parts in them.
    hits : ndarray of int (P,)
        Each patient's right answers, of all repeats together.
    images : ndarray of int (P,)
        How many images each patient has.
    retraining : float
        Variance of the mean over the repeats through training anew; NaN with one repeat.
    """

    influence: Influence
    hits: np.ndarray
    images: np.ndarray
    retraining: float

    @property
    def repeats(self) -> int:
        """How many times the setting was trained."""
        return len(self.influence.values)


def compare(
    first: Sequence[Answers], second: Sequence[Answers], metric: Metric, positive: int = -1
) -> Comparison:
    """Compare two settings on the same test images.

    Parameters
    ----------
    first, second : sequence of Answers
        One for each fold; a single one without cross-validation. Folds hold different patients, and both
        settings the same images in the same order. The numbers of repeats may differ.
    metric : {'accuracy', 'roc_auc'}
        With more than two classes the AUC is the mean over the classes, each against the rest.
    positive : int
        Index of the positive class of two.

    Raises
    ------
    UserError
        Where the images differ, too few patients are left, or the metric has no paired test.

    Examples
    --------
    >>> labels, patients = np.repeat([0, 1], 10), np.arange(20)
    >>> good = np.where(np.arange(20) < 10, 0.2, 0.8)
    >>> poor = np.where(np.arange(20) % 10 < 6, good, 1 - good)
    >>> first, second = (
    ...     [Answers(labels, patients, np.stack([1 - p, p], axis=1)[None])] for p in (good, poor)
    ... )
    >>> found = compare(first, second, "accuracy")
    >>> found.method, found.difference, round(found.p, 5)
    ('mcnemar', 0.4, 0.00391)
    """
    prepared = prepare({"the first": first, "the second": second}, metric, positive)
    return compare_prepared(prepared["the first"], prepared["the second"], metric)


def prepare(
    settings: Mapping[str, Sequence[Answers]], metric: str, positive: int = -1
) -> dict[str, list[Fold]]:
    """Reduce the answers of several settings to what comparisons need, once for all of them.

    Parameters and errors are those of `compare`.
    """
    if metric not in ("accuracy", "roc_auc"):
        raise UserError(
            f"There is no paired test for {metric}.",
            "accuracy or roc_auc.",
            "Other metrics are compared by resampling (evaluation.comparison).",
        )
    name, reference = next(iter(settings.items()))
    codes = [np.unique(fold.patients, return_inverse=True)[1] for fold in reference]
    for fold, code in zip(reference, codes, strict=True):
        _check_patients(fold, code, metric)
    prepared = {}
    for other, folds in settings.items():
        _check_alike(other, folds, name, reference)
        prepared[other] = [
            _reduce(fold, code, metric, positive) for fold, code in zip(folds, codes, strict=True)
        ]
    return prepared


def compare_prepared(first: Sequence[Fold], second: Sequence[Fold], metric: str) -> Comparison:
    """Compare two settings that `prepare` returned for the same metric."""
    images = np.array([fold.images.sum() for fold in first])
    # Each patient is in one fold: all folds' images count alike for the accuracy, all folds alike for the AUC.
    weights = images / images.sum() if metric == "accuracy" else np.full(len(first), 1 / len(first))
    difference, patients = _mean_and_variance(first, second, weights)
    single = all((fold.images == 1).all() for fold in first)
    if metric == "accuracy":
        differences, repeats = _count_differences(first, second)
        sizes = np.concatenate([fold.images for fold in first]).astype(float)
        low, high = _accuracy_interval(differences / repeats, sizes)
        p = sign_flip_p(differences)
        method = "mcnemar" if single and repeats == 1 else "sign flips"
    else:
        low, high, p = _normal(difference, patients, sum(len(fold.images) for fold in first))
        method = "delong" if single else "obuchowski"
    return Comparison(
        difference, low, high, p, _p_retrained(first, second, weights, difference, patients), method
    )


def _mean_and_variance(
    first: Sequence[Fold], second: Sequence[Fold], weights: np.ndarray
) -> tuple[float, float]:
    difference = spread = 0.0
    for own, other, weight in zip(first, second, weights, strict=True):
        parts = own.influence.parts.mean(axis=0) - other.influence.parts.mean(axis=0)
        difference += weight * (own.influence.values.mean() - other.influence.values.mean())
        spread += weight**2 * variance(parts, own.influence.present)
    return float(difference) if abs(difference) > _ROUNDING else 0.0, float(spread)


def _normal(difference: float, spread: float, patients: int) -> tuple[float | None, float | None, float]:
    if spread <= _ROUNDING**2:
        # Both place every image alike, or one places each image better by the same, as a perfect model does
        # beside a constant one: then all patients agree, and DeLong's variance of 0 is no certainty.
        return None, None, sign_flip_p(np.full(patients, int(np.sign(difference))))
    error = np.sqrt(spread)
    half = norm.ppf((1 + LEVEL) / 2) * error
    # Two areas are at most 1 apart.
    return (
        float(max(difference - half, -1)),
        float(min(difference + half, 1)),
        float(2 * norm.sf(abs(difference) / error)),
    )


def _p_retrained(
    first: Sequence[Fold], second: Sequence[Fold], weights: np.ndarray, difference: float, patients: float
) -> float | None:
    if min(fold.repeats for fold in (*first, *second)) < 2:
        return None
    folds = [
        (fold, weight**2) for side in (first, second) for fold, weight in zip(side, weights, strict=True)
    ]
    total = patients + sum(square * fold.retraining for fold, square in folds)
    # Satterthwaite's degrees of freedom (Biometrics Bulletin 1946): few repeats say little about their spread.
    uncertain = sum((square * fold.retraining) ** 2 / (fold.repeats - 1) for fold, square in folds)
    if total <= _ROUNDING**2:
        return sign_flip_p(np.full(sum(len(fold.images) for fold in first), int(np.sign(difference))))
    freedom = total**2 / uncertain if uncertain > 0 else np.inf
    return float(2 * t.sf(abs(difference) / np.sqrt(total), freedom))


def _count_differences(first: Sequence[Fold], second: Sequence[Fold]) -> tuple[np.ndarray, int]:
    # Differences of the shares of right answers, times the product of the numbers of repeats: whole numbers.
    repeats = [{fold.repeats for fold in side} for side in (first, second)]
    if any(len(counts) > 1 for counts in repeats):
        raise UserError(
            "The folds of a setting have different numbers of repeats.",
            "As many in each fold.",
            "Run what is missing, or leave out the repeat that lacks a fold.",
        )
    own_repeats, other_repeats = (counts.pop() for counts in repeats)
    differences = [
        own.hits * other_repeats - other.hits * own_repeats for own, other in zip(first, second, strict=True)
    ]
    return np.concatenate(differences), own_repeats * other_repeats


def _accuracy_interval(differences: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    # Agresti and Min (Statistics in Medicine 2005) add half an image to each cell of the table of pairs, so
    # that the interval has a width where hardly anybody differs. Here they are patients of average size: half
    # a one all right with the first setting only, half a one with the second only, and one with both or none.
    size = images.mean()
    total = images.sum() + 2 * size
    difference = differences.sum() / total
    squares = ((differences - difference * images) ** 2).sum() + size**2 * (1 + 2 * difference**2)
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(squares) / total
    return float(max(difference - half, -1)), float(min(difference + half, 1))


def _reduce(answers: Answers, codes: np.ndarray, metric: str, positive: int) -> Fold:
    labels, probabilities = answers.labels, np.asarray(answers.probabilities, dtype=np.float64)
    if metric == "accuracy":
        influence = accuracy_influence(labels, probabilities, codes)
    else:
        influence = auc_influence(labels, probabilities, codes, positive)
    hits = (probabilities.argmax(axis=2) == labels).sum(axis=0)
    repeats = len(probabilities)
    return Fold(
        influence,
        np.bincount(codes, hits).round().astype(np.int64),
        np.bincount(codes),
        retraining_variance(influence) / repeats if repeats > 1 else np.nan,
    )


def _check_patients(fold: Answers, codes: np.ndarray, metric: str) -> None:
    for index in range(fold.probabilities.shape[2]) if metric == "roc_auc" else (None,):
        among = slice(None) if index is None else fold.labels == index
        patients = len(np.unique(codes[among]))
        if patients < 2:
            what = "" if index is None else f" with images of class {index}"
            raise UserError(
                f"The test images are of {patients} patient{'s' * (patients != 1)}{what}.",
                "Two or more, or nothing can be said about others.",
                "Give the test split a larger share, or take fewer folds.",
            )


def _check_alike(name: str, folds: Sequence[Answers], other: str, reference: Sequence[Answers]) -> None:
    if len(folds) != len(reference) or not all(
        np.array_equal(own.labels, theirs.labels)
        and np.array_equal(own.patients, theirs.patients)
        and own.probabilities.shape[2] == theirs.probabilities.shape[2]
        for own, theirs in zip(folds, reference, strict=True)
    ):
        raise UserError(
            f"{name} and {other} were tested on different images, or in another order.",
            "The same images in the same order, so that what is hard for both cancels.",
            "Take the images that all settings have answers to, sorted alike.",
        )
