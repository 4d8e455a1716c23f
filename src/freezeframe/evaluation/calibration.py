"""Do the probabilities mean what they say? Reliability curves, and the temperature that would mend them."""

import numpy as np

TEMPERATURES = (0.05, 20.0)
"""Range that the temperature is sought in; a member without any validation error would drive it to 0."""


def reliability_curve(positive: np.ndarray, scores: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Compare predicted probabilities with how often the class was there, in bins of equal width.

    Parameters
    ----------
    positive : ndarray of bool (N,)
        Which images are of the class.
    scores : ndarray of float (N,)
        Predicted probabilities of the class, in [0, 1].
    bins : int
        Over [0, 1]; bins without images are left out.

    Returns
    -------
    list of dict
        For each bin ``count``, ``probability`` (mean of the predicted), ``observed`` (share of positives)
        and Wilson's 95 % interval of it over the images, ``low`` and ``high``.

    Examples
    --------
    >>> [point] = reliability_curve(np.array([True, False]), np.array([0.25, 0.26]))
    >>> point["count"], round(point["probability"], 3), point["observed"]
    (2, 0.255, 0.5)
    """
    # SciPy's statistics take a second to import, which whoever only applies a temperature need not wait for.
    from freezeframe.evaluation.intervals import wilson

    place = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    curve = []
    for index in np.unique(place):
        inside = place == index
        count, found = int(inside.sum()), int(positive[inside].sum())
        low, high = wilson(found, count)
        probability = float(np.mean(scores[inside]))
        curve.append(
            {"count": count, "probability": probability, "observed": found / count, "low": low, "high": high}
        )
    return curve


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Find the temperature that minimises the log loss of validation images (Guo et al., ICML 2017).

    Parameters
    ----------
    labels : ndarray of int (N,)
        Index of each image's class.
    probabilities : ndarray of float (N, C)
        Their logarithms take the place of logits.

    Returns
    -------
    float
        Above 1 where the probabilities are too sure of themselves; within `TEMPERATURES`.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(logarithm)))
        return -float(np.mean(np.log(np.maximum(scaled[np.arange(len(labels)), labels], 1e-300))))

    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))  # pyright: ignore[reportAttributeAccessIssue]


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logarithms of probabilities (N, C) by the temperature, and normalise again.

    Examples
    --------
    >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)
