"""Against unequal classes: what weights, new views, mixing, another loss or another threshold did.

Moving the threshold costs nothing, so it stands beside the remedies that train: the threshold of largest
sensitivity + specificity on the validation images, applied to the runs without a remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.evaluation import metrics, operating_points
from freezeframe.evaluation.intervals import Estimate
from freezeframe.evaluation.operating_points import decide
from freezeframe.study.results import Cell, Results
from freezeframe.study.settings import over_repeats

AXIS = "imbalance"
MOVED = "threshold"
SHOWN = ("sensitivity", "specificity", "balanced_accuracy", "minority_f1", "brier_score")


@dataclass(frozen=True, eq=False)
class Remedy:
    """What one remedy did, on the test images.

    Attributes
    ----------
    name : str
        The axis' label, or 'threshold'.
    minority : str
        The class with the fewest images.
    scores : dict of str to Estimate
        Of `SHOWN`: means over all runs with this label.
    runs : int
        How many.
    """

    name: str
    minority: str
    scores: dict[str, Estimate]
    runs: int


def remedies(results: Results) -> tuple[Remedy, ...]:
    """Sum up each remedy, and the moved threshold, where ``imbalance`` is an axis."""
    if AXIS not in results.axes:
        return ()
    tested = [cell for cell in results.finished if "test" in cell.predictions]
    if not tested:
        return ()
    labels = np.concatenate([one.labels for one in tested[0].predictions.values()])
    minority = results.classes[int(np.bincount(labels, minlength=len(results.classes)).argmin())]
    found = []
    for label in results.axes[AXIS]:
        own = [cell for cell in tested if cell.values.get(AXIS) == label]
        if own:
            found.append(_remedy(label, minority, own, [_shown(minority, one.scores["test"]) for one in own]))
        if own and label == "none" and len(results.classes) == 2:
            moved = [(one, scores) for one in own if (scores := _moved(results, one, minority))]
            if moved:
                found.append(_remedy(MOVED, minority, *zip(*moved, strict=True)))
    return tuple(found)


def _remedy(name: str, minority: str, cells: Sequence[Cell], scores: Sequence[dict[str, float]]) -> Remedy:
    summed = {metric: over_repeats(cells, [one[metric] for one in scores]) for metric in SHOWN}
    return Remedy(name, minority, summed, len(cells))


def _shown(minority: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {name: scores[f"f1/{minority}" if name == "minority_f1" else name] for name in SHOWN}


def _moved(results: Results, cell: Cell, minority: str) -> dict[str, float] | None:
    validation, test = cell.predictions.get("validation"), cell.predictions["test"]
    if validation is None:
        return None
    positive = results.positive
    present = validation.labels == positive
    if present.all() or not present.any():
        return None
    point = operating_points.choose(present, validation.probabilities[:, positive], results.classes[positive])
    decided = np.eye(len(results.classes))[decide(test.probabilities, results.classes, point)]
    scores = metrics.score(test.labels, decided, results.classes, positive)
    values = {name: float(value[0]) for name, value in scores.items()}
    # A threshold changes decisions, not probabilities.
    return _shown(minority, values | {"brier_score": cell.scores["test"]["brier_score"]})
