"""What a better score costs: the settings that no other one beats in both."""

from collections.abc import Mapping

import numpy as np

from freezeframe.errors import UserError


def front(costs: Mapping[str, float], scores: Mapping[str, float]) -> tuple[str, ...]:
    """Name the settings to which no other is at least as cheap and as good, and better in one of them.

    Parameters
    ----------
    costs : mapping of str to float
        Of each setting: parameters, seconds, bytes. Smaller is better.
    scores : mapping of str to float
        Larger is better. Settings without a cost or a score (or with NaN) are left out.

    Returns
    -------
    tuple of str
        From cheap to dear, so also from bad to good. Settings equal in both are all named, in their order.

    Examples
    --------
    >>> front({"head": 1, "half": 5, "all": 9}, {"head": 0.90, "half": 0.94, "all": 0.93})
    ('head', 'half')
    """
    chosen: list[str] = []
    for name in _by_cost(costs, scores):
        last = chosen[-1] if chosen else None
        equal = last is not None and (costs[name], scores[name]) == (costs[last], scores[last])
        if last is None or equal or scores[name] > scores[last]:
            chosen.append(name)
    return tuple(chosen)


def cheapest_within(costs: Mapping[str, float], scores: Mapping[str, float], tolerance: float) -> str:
    """Name the cheapest setting whose score is at most a tolerance below the best.

    The scores must come from validation images, as for every choice.

    Parameters
    ----------
    costs, scores : mapping of str to float
        As in `front`. Of equally cheap settings the better is taken.
    tolerance : float
        In units of the score, not negative. A score exactly so far below still counts.

    Raises
    ------
    UserError
        Where no setting has both a cost and a score, or the tolerance is negative.

    Examples
    --------
    >>> costs, scores = {"head": 1, "half": 5, "all": 9}, {"head": 0.90, "half": 0.93, "all": 0.94}
    >>> cheapest_within(costs, scores, 0.01), cheapest_within(costs, scores, 0.05)
    ('half', 'head')
    """
    if not tolerance >= 0:
        raise UserError(
            f"The tolerance is {tolerance}.", "0 or more.", "0.01 allows a point less than the best."
        )
    ordered = _by_cost(costs, scores)
    if not ordered:
        raise UserError(
            "No setting has both a cost and a score.",
            "At least one that is finished.",
            "Run the study first.",
        )
    # 0.94 - 0.93 is a little above 0.01 in floating point.
    least = max(scores[name] for name in ordered) - tolerance - 1e-9
    return next(name for name in ordered if scores[name] >= least)


def _by_cost(costs: Mapping[str, float], scores: Mapping[str, float]) -> list[str]:
    known = [
        name for name in costs if np.isfinite(costs[name]) and name in scores and np.isfinite(scores[name])
    ]
    return sorted(known, key=lambda name: (costs[name], -scores[name]))
