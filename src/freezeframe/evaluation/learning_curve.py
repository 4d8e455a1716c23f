"""How many images do I need? A power law through the scores of growing training sets, with its uncertainty.

A score grows towards an asymptote, ``score(n) = a - b n^-c``, and what lies beyond the measured sizes depends on
all three numbers, which a handful of sizes can't pin down. Fitting the best curve and resampling it forgets the
curves that fit nearly as well. So all of them are kept, each with its posterior probability, on a grid of asymptotes
and exponents; level and noise are integrated out in closed form (a normal linear model with conjugate prior).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from freezeframe.errors import UserError
from freezeframe.evaluation.intervals import LEVEL, Estimate
from freezeframe.seeds import generator

FEWEST_SIZES = 3
HORIZON = 100
"""A size beyond so many times the largest measured one counts as out of reach."""

_SAMPLES = 4000
# Measured exponents of deep networks are 0.07 to 0.35 (Hestness et al., arXiv 1712.00409, 2017), theory expects 0.5
# to 1 (Viering and Loog, IEEE PAMI 2023): log-normal around 0.5, with 95 % between 0.13 and 2.
_EXPONENTS = np.geomspace(0.05, 3, 50)
_EXPONENT_PRIOR = -0.5 * ((np.log(_EXPONENTS) - np.log(0.5)) / 0.7) ** 2
# Which part of the way from the score at the largest size to the ceiling more data would go: uniform.
_HEADROOMS = (np.arange(60) + 0.5) / 60
_DECAYS = np.array([0.0, 0.5, 1.0])  # the spread of draws shrinks as n to the minus this
_SHARED = np.array(
    [0.0, 0.3, 1.0, 3.0]
)  # variance that all draws of a size have in common, in draws' variances
# One imaginary observation of a spread of 0.01, so that scores that agree by luck do not look exact.
_PRIOR_WEIGHT, _PRIOR_SPREAD = 1.0, 0.01


@dataclass(frozen=True)
class SizeForecast:
    """How large a training set must be for a target.

    Attributes
    ----------
    value : float or None
        Median of the size; None where it is more likely out of reach than not.
    low, high : float or None
        95 % interval; None where the end is out of reach.
    out_of_reach : float
        Probability that no size will do, or only one beyond 100 times the largest measured.
    """

    value: float | None
    low: float | None
    high: float | None
    out_of_reach: float


@dataclass(frozen=True)
class Hindcast:
    """A forecast of what is known already: larger sizes hidden, forecast from the smaller ones, and compared.

    Attributes
    ----------
    forecasts : dict of float to Estimate
        For each hidden size, of one training on the same test images.
    means : dict of float to float
        Mean of the scores that were measured there.
    held : int
        How many of the hidden trainings have a score inside their interval.
    trainings : int
        How many were hidden.
    """

    forecasts: dict[float, Estimate]
    means: dict[float, float]
    held: int
    trainings: int


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Curves that agree with the measured scores, drawn from their posterior distribution.

    Attributes
    ----------
    largest : float
        The largest measured size.
    level : ndarray of float (S,)
        Score at the largest size.
    asymptote : ndarray of float (S,)
        Score with endless data.
    exponent : ndarray of float (S,)
        How fast the rest of the way shrinks.
    spread, decay, shared : ndarray of float (S,)
        Standard deviation of one training's score about the curve at the largest size; how it shrinks with
        the size; and the variance that is common to a size, as a multiple.
    ceiling : float
        The metric's largest value.
    test_error : float
        Standard error through the choice of the test images, which all sizes share.
    seed : int
        Of the draws.
    """

    largest: float
    level: np.ndarray
    asymptote: np.ndarray
    exponent: np.ndarray
    spread: np.ndarray
    decay: np.ndarray
    shared: np.ndarray
    ceiling: float
    test_error: float
    seed: int

    def forecast(self, size: float, same_test_images: bool = False) -> Estimate:
        """Forecast the score of one training with so much data, with a 95 % predictive interval.

        Parameters
        ----------
        size : float
            Training patients or images, as in `fit`; positive.
        same_test_images : bool
            Whether it will be measured on the test images that the curve was measured on: what they are too
            easy or too hard, they will be again. Otherwise the interval is for patients in general, and as
            much wider as `test_error` says.

        Returns
        -------
        Estimate
            The value is the median of the curves, which never falls with the size.
        """
        return Estimate(*self._interval(size, same_test_images), "power law, posterior")

    def _interval(self, size: float, same_test_images: bool) -> tuple[float, float, float]:
        if not size > 0:
            raise UserError(f"The size is {size}.", "A positive number.", "Ask for a size such as 1000.")
        relative = size / self.largest
        curves = self.asymptote - (self.asymptote - self.level) * relative**-self.exponent
        chance = generator(self.seed, "forecast").normal(size=(2, len(curves)))
        noise = self.spread * np.sqrt(relative ** (-2 * self.decay) + self.shared) * chance[0]
        if not same_test_images:
            noise = noise + self.test_error * chance[1]
        low, high = np.quantile(np.clip(curves + noise, 0, self.ceiling), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = float(np.clip(np.median(curves), 0, self.ceiling))
        return value, min(float(low), value), max(float(high), value)

    def size_for(self, target: float) -> SizeForecast:
        """Forecast how much data the expected score needs to reach a target, for patients in general.

        Parameters
        ----------
        target : float
            Above 0, at most the ceiling.

        Examples
        --------
        >>> sizes = np.repeat([50, 100, 200, 400, 800], 2)
        >>> curve = fit(sizes, 0.95 - 0.9 * sizes**-0.5 + np.tile([0.004, -0.004], 5))
        >>> found = curve.size_for(0.92)  # in truth 900
        >>> found.low < 900 < found.high, found.out_of_reach < 0.05, curve.size_for(0.99).value
        (True, True, None)
        """
        if not 0 < target <= self.ceiling:
            raise UserError(
                f"The target is {target}.",
                f"Above 0, at most {self.ceiling}.",
                "Ask for a score such as 0.97.",
            )
        chance = generator(self.seed, "forecast").normal(size=(2, len(self.level)))[1]
        gap = self.asymptote - target - self.test_error * chance
        with np.errstate(divide="ignore", over="ignore"):
            way = (self.asymptote - self.level) / np.where(gap > 0, gap, np.nan)
            sizes = self.largest * way ** (1 / self.exponent)
        sizes = np.where(np.isnan(sizes) | (sizes > HORIZON * self.largest), np.inf, np.maximum(sizes, 1))
        ends = np.quantile(sizes, [0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
        value, low, high = (float(end) if np.isfinite(end) else None for end in ends)
        return SizeForecast(value, low, high, float(np.mean(np.isinf(sizes))))


def fit(
    sizes: ArrayLike, scores: ArrayLike, ceiling: float = 1.0, test_error: float = 0.0, seed: int = 0
) -> LearningCurve:
    """Fit a saturating power law to the scores of growing training sets.

    Parameters
    ----------
    sizes : array_like of float (M,)
        Training patients or images of each training, positive; three or more different ones.
    scores : array_like of float (M,)
        Of each training, in [0, ceiling], larger is better; NaN where there is none. Of one class where the
        forecast is to be of that class.
    ceiling : float
        The metric's largest value.
    test_error : float
        Standard error, through the choice of the test images, of the mean score of the largest trainings: the
        root of `placements.variance` of their mean parts. The trainings' scatter can't show it, because they
        share the images. (A single training's standard error is larger: part of it is in the scatter.)
    seed : int
        Equal seeds give equal forecasts.

    Raises
    ------
    UserError
        Where there are fewer than three sizes, or scores out of range.
    """
    known_sizes, known_scores = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if known_sizes.shape != known_scores.shape or known_sizes.ndim != 1:
        raise ValueError(f"sizes {known_sizes.shape} and scores {known_scores.shape} must both be (M,)")
    known = np.isfinite(known_scores)
    known_sizes, known_scores = known_sizes[known], known_scores[known]
    distinct, codes = np.unique(known_sizes, return_inverse=True)
    if len(distinct) < FEWEST_SIZES:
        raise UserError(
            f"There are scores at {len(distinct)} training size{'s' * (len(distinct) != 1)}.",
            f"{FEWEST_SIZES} or more, for a curve that bends.",
            "Train on more shares of the data, such as 0.125, 0.25, 0.5 and 1.",
        )
    if distinct[0] <= 0 or known_scores.min() < 0 or known_scores.max() > ceiling:
        raise UserError(
            f"Sizes from {distinct[0]:g}, scores from {known_scores.min():g} to {known_scores.max():g}.",
            f"Sizes above 0, scores between 0 and {ceiling:g} that are better when larger.",
            "Take a metric such as roc_auc or accuracy.",
        )
    counts = np.bincount(codes)
    means = np.bincount(codes, known_scores) / counts
    within = np.bincount(codes, (known_scores - means[codes]) ** 2)
    return _draw(
        distinct / distinct[-1], counts, means, within, float(distinct[-1]), ceiling, test_error, seed
    )


def hindcast(
    sizes: ArrayLike, scores: ArrayLike, share: float = 0.5, ceiling: float = 1.0, seed: int = 0
) -> Hindcast:
    """Hide the trainings with more than a share of the data, forecast their scores, and count what held.

    Parameters
    ----------
    sizes, scores, ceiling, seed
        As in `fit`.
    share : float
        Of the largest size; larger sizes are hidden. In (0, 1).

    Raises
    ------
    UserError
        Where fewer than three sizes are left.
    """
    all_sizes, all_scores = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.isfinite(all_scores)
    all_sizes, all_scores = all_sizes[known], all_scores[known]
    # A half of the patients may be one more than half by rounding.
    hidden = all_sizes > share * all_sizes.max(initial=0) + 1
    curve = fit(all_sizes[~hidden], all_scores[~hidden], ceiling, seed=seed)
    forecasts, means, held = {}, {}, 0
    for size in np.unique(all_sizes[hidden]).tolist():
        forecasts[size] = curve.forecast(size, same_test_images=True)
        measured = all_scores[hidden & (all_sizes == size)]
        means[size] = float(measured.mean())
        _, low, high = curve._interval(size, same_test_images=True)
        held += int(np.sum((measured >= low) & (measured <= high)))
    return Hindcast(forecasts, means, held, int(hidden.sum()))


def _draw(
    relative: np.ndarray,
    counts: np.ndarray,
    means: np.ndarray,
    within: np.ndarray,
    largest: float,
    ceiling: float,
    test_error: float,
    seed: int,
) -> LearningCurve:
    headroom, exponent, decay, shared = (
        axis[..., None] for axis in np.meshgrid(_HEADROOMS, _EXPONENTS, _DECAYS, _SHARED, indexing="ij")
    )
    # With the asymptote at level + headroom (ceiling - level), the curve is linear in the level.
    bend = headroom * (1 - relative**-exponent)
    offset, slope = ceiling * bend, 1 - bend
    single = relative ** (-2 * decay)
    of_mean = single / counts + shared
    precision = (slope**2 / of_mean).sum(axis=-1)
    level = (slope * (means - offset) / of_mean).sum(axis=-1) / precision
    squares = ((means - offset - slope * level[..., None]) ** 2 / of_mean + within / single).sum(axis=-1)
    squares += _PRIOR_WEIGHT * _PRIOR_SPREAD**2
    freedom = counts.sum() - 1 + _PRIOR_WEIGHT
    logarithm = (
        _EXPONENT_PRIOR[:, None, None]
        - 0.5 * (np.log(of_mean) + (counts - 1) * np.log(single)).sum(axis=-1)
        - 0.5 * np.log(precision)
        - 0.5 * freedom * np.log(squares)
    )
    weights = np.exp(logarithm - logarithm.max()).ravel()
    random = generator(seed, "learning curve")
    # Evenly spaced quantiles of the grid: less chance than independent draws.
    points = (np.arange(_SAMPLES) + random.uniform()) / _SAMPLES * weights.sum()
    # Floating point can leave the last point a trace beyond the last cell.
    cells = np.minimum(np.searchsorted(np.cumsum(weights), points), len(weights) - 1)
    spread = np.sqrt(squares.ravel()[cells] / random.chisquare(freedom, _SAMPLES))
    drawn = level.ravel()[cells] + spread / np.sqrt(precision.ravel()[cells]) * random.standard_normal(
        _SAMPLES
    )
    drawn = np.clip(drawn, 0, ceiling)
    axes = np.unravel_index(cells, logarithm.shape)
    return LearningCurve(
        largest=largest,
        level=drawn,
        asymptote=drawn + _HEADROOMS[axes[0]] * (ceiling - drawn),
        exponent=_EXPONENTS[axes[1]],
        spread=spread,
        decay=_DECAYS[axes[2]],
        shared=_SHARED[axes[3]],
        ceiling=ceiling,
        test_error=test_error,
        seed=seed,
    )
