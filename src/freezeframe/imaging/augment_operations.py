"""What augmentation does beyond flips and shifts: RandAugment's operations for grey images, deformation, and light.

Each is a pure function of a picture, (C, H, W) float32 in [0, 1], and of plain numbers; the result may leave [0, 1],
where `augment.apply` cuts it off.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

# What each operation does at magnitude 1, either way unless said. No flips (the heart would change sides), no colour,
# no solarise, no posterise: none of these happens to a radiograph.
GREATEST = {
    "rotate": 30.0,  # degrees
    "shear-x": 0.3,  # as in RandAugment
    "shear-y": 0.3,
    "shift-x": 0.25,  # share of the side
    "shift-y": 0.25,
    "scale": 0.4,
    "contrast": 0.8,
    "brightness": 0.5,
    "gamma": 0.8,  # exponent exp(-0.8) to exp(0.8)
    "sharpness": 0.9,  # as in RandAugment: 0 is smoothed, 1 the image, 2 sharpened
    "noise": 0.15,  # standard deviation, one way
    "equalise": 1.0,  # share of the equalised image, one way
}
NAMES = tuple(GREATEST)
CONTROL_POINTS = 7
SHADES_OF_GREY = 6.0


def draw(count: int, magnitude: float, random: np.random.Generator, seeds: Iterable[int]) -> list[list[Any]]:
    """Draw operations as RandAugment does (Cubuk et al. 2020), all at one magnitude; unlike there, no one twice.

    Parameters
    ----------
    count : int
        How many, at most as many as there are.
    magnitude : float
        From 0 to 1; the sign is drawn.
    random : numpy.random.Generator
        What is drawn from.
    seeds : iterable of int
        One for each, in case it is noise.

    Returns
    -------
    list of [name, value] or ["noise", deviation, seed]
        Plain data, in the order in which they are done; `value` is what `apply` takes.
    """
    drawn: list[list[Any]] = []
    chosen = random.permutation(len(NAMES))[:count]
    for place, seed in zip(chosen, seeds, strict=False):
        name = NAMES[int(place)]
        sign = 1 if random.random() < 0.5 else -1
        strength = magnitude * GREATEST[name]
        if name == "noise":
            drawn.append([name, round(strength, 6), seed])
        elif name == "equalise":
            drawn.append([name, round(strength, 6)])
        elif name in ("scale", "contrast", "brightness", "sharpness"):
            drawn.append([name, round(1 + sign * strength, 6)])
        elif name == "gamma":
            drawn.append([name, round(float(np.exp(sign * strength)), 6)])
        else:
            drawn.append([name, round(sign * strength, 6)])
    return drawn


def apply(picture: torch.Tensor, drawn: list[list[Any]]) -> torch.Tensor:
    """Do operations one after the other; between them values stay in [0, 1].

    Parameters
    ----------
    picture : (C, H, W) float32 tensor in [0, 1]
        C = 1 or 3.
    drawn : list
        From `draw`: degrees, shares of the side, tangents of the shear, factors and exponents.

    Returns
    -------
    (C, H, W) float32 tensor in [0, 1]
    """
    for name, value, *rest in drawn:
        if name == "noise":
            picture = add_noise(picture, value, rest[0])
        elif name == "equalise":
            picture = picture + value * (_equalised(picture) - picture)
        elif name == "contrast":
            picture = (picture - picture.mean()) * value + picture.mean()
        elif name == "brightness":
            picture = picture * value
        elif name == "gamma":
            picture = picture**value
        elif name == "sharpness":
            picture = transforms.adjust_sharpness(picture, value)
        else:
            picture = _moved(picture, name, value)
        picture = picture.clamp(0, 1)
    return picture


def add_noise(picture: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
    """Add Gaussian noise, the same to all channels."""
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal(picture.shape[-2:], dtype=np.float32)
    return picture + deviation * torch.from_numpy(noise)


def deform(picture: torch.Tensor, amplitude: float, seed: int) -> torch.Tensor:
    """Deform smoothly: displacements at a grid of control points, cubically interpolated (Rueckert et al. 1999).

    Parameters
    ----------
    picture : (C, H, W) float32 tensor
        Outside of it is black.
    amplitude : float
        Largest displacement of a control point in each direction, as a share of the side. Up to a half of the points'
        distance, 0.08, nothing folds.
    seed : int
        Of the displacements. They do not depend on the picture's size.
    """
    random = np.random.Generator(np.random.Philox(seed))
    points = random.uniform(-1, 1, (1, 2, CONTROL_POINTS, CONTROL_POINTS)).astype(np.float32)
    field = torch.nn.functional.interpolate(
        torch.from_numpy(points), picture.shape[-2:], mode="bicubic", align_corners=True
    )
    # torchvision counts a side from -1 to 1.
    return transforms.elastic(
        picture, 2 * amplitude * field.permute(0, 2, 3, 1), interpolation=InterpolationMode.BILINEAR
    )


def relight(picture: torch.Tensor, share: float, red: float, green: float, blue: float) -> torch.Tensor:
    """Take some of the light's colour away, and give it another; grey pictures stay as they are.

    The light is estimated by shades of grey (Finlayson and Trezzi 2004): the Minkowski mean of exponent 6 of each
    channel. Brightness stays: the factors are divided by their mean.

    Parameters
    ----------
    picture : (C, H, W) float32 tensor in [0, 1]
        Of three channels; else it is returned.
    share : float
        0 leaves the light's colour, 1 makes it neutral.
    red, green, blue : float
        Factors of the new light.
    """
    if picture.shape[0] != 3:
        return picture
    light = picture.pow(SHADES_OF_GREY).mean((1, 2)).pow(1 / SHADES_OF_GREY).clamp(min=1e-3)
    gains = (light.mean() / light) ** share * torch.tensor([red, green, blue])
    return picture * (gains / gains.mean())[:, None, None]


def _equalised(picture: torch.Tensor) -> torch.Tensor:
    """Equalise the histogram over all channels, in full depth: each value becomes the share of values up to it."""
    ranked = picture.flatten().sort().values
    ranks = torch.searchsorted(ranked, picture.contiguous(), right=True)
    lowest = torch.searchsorted(ranked, ranked[:1].contiguous(), right=True)
    if int(lowest) == ranked.numel():
        return picture
    return (ranks - lowest).to(torch.float32) / (ranked.numel() - lowest)


def _moved(picture: torch.Tensor, name: str, value: float) -> torch.Tensor:
    height, width = picture.shape[-2:]
    degrees = float(np.degrees(np.arctan(value)))
    # Outside of the image is black, as outside the collimator.
    return transforms.affine(
        picture,
        angle=value if name == "rotate" else 0.0,
        translate=[value * width if name == "shift-x" else 0.0, value * height if name == "shift-y" else 0.0],
        scale=value if name == "scale" else 1.0,
        shear=[degrees if name == "shear-x" else 0.0, degrees if name == "shear-y" else 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
