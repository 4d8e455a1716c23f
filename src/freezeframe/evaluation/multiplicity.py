"""Many comparisons: with twenty settings of equal skill, one differs "significantly" from the best by luck."""

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjust p values so that the chance of any false claim among them stays below the level.

    Holm's step-down method (Scandinavian Journal of Statistics 1979), which needs no assumption about how the
    comparisons depend on each other: those with one best setting, on the same images, do.

    Parameters
    ----------
    p_values : array_like of float (K,)
        In [0, 1]; NaN where there is none, which stays NaN and is not counted.

    Returns
    -------
    ndarray of float64 (K,)
        Adjusted p values, in the order given and never below the p value itself.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.array(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return values
