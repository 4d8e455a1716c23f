"""Shortcuts: how well a class can be told from what has nothing to do with what the images show."""

# What pandas says of the types of its columns is too wide for these checks.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, norm, rankdata

FEATURES = (
    "file_bytes",
    "bytes_per_pixel",
    "width",
    "height",
    "aspect_ratio",
    "brightness",
    "contrast",
    "border_brightness",
    "sharpness",
    "colourfulness",
)


@dataclass(frozen=True)
class Shortcut:
    """How well one feature alone tells one class from all others.

    Attributes
    ----------
    split : str
        Of which images.
    label : str
        The class.
    feature : str
        One of `FEATURES`.
    auc, low, high : float
        Area under the ROC curve, at least 0.5 whatever the direction, and its 95 % interval.
    direction : str
        ``higher`` if the class has the higher values, else ``lower``.
    images : int
        How many were compared.
    """

    split: str
    label: str
    feature: str
    auc: float
    low: float
    high: float
    direction: str
    images: int


def find_shortcuts(features: pd.DataFrame, classes: Sequence[str]) -> list[Shortcut]:
    """Measure each feature's AUC for each class against the others, in the training and the test split.

    Parameters
    ----------
    features : DataFrame
        Columns ``label``, ``split`` and those of `FEATURES`; a data set without splits is measured as a whole.
    classes : sequence of str
        The classes; of two, only the last is measured, because the other has the same AUC.

    Returns
    -------
    list of Shortcut
        The training split before the test split, the strongest first; none for a feature that has one value only.
    """
    labelled = features[features["label"] != ""]
    found = []
    for split in [name for name in ("train", "test", "") if (labelled["split"] == name).any()]:
        part = labelled[labelled["split"] == split]
        for label in classes[-1:] if len(classes) == 2 else classes:
            positive = (part["label"] == label).to_numpy()
            if positive.all() or not positive.any():
                continue
            for feature in FEATURES:
                values = part[feature].to_numpy(np.float64)
                # Of images of one size, bytes per pixel says nothing that the file's size does not.
                said = feature == "bytes_per_pixel" and (part["width"] * part["height"]).nunique() == 1
                if np.ptp(values) > 0 and not said:
                    found.append(_shortcut(split, label, feature, values, positive))
    return sorted(found, key=lambda shortcut: (shortcut.split == "test", -shortcut.auc))


def _shortcut(split: str, label: str, feature: str, values: np.ndarray, positive: np.ndarray) -> Shortcut:
    auc, error = roc_auc(values, positive)
    margin = norm.ppf(0.975) * error
    direction = "higher" if auc >= 0.5 else "lower"
    auc = max(auc, 1 - auc)
    low, high = max(0.0, auc - margin), min(1.0, auc + margin)
    return Shortcut(split, label, feature, auc, low, high, direction, len(values))


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error.

    The error is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), by the midranks of Sun and Xu,
    IEEE Signal Processing Letters 21 (2014).

    Parameters
    ----------
    scores : ndarray
        (N,), any unit; ties are allowed.
    positive : ndarray
        (N,) bool, of both kinds.

    Examples
    --------
    >>> roc_auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))[0]
    0.75
    """
    high, low = scores[positive], scores[~positive]
    ranks = rankdata(np.concatenate([high, low]))
    of_positives = (ranks[: len(high)] - rankdata(high)) / len(low)
    of_negatives = 1 - (ranks[len(high) :] - rankdata(low)) / len(high)
    variance = sum(part.var(ddof=1) / len(part) for part in (of_positives, of_negatives) if len(part) > 1)
    return float(of_positives.mean()), float(np.sqrt(variance))


def cramers_v(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the association of two categories, from 0 (none) to 1 (one tells the other).

    With the bias correction of Bergsma, Journal of the Korean Statistical Society 42 (2013), without which many
    small sites look associated by chance.

    Examples
    --------
    >>> round(cramers_v(["a", "a", "b", "b"] * 50, ["x", "x", "y", "y"] * 50), 3)
    1.0
    >>> cramers_v(["a", "a", "b", "b"], ["x", "y", "x", "y"])
    0.0
    """
    table = pd.crosstab(np.asarray(one), np.asarray(other)).to_numpy()
    rows, columns = table.shape
    count = table.sum()
    if min(rows, columns) < 2 or count < 2:
        return 0.0
    squared = float(chi2_contingency(table, correction=False).statistic) / count
    squared = max(0.0, squared - (rows - 1) * (columns - 1) / (count - 1))
    corrected_rows = rows - (rows - 1) ** 2 / (count - 1)
    corrected_columns = columns - (columns - 1) ** 2 / (count - 1)
    limit = min(corrected_rows, corrected_columns) - 1
    return float(min(1.0, np.sqrt(squared / limit))) if limit > 0 else 0.0
