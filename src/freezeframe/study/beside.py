"""Baselines and ensembles beside a study's settings, compared with the best of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.errors import UserError
from freezeframe.evaluation.intervals import Estimate
from freezeframe.evaluation.multiplicity import holm
from freezeframe.evaluation.paired import Answers, Comparison, Metric, compare
from freezeframe.study.results import Extra, Results
from freezeframe.study.settings import Setting, answers, of_predictions, over_repeats


@dataclass(frozen=True, eq=False)
class Beside:
    """A baseline or an ensemble, and how it compares with the best setting.

    Attributes
    ----------
    extra : Extra
        Of a cross-validation's baselines that of the first fold.
    validation : float
        Mean score over the folds' validation images, in the compared metric; NaN where there is none.
    test : Estimate
        The same for the test images, with an interval over the folds, or over the patients of a single split.
    comparison : Comparison or None
        It minus the best setting; None where they were tested on different images.
    adjusted : float or None
        Its p value, adjusted for the number of baselines and ensembles after Holm.
    """

    extra: Extra
    validation: float
    test: Estimate
    comparison: Comparison | None
    adjusted: float | None


def compare_extras(results: Results, best: Setting | None, metric: Metric) -> tuple[Beside, ...]:
    """Compare baselines and ensembles with the best setting, paired, on the test images that both have."""
    groups: dict[str, list[Extra]] = {}
    for extra in results.extras:
        if "test" in extra.predictions:
            groups.setdefault(_without_fold(extra), []).append(extra)
    lined = answers(results, [best]).get(best.name, []) if best else []
    compared = [_compare(results, own, best, lined, metric) if best else None for own in groups.values()]
    adjusted = holm([np.nan if one is None else one.p for one in compared])
    return tuple(
        Beside(
            own[0],
            float(np.mean([one.scores.get("validation", {}).get(metric, np.nan) for one in own])),
            _estimate(results, own, metric),
            one,
            None if one is None else float(p),
        )
        for own, one, p in zip(groups.values(), compared, adjusted, strict=True)
    )


def _without_fold(extra: Extra) -> str:
    """Write what a baseline's folds have in common: method and recipe but for the fold."""
    recipe = extra.recipe()
    if extra.fold is None or not recipe:
        return extra.name
    split: Mapping = recipe.get("split") or {}
    same = recipe | {"split": {name: value for name, value in split.items() if name != "fold"}}
    return json.dumps([extra.details.get("method"), same], sort_keys=True, default=str)


def _estimate(results: Results, folds: Sequence[Extra], metric: str) -> Estimate:
    if len(folds) == 1:
        return of_predictions(results, folds[0].predictions["test"], (metric,))[metric]
    return over_repeats(folds, [one.scores["test"].get(metric, np.nan) for one in folds], metric)


def _compare(
    results: Results, extras: Sequence[Extra], best: Setting, lined: Sequence[Answers], metric: Metric
) -> Comparison | None:
    own = {extra.fold: extra for extra in extras}
    tested = {cell.fold: cell.predictions["test"] for cell in best.cells if "test" in cell.predictions}
    folds = list(dict.fromkeys(cell.fold for cell in results.cells))
    if not lined or not set(folds) <= own.keys() & tested.keys():
        return None
    matched = []
    for fold, theirs in zip(folds, lined, strict=True):
        test = own[fold].predictions["test"].among(tested[fold].images)
        matched.append(Answers(test.labels, test.patients, test.probabilities[None]))
        if not np.array_equal(test.labels, theirs.labels):
            return None
    try:
        return compare(matched, lined, metric, results.positive)
    except UserError:
        # The test images lack a class, so there is no AUC to compare.
        return None
