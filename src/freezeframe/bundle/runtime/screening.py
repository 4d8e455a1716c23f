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
    """The distribution of the training images' features, of one member; made by `bundle.reference.fit_reference`.

    Attributes
    ----------
    centre, inverse_scale : ndarray of float32 (F,)
        Mean of each feature, and 1 / standard deviation; 0 for features that do not vary.
    components : ndarray of float32 (k, F)
        Orthonormal directions of the largest variance.
    precision : ndarray of float32 (k, k)
        Inverse covariance of the training images along them.
    outside : float
        What one unit of squared distance outside these directions counts.
    threshold : float
        Squared distance that 1 % of the validation images reach.
    look : Look or None
        None where the training images do not look alike.
    """

    centre: np.ndarray
    inverse_scale: np.ndarray
    components: np.ndarray
    precision: np.ndarray
    outside: float
    threshold: float
    look: Look | None

    @classmethod
    def load(cls, content: bytes) -> "Reference":
        """Make it from the bytes of a safetensors file."""
        tensors = load(content)
        look = Look(tensors["look"], float(tensors["look_least"])) if "look" in tensors else None
        return cls(
            tensors["centre"],
            tensors["inverse_scale"],
            tensors["components"],
            tensors["precision"],
            float(tensors["outside"]),
            float(tensors["threshold"]),
            look,
        )

    def squared_distance(self, features: np.ndarray) -> float:
        """Return the squared Mahalanobis distance of one image's features (F,) to the training images'.

        The covariance is full along the components and the same in all directions outside them (probabilistic PCA,
        Tipping and Bishop, JRSS B 1999).
        """
        standard = (features.astype(np.float64) - self.centre) * self.inverse_scale
        inside = self.components @ standard
        rest = max(float(standard @ standard - inside @ inside), 0.0)
        return float(inside @ self.precision @ inside) + self.outside * rest

    def distance(self, features: np.ndarray) -> float:
        """Return the distance of one image's features (F,), 1 being the one that flags 1 % of validation images."""
        return float(np.sqrt(self.squared_distance(features) / self.threshold))


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
