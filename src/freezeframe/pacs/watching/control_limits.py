"""Control limits: between which values chance keeps a window of new images that are like the reference's.

All are two-sample prediction limits, so that a small reference makes them wide instead of wrong, and none supposes a
shape of the distribution. `alpha` is the probability of a value outside them, both sides together, where nothing has
changed (Shewhart's charts, NIST/SEMATECH e-Handbook of Statistical Methods, section 6.3, whose three-sigma limits
are alpha = 0.0027).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

SECONDS_A_YEAR = 365.25 * 86400
LARGEST_ALPHA = 0.05
LOOKS_A_WINDOW = 4
"""A look after each quarter of a window of new images. Windows overlap, so looks are alike and alarms come together:
their expected number is what it would be without overlap, that of their episodes is smaller."""


@dataclass(frozen=True)
class Judgement:
    """A value and its control limits.

    Attributes
    ----------
    value, low, high : float
        Of the window, and the limits, in the signal's own unit.
    outside : bool
        Whether the value is beyond a limit.
    """

    value: float
    low: float
    high: float

    @property
    def outside(self) -> bool:
        """Whether chance hardly explains the value."""
        return not self.low <= self.value <= self.high


def alpha_of_a_look(false_alarms_a_year: float, images_a_year: float, window: int, signals: int) -> float:
    """Return the error that one signal may make at one look, so that all together stay within a year's.

    The expected number of false alarms a year is looks x signals x alpha, whether or not looks and signals depend on
    each other (Bonferroni).

    Parameters
    ----------
    false_alarms_a_year : float
        Wanted.
    images_a_year : float
        That come, on the whole.
    window : int
        Images of one look; the next look is a quarter of it later.
    signals : int
        That are judged at each look.

    Examples
    --------
    >>> round(alpha_of_a_look(2, 36500, 200, 11), 6)
    0.000249
    """
    looks = max(1.0, images_a_year * LOOKS_A_WINDOW / window)
    return min(LARGEST_ALPHA, false_alarms_a_year / (looks * max(1, signals)))


def level(window: np.ndarray, reference: np.ndarray, alpha: float) -> Judgement:
    """Judge whether values lie higher or lower than the reference's: their mean rank among them, 0.5 where alike.

    It is Mann and Whitney's statistic over n m, the probability that a value of the window is above one of the
    reference, with the variance under ties (Lehmann, Nonparametrics, section 1.4).

    Parameters
    ----------
    window, reference : ndarray of float (n,), (m,)
        Finite values.
    alpha : float
        Probability of a false alarm.

    Examples
    --------
    >>> level(np.arange(20.0), np.arange(20.0), 0.01).value
    0.5
    """
    n, m = len(window), len(reference)
    both = np.concatenate([window, reference])
    ranks = stats.rankdata(both)
    value = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    _, ties = np.unique(both, return_counts=True)
    total = n + m
    variance = (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (12 * n * m)
    reach = float(stats.norm.isf(alpha / 2)) * math.sqrt(max(variance, 0.0))
    return Judgement(float(value), 0.5 - reach, 0.5 + reach)


def rate(count: int, window: int, reference_count: int, reference: int, alpha: float) -> Judgement:
    """Judge a share of images, such as of the positive ones (a p chart whose p was estimated).

    The limits are quantiles of the beta-binomial distribution that the reference predicts with Jeffreys' prior
    (Brown, Cai and DasGupta, Statistical Science 2001, section 4.3; Bayarri and Garcia-Donato, 2005, for charts).

    Parameters
    ----------
    count, window : int
        How many of the window's images, and how many those are.
    reference_count, reference : int
        The same of the reference.
    alpha : float
        Probability of a false alarm, at most: counts are whole.

    Examples
    --------
    >>> rate(100, 200, 50, 500, 0.001).outside, rate(22, 200, 50, 500, 0.001).outside
    (True, False)
    """
    prior = (reference_count + 0.5, reference - reference_count + 0.5)
    cumulated = np.cumsum(stats.betabinom.pmf(np.arange(window + 1), window, *prior))
    low, high = np.searchsorted(cumulated, (alpha / 2, 1 - alpha / 2))  # as `ppf`, which is slow
    return Judgement(count / window, float(low) / window, float(min(high, window)) / window)


def shape(window: np.ndarray, reference: np.ndarray, alpha: float) -> Judgement:
    """Judge a distribution: the largest distance of the two cumulated shares, by Kolmogorov and Smirnov.

    The limit is Smirnov's asymptotic one (Hodges, Arkiv for Matematik 1958), which is a little too wide for small
    samples and for ties.

    Parameters
    ----------
    window, reference : ndarray of float (n,), (m,)
        Finite values.
    alpha : float
        Probability of a false alarm, at most.

    Examples
    --------
    >>> shape(np.arange(50.0), np.arange(50.0), 0.01).value
    0.0
    """
    n, m = len(window), len(reference)
    both = np.sort(np.concatenate([window, reference]))
    below = np.searchsorted(np.sort(window), both, side="right") / n
    below_reference = np.searchsorted(np.sort(reference), both, side="right") / m
    distance = float(np.abs(below - below_reference).max())
    limit = math.sqrt(-math.log(alpha / 2) / 2 * (n + m) / (n * m))
    return Judgement(distance, 0.0, min(1.0, limit))
