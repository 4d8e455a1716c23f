"""All figures of an evaluation in one go: every model on the same images and the same resamples."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from freezeframe.evaluation import comparison, intervals, metrics
from freezeframe.evaluation.operating_points import OperatingPoint


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images and what every model says of them.

    Attributes
    ----------
    labels : ndarray of int (N,)
        Index of each image's class.
    patients : ndarray of str (N,)
        Whose each image is.
    probabilities : dict of str to ndarray (N, C)
        For each model.
    classes : tuple of str
        Names of the C classes.
    positive : int
        Index of the positive class.
    """

    labels: np.ndarray
    patients: np.ndarray
    probabilities: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    positive: int


def values(images: Labelled) -> dict[str, dict[str, float | None]]:
    """Compute all metrics of each model, without intervals; None where one is not defined."""
    found = {}
    for model, probabilities in images.probabilities.items():
        scores = metrics.score(images.labels, probabilities, images.classes, images.positive)
        found[model] = {name: float(v[0]) if np.isfinite(v[0]) else None for name, v in scores.items()}
    return found


def assess(
    images: Labelled, pair: tuple[str, str] | None, resamples: int, seed: int
) -> tuple[dict[str, dict[str, dict]], dict[str, dict]]:
    """Compute all metrics of each model with intervals, and the difference of two models.

    Proportions have Wilson's interval where every image is of another patient. All other intervals are BCa
    bootstrap intervals over patients, of the same resamples for all models.

    Parameters
    ----------
    images : Labelled
        At least one image.
    pair : (str, str) or None
        Models whose difference, first minus second, is wanted.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    models : dict
        For each model and metric: value, low, high, method, and a reason where one is missing.
    difference : dict
        The same for the difference, with p; empty without a pair.
    """
    replicates = intervals.replicate(
        {
            model: partial(metrics.score, images.labels, probabilities, images.classes, images.positive)
            for model, probabilities in images.probabilities.items()
        },
        images.patients,
        resamples,
        seed,
    )
    independent = len(np.unique(images.patients)) == len(images.patients)
    models: dict[str, dict[str, dict]] = {}
    for model, found in replicates.items():
        predicted = images.probabilities[model].argmax(axis=1)
        shares = metrics.proportions(images.labels, predicted, images.classes, images.positive)
        models[model] = {}
        for name, value in found.value.items():
            if not np.isfinite(value):
                reason = metrics.why_undefined(name, images.labels, predicted, images.classes)
                estimate = intervals.Estimate(None, reason=reason)
            elif name in shares and (independent or value in (0.0, 1.0)):
                estimate = intervals.proportion(*shares[name], images.patients, resamples, seed)
            else:
                estimate = intervals.estimate(found, name)
            models[model][name] = estimate.to_dict()
    if pair is None:
        return models, {}
    first, second = (replicates[model] for model in pair)
    return models, {name: comparison.difference(first, second, name).to_dict() for name in metrics.OVERALL}


def at_operating_point(
    images: Labelled, model: str, point: OperatingPoint, resamples: int, seed: int
) -> dict[str, dict]:
    """Compute what the threshold, chosen on validation images, does on these, with intervals.

    Returns
    -------
    dict
        ``sensitivity``, ``specificity``, ``positive_predictive_value``, ``negative_predictive_value`` and
        ``accuracy``: value, low, high, method, and a reason where one is missing. With more than two
        classes, the positive class against the rest.
    """
    index = images.classes.index(point.positive_class)
    positive = images.labels == index
    called = images.probabilities[model][:, index] >= point.threshold
    everything = np.ones(len(positive), dtype=bool)
    shares = {
        "sensitivity": (called, positive),
        "specificity": (~called, ~positive),
        "positive_predictive_value": (positive, called),
        "negative_predictive_value": (~positive, ~called),
        "accuracy": (called == positive, everything),
    }
    return {
        name: intervals.proportion(hits, among, images.patients, resamples, seed).to_dict()
        for name, (hits, among) in shares.items()
    }


def in_words(
    models: Mapping[str, Mapping[str, dict]], difference: Mapping[str, dict], best: str | None
) -> str:
    """Say in one sentence what the ensemble gained over its best member.

    Examples
    --------
    >>> auc = {"value": 0.97, "low": 0.95, "high": 0.98}
    >>> change = {"roc_auc": {"value": 0.01, "low": -0.01, "high": 0.02, "p": 0.4}}
    >>> in_words({"ensemble": {"roc_auc": auc}}, change, "lite0")
    "The ensemble's AUC of 0.970 (0.950-0.980) can't be told from that of lite0 (difference +0.010, -0.010 to 0.020)."
    """
    metric, word = ("roc_auc", "AUC")
    if models["ensemble"]["roc_auc"]["value"] is None:
        metric, word = ("accuracy", "accuracy")
    result = models["ensemble"][metric]
    subject = "The ensemble's" if best else "The network's"
    interval = f" ({result['low']:.3f}-{result['high']:.3f})" if result["low"] is not None else ""
    value = f"{word} of {result['value']:.3f}{interval}"
    if best is None:
        return f"{subject} {word} is {result['value']:.3f}{interval}."
    change = difference[metric]
    if change["low"] is None:
        return (
            f"{subject} {value} is not compared with {best}: {change.get('reason', 'there is no interval')}."
        )
    span = f"(difference {change['value']:+.3f}, {change['low']:.3f} to {change['high']:.3f})"
    if change["low"] <= 0 <= change["high"]:
        return f"{subject} {value} can't be told from that of {best} {span}."
    return f"{subject} {value} is {'better' if change['value'] > 0 else 'worse'} than that of {best} {span}."
