"""What published accuracies of one test set can say: intervals, differences, and what the images in pairs could show.

    python benchmarks/published_accuracies.py

Accuracies of the skin grids, each on 400 test images. Without the answers image by image McNemar's test can't be
computed, but it can be bounded: two networks that differ by k right answers have at least k images on which one alone
is right. With exactly k its p-value is least, 2^(1 - k); `images` is the greatest number of such images at which it is
still below 0.05.
"""

import itertools
from math import hypot

import numpy as np
from scipy.stats import binomtest, chi2_contingency

from freezeframe.evaluation.intervals import wilson
from freezeframe.evaluation.multiplicity import holm

TESTED, LEVEL = 400, 0.05
PUBLISHED = {
    "MobileNet, 4 layers, none": 0.8900,
    "MobileNet, 10 layers, flip-hv": 0.8850,
    "MobileNet, 2 layers, none": 0.6175,
    "DenseNet121, 8 and 10 layers": 0.9025,
    "MobileNet, other run": 0.9000,
    "InceptionV3": 0.8825,
    "ResNet50, 6 layers": 0.8925,
    "ResNet50, best elsewhere": 0.76,
}


def difference(first: int, second: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two independent shares of 400 (Newcombe 1998, method 10)."""
    (low, high), (other_low, other_high) = wilson(first, TESTED), wilson(second, TESTED)
    one, other = first / TESTED, second / TESTED
    apart = one - other
    return apart - hypot(one - low, other_high - other), apart + hypot(high - one, other - other_low)


def independent(first: int, second: int) -> float:
    """Return the p-value of two shares of 400 as if the images were different ones."""
    table = [[first, TESTED - first], [second, TESTED - second]]
    return float(chi2_contingency(table, correction=False).pvalue)


def most_images(apart: int, possible: int) -> int | None:
    """Return the most images that one alone may have right with McNemar's exact p below 0.05; None for none."""
    fits = [
        total
        for total in range(apart, possible + 1, 2)
        if binomtest((total + apart) // 2, total, 0.5).pvalue < LEVEL
    ]
    return max(fits) if apart and fits else None


def main() -> None:
    print("| published | accuracy | 95 % interval (Wilson) |\n| --- | --- | --- |")
    right = {name: round(accuracy * TESTED) for name, accuracy in PUBLISHED.items()}
    for name, count in right.items():
        low, high = wilson(count, TESTED)
        print(f"| {name} | {count / TESTED:.4f} | {low:.3f} to {high:.3f} |")
    pairs = list(itertools.combinations(right, 2))
    values = [independent(right[one], right[other]) for one, other in pairs]
    adjusted = holm(values)
    print("\n| pair | difference (95 % interval) | p | p, Holm | least p of McNemar | images |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (one, other), p, corrected in zip(pairs, values, np.asarray(adjusted), strict=True):
        apart = right[one] - right[other]
        low, high = difference(right[one], right[other])
        # Where one alone is right, the other is wrong.
        possible = min(TESTED, 2 * TESTED - right[one] - right[other])
        images = most_images(abs(apart), possible)
        said = "none" if images is None else "any" if images >= possible - 1 else str(images)
        least = min(1.0, 2.0 ** (1 - abs(apart)))
        print(
            f"| {one} / {other} | {apart / TESTED:+.4f} ({low:+.3f} to {high:+.3f}) | {p:.2g} | {corrected:.2g} | "
            f"{least:.2g} | {said} |"
        )


if __name__ == "__main__":
    main()
