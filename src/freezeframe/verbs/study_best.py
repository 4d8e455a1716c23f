"""From a study to what comes next: the recipe to go on with, or an ensemble of the best settings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from freezeframe.ensemble.rules import Rule
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation import metrics
from freezeframe.evaluation.pareto import cheapest_within
from freezeframe.recipe import Recipe
from freezeframe.study import results, settings
from freezeframe.study.results import Results
from freezeframe.study.settings import COSTS, Cost, Setting
from freezeframe.verbs.ensemble import ensemble


@dataclass(frozen=True)
class Recommendation:
    """The setting to go on with.

    Attributes
    ----------
    setting : str
        Its name in the study.
    values : dict of str to str
        Its label on each axis.
    recipe : Recipe
        Of its first repeat; without the folds of a cross-validation, so that it trains on an ordinary split.
    metric : str
        That it was chosen by.
    validation : float
        Its mean score over the repeats' validation images.
    best_validation : float
        The best setting's.
    cost : float or None
        What it costs, where a cost was asked for: parameters, seconds of training, or bytes of memory.
    best_cost : float or None
        The best setting's.
    """

    setting: str
    values: dict[str, str]
    recipe: Recipe
    metric: str
    validation: float
    best_validation: float
    cost: float | None = None
    best_cost: float | None = None


def study_best(
    study: str | Path,
    cheapest_within: float | None = None,
    metric: str | None = None,
    cost: Cost = "parameters",
    out: str | Path | None = None,
) -> Recommendation:
    """Choose the setting to go on with, on validation images only.

    Parameters
    ----------
    study : str or Path
        Folder of a study.
    cheapest_within : float, optional
        Take the cheapest setting whose validation score is at most so far from the best; the best where left
        out.
    metric : str, optional
        To choose by; the study's where left out.
    cost : {'parameters', 'seconds', 'memory'}
        What cheap means: parameters that train, seconds of training, or peak memory.
    out : str or Path, optional
        File that the recipe is written to.

    Raises
    ------
    UserError
        If the folder is no study, nothing is finished, or the metric or the cost is unknown.
    """
    if cost not in COSTS:
        raise UserError(f"There is no cost '{cost}';", action=did_you_mean(cost, COSTS))
    read = results.read(study)
    metric = _known_metric(read, metric)
    ranked = _ranked(read, metric)
    best = chosen = ranked[0]
    if cheapest_within is not None:
        chosen = _cheapest(ranked, metric, cost, cheapest_within)
    recipe = _recipe(chosen)
    if out is not None:
        recipe.write(Path(out))
    wanted = cheapest_within is not None
    return Recommendation(
        chosen.name,
        dict(chosen.values),
        recipe,
        metric,
        chosen.validation[metric],
        best.validation[metric],
        chosen.costs[cost] if wanted else None,
        best.costs[cost] if wanted else None,
    )


def study_ensemble(
    study: str | Path,
    top: int = 3,
    rule: Rule = "mean",
    metric: str | None = None,
    out: str | Path | None = None,
) -> Path:
    """Join all finished runs of the best settings on validation images into an ensemble.

    Parameters
    ----------
    study : str or Path
        Folder of a study.
    top : int
        How many settings; each brings all its finished repeats.
    rule : str
        See `freezeframe.ensemble`.
    metric : str, optional
        To choose by; the study's where left out.
    out : str or Path, optional
        The ensemble's folder; ``ensembles/top<k>`` in the study's where left out, which its report shows.

    Raises
    ------
    UserError
        If fewer settings are finished, or the study is a cross-validation: what one fold's run is tested on,
        another's was trained on.
    """
    read = results.read(study)
    ranked = _ranked(read, _known_metric(read, metric))
    if not 1 <= top <= len(ranked):
        raise UserError(
            f"--top is {top}, and {len(ranked)} settings have results.",
            f"a number from 1 to {len(ranked)}.",
            "Choose a smaller number, or let the study go on.",
        )
    if any(cell.fold is not None for cell in read.cells):
        raise UserError(
            "The study is a cross-validation: the test images of one fold are training images of another.",
            "runs that all hold out the same images.",
            "Train the best settings on one split, and join those runs with `freezeframe ensemble`.",
        )
    runs = [cell.folder for setting in ranked[:top] for cell in setting.cells]
    positive = read.classes[read.positive] if len(read.classes) == 2 else None
    return ensemble(
        runs,
        Path(out) if out is not None else read.folder / "ensembles" / f"top{top}",
        rule,
        positive=positive,
    )


def _known_metric(read: Results, metric: str | None) -> str:
    if metric is None:
        return read.metric
    known = [name for cell in read.finished[:1] for name in cell.scores.get("validation", {})]
    if metric not in (known or metrics.OVERALL):
        raise UserError(
            f"There is no metric '{metric}';", action=did_you_mean(metric, known or metrics.OVERALL)
        )
    return metric


def _ranked(read: Results, metric: str) -> tuple[Setting, ...]:
    ranked = settings.rank(settings.summarise(read, tested=False), metric)
    # A mean over some of the folds is not compared with one over all of them.
    whole = settings.comparable(read, ranked)
    ranked = (*whole, *(one for one in ranked if one not in whole))
    if not ranked:
        raise UserError(
            f"No training of {read.folder} has a validation score of {metric}.",
            "at least one that is finished.",
            f"Run `freezeframe study run {read.folder}` first.",
        )
    return ranked


def _cheapest(ranked: tuple[Setting, ...], metric: str, cost: Cost, tolerance: float) -> Setting:
    sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
    prices = {one.name: np.nan if (price := one.costs[cost]) is None else price for one in ranked}
    name = cheapest_within(prices, {one.name: sign * one.validation[metric] for one in ranked}, tolerance)
    return next(one for one in ranked if one.name == name)


def _recipe(setting: Setting) -> Recipe:
    content = setting.cells[0].recipe()
    content["split"] = {**(content.get("split") or {}), "folds": None, "fold": 0}
    return Recipe.parse(content, origin=str(setting.cells[0].folder / "recipe.yaml"))
