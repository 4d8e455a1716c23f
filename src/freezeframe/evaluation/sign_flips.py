"""The exact sign-flip test: could so large a difference come from patients who favour a side by chance.

If two classifiers are equally good, each patient's difference is as likely to have the other sign. The sum's
distribution over all 2^P ways to flip signs is computed exactly: differences of counts are whole numbers, so
the distribution is a convolution, and its characteristic function a product of cosines (Pagano and Tritchler,
On obtaining permutation distributions in polynomial time, JASA 1983). Nothing is drawn, so no seed is needed.
"""

import math

import numpy as np

_LARGEST_SUPPORT = 2_000_000  # about a second; beyond it, the sum of so many differences is normal


def sign_flip_p(differences: np.ndarray) -> float:
    """Compute the two-sided mid-p value of the sum of differences under random flips of their signs.

    The mid-p value counts outcomes that are as extreme as the observed one by half. With differences of -1, 0
    and 1 this is McNemar's mid-p test, which Fagerland, Lydersen and Laake (BMC Medical Research Methodology
    2013) recommend: the exact conditional test rejects far less often than it may, the mid-p test keeps the
    level in practice and has nearly the power of the asymptotic one.

    Parameters
    ----------
    differences : ndarray of int (P,)
        One for each patient; whole numbers.

    Returns
    -------
    float
        In (0, 1]; 1 where all differences are 0.

    Examples
    --------
    >>> round(sign_flip_p(np.array([1, 1, 1, 1, 1, 0, 0])), 6)  # five discordant, all one way: 2 / 2^5 / 2
    0.03125
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]).astype(np.int64), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    common = math.gcd(*sizes.tolist())
    sizes //= common
    observed = abs(int(differences.sum())) // common
    largest = int(sizes @ counts)
    if largest > _LARGEST_SUPPORT:
        return math.erfc(observed / math.sqrt(2 * float(sizes.astype(float) ** 2 @ counts)))
    # All sums are even or all are odd, so the one of those that stay positive, (sum + largest) / 2, is what is
    # inverted: a whole number from 0 to the largest sum.
    angles = np.pi * np.arange((largest + 1) // 2 + 1) / (largest + 1)
    cosine = np.ones(len(angles))
    for size, count in zip(sizes, counts, strict=True):
        cosine *= np.cos(angles * size) ** count
    chances = np.fft.irfft(cosine * np.exp(-1j * angles * largest), largest + 1)
    sums = 2 * np.arange(largest + 1) - largest
    beyond, equal = chances[np.abs(sums) > observed].sum(), chances[np.abs(sums) == observed].sum()
    # The transform is exact to about 1e-16; a smaller p value would be rounding, or negative.
    return float(np.clip(beyond + equal / 2, 1e-15, 1.0))
