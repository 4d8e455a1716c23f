"""Intervals that respect patients: Wilson's for proportions, the BCa bootstrap of patients for the rest.

Images of one patient are alike, so the patient is what is drawn. Among bootstrap intervals, BCa
(bias-corrected and accelerated; Efron, Better bootstrap confidence intervals, JASA 1987; DiCiccio and
Efron, Statistical Science 1996) is taken because our metrics are skewed near 1 and because resampling
shifts some of them: a percentile interval of the expected calibration error can lie wholly above the value
itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from freezeframe.seeds import generator

LEVEL = 0.95
UNDEFINED_SHARE = 0.1
"""More resamples than this without a value (such as one without any positive), and there is no interval."""

_CELLS = 2_000_000  # of one block of weights: 16 MB
_JACKKNIFE_GROUPS = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes
    ----------
    value, low, high : float or None
        None where it does not exist.
    method : str
        How the interval was made: 'wilson', 'wilson over patients', 'bca' or ''.
    reason : str
        Why the value or the interval is missing; '' where it is not.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, float | str | None]:
        """Return plain data: value, low, high, method, and the reason where something is missing."""
        plain: dict[str, float | str | None] = {"value": self.value, "low": self.low, "high": self.high}
        if self.method:
            plain["method"] = self.method
        return plain | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True)
class Replicates:
    """A set of metrics on all images, on bootstrap samples of the patients, and with some patients left out.

    Attributes
    ----------
    value : dict of str to float
        On all images; NaN where undefined.
    bootstrap : dict of str to ndarray (B,)
        On each bootstrap sample. The same position is the same sample in all replicates of one call.
    jackknife : dict of str to ndarray (G,)
        With one patient (or one of 1,000 groups of them) left out.
    """

    value: dict[str, float]
    bootstrap: dict[str, np.ndarray]
    jackknife: dict[str, np.ndarray]


def wilson(successes: float, total: float, level: float = LEVEL) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion (Wilson, JASA 1927).

    Examples
    --------
    >>> low, high = wilson(0, 10)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.2775)
    """
    z = float(norm.ppf((1 + level) / 2))
    share = successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # At 0 and at all successes the bound is exact; rounding would leave a trace of an image on the wrong
    # side.
    return (
        0.0 if successes == 0 else float(max(centre - half, 0)),
        1.0 if successes == total else float(min(centre + half, 1)),
    )


def replicate(
    scorers: Mapping[str, Callable[[np.ndarray], dict[str, np.ndarray]]],
    patients: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Replicates]:
    """Compute the metrics of several models on the same resamples of the patients.

    Parameters
    ----------
    scorers : mapping of str to callable
        For each model, a function from weights (R, N) to metrics, each (R,).
    patients : ndarray (N,)
        Whose each image is.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Equal seeds draw equal samples.

    Returns
    -------
    dict of str to Replicates
        For each model.
    """
    _, codes = np.unique(patients, return_inverse=True)
    found: dict[str, list[list[dict[str, np.ndarray]]]] = {name: [] for name in scorers}
    for blocks in (
        [np.ones((1, len(codes)))],
        _bootstrap_weights(codes, resamples, seed),
        _jackknife_weights(codes, seed),
    ):
        for parts in found.values():
            parts.append([])
        for weights in blocks:
            for name, scorer in scorers.items():
                found[name][-1].append(scorer(weights))
    replicates = {}
    for name, parts in found.items():
        value, bootstrap, jackknife = (
            {metric: np.concatenate([block[metric] for block in part]) for metric in part[0]}
            for part in parts
        )
        replicates[name] = Replicates(
            {metric: float(v[0]) for metric, v in value.items()}, bootstrap, jackknife
        )
    return replicates


def _bootstrap_weights(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    patients = int(codes.max()) + 1
    random = generator(seed, "bootstrap")
    rows = max(1, _CELLS // max(patients, len(codes)))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = random.integers(0, patients, (count, patients)) + patients * np.arange(count)[:, None]
        yield (
            np.bincount(drawn.ravel(), minlength=count * patients)
            .reshape(count, patients)[:, codes]
            .astype(float)
        )


def _jackknife_weights(codes: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    # The acceleration is a skewness of the patients' influences. Summed over random groups the influences
    # keep their sums of squares and cubes on average, so 1,000 groups do (error below 0.001) where there
    # are more patients.
    patients = int(codes.max()) + 1
    groups = min(patients, _JACKKNIFE_GROUPS)
    group = (generator(seed, "jackknife").permutation(patients) % groups)[codes]
    rows = max(1, _CELLS // len(codes))
    for start in range(0, groups, rows):
        yield (group != np.arange(start, min(start + rows, groups))[:, None]).astype(float)


def estimate(replicates: Replicates, metric: str, level: float = LEVEL) -> Estimate:
    """Make the BCa interval of one metric.

    Parameters
    ----------
    replicates : Replicates
        From `replicate`, or the difference of two.
    metric : str
        Which of its metrics.
    level : float
        Of confidence.
    """
    value, bootstrap = replicates.value[metric], replicates.bootstrap[metric]
    if not np.isfinite(value):
        return Estimate(None, reason="it is not defined on these images")
    defined = bootstrap[np.isfinite(bootstrap)]
    if len(defined) < (1 - UNDEFINED_SHARE) * len(bootstrap):
        return Estimate(value, reason="too many resamples of the patients lack a class or a prediction of it")
    if np.ptp(defined) < 1e-12:
        return Estimate(value, reason="it is the same in every resample of the patients")
    bias, acceleration = bias_and_acceleration(value, defined, replicates.jackknife[metric])
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(defined, norm.cdf(bias + z / (1 - acceleration * z)))
    return Estimate(value, float(low), float(high), "bca")


def bias_and_acceleration(value: float, bootstrap: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Compute BCa's z0 and a (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 14.3)."""
    share = share_below(bootstrap, value)
    influence = jackknife[np.isfinite(jackknife)]
    influence = influence.mean() - influence if len(influence) else np.zeros(1)
    spread = np.sum(influence**2)
    acceleration = np.sum(influence**3) / (6 * spread**1.5) if spread > 1e-24 else 0.0
    return float(norm.ppf(share)), float(acceleration)


def share_below(bootstrap: np.ndarray, value: float) -> float:
    """Return the share of resamples below a value, ties counting half, and never quite 0 or 1."""
    tied = np.abs(bootstrap - value) < 1e-12
    share = np.mean((bootstrap < value) & ~tied) + np.mean(tied) / 2
    return float(np.clip(share, 0.5 / len(bootstrap), 1 - 0.5 / len(bootstrap)))


def proportion(
    hits: np.ndarray, among: np.ndarray, patients: np.ndarray, resamples: int, seed: int, level: float = LEVEL
) -> Estimate:
    """Estimate a proportion: Wilson's interval where all patients differ, else the bootstrap of patients.

    Where patients have several images and no resample differs (all right, or all wrong), Wilson's interval
    is taken with the number of patients as the number of trials, which is conservative: images of a patient
    count as one.

    Parameters
    ----------
    hits, among : ndarray of bool (N,)
        The proportion is the share of hits among those.
    patients : ndarray (N,)
        Whose each image is.
    resamples, seed : int
        Of the bootstrap.
    level : float
        Of confidence.
    """
    hits, patients = hits[among], patients[among]
    if len(hits) == 0:
        return Estimate(None, reason="there are no such images")
    distinct = len(np.unique(patients))
    value = float(hits.mean())
    if distinct == len(hits):
        return Estimate(value, *wilson(int(hits.sum()), len(hits), level), "wilson")
    if hits.all() or not hits.any():
        return Estimate(
            value, *wilson(distinct if hits.all() else 0, distinct, level), "wilson over patients"
        )

    def share(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"share": weights @ hits / weights.sum(axis=1)}

    return estimate(replicate({"": share}, patients, resamples, seed)[""], "share", level)
