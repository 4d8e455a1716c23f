"""Metrics of a classifier's probabilities, for many weightings of the images at once.

A bootstrap needs each metric some thousand times. Here the images are sorted, binned and compared once, and
a metric of all resamples is a few matrix products and cumulative sums over a matrix of weights. With
weights of one, every metric equals scikit-learn's, which the tests prove.
"""

import numpy as np

BINS = 15
"""Bins of the expected calibration error, as in Guo et al., ICML 2017."""

OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "f1_macro",
    "roc_auc",
    "average_precision",
    "brier_score",
    "log_loss",
    "expected_calibration_error",
)
"""Names of the metrics that every result has; those of one class are ``name/class``."""

LOWER_IS_BETTER = frozenset({"brier_score", "log_loss", "expected_calibration_error"})


def score(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    positive: int = -1,
    weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compute all metrics, once for each row of weights.

    With two classes, sensitivity, specificity, precision, F1, ROC AUC and average precision are those of
    the positive class; with more, they are the unweighted mean over the classes, each against the rest. The
    predicted class is the most probable one, the first of them where several are equal.

    Parameters
    ----------
    labels : ndarray of int (N,)
        Index of each image's class, in [0, C).
    probabilities : ndarray of float (N, C)
        Each row in [0, 1], summing to 1.
    classes : tuple of str
        Names of the C classes.
    positive : int
        Index of the positive class of two; the last where left out.
    weights : ndarray of float (R, N), optional
        How often each image counts, not negative; one row of ones where left out.

    Returns
    -------
    dict of str to ndarray of float64 (R,)
        The metrics of `OVERALL`, then ``sensitivity/<class>``, ``specificity/<class>``,
        ``precision/<class>`` and ``f1/<class>``, and with more than two classes ``roc_auc/<class>`` and
        ``average_precision/<class>``. NaN where a metric is not defined: a class without images, or a
        precision where nothing was predicted.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 1])
    >>> positive = np.array([0.1, 0.4, 0.35, 0.8])
    >>> values = score(labels, np.stack([1 - positive, positive], axis=1), ("normal", "pneumonia"))
    >>> float(values["roc_auc"][0]), float(values["accuracy"][0]), float(values["sensitivity/pneumonia"][0])
    (0.75, 0.75, 0.5)
    """
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if weights is None:
        weights = np.ones((1, len(labels)))
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_class = _by_class(labels, probabilities.argmax(axis=1), weights, len(classes))
        for index in range(len(classes)) if len(classes) > 2 else (positive % len(classes),):
            ranking = rank_metrics(labels == index, probabilities[:, index], weights)
            for name, values in zip(("roc_auc", "average_precision"), ranking, strict=True):
                by_class.setdefault(name, np.full((len(weights), len(classes)), np.nan))[:, index] = values
        accuracy = weights @ (labels == probabilities.argmax(axis=1)) / total
        overall = {
            "accuracy": accuracy,
            "balanced_accuracy": by_class["sensitivity"].mean(axis=1),
            "f1_macro": by_class["f1"].mean(axis=1),
            "brier_score": weights @ _squared_error(labels, probabilities) / total,
            "log_loss": weights @ _cross_entropy(labels, probabilities) / total,
            "expected_calibration_error": _calibration_error(labels, probabilities, weights),
        }
    for name, values in by_class.items():
        overall[name] = values[:, positive] if len(classes) == 2 else values.mean(axis=1)
    each = {
        f"{name}/{label}": values[:, index]
        for name, values in by_class.items()
        for index, label in enumerate(classes)
        if len(classes) > 2 or name not in ("roc_auc", "average_precision")
    }
    return {name: overall[name] for name in OVERALL} | each


def proportions(
    labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...], positive: int = -1
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Say which metrics of `score` are plain proportions of images, and of which.

    Parameters
    ----------
    labels, predicted : ndarray of int (N,)
        True and predicted class.
    classes : tuple of str
        Names of the classes.
    positive : int
        Index of the positive class of two.

    Returns
    -------
    dict of str to (hits, among)
        Two boolean arrays (N,) each: the metric is the share of hits among those that it is about.
    """
    found = {"accuracy": (labels == predicted, np.ones(len(labels), dtype=bool))}
    for index, label in enumerate(classes):
        own = {
            "sensitivity": (predicted == index, labels == index),
            "specificity": (predicted != index, labels != index),
            "precision": (labels == index, predicted == index),
        }
        found |= {f"{name}/{label}": masks for name, masks in own.items()}
        if len(classes) == 2 and index == positive % 2:
            found |= own
    return found


def why_undefined(name: str, labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> str:
    """Say in words why a metric has no value on these images."""
    if len(labels) == 0:
        return "there are no images"
    missing = [label for index, label in enumerate(classes) if not (labels == index).any()]
    if missing and not name.startswith("precision"):
        return f"there is no image of class {', '.join(missing)}"
    unpredicted = [label for index, label in enumerate(classes) if not (predicted == index).any()]
    return f"no image was predicted as {', '.join(unpredicted)}"


def rank_metrics(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the area under the ROC curve and the average precision from weighted ranks.

    The area is the probability that a positive's score is above a negative's, ties counting half (Hanley
    and McNeil 1982). The average precision is the sum of the precisions at each threshold, weighted with
    the step in sensitivity.

    Parameters
    ----------
    positive : ndarray of bool (N,)
        Which images are of the class.
    scores : ndarray of float (N,)
        Larger means more likely positive.
    weights : ndarray of float (R, N)
        How often each image counts.

    Returns
    -------
    roc_auc, average_precision : ndarray of float64 (R,)
        NaN where there is no positive, or for the area no negative.

    Examples
    --------
    >>> positive, scores = np.array([False, True, True]), np.array([0.2, 0.2, 0.9])
    >>> area, precision = rank_metrics(positive, scores, weights=np.ones((1, 3)))
    >>> area.item(), round(precision.item(), 3)
    (0.75, 0.833)
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    everything = weights[:, order]
    positives = everything * positive[order]
    starts = (
        np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
        if len(scores)
        else np.array([], int)
    )
    if len(starts) < len(scores):
        everything = np.add.reduceat(everything, starts, axis=1)
        positives = np.add.reduceat(positives, starts, axis=1)
    negatives = everything - positives
    all_positives, all_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    at_least = all_positives[:, None] - np.cumsum(positives, axis=1) + positives
    predicted = at_least + all_negatives[:, None] - np.cumsum(negatives, axis=1) + negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.einsum("rn,rn->r", positives, below) / (all_positives * all_negatives)
        # Where nothing is predicted there is no positive either, and the step has no weight.
        precision = at_least / np.where(predicted > 0, predicted, 1)
        average_precision = np.einsum("rn,rn->r", positives, precision) / all_positives
    return area, average_precision


def _by_class(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, count: int
) -> dict[str, np.ndarray]:
    # One product with the 0/1 matrix of (label, prediction) pairs gives the confusion matrices of all
    # resamples.
    pairs = np.zeros((len(labels), count * count))
    pairs[np.arange(len(labels)), labels * count + predicted] = 1
    confusion = (weights @ pairs).reshape(-1, count, count)
    hit = np.einsum("rcc->rc", confusion)
    of_class, as_class = confusion.sum(axis=2), confusion.sum(axis=1)
    others = weights.sum(axis=1)[:, None] - of_class
    return {
        "sensitivity": hit / of_class,
        "specificity": (others - as_class + hit) / others,
        "precision": hit / as_class,
        "f1": 2 * hit / (of_class + as_class),
    }


def _squared_error(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    error = (probabilities - np.eye(probabilities.shape[1])[labels]) ** 2
    # With two classes, Brier's score counts one of the two equal terms, as scikit-learn does.
    return error.sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1)


def _cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    own = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(own, np.finfo(np.float64).eps, 1))


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    confidence = probabilities.max(axis=1)
    # Bins (0, 1/15], (1/15, 2/15], ...
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    placed = np.zeros((len(labels), BINS))
    placed[np.arange(len(labels)), bins] = gap
    return np.abs(weights @ placed).sum(axis=1) / weights.sum(axis=1)
