"""What each patient contributes to a score: the structural components from which its variance follows.

The area under the ROC curve is a mean over pairs, so images are not its independent parts; their *placements*
are, to first order: the share of negatives below a positive, and of positives above a negative (DeLong, DeLong
and Clarke-Pearson, Biometrics 1988), found with midranks in O(n log n) (Sun and Xu, IEEE Signal Processing
Letters 2014). Summed over patients they give the variance where patients have several images (Obuchowski,
Nonparametric analysis of clustered ROC curve data, Biometrics 1997). Being linear, they may be averaged over
repeats and over classes, and subtracted between classifiers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Influence:
    """A score and the patients' parts in it.

    Attributes
    ----------
    values : ndarray of float (R,)
        The score of each repeat.
    parts : ndarray of float (R, P, K)
        What each patient adds to the score's deviation from its expectation, through images of each of K
        strata (the classes for an AUC, one for an accuracy). Their sum over patients and strata is 0.
    present : ndarray of bool (P, K)
        Which patients have images of a stratum.
    """

    values: np.ndarray
    parts: np.ndarray
    present: np.ndarray


def placements(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the share of the other side that each image is on the right side of; ties count half.

    Parameters
    ----------
    positive : ndarray of bool (N,)
        Which images are of the class.
    scores : ndarray of float (R, N)
        Larger means more likely positive.

    Returns
    -------
    ndarray of float (R, N)
        In [0, 1]. The mean over the positives is the AUC, and so is the mean over the negatives. NaN where
        the other side is empty.

    Examples
    --------
    >>> placements(np.array([False, True, True]), np.array([[0.2, 0.2, 0.9]])).tolist()
    [[0.75, 0.5, 1.0]]
    """
    ranks = rankdata(scores, axis=1)
    found = np.empty_like(ranks)
    positives = int(positive.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        found[:, positive] = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / (
            len(positive) - positives
        )
        found[:, ~positive] = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    return found


def auc_influence(
    labels: np.ndarray, probabilities: np.ndarray, codes: np.ndarray, positive: int = -1
) -> Influence:
    """Compute the AUC of each repeat, and the patients' parts in it.

    With more than two classes it is the mean over the classes, each against the rest: its parts are the means
    of the classes' parts, image by image, so the classes' covariance is accounted for.

    Parameters
    ----------
    labels : ndarray of int (N,)
        Each class has an image.
    probabilities : ndarray of float (R, N, C)
        Of each repeat.
    codes : ndarray of int (N,)
        Whose each image is, in [0, P).
    positive : int
        Index of the positive class of two.
    """
    classes = probabilities.shape[2]
    scored = [positive % 2] if classes == 2 else list(range(classes))
    values = np.zeros(len(probabilities))
    images = np.zeros(probabilities.shape[:2])
    for index in scored:
        own = labels == index
        placed = placements(own, probabilities[:, :, index])
        area = placed[:, own].mean(axis=1)
        side = np.where(own, own.sum(), (~own).sum())
        images += (placed - area[:, None]) / side / len(scored)
        values += area / len(scored)
    return Influence(values, *_by_patient(images, labels, codes, classes))


def accuracy_influence(labels: np.ndarray, probabilities: np.ndarray, codes: np.ndarray) -> Influence:
    """Compute the accuracy of each repeat, and the patients' parts in it.

    Parameters
    ----------
    labels : ndarray of int (N,)
        True classes.
    probabilities : ndarray of float (R, N, C)
        Of each repeat.
    codes : ndarray of int (N,)
        Whose each image is, in [0, P).
    """
    hits = probabilities.argmax(axis=2) == labels
    values = hits.mean(axis=1)
    images = (hits - values[:, None]) / len(labels)
    return Influence(values, *_by_patient(images, np.zeros_like(labels), codes, 1))


def variance(parts: np.ndarray, present: np.ndarray) -> float:
    """Compute the variance of a score, or of a difference, from the patients' parts.

    With one image a patient and two classes this is DeLong's, with more images Obuchowski's: squares within a
    stratum are multiplied with I / (I - 1) for its I patients, products between strata with that of all.

    Parameters
    ----------
    parts : ndarray of float (P, K)
        As in `Influence`, of one repeat, of their mean, or of a difference.
    present : ndarray of bool (P, K)
        Which patients have images of a stratum.

    Returns
    -------
    float
        NaN where a stratum has fewer than two patients.
    """
    patients = np.append(present.sum(axis=0), present.any(axis=1).sum()).astype(float)
    with np.errstate(divide="ignore"):
        factors = np.where(patients > 1, patients / (patients - 1), np.nan)
    products = parts.T @ parts
    own = np.diag(products)
    # With few patients the products between strata can outweigh the squares by rounding or by their factor.
    return max(float(own @ factors[:-1] + (products.sum() - own.sum()) * factors[-1]), 0.0)


def retraining_variance(influence: Influence) -> float:
    """Estimate how much the score varies from training to training, the test images' chance taken out.

    Repeats differ on the same images for two reasons: one is better, and each errs on other images. The second
    would vanish with more images, and the patients' parts show how large it is (as readers and cases are told
    apart by Obuchowski and Rockette, Communications in Statistics 1995).

    Parameters
    ----------
    influence : Influence
        Of two or more repeats.

    Returns
    -------
    float
        Variance of one repeat's score, not negative.
    """
    repeats = len(influence.values)
    parts = influence.parts.sum(axis=2)
    covariance = parts @ parts.T
    between = (covariance.sum() - np.trace(covariance)) / (repeats * (repeats - 1))
    interaction = np.trace(covariance) / repeats - between
    return max(float(influence.values.var(ddof=1) - interaction), 0.0)


def _by_patient(
    images: np.ndarray, strata: np.ndarray, codes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    patients = int(codes.max()) + 1
    cells = codes * count + strata
    parts = np.stack([np.bincount(cells, row, patients * count) for row in images])
    present = np.bincount(cells, minlength=patients * count) > 0
    return parts.reshape(len(images), patients, count), present.reshape(patients, count)
