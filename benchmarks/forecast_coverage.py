"""How often do forecasts of a learning curve hold? Simulated trainings on nested draws, one common test set.

Run ``python benchmarks/forecast_coverage.py``; a minute. Each simulated training has a true AUC, the curve's with a
deviation that its draw's earlier sizes share (smaller sets are part of larger ones), and a score on 300 test
images whose difficulty all trainings share. Forecast are the score of one training on twice and four times the
data, on the same test images and in general, and the size that reaches the score of twice the data. Shown is how
often the 95 % interval held, and its median width at four times the data. Beside our posterior stands what is
common: the best curve by least squares, refitted to resampled residuals.
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import norm

from freezeframe.evaluation.learning_curve import fit
from freezeframe.evaluation.placements import auc_influence, variance

CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0.95 - 0.9 n^-0.5": lambda n: 0.95 - 0.9 * n**-0.5,
    "0.99 - 0.6 n^-0.25": lambda n: 0.99 - 0.6 * n**-0.25,
    "0.98 - 8 n^-1": lambda n: 0.98 - 8 / n,
    "0.90 - 4 n^-0.9": lambda n: 0.90 - 4 * n**-0.9,
    "S-shaped in log n": lambda n: 0.5 + 0.46 / (1 + np.exp(-(np.log(n) - 3.6) / 0.9)),
}
SCHEDULES = ((4, 3), (5, 1), (5, 3), (6, 3))
SMALLEST, TEST_IMAGES, SPREAD = 50, 300, 0.02
IMAGES = np.arange(TEST_IMAGES)
LABELS = IMAGES % 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument(
        "--peer-trials", type=int, default=15, help="of the refitted least squares, which is slow"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", OptimizeWarning)
    print("|  |  | same test images: | | | in general: | | | size for | least squares, resampled: | | |")
    print("| --- " * 12 + "|")
    print("| true curve | sizes x draws | 2x | 4x | width | 2x | 4x | width | a target | 2x | 4x | width |")
    totals = []
    for name, curve in CURVES.items():
        for sizes, draws in SCHEDULES:
            random = np.random.default_rng([sizes, draws, len(name)])
            trials = [trial(random, curve, sizes, draws, index < arguments.peer_trials)
                      for index in range(arguments.trials)]  # fmt: skip
            row = np.array([
                np.nanmedian(column) if index in (2, 5, 9) else np.nanmean(column)
                for index, column in enumerate(np.array(trials).T)
            ])  # fmt: skip
            totals.append(row)
            print(f"| {name} | {sizes} x {draws} | {line(row)} |")
    print(f"| mean | | {line(np.mean(totals, axis=0))} |")


def line(row: np.ndarray) -> str:
    return " | ".join(f"{x:.3f}" if index in (2, 5, 9) else f"{x:.0%}" for index, x in enumerate(row))


def trial(
    random: np.random.Generator, curve: Callable, count: int, draws: int, with_peer: bool
) -> list[float]:
    """Forecast once: what held, and how wide the intervals for four times the data are."""
    sizes = SMALLEST * 2.0 ** np.arange(count + 2)
    truths = curve(sizes)
    # The deviation of a size is a mean over what was drawn so far: sums of independent parts.
    steps = np.diff(sizes, prepend=0)
    sums = np.cumsum(random.normal(size=(draws + 1, len(sizes))) * np.sqrt(steps), axis=1)
    deviations = SPREAD * np.sqrt(SMALLEST) * sums / sizes
    areas = np.clip(truths + deviations, 0.5, 0.999)
    images = random.normal(size=TEST_IMAGES)
    raw = answers(random, areas, images)
    scores = auc_influence(LABELS, two_columns(raw.reshape(-1, TEST_IMAGES)), IMAGES).values.reshape(
        areas.shape
    )
    error = shared_error(raw[:draws, count - 1])
    flat_sizes, flat = np.tile(sizes[:count], draws), scores[:draws, :count].ravel()
    fitted = fit(flat_sizes, flat, test_error=error)
    found: list[float] = []
    for same, measured in ((True, scores[-1]), (False, areas[-1])):
        forecasts = [fitted.forecast(size, same) for size in sizes[count:]]
        low, high = np.array([(one.low, one.high) for one in forecasts], dtype=float).T
        found += ((low <= measured[count:]) & (measured[count:] <= high)).astype(float).tolist()
        found.append(float(high[1] - low[1]))
    wanted = fitted.size_for(truths[count])
    found.append(float((wanted.low or np.inf) <= sizes[count] <= (wanted.high or np.inf)))
    return found + (peer(random, sizes, scores, draws, count) if with_peer else [np.nan] * 3)


def answers(random: np.random.Generator, areas: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Draw scores of the test images; half of their noise is the image's, half the training's."""
    separation = np.sqrt(2) * norm.ppf(areas)[..., None]
    own = random.normal(size=(*areas.shape, TEST_IMAGES))
    return separation * LABELS + np.sqrt(0.5) * (images + own)


def two_columns(raw: np.ndarray) -> np.ndarray:
    return np.stack([-raw, raw], axis=2)


def shared_error(raw: np.ndarray) -> float:
    influence = auc_influence(LABELS, two_columns(raw), IMAGES)
    return variance(influence.parts.mean(axis=0), influence.present) ** 0.5


def peer(
    random: np.random.Generator, sizes: np.ndarray, scores: np.ndarray, draws: int, count: int
) -> list[float]:
    """Refit least squares to scores resampled within each size; with one draw, to resampled residuals."""

    def law(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a - b * (n / SMALLEST) ** -c

    x = np.tile(sizes[:count], draws)
    y = scores[:draws, :count].ravel()
    start = (min(y.max() + 0.01, 0.999), 0.1, 0.5)
    bounds = ([0, 0, 0.01], [1, 1, 3])
    try:
        best = law(x, *curve_fit(law, x, y, start, bounds=bounds, max_nfev=200)[0])
    except RuntimeError:
        return [0.0, 0.0, np.nan]
    residuals = y - best
    made = []
    for _ in range(40):
        again = best + random.choice(residuals, len(residuals))
        try:
            values = law(sizes[count:], *curve_fit(law, x, again, start, bounds=bounds, max_nfev=200)[0])
        except RuntimeError:
            continue
        made.append(values + random.choice(residuals))
    if len(made) < 20:
        return [0.0, 0.0, np.nan]
    low, high = np.quantile(made, [0.025, 0.975], axis=0)
    inside = (low <= scores[-1, count:]) & (scores[-1, count:] <= high)
    return [float(inside[0]), float(inside[1]), high[1] - low[1]]


if __name__ == "__main__":
    main()
