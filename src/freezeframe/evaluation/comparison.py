"""Is the ensemble better than its best member? Paired, over resamples of the same patients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from freezeframe.evaluation.intervals import (
    LEVEL,
    Estimate,
    Replicates,
    bias_and_acceleration,
    estimate,
    share_below,
)
from freezeframe.evaluation.metrics import LOWER_IS_BETTER


@dataclass(frozen=True)
class Difference:
    """A difference of two models in one metric.

    Attributes
    ----------
    estimate : Estimate
        First minus second, with its interval.
    p : float or None
        Two-sided; below 0.05 exactly where the 95 % interval leaves out 0. None where there is no interval.
    """

    estimate: Estimate
    p: float | None

    def to_dict(self) -> dict[str, float | str | None]:
        """Return plain data: that of the estimate, and p."""
        return self.estimate.to_dict() | {"p": self.p}


def best_member(scores: Mapping[str, float], metric: str) -> str:
    """Name the member with the best score; the first of them where several are equal.

    The scores must come from the validation images: a member chosen by its test score has an advantage by
    luck, and a comparison with it would understate the ensemble.

    Examples
    --------
    >>> best_member({"lite0": 0.91, "lite1": 0.94}, "roc_auc")
    'lite1'
    >>> best_member({"lite0": 0.3, "lite1": 0.4}, "log_loss")
    'lite0'
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(scores, key=lambda name: sign * scores[name] if np.isfinite(scores[name]) else -np.inf)


def difference(first: Replicates, second: Replicates, metric: str, level: float = LEVEL) -> Difference:
    """Compute first minus second in one metric, with its BCa interval and the p value that belongs to it.

    Parameters
    ----------
    first, second : Replicates
        Of the same patients, from one call of `replicate`, so that each resample holds both models' answers
        to the same images: what is hard for both cancels.
    metric : str
        Which of their metrics.
    level : float
        Of confidence.
    """
    paired = Replicates(
        {metric: first.value[metric] - second.value[metric]},
        {metric: first.bootstrap[metric] - second.bootstrap[metric]},
        {metric: first.jackknife[metric] - second.jackknife[metric]},
    )
    found = estimate(paired, metric, level)
    if found.value is None or found.low is None:
        return Difference(found, None)
    bootstrap = paired.bootstrap[metric][np.isfinite(paired.bootstrap[metric])]
    bias, acceleration = bias_and_acceleration(found.value, bootstrap, paired.jackknife[metric])
    # The BCa bound of level alpha is the quantile Phi(z0 + z / (1 - a z)) with z = z0 + z_alpha. Solved for
    # the alpha at which the bound is 0, it gives the one-sided p value.
    w = norm.ppf(share_below(bootstrap, 0.0)) - bias
    one_sided = float(norm.cdf(w / (1 + acceleration * w) - bias))
    return Difference(found, min(1.0, 2 * min(one_sided, 1 - one_sided)))
