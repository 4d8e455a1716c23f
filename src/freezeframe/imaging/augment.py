"""Augmentation as a pure function: version `view` of an image depends on (seed, image, view) and on nothing else.

`draw` says what is done to an image, as plain data; `apply` does it. Two views with equal parameters are the same
picture, so whatever was computed from one serves the other: `flip` with eight views costs two.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from freezeframe.errors import UserError, did_you_mean
from freezeframe.imaging import augment_operations as operations
from freezeframe.seeds import derive_seed, generator

VERSION = 1

Share = Annotated[float, Field(ge=0, le=1)]
Parameters = dict[str, Any]


class Policy(BaseModel):
    """Ranges that an augmentation is drawn from; what is left out does nothing.

    Examples
    --------
    >>> Policy.named("rotate-shift").rotate
    10.0
    >>> Policy.named({"policy": "radiograph", "rotate": 15}).rotate
    15.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip_horizontal: Share = Field(default=0, description="probability")
    flip_vertical: Share = Field(default=0, description="probability")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(
        default=0, description="largest angle in degrees, either way"
    )
    shift: Share = Field(default=0, description="largest shift as a share of the side, either way, each axis")
    zoom: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0, description="largest change of scale, either way"
    )
    brightness: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0, description="largest change of the factor"
    )
    contrast: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0, description="largest change of the factor"
    )
    noise: Share = Field(
        default=0, description="largest standard deviation of Gaussian noise, image in [0, 1]"
    )
    erase: Share = Field(default=0, description="probability of erasing a box of 2 to 20 % of the area")
    mix: Literal["none", "mixup", "cutmix"] = Field(
        default="none", description="mix with another training image"
    )
    mix_alpha: Annotated[float, Field(gt=0)] = Field(
        default=0.4, description="of the Beta distribution of the mixing share"
    )
    elastic: Annotated[float, Field(ge=0, le=0.08)] = Field(
        default=0, description="largest displacement of a smooth deformation, as a share of the side"
    )
    operations: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0, description="number of operations drawn from a list for grey medical images (RandAugment)"
    )
    magnitude: Share = Field(default=0.3, description="of these operations")
    constancy: Share = Field(
        default=0, description="colour images: largest share of the light's colour that is taken away"
    )
    illuminant: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0, description="colour images: largest change of the factor on each channel"
    )

    @classmethod
    def named(cls, spec: str | dict[str, Any]) -> "Policy":
        """Make a policy from a recipe's `augment`: a name, or a mapping with a name and changed ranges."""
        options = {"policy": spec} if isinstance(spec, str) else dict(spec)
        name = options.pop("policy", "none")
        if name not in POLICIES:
            raise UserError(f"There is no augmentation policy '{name}',", did_you_mean(str(name), POLICIES))
        try:
            return cls.model_validate({**POLICIES[name], **options})
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            hint = (
                did_you_mean(field, cls.model_fields)
                if problem["type"] == "extra_forbidden"
                else problem["msg"]
            )
            raise UserError(f"augment: '{field}' is not right: {hint}") from error

    @property
    def changes_nothing(self) -> bool:
        """Whether every view is the image itself."""
        return self == Policy()


POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "flip": {"flip_horizontal": 0.5},
    "flip-hv": {"flip_horizontal": 0.5, "flip_vertical": 0.5},
    "brightness": {"brightness": 0.2},
    "flip-brightness": {"flip_horizontal": 0.5, "brightness": 0.2},
    "rotate-shift": {"rotate": 10, "shift": 0.1},
    # No flips: they would put the heart on the other side.
    "radiograph": {
        "rotate": 7,
        "shift": 0.05,
        "zoom": 0.1,
        "brightness": 0.15,
        "contrast": 0.15,
        "noise": 0.02,
    },
    "random-erasing": {"flip_horizontal": 0.5, "erase": 0.5},
    "mixup": {"flip_horizontal": 0.5, "mix": "mixup"},
    "cutmix": {"flip_horizontal": 0.5, "mix": "cutmix", "mix_alpha": 1.0},
    "elastic": {"elastic": 0.02},
    "randaugment-grey": {"operations": 2, "magnitude": 0.3},
    "colour-constancy": {"constancy": 1.0, "illuminant": 0.05},
}


def draw(policy: Policy, seed: int, image: str, view: int, partners: Sequence[str] = ()) -> Parameters:
    """Draw what is done to an image in one view.

    Parameters
    ----------
    policy : Policy
        The ranges.
    seed : int
        The recipe's seed.
    image : str
        The image's content key.
    view : int
        View 0 is the image itself.
    partners : sequence of str
        Content keys of the images that it may be mixed with (the training images, in a fixed order).

    Returns
    -------
    dict
        Plain data, empty for the image itself. Numbers are rounded to 6 places, so that they are equal
        wherever they are written down.
    """
    if view == 0 or policy.changes_nothing:
        return {}
    random = generator(seed, "augment", image, view)
    # Every number is drawn whether it is used or not: two policies with one range in common agree in it.
    coins = random.random(3)
    spread = random.uniform(-1, 1, 6)
    level = random.random(6)
    parameters: Parameters = {}
    if coins[0] < policy.flip_horizontal:
        parameters["flip_horizontal"] = True
    if coins[1] < policy.flip_vertical:
        parameters["flip_vertical"] = True
    if policy.rotate or policy.shift or policy.zoom:
        angle, across, down = policy.rotate * spread[0], policy.shift * spread[1], policy.shift * spread[2]
        parameters["affine"] = [_round(value) for value in (angle, across, down, 1 + policy.zoom * spread[3])]
    if policy.brightness:
        parameters["brightness"] = _round(1 + policy.brightness * spread[4])
    if policy.contrast:
        parameters["contrast"] = _round(1 + policy.contrast * spread[5])
    if policy.noise:
        parameters["noise"] = [_round(policy.noise * level[0]), derive_seed(seed, "noise", image, view)]
    if coins[2] < policy.erase:
        parameters["erase"] = _box(0.02 + 0.18 * level[1], 0.5 + 1.5 * level[2], level[3], level[4])
    if policy.mix != "none" and partners:
        parameters |= _draw_mix(policy, random, partners)
    # Each from a generator of its own, so that what was drawn above stays what it was before these ranges existed.
    if policy.elastic:
        parameters["elastic"] = [_round(policy.elastic), derive_seed(seed, "elastic", image, view)]
    if policy.operations:
        seeds = (
            derive_seed(seed, "operation-noise", image, view, place) for place in range(policy.operations)
        )
        own = generator(seed, "operations", image, view)
        parameters["operations"] = operations.draw(policy.operations, policy.magnitude, own, seeds)
    if policy.constancy or policy.illuminant:
        own = generator(seed, "illuminant", image, view)
        gains = 1 + policy.illuminant * own.uniform(-1, 1, 3)
        parameters["illuminant"] = [_round(value) for value in (policy.constancy * own.random(), *gains)]
    return parameters


def _round(value: float) -> float:
    return round(float(value), 6)


def _box(area: float, aspect: float, top: float, left: float) -> list[float]:
    """Return (top, left, height, width) of a box, as shares of the image's sides."""
    height, width = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    return [_round(value) for value in (top * (1 - height), left * (1 - width), height, width)]


def _draw_mix(policy: Policy, random: np.random.Generator, partners: Sequence[str]) -> Parameters:
    """Draw a partner and its share: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix)."""
    partner = partners[int(random.integers(len(partners)))]
    share = float(random.beta(policy.mix_alpha, policy.mix_alpha))
    top, left = random.random(2)
    if policy.mix == "mixup":
        # The larger share stays with the image itself: mixing (a, b) and (b, a) is the same picture.
        return {"mixup": {"partner": partner, "share": _round(min(share, 1 - share))}}
    box = _box(share, 1.0, top, left)
    return {"cutmix": {"partner": partner, "box": box, "share": _round(box[2] * box[3])}}


def partner_of(parameters: Parameters) -> tuple[str, float] | None:
    """Return the content key of the image that is mixed in and its share of the label, or None."""
    mixed = parameters.get("mixup") or parameters.get("cutmix")
    return (mixed["partner"], mixed["share"]) if mixed else None


def apply(image: np.ndarray, parameters: Parameters, partner: np.ndarray | None = None) -> np.ndarray:
    """Make a view of a prepared image.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8 or uint16 array
        A prepared image, 0 = black.
    parameters : dict
        From `draw`.
    partner : array, optional
        The prepared image that is mixed in; of the same height and width.

    Returns
    -------
    (C, H, W) float32 array in [0, 1], C = 1 or 3
    """
    picture = _to_tensor(image)
    if partner is not None:
        other = _to_tensor(partner)
        if other.shape[0] != picture.shape[0]:
            picture, other = picture.expand(3, -1, -1), other.expand(3, -1, -1)
        picture = _mix(picture, other, parameters)
    height, width = picture.shape[-2:]
    if parameters.get("flip_horizontal"):
        picture = picture.flip(-1)
    if parameters.get("flip_vertical"):
        picture = picture.flip(-2)
    if "affine" in parameters:
        angle, across, down, scale = parameters["affine"]
        # fill is black, as outside the collimator
        picture = transforms.affine(
            picture,
            angle=angle,
            translate=[across * width, down * height],
            scale=scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
    if "elastic" in parameters:
        picture = operations.deform(picture, *parameters["elastic"])
    if "operations" in parameters:
        picture = operations.apply(picture, parameters["operations"])
    if "illuminant" in parameters:
        picture = operations.relight(picture, *parameters["illuminant"])
    if "contrast" in parameters:
        mean = picture.mean()
        picture = (picture - mean) * parameters["contrast"] + mean
    if "brightness" in parameters:
        picture = picture * parameters["brightness"]
    if "noise" in parameters:
        deviation, seed = parameters["noise"]
        picture = operations.add_noise(picture, deviation, seed)
    if "erase" in parameters:
        rows, columns = _pixels(parameters["erase"], height, width)
        picture = picture.clone()
        picture[:, rows, columns] = 0.0
    return picture.clamp(0, 1).contiguous().numpy()


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    scale = np.float32(1 / np.iinfo(image.dtype).max)
    channels_last = image[..., None] if image.ndim == 2 else image
    return torch.from_numpy(np.ascontiguousarray(channels_last.transpose(2, 0, 1), dtype=np.float32) * scale)


def _mix(picture: torch.Tensor, other: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    if "mixup" in parameters:
        share = parameters["mixup"]["share"]
        return picture * (1 - share) + other * share
    rows, columns = _pixels(parameters["cutmix"]["box"], *picture.shape[-2:])
    mixed = picture.clone()
    mixed[:, rows, columns] = other[:, rows, columns]
    return mixed


def _pixels(box: list[float], height: int, width: int) -> tuple[slice, slice]:
    top, left, tall, wide = box
    first_row, first_column = round(top * height), round(left * width)
    return (
        slice(first_row, first_row + round(tall * height)),
        slice(first_column, first_column + round(wide * width)),
    )
