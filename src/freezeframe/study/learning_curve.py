"""How many images do I need? What the scores of growing training sets forecast.

`freezeframe.study.shares` makes the study; `freezeframe.evaluation.learning_curve` has the statistics.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from freezeframe.data.dealing import group_patients
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.evaluation.intervals import LEVEL, Estimate
from freezeframe.evaluation.learning_curve import (
    FEWEST_SIZES,
    Hindcast,
    LearningCurve,
    SizeForecast,
    fit,
    hindcast,
)
from freezeframe.study.results import Cell, Results
from freezeframe.study.settings import of_predictions
from freezeframe.study.shares import AXIS, real_training

SCHEMA_VERSION = 1
FILE = "learning_curve.json"
"""In the study's folder: what was asked and the answer."""
# Metric of one class that goes with each metric; with two classes, an area under a curve is the same for both.
_OF_CLASS = {
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "f1_macro": "f1",
    "accuracy": "sensitivity",
    "balanced_accuracy": "sensitivity",
}
_AREAS = ("roc_auc", "average_precision")


@dataclass(frozen=True)
class Size:
    """One size of the training set.

    Attributes
    ----------
    share : str
        Of the training patients, as the study labels it.
    size : int
        Training patients; images where no patients are known. Who shares identical images counts as one.
    images : float
        Training images, mean over the draws.
    scores : tuple of float
        On the test images, one a training; NaN where undefined.
    """

    share: str
    size: int
    images: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return float(np.mean(self.scores))


@dataclass(frozen=True, eq=False)
class Forecast:
    """What growing training sets forecast of one metric.

    Attributes
    ----------
    metric : str
        ``roc_auc``, or of one class ``roc_auc/virus``.
    now : float
        Mean of the test scores at the largest size.
    curve : LearningCurve
    more : Estimate
        Of one training with so many times the data, for patients in general, with a 95 % predictive interval.
    needed : SizeForecast or None
        How much data the target takes; None without a target, or where it is in another metric.
    """

    metric: str
    now: float
    curve: LearningCurve
    more: Estimate
    needed: SizeForecast | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        needed = self.needed
        return {
            "metric": self.metric,
            "now": self.now,
            "more": self.more.to_dict(),
            "needed": None
            if needed is None
            else {
                "value": needed.value,
                "low": needed.low,
                "high": needed.high,
                "out_of_reach": needed.out_of_reach,
            },
        }


@dataclass(frozen=True, eq=False)
class Answer:
    """What a study of growing training sets says.

    Attributes
    ----------
    unit : str
        What sizes count: 'patients', or 'images' where no patients are known.
    sizes : tuple of Size
        The smallest first.
    times : float
        How many times the data the forecast is for.
    target : float or None
        Score whose size is asked for.
    main : Forecast
        Of the study's metric.
    classes : dict of str to Forecast
        Of each class; empty where the metric has no counterpart, or too few trainings have one.
    hindcast : Hindcast or None
        The same forecast from at most half of the data, compared with what is known; None with fewer than four sizes.
    """

    unit: str
    sizes: tuple[Size, ...]
    times: float
    target: float | None
    main: Forecast
    classes: dict[str, Forecast]
    hindcast: Hindcast | None

    @property
    def largest(self) -> Size:
        """The largest measured size."""
        return self.sizes[-1]

    @property
    def images_each(self) -> float:
        """Images of a patient, on average."""
        return self.largest.images / self.largest.size

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        known = self.hindcast
        return {
            "schema_version": SCHEMA_VERSION,
            "times": self.times,
            "target": self.target,
            "unit": self.unit,
            "sizes": [
                {
                    "share": one.share,
                    self.unit: one.size,
                    "training_images": round(one.images, 1),
                    "scores": [score if np.isfinite(score) else None for score in one.scores],
                }
                for one in self.sizes
            ],
            "forecast": self.main.to_dict(),
            "classes": {name: one.to_dict() for name, one in self.classes.items()},
            "hindcast": None
            if known is None
            else {
                "forecasts": [
                    {self.unit: round(size), **found.to_dict(), "measured": known.means[size]}
                    for size, found in known.forecasts.items()
                ],
                "held": known.held,
                "trainings": known.trainings,
            },
        }


def check_question(times: float, target: float | None) -> None:
    """Refuse a question that has no answer, before anything is trained.

    Raises
    ------
    UserError
        If `times` is not above 0, or the target is not above 0 and at most 1.
    """
    if not times > 0:
        raise UserError(f"{times} times the data is none.", "A number above 0.", "Ask for --times 2.")
    if target is not None and not 0 < target <= 1:
        raise UserError(f"The target is {target}.", "Above 0, at most 1.", "Ask for --target 0.97.")


def answer(results: Results, times: float = 2.0, target: float | None = None) -> Answer:
    """Forecast from the finished trainings of a learning curve's study.

    Parameters
    ----------
    results : Results
        Of a study that `freezeframe.study.shares.study_of` made.
    times : float
        How many times the data to forecast for.
    target : float, optional
        Score whose size is wanted, in the study's metric.

    Raises
    ------
    UserError
        If trainings of fewer than three sizes are finished.
    """
    by_share: dict[str, list[Cell]] = {}
    for cell in results.finished:
        if cell.scores.get("test") and AXIS in cell.values:
            by_share.setdefault(cell.values[AXIS], []).append(cell)
    if len(by_share) < FEWEST_SIZES:
        raise UserError(
            f"{results.folder} has finished trainings of {len(by_share)} shares of the training patients.",
            f"{FEWEST_SIZES} or more, with test images.",
            "Run `freezeframe study learning-curve` on its recipe; it goes on where it was.",
        )
    counted = sorted((_count(cells), share) for share, cells in by_share.items())
    unit = "patients" if counted[0][0][2] else "images"
    sizes = {share: (size, images) for (size, images, _), share in counted}
    cells = [(sizes[share][0], cell) for _, share in counted for cell in by_share[share]]
    last = by_share[counted[-1][1]][0]
    names = {"": results.metric, **_class_metrics(results)}
    precision = of_predictions(results, last.predictions["test"], tuple(names.values()))
    found: dict[str, Forecast] = {}
    for name, metric in names.items():
        # A class may lack a score where the curve has one; then it has no forecast of its own.
        with contextlib.suppress(UserError) if name else contextlib.nullcontext():
            wanted = target if metric.partition("/")[0] == results.metric else None
            found[name] = _forecast(metric, cells, precision[metric], times, wanted)
    scores = [cell.scores["test"].get(results.metric, np.nan) for _, cell in cells]
    known = None
    with contextlib.suppress(UserError):
        known = hindcast([size for size, _ in cells], scores)
    return Answer(
        unit,
        tuple(
            Size(
                share,
                *sizes[share],
                tuple(one.scores["test"].get(results.metric, np.nan) for one in by_share[share]),
            )
            for _, share in counted
        ),
        times,
        target,
        found.pop(""),
        found,
        known,
    )


def _forecast(
    metric: str, cells: Sequence[tuple[int, Cell]], precision: Estimate, times: float, target: float | None
) -> Forecast:
    sizes = [size for size, _ in cells]
    scores = [cell.scores["test"].get(metric, np.nan) for _, cell in cells]
    error = 0.0
    if precision.low is not None and precision.high is not None:
        error = (precision.high - precision.low) / (2 * float(norm.ppf((1 + LEVEL) / 2)))
    curve = fit(sizes, scores, test_error=error)
    now = float(np.mean([score for size, score in zip(sizes, scores, strict=True) if size == sizes[-1]]))
    needed = None if target is None else curve.size_for(target)
    return Forecast(metric, now, curve, curve.forecast(times * curve.largest), needed)


def _class_metrics(results: Results) -> dict[str, str]:
    """Name the metric of each class that goes with the study's."""
    base = _OF_CLASS.get(results.metric, "")
    if len(results.classes) == 2 and base in _AREAS:
        base = "sensitivity"
    return {name: f"{base}/{name}" for name in results.classes} if base else {}


def _count(cells: Sequence[Cell]) -> tuple[int, float, bool]:
    """Count a share's training patients and images, means over its draws, and say whether patients are known."""
    found = [real_training(Manifest.read(cell.folder / "manifest.parquet")) for cell in cells]
    groups = [len(set(group_patients(one)[0])) for one in found]
    known = any((one.table["patient"] != "").any() for one in found)
    return round(float(np.mean(groups))), float(np.mean([len(one) for one in found])), known
