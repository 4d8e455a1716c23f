"""The one preprocessing: named steps from decoded image to the network's input, in training and in the hospital.

A step is a pure function of pixels and its parameters, registered with `steps.step`; a recipe names it as a string or
as a mapping with one key, ``{resize: {size: 224, mode: pad}}``. The recipe's order is kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freezeframe import files
from freezeframe.errors import UserError, did_you_mean
from freezeframe.imaging import borders, crops, filters, hair  # noqa: F401 - importing them registers their steps
from freezeframe.imaging.decode import DecodedImage, decode
from freezeframe.imaging.steps import REGISTRY, Noted, Parameters, step

# Part of every key: raise it when a step gives other pixels than before.
IMPLEMENTATION_VERSION = 1

Side = Annotated[int, Field(ge=1, le=8192)]


class ResizeParameters(Parameters):
    """Where to and how an image is resized."""

    size: tuple[Side, Side] = Field(
        description="height and width; one number for a square; the network's where left out"
    )
    mode: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description="pad: keep the aspect, fill with black; crop: keep the aspect, cut the middle out; stretch",
    )


class Step(BaseModel):
    """A step's name and all its parameters, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    parameters: dict[str, Any]


class Stage(NamedTuple):
    """An image after one step, or as it was decoded, and the step's note, '' for none."""

    pixels: np.ndarray
    note: str


@step("resize", ResizeParameters)
def resize(pixels: np.ndarray, parameters: ResizeParameters) -> np.ndarray:
    """Resize in full depth; an image that has the size already passes through bit for bit.

    The filter is bilinear with a support that grows with the reduction (antialiased). Lanczos is sharper, but its
    negative lobes draw halos along collimation borders and clip at black and white.
    """
    height, width = pixels.shape[:2]
    target_height, target_width = parameters.size
    if (height, width) == (target_height, target_width):
        return pixels
    if parameters.mode == "pad":
        scale = min(target_height / height, target_width / width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        top, left = (target_height - inner[0]) // 2, (target_width - inner[1]) // 2
        result = np.zeros((target_height, target_width, *pixels.shape[2:]), pixels.dtype)
        result[top : top + inner[0], left : left + inner[1]] = _resample(pixels, inner, (0, 0, width, height))
        return result
    if parameters.mode == "crop":
        scale = max(target_height / height, target_width / width)
        half_height, half_width = target_height / scale / 2, target_width / scale / 2
        box = (
            width / 2 - half_width,
            height / 2 - half_height,
            width / 2 + half_width,
            height / 2 + half_height,
        )
        box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
        return _resample(pixels, parameters.size, box)
    return _resample(pixels, parameters.size, (0, 0, width, height))


@step("grey", Parameters)
def grey(pixels: np.ndarray, parameters: Parameters) -> np.ndarray:  # noqa: ARG001 - it has none
    """Turn colour into luminance, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); grey stays as it is."""
    if pixels.ndim == 2:
        return pixels
    luminance = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(luminance).astype(pixels.dtype)


class Preprocessing(BaseModel):
    """All that is done to an image between decoding and the network.

    Attributes
    ----------
    steps : tuple of Step
        In order; the last resize gives the input's size.
    height, width : int
        Of the input.
    mean, std : tuple of 3 floats
        Of the network's own weights, for values from 0 to 1.

    Examples
    --------
    >>> preprocessing = Preprocessing.from_steps(["grey", {"resize": {"size": 32}}], (224, 224), (0.5,) * 3, (0.5,) * 3)
    >>> image = DecodedImage(np.zeros((100, 80, 3), np.uint8))
    >>> preprocessing.prepare(image, channels=1, dtype=np.uint8).shape
    (32, 32)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[Step, ...]
    height: Side
    width: Side
    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

    @classmethod
    def from_steps(
        cls,
        steps: Sequence[str | dict[str, Any]] | None,
        input_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> "Preprocessing":
        """Check the steps of a recipe and complete them for a network.

        Parameters
        ----------
        steps : list or None
            Each a name or a mapping of a name to parameters. Where no step resizes, as in None, or a crop comes after
            the last resize, the image is padded to the network's size at the end.
        input_size : (height, width)
            The network's own; taken by a resize that says no size.
        mean, std : three floats
            The network's normalisation, for values from 0 to 1.

        Raises
        ------
        UserError
            With the step or parameter, and the right name where one is misspelt.
        """
        checked = [_check(entry, input_size) for entry in steps or []]
        shaping = [entry.name for entry in checked if entry.name == "resize" or REGISTRY[entry.name].crops]
        if not shaping or shaping[-1] != "resize":
            checked.append(_check("resize", input_size))
        height, width = next(entry for entry in reversed(checked) if entry.name == "resize").parameters[
            "size"
        ]
        return cls.model_validate(
            {"steps": checked, "height": height, "width": width, "mean": tuple(mean), "std": tuple(std)}
        )

    def prepare(
        self, decoded: DecodedImage, channels: Literal[1, 3] = 3, dtype: np.dtype | type = np.uint8
    ) -> np.ndarray:
        """Run all steps on one image.

        Parameters
        ----------
        decoded : DecodedImage
            Of any size.
        channels : {1, 3}
            1: luminance; 3: RGB, grey repeated. One choice for all images of a data set.
        dtype : numpy.uint8 or numpy.uint16
            8 bits become 16 by a factor of 257, 16 bits become 8 by the same factor, rounded.

        Returns
        -------
        ndarray
            (height, width) for one channel, (height, width, 3) for three; of the dtype, 0 = black.
        """
        return self.prepare_with_notes(decoded, channels, dtype)[0]

    def prepare_with_notes(
        self, decoded: DecodedImage, channels: Literal[1, 3] = 3, dtype: np.dtype | type = np.uint8
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Run all steps on one image, and say which could not do what they are for.

        Takes what `prepare` takes.

        Returns
        -------
        pixels : ndarray
            As of `prepare`.
        notes : tuple of str
            Keys of `steps.NOTES`, such as ``"lungs-not-found"``.
        """
        notes: list[str] = []
        pixels = decoded.pixels
        for stage in self.stages(decoded):
            pixels = stage.pixels
            notes += [stage.note] if stage.note else []
        if channels == 1:
            pixels = grey(pixels, Parameters())
        elif pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return _to_depth(pixels, np.dtype(dtype)), tuple(notes)

    def stages(self, decoded: DecodedImage) -> Iterator[Stage]:
        """Yield the image as it was decoded, then as it is after each step, in its own depth and channels."""
        pixels = decoded.pixels
        yield Stage(pixels, "")
        for entry in self.steps:
            registered = REGISTRY[entry.name]
            result = registered.function(pixels, registered.parameters.model_validate(entry.parameters))
            pixels, note = result if isinstance(result, Noted) else (result, "")
            yield Stage(pixels, note)

    def normalise(self, batch: np.ndarray) -> np.ndarray:
        """Turn prepared images into the network's input, ``(value / greatest - mean) / std``.

        Parameters
        ----------
        batch : ndarray
            (N, H, W) or (N, H, W, 3), uint8, uint16, or float32 from 0 to 1 (an augmented view).

        Returns
        -------
        ndarray of float32
            (N, 3, H, W).
        """
        greatest = np.iinfo(batch.dtype).max if batch.dtype.kind == "u" else 1
        result = np.empty((batch.shape[0], 3, *batch.shape[1:3]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            source = batch if batch.ndim == 3 else batch[..., channel]
            np.multiply(source, np.float32(1 / (greatest * std)), out=result[:, channel], dtype=np.float32)
            result[:, channel] -= np.float32(mean / std)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with the steps as a recipe has them and every parameter said."""
        return {
            "version": IMPLEMENTATION_VERSION,
            "steps": [{entry.name: entry.parameters} for entry in self.steps],
            "input": [self.height, self.width],
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Preprocessing":
        """Make it again from `to_dict`.

        Raises
        ------
        UserError
            If it is of another version, whose pixels would not be the same, or not complete.
        """
        if content.get("version") != IMPLEMENTATION_VERSION:
            raise UserError(
                f"The preprocessing is of version {content.get('version')}.",
                f"version {IMPLEMENTATION_VERSION}.",
                "Use the release of freezeframe that wrote it, or train again.",
            )
        try:
            height, width = content["input"]
            return cls.from_steps(content["steps"], (height, width), content["mean"], content["std"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"The preprocessing is not complete: {error}.", "what `to_dict` gives."
            ) from error

    def key(self) -> str:
        """Return the SHA-256 of what determines the prepared pixels: steps, sizes, version; not mean and std."""
        content = self.to_dict()
        return files.sha256_json({name: content[name] for name in ("version", "steps", "input")})


class Reference(Protocol):
    """Where an image is: a manifest's ImageReference."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def frame(self) -> int: ...  # noqa: D102


def prepare_image(reference: Reference, preprocessing: Preprocessing) -> np.ndarray:
    """Decode and prepare one image: what worker processes do, as ``functools.partial(prepare_image, ...)``.

    Returns
    -------
    ndarray
        (height, width) for a grey image, (height, width, 3) for colour; uint8 or uint16 as the image is.

    Raises
    ------
    UnreadableImage
        With the reason.
    """
    return prepare_image_with_notes(reference, preprocessing)[0]


def prepare_image_with_notes(
    reference: Reference, preprocessing: Preprocessing
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Do what `prepare_image` does, and return the steps' notes too: keys of `steps.NOTES`."""
    decoded = decode(reference.path, reference.frame)
    channels = 1 if decoded.pixels.ndim == 2 else 3
    return preprocessing.prepare_with_notes(decoded, channels, decoded.pixels.dtype)


def image_stages(reference: Reference, preprocessing: Preprocessing) -> tuple[list[Stage], np.ndarray]:
    """Decode one image and return it after each step, and as `prepare_image` gives it."""
    decoded = decode(reference.path, reference.frame)
    channels = 1 if decoded.pixels.ndim == 2 else 3
    stages = list(preprocessing.stages(decoded))
    # The last stage has gone through every step: what remains is done by a preprocessing without any.
    rest = preprocessing.model_copy(update={"steps": ()})
    return stages, rest.prepare(DecodedImage(stages[-1].pixels), channels, decoded.pixels.dtype)


def _check(entry: str | dict[str, Any], input_size: tuple[int, int]) -> Step:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(
            f"The preprocessing step {entry!r} is none.",
            "a name, or one name with parameters.",
            "For example - resize: {size: 224, mode: pad}.",
        )
    name, given = next(iter(entry.items()))
    if name not in REGISTRY:
        raise UserError(f"Unknown preprocessing step {name!r}, {did_you_mean(str(name), REGISTRY)}")
    if given is not None and not isinstance(given, dict):
        raise UserError(f"Preprocessing step {name!r} has the parameters {given!r}.", "names with values.")
    values = dict(given or {})
    if name == "resize":
        size = values.get("size")
        values["size"] = input_size if size is None else (size, size) if isinstance(size, int) else size
    model = REGISTRY[name].parameters
    try:
        return Step(name=name, parameters=model.model_validate(values).model_dump(mode="json"))
    except ValidationError as error:
        problem = error.errors()[0]
        parameter = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            known = model.model_fields
            hint = did_you_mean(parameter, known) if known else "it has no parameters."
            raise UserError(
                f"Unknown parameter {parameter!r} of preprocessing step {name!r}, {hint}"
            ) from error
        raise UserError(
            f"Parameter {parameter!r} of preprocessing step {name!r} is {problem['input']!r}: {problem['msg']}."
        ) from error


def _resample(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]
) -> np.ndarray:
    """Resample a box (left, top, right, bottom) of an image to (height, width), antialiased, in its own depth."""
    height, width = size
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, box=box))
    if pixels.ndim == 3:  # Pillow has no colour of 16 bits
        return np.stack([_resample(pixels[..., channel], size, box) for channel in range(3)], axis=2)
    image = Image.fromarray(pixels.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR, box=box
    )
    return np.clip(np.rint(np.asarray(image)), 0, 65535).astype(np.uint16)


def _to_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if pixels.dtype == dtype:
        return np.ascontiguousarray(pixels)
    if dtype == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    # 65535 = 255 * 257: the nearest of the 256 values, and the inverse of the line above.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
