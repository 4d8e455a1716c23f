"""Which settings are not shown to differ from the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from freezeframe.errors import UserError
from freezeframe.evaluation.intervals import LEVEL
from freezeframe.evaluation.multiplicity import holm
from freezeframe.evaluation.paired import Answers, Comparison, Metric, compare_prepared, prepare


@dataclass(frozen=True)
class AgainstBest:
    """Every setting compared with the best one.

    Attributes
    ----------
    best : str
        The setting with the best validation score.
    comparisons : dict of str to Comparison
        Each other setting minus the best one, on test images.
    adjusted : dict of str to float
        The p values, adjusted for their number after Holm.
    indistinguishable : tuple of str
        Settings that are not shown to differ from the best: adjusted p of 0.05 or more. That does not show
        them to be equal: the intervals say how large a difference may be.
    retrained : bool
        Whether the adjusted p values are the `p_retrained`, as they are where every setting has repeats, or
        the `p` of these trained models.
    """

    best: str
    comparisons: dict[str, Comparison]
    adjusted: dict[str, float]
    indistinguishable: tuple[str, ...]
    retrained: bool


def against_best(
    settings: Mapping[str, Sequence[Answers]],
    validation: Mapping[str, float],
    metric: Metric,
    positive: int = -1,
) -> AgainstBest:
    """Compare every setting with the best, and say which are not shown to differ from it.

    The best is chosen on validation images. Chosen on the test images it would be the luckiest of them, and
    every difference from it overstated.

    Parameters
    ----------
    settings : mapping of str to sequence of Answers
        One or more, as in `paired.compare`.
    validation : mapping of str to float
        Each setting's validation score; larger is better. Settings without one are compared, but never the
        best. Of equal ones the first is taken.
    metric : {'accuracy', 'roc_auc'}
        Compared on test images.
    positive : int
        Index of the positive class of two.

    Raises
    ------
    UserError
        As in `paired.compare`, or where no validation score is a number.
    """
    scored = [name for name in settings if np.isfinite(validation.get(name, np.nan))]
    if not scored:
        raise UserError(
            "None of the settings has a validation score.",
            "One, by which the best is chosen without looking at test images.",
            "Give the recipe a validation share.",
        )
    best = max(scored, key=lambda name: validation[name])
    prepared = prepare(settings, metric, positive)
    comparisons = {
        name: compare_prepared(folds, prepared[best], metric)
        for name, folds in prepared.items()
        if name != best
    }
    anew = [found.p_retrained for found in comparisons.values() if found.p_retrained is not None]
    retrained = bool(comparisons) and len(anew) == len(comparisons)
    adjusted = holm(anew if retrained else [found.p for found in comparisons.values()])
    by_name = dict(zip(comparisons, adjusted.tolist(), strict=True))
    indistinguishable = tuple(name for name, p in by_name.items() if p >= 1 - LEVEL)
    return AgainstBest(best, comparisons, by_name, indistinguishable, retrained)
