"""What a study's results mean: the best setting, and what can be told from it.

The best setting is chosen by its validation score, averaged over its repeats; test images only judge.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from freezeframe.errors import UserError
from freezeframe.evaluation import metrics
from freezeframe.evaluation.best import AgainstBest, against_best
from freezeframe.evaluation.intervals import LEVEL, Estimate
from freezeframe.evaluation.paired import Metric
from freezeframe.study.beside import Beside, compare_extras
from freezeframe.study.remedies import Remedy, remedies
from freezeframe.study.results import Results
from freezeframe.study.settings import Setting, answers, comparable, rank, summarise

PAIRED: tuple[Metric, ...] = ("roc_auc", "accuracy")
"""The metrics that have a paired test."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What a level of an axis changes, all else equal.

    Attributes
    ----------
    axis, level, reference : str
        The reference is the axis' first level.
    difference : Estimate
        Mean over the pairs of settings that differ in this axis only, of the level's test score minus the
        reference's, with an interval over the pairs where there are several.
    pairs : int
        How many.
    """

    axis: str
    level: str
    reference: str
    difference: Estimate
    pairs: int


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the report says, in numbers.

    Attributes
    ----------
    results : Results
    settings : tuple of Setting
        All, in the study's order.
    ranked : tuple of Setting
        Those with a validation score, the best first; of equal ones the one that trains fewer parameters.
    against_best : dict of str to AgainstBest
        For 'roc_auc' and 'accuracy': every other setting compared with the best on the test images. A metric
        is missing where nothing can be compared.
    effects : tuple of Effect
        Of each axis with several levels.
    beside : tuple of Beside
        Baselines and ensembles.
    remedies : tuple of Remedy
        Against unequal classes, where that is an axis.
    """

    results: Results
    settings: tuple[Setting, ...]
    ranked: tuple[Setting, ...]
    against_best: Mapping[str, AgainstBest]
    effects: tuple[Effect, ...]
    beside: tuple[Beside, ...]
    remedies: tuple[Remedy, ...]

    @property
    def best(self) -> Setting | None:
        """The setting with the best validation score."""
        return self.ranked[0] if self.ranked else None

    @property
    def compared(self) -> Metric:
        """The metric of the paired tests: the study's where it has one, else the ROC AUC."""
        return "accuracy" if self.results.metric == "accuracy" else "roc_auc"

    @property
    def main(self) -> AgainstBest | None:
        """The comparisons in the metric of the paired tests."""
        return self.against_best.get(self.compared)

    @property
    def indistinguishable(self) -> tuple[Setting, ...]:
        """Settings that are not shown to differ from the best, the best by validation first."""
        names = self.main.indistinguishable if self.main else ()
        return tuple(setting for setting in self.ranked if setting.name in names)


def find(results: Results) -> Findings:
    """Draw from a study's results all that its report says."""
    settings = summarise(results)
    ranked = rank(settings, results.metric)
    whole = comparable(results, ranked)
    # What was tested on all folds is judged first: the mean over some of them is another question.
    ranked = (*whole, *(setting for setting in ranked if setting not in whole))
    lined = answers(results, whole)
    against: dict[str, AgainstBest] = {}
    if len(whole) > 1 and lined:
        sign = -1 if results.metric in metrics.LOWER_IS_BETTER else 1
        validation = {setting.name: sign * setting.validation[results.metric] for setting in whole}
        for metric in PAIRED:
            # A test split that lacks a class has no AUC; its accuracy is compared all the same.
            with contextlib.suppress(UserError):
                against[metric] = against_best(lined, validation, metric, results.positive)
    compared: Metric = "accuracy" if results.metric == "accuracy" else "roc_auc"
    best = whole[0] if whole else None
    return Findings(
        results,
        settings,
        ranked,
        against,
        effects(results, settings, compared),
        compare_extras(results, best, compared),
        remedies(results),
    )


def effects(results: Results, settings: Sequence[Setting], metric: str) -> tuple[Effect, ...]:
    """Compare each level of each axis with the axis' first, over all pairs of settings that else agree."""
    scores = {
        tuple(sorted(one.values.items())): one.test[metric].value
        for one in settings
        if metric in one.test and one.test[metric].value is not None
    }
    found = []
    for axis, levels in results.axes.items():
        for level in levels[1:]:
            differences = []
            for place, score in scores.items():
                values = dict(place)
                partner = tuple(sorted((values | {axis: levels[0]}).items()))
                if values.get(axis) == level and partner in scores:
                    differences.append((score or 0.0) - (scores[partner] or 0.0))
            if differences:
                found.append(Effect(axis, level, levels[0], _mean(differences), len(differences)))
    return tuple(found)


def _mean(values: Sequence[float]) -> Estimate:
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, reason="there is one pair")
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half, "student")
