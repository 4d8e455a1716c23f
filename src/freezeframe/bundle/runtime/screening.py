"""Telling images that a model was not made for by how they look, before anybody believes their score."""

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load

from freezeframe.bundle.runtime.pixel_facts import PixelFacts
from freezeframe.bundle.runtime.sentences import InputWarning

MOST_BORDER = 0.6
"""Share of an image that may be border: where there is more, `mask-border` finds it implausible as well."""
LEAST_CONTRAST = 0.05
"""Of the range from black to white: below, 8 bits hold a dozen grey values."""
LEAST_ALIKE = 0.2
"""Correlation with their mean that 99 % of the training images must have, or inversion can't be told."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the training images look like on the whole.

    Attributes
    ----------
    mean : ndarray of float32 (32, 32)
        Mean of their thumbnails.
    least : float
        Correlation with the mean of the others that 99 % of them reach.
    """

    mean: np.ndarray
    least: float


@dataclass(frozen=True, eq=False)
class Reference:
    """The training images' features, of one member, in brief; made by `bundle.reference.fit_reference`.

    Attributes
    ----------
    centre : ndarray of float32 (F,)
        Mean of the features, each image's divided by their length.
    components : ndarray of float32 (k, F)
        Orthonormal directions in which the training images differ most.
    threshold : float
        Distance that 1 % of the validation images reach.
    look : Look or None
        None where the training images do not look alike.
    """

    centre: np.ndarray
    components: np.ndarray
    threshold: float
    look: Look | None

    @classmethod
    def load(cls, content: bytes) -> "Reference":
        """Make it from the bytes of a safetensors file."""
        tensors = load(content)
        look = Look(tensors["look"], float(tensors["look_least"])) if "look" in tensors else None
        return cls(tensors["centre"], tensors["components"], float(tensors["threshold"]), look)

    def distance(self, features: np.ndarray) -> float:
        """Return how far one image's features (F,) are from the training images', 1 flagging 1 % of validation images.

        It is the length of what the training images' principal directions do not explain (the residual of ViM, Wang
        et al., CVPR 2022) of the features divided by their length (as Sun et al., ICML 2022, do).
        """
        return residual(unit(features), self.centre, self.components) / self.threshold


def unit(features: np.ndarray) -> np.ndarray:
    """Divide the features (..., F) of each image by their length; what is 0 stays 0."""
    features = features.astype(np.float64)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def residual(features: np.ndarray, centre: np.ndarray, components: np.ndarray) -> float:
    """Return the length of what lies outside the components (k, F) through the centre (F,), of features (F,)."""
    moved = features - centre
    return float(np.linalg.norm(moved - (components @ moved) @ components))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of two pictures of one shape; 0 where one of them is of one value.

    Examples
    --------
    >>> picture = np.array([[0.0, 1.0]])
    >>> round(correlation(picture, 1 - picture), 6)
    -1.0
    """
    one, other = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size > 1e-9 else 0.0


def from_pixels(facts: PixelFacts, look: Look | None) -> list[InputWarning]:
    """Flag images that are mostly border, have almost no contrast, or are inverted.

    Parameters
    ----------
    facts : PixelFacts
        Of the image.
    look : Look, optional
        Of the training images. An image is called inverted where its negative is as much like them as 99 % of them
        are.
    """
    found = []
    if facts.border > MOST_BORDER:
        found.append(InputWarning("border", f"{facts.border:.3f}"))
    if facts.contrast < LEAST_CONTRAST:
        found.append(InputWarning("contrast", f"{facts.contrast:.3f}"))
    if look is not None and correlation(facts.thumbnail, look.mean) <= -look.least:
        found.append(InputWarning("inverted"))
    return found
