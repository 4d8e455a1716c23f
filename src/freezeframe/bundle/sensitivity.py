"""Which layers stay in float32: those whose quantisation moves the answers most, as few as will do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from freezeframe.bundle.layers_of_graph import logits
from freezeframe.bundle.quantise import Calibrated, quantise
from freezeframe.progress import progress

LARGEST_ERROR = 0.1
"""Of the logits, as a share of how much they vary between images. Where images differ by s, an error of a tenth of s
leaves a correlation of 0.995 with the float32 logits; what that does to the score, the gate says."""
SEARCHED = 64
"""Images on which single layers are tried."""


@dataclass(frozen=True)
class Chosen:
    """An int8 graph and what was left out of it.

    Attributes
    ----------
    model : bytes
        ONNX.
    left : tuple of str
        Layers in float32, the most sensitive first. The layer that gives the logits is not counted.
    layers : int
        All that might have been quantised.
    error : float
        Of its logits, see `relative_error`.
    """

    model: bytes
    left: tuple[str, ...]
    layers: int
    error: float


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Compute the root mean square error of logits, relative to how much they vary between images.

    Only differences between classes matter to an answer, so each image's mean over the classes is taken off.

    Parameters
    ----------
    found, expected : ndarray of float (N, C)

    Examples
    --------
    >>> expected = np.array([[0.0, 2.0], [0.0, -2.0]])
    >>> relative_error(expected + 5, expected), relative_error(expected * 1.5, expected)
    (0.0, 0.5)
    """
    found, expected = (
        one - one.mean(axis=1, keepdims=True) for one in (found.astype(float), expected.astype(float))
    )
    spread = np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2))
    error = np.sqrt(np.mean((found - expected) ** 2))
    return float(error / spread) if spread > 0 else (0.0 if error == 0 else np.inf)


def choose(calibrated: Calibrated, images: np.ndarray, largest_error: float = LARGEST_ERROR) -> Chosen:
    """Quantise all layers, or all but the most sensitive ones, until the logits are close enough.

    Each layer is quantised alone and its error measured; of the layers in the order of their errors the smallest
    number is left out that suffices, found by doubling and halving.

    Parameters
    ----------
    calibrated : Calibrated
        From `quantise.calibrate`.
    images : ndarray of float32 (N, 3, H, W)
        Training images other than those of the calibration, prepared and normalised.
    largest_error : float
        See `relative_error`.

    Returns
    -------
    Chosen
        With all layers in float32 where nothing else is close enough.
    """
    expected = logits(calibrated.model, images)
    count = len(calibrated.layers)

    def attempt(left: tuple[str, ...]) -> Chosen:
        model = quantise(calibrated, left)
        found = logits(onnx.load_from_string(model), images)
        return Chosen(model, left, count, relative_error(found, expected))

    best = attempt(())
    if best.error <= largest_error:
        return best
    order = _most_sensitive_first(calibrated, images[:SEARCHED], expected[:SEARCHED])
    too_few, enough = 0, 1
    while enough < count and (best := attempt(order[:enough])).error > largest_error:
        too_few, enough = enough, 2 * enough
    if enough >= count:
        enough, best = count, attempt(order)
    while enough - too_few > 1:
        between = (too_few + enough) // 2
        tried = attempt(order[:between])
        if tried.error <= largest_error:
            enough, best = between, tried
        else:
            too_few = between
    return best


def _most_sensitive_first(
    calibrated: Calibrated, images: np.ndarray, expected: np.ndarray
) -> tuple[str, ...]:
    names = [layer.name for layer in calibrated.layers]
    errors: dict[str, float] = {}
    with progress("Trying each layer in int8", len(names), "layers") as advance:
        for name in names:
            model = onnx.load_from_string(quantise(calibrated, [other for other in names if other != name]))
            errors[name] = relative_error(logits(model, images), expected)
            advance(1)
    return tuple(sorted(names, key=lambda name: -errors[name]))
