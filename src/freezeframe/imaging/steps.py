"""The register of preprocessing steps: pure functions of pixels and their checked parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Parameters of a step; refuses those that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Noted(NamedTuple):
    """What a step returns when it could not do what it is for.

    Attributes
    ----------
    pixels : ndarray
        As for any step.
    note : str
        Which of `NOTES` it was.
    """

    pixels: np.ndarray
    note: str


# Keys are counted and translated; the sentence is completed by "in n of m images".
NOTES = {
    "lungs-not-found": "crop-lungs found no plausible lung fields and kept the whole image",
    "lesion-not-found": "crop-lesion found no plausible lesion and kept the whole image",
    "border-not-plausible": "mask-border would have masked most of the image and masked nothing",
    "hair-not-plausible": "remove-hair would have filled most of the image and filled nothing",
}

StepFunction = TypeVar("StepFunction", bound=Callable[[np.ndarray, Any], np.ndarray | Noted])


class Registered(NamedTuple):
    """A step's parameters and function, and whether it gives another size for another image."""

    parameters: type[Parameters]
    function: Callable[[np.ndarray, Any], np.ndarray | Noted]
    crops: bool


REGISTRY: dict[str, Registered] = {}


def step(
    name: str, parameters: type[Parameters], *, crops: bool = False
) -> Callable[[StepFunction], StepFunction]:
    """Register a function of pixels ((H, W) or (H, W, 3), uint8 or uint16) and parameters as a named step.

    Parameters
    ----------
    name : str
        As in a recipe.
    parameters : type
        Model of the parameters.
    crops : bool
        Whether the result's size depends on the image, so that a resize has to follow.
    """

    def register(function: StepFunction) -> StepFunction:
        REGISTRY[name] = Registered(parameters, function, crops)
        return function

    return register
