"""How often are settings of equal skill called different? Levels and power of the paired tests, simulated.

Run ``python benchmarks/paired_levels.py``; a minute. Two settings are equally good; an image's difficulty is its
patient's (shared by both settings, and partly each setting's own) and its own. A test holds its level where the
share called different at p < 0.05 is 5 %. In the last rows the seeds vary: each training is better or worse than its
setting.
"""

import argparse

import numpy as np
from scipy.stats import binomtest, norm

from freezeframe.evaluation.paired import Answers, compare

# patients, images each, repeats, spread of the seeds, gain of the first setting
CASES = (
    (25, 1, 1, 0.0, 0.0),
    (100, 1, 1, 0.0, 0.0),
    (400, 1, 1, 0.0, 0.0),
    (20, 4, 1, 0.0, 0.0),
    (60, 4, 1, 0.0, 0.0),
    (60, 4, 3, 0.0, 0.0),
    (100, 4, 1, 0.0, 0.6),
    (1000, 1, 2, 0.2, 0.0),
    (1000, 1, 4, 0.2, 0.0),
    (1000, 1, 4, 0.2, 0.4),
)
NAMES = ("McNemar exact, images", "sign flips", "sum over its error", "AUC", "accuracy anew", "AUC anew")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    arguments = parser.parse_args()
    print(f"| patients x images | repeats | seeds vary | gain | {' | '.join(NAMES)} |")
    print("| --- " * (4 + len(NAMES)) + "|")
    for case in CASES:
        random = np.random.default_rng(list(map(int, np.array(case) * 10)))
        p = np.array([trial(random, *case) for _ in range(arguments.trials)])
        shares = [
            f"{x:.1%}" if np.isfinite(x) else "" for x in np.where(np.isnan(p), np.nan, p < 0.05).mean(axis=0)
        ]
        patients, each, repeats, spread, gain = case
        print(
            f"| {patients} x {each} | {repeats} | {spread or 'no'} | {gain or 'none'} | {' | '.join(shares)} |"
        )


def trial(
    random: np.random.Generator, patients: int, each: int, repeats: int, spread: float, gain: float
) -> list[float]:
    """Compare two settings once, and return the p values."""
    owner = np.repeat(np.arange(patients), each)
    labels = owner % 2
    shared = random.normal(0, 0.8, patients)[owner]
    sides = []
    for extra in (gain, 0.0):
        skill = 1.5 + extra + random.normal(0, spread, (repeats, 1))
        own = random.normal(0, 0.7, patients)[owner]
        raw = shared + own + random.normal(0, 0.7, (repeats, len(owner))) + skill * (labels - 0.5)
        scores = 1 / (1 + np.exp(-raw))
        sides.append(Answers(labels, owner, np.stack([1 - scores, scores], axis=2)))
    accuracy, area = (compare([sides[0]], [sides[1]], metric) for metric in ("accuracy", "roc_auc"))
    hits = [side.probabilities.argmax(axis=2) == labels for side in sides]
    differences = hits[0].mean(axis=0) - hits[1].mean(axis=0)
    discordant = int(np.abs(differences).sum())
    # McNemar's test knows one repeat only.
    mcnemar = np.nan if repeats > 1 else 1.0
    if repeats == 1 and discordant:
        mcnemar = float(binomtest(int((differences > 0).sum()), discordant).pvalue)
    # Obuchowski 1998 for paired proportions of clusters, and the form that Durkalski et al. 2003 start from.
    sums = np.bincount(owner, differences)
    wald = float(2 * norm.sf(abs(sums.sum()) / np.sqrt(max((sums**2).sum(), 1e-12))))
    anew = (np.nan if found.p_retrained is None else found.p_retrained for found in (accuracy, area))
    return [mcnemar, accuracy.p, wald, area.p, *anew]


if __name__ == "__main__":
    main()
