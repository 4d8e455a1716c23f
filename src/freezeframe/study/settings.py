"""The settings of a study: their repeats summed up, ranked by validation score, and lined up for paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

import numpy as np

from freezeframe.evaluation import intervals, metrics, repeats
from freezeframe.evaluation.intervals import Estimate
from freezeframe.evaluation.paired import Answers
from freezeframe.progress import progress
from freezeframe.study.results import Cell, Extra, Predictions, Results

MAIN = ("roc_auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
"""The metrics that have a table each."""
COSTS = ("parameters", "seconds", "memory")
Cost = Literal["parameters", "seconds", "memory"]
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Setting:
    """The finished repeats of one setting, summed up.

    Attributes
    ----------
    name : str
    values : dict of str to str
        Its label on each axis.
    cells : tuple of Cell
        The finished ones.
    planned : int
        How many there are to be.
    validation : dict of str to float
        Mean of each metric over the repeats' validation images; NaN where undefined.
    test : dict of str to Estimate
        Each main metric and the study's: with several repeats their mean with an interval over them, with one
        its value with an interval over the test patients.
    costs : dict of str to float or None
        ``parameters`` that train, mean ``seconds`` of training (without what the store computes, which the
        settings share), largest peak ``memory`` in bytes.
    """

    name: str
    values: Mapping[str, str]
    cells: tuple[Cell, ...]
    planned: int
    validation: Mapping[str, float]
    test: Mapping[str, Estimate]
    costs: Mapping[str, float | None]

    @property
    def total_parameters(self) -> int | None:
        """Parameters of the network, trained or not."""
        return (self.cells[0].run.get("parameters") or {}).get("total") if self.cells else None


def summarise(results: Results, tested: bool = True) -> tuple[Setting, ...]:
    """Sum up the finished repeats of each setting; a bar shows how far it is.

    Parameters
    ----------
    results : Results
        Of the study.
    tested : bool
        Whether to estimate test scores, which takes the longest; who only chooses does without.
    """
    shown = tuple(dict.fromkeys((*MAIN, results.metric)))
    found = []
    with progress("Scoring", len(results.settings), "settings") as advance:
        for name, cells in results.settings.items():
            done = tuple(cell for cell in cells if cell.status == "finished")
            names = done[0].scores.get("validation", {}) if done else {}
            validation = {
                one: float(np.mean([cell.scores.get("validation", {}).get(one, np.nan) for cell in done]))
                for one in names
            }
            found.append(
                Setting(
                    name,
                    cells[0].values,
                    done,
                    len(cells),
                    validation,
                    estimate(results, done, shown) if tested else {},
                    _costs(done),
                )
            )
            advance(1)
    return tuple(found)


def rank(settings: Sequence[Setting], metric: str) -> tuple[Setting, ...]:
    """Order the settings by their validation score; of equal ones the one that trains fewer parameters is first.

    Those without a score are left out.
    """
    sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
    scored = [one for one in settings if np.isfinite(one.validation.get(metric, np.nan))]
    return tuple(
        sorted(
            scored, key=lambda one: (-sign * one.validation[metric], one.costs["parameters"] or float("inf"))
        )
    )


def estimate(results: Results, cells: Sequence[Cell], names: Sequence[str]) -> dict[str, Estimate]:
    """Estimate test scores: their mean over several cells, with an interval over them, or that of one cell.

    Parameters
    ----------
    results : Results
        That the cells are of.
    cells : sequence of Cell
        Finished repeats.
    names : sequence of str
        Metrics.
    """
    cells = [cell for cell in cells if "test" in cell.predictions and len(cell.predictions["test"].labels)]
    if len(cells) == 1:
        return of_predictions(results, cells[0].predictions["test"], names)
    if not cells:
        return {}
    return {
        name: over_repeats(cells, [one.scores["test"].get(name, np.nan) for one in cells], name)
        for name in names
    }


def over_repeats(
    cells: Sequence[Cell] | Sequence[Extra], values: Sequence[float], metric: str = ""
) -> Estimate:
    """Average a score over repeats: over seeds with Student's interval, over folds with the corrected one.

    Parameters
    ----------
    cells : sequence of Cell or Extra
        With test predictions.
    values : sequence of float
        The score of each.
    metric : str
        Its name: the log loss has no largest value.
    """
    highest = np.inf if metric == "log_loss" else 1.0
    by_fold: dict[int | None, list[float]] = {}
    for cell, value in zip(cells, values, strict=True):
        by_fold.setdefault(cell.fold, []).append(value)
    if None in by_fold:
        return repeats.over_seeds(values, highest)
    # Seeds first: the same images judge all seeds of a fold.
    means = [float(np.mean(own)) for own in by_fold.values()]
    tested = {cell.fold: len(cell.predictions["test"].labels) for cell in cells}
    held_out = tested[cells[0].fold] + len(cells[0].predictions["validation"].labels)
    trained = sum(tested.values()) - held_out
    whole = len(by_fold) > 2 and trained > 0
    return repeats.over_folds(means, tested[cells[0].fold] / trained if whole else None, highest)


def of_predictions(results: Results, predictions: Predictions, names: Sequence[str]) -> dict[str, Estimate]:
    """Estimate scores of one model with BCa bootstrap intervals over the patients, Wilson's for proportions."""
    labels, probabilities = predictions.labels, predictions.probabilities
    scorer = partial(metrics.score, labels, probabilities, results.classes, results.positive)
    replicates = intervals.replicate({"": scorer}, predictions.patients, RESAMPLES, 0)[""]
    shares = metrics.proportions(labels, probabilities.argmax(axis=1), results.classes, results.positive)
    single = len(np.unique(predictions.patients)) == len(labels)
    return {
        name: intervals.proportion(*shares[name], predictions.patients, RESAMPLES, 0)
        if name in shares and single
        else intervals.estimate(replicates, name)
        for name in names
    }


def comparable(results: Results, ranked: Sequence[Setting]) -> tuple[Setting, ...]:
    """Keep the settings with test answers on all folds of the study, in their order."""
    folds = {cell.fold for cell in results.cells}
    return tuple(one for one in ranked if folds and folds <= {cell.fold for cell in _whole(one, folds)})


def answers(results: Results, settings: Sequence[Setting]) -> dict[str, list[Answers]]:
    """Line up what settings say about the same test images, fold by fold.

    Images that some cell has no answer to are left out; empty where none is left. A repeat that lacks a fold is
    left out too.

    Parameters
    ----------
    results : Results
        That the settings are of.
    settings : sequence of Setting
        As `comparable` returns them.
    """
    folds = list(dict.fromkeys(cell.fold for cell in results.cells))
    kept = {one.name: _whole(one, set(folds)) for one in settings}
    lined: dict[str, list[Answers]] = {name: [] for name in kept}
    for fold in folds:
        own = {
            name: [cell.predictions["test"] for cell in cells if cell.fold == fold]
            for name, cells in kept.items()
        }
        every = [one for predictions in own.values() for one in predictions]
        if not every:
            return {}
        shared = reduce(_intersection, (one.images for one in every))
        if not len(shared):
            return {}
        for name, predictions in own.items():
            predictions = [
                one if len(one.images) == len(shared) else one.among(shared) for one in predictions
            ]
            probabilities = np.stack([one.probabilities for one in predictions])
            lined[name].append(Answers(predictions[0].labels, predictions[0].patients, probabilities))
    return lined


def _intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first if np.array_equal(first, second) else np.intersect1d(first, second)


def _whole(setting: Setting, folds: set[int | None]) -> list[Cell]:
    """Return the cells, with test answers, of those seeds that have all folds."""
    tested = [cell for cell in setting.cells if "test" in cell.predictions]
    seeds: dict[int, set[int | None]] = {}
    for cell in tested:
        seeds.setdefault(cell.seed, set()).add(cell.fold)
    return [cell for cell in tested if seeds[cell.seed] >= folds]


def _costs(cells: Sequence[Cell]) -> dict[str, float | None]:
    parameters = [(cell.run.get("parameters") or {}).get("trainable") for cell in cells]
    seconds = [(cell.run.get("seconds") or {}).get("training") for cell in cells]
    memory = [cell.run.get("peak_memory_bytes") for cell in cells]
    known = {"parameters": parameters, "seconds": seconds, "memory": memory}
    numbers = {name: [float(one) for one in ones if one is not None] for name, ones in known.items()}
    return {
        "parameters": max(numbers["parameters"], default=None),
        "seconds": float(np.mean(numbers["seconds"])) if numbers["seconds"] else None,
        "memory": max(numbers["memory"], default=None),
    }
