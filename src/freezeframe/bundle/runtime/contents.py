"""What a bundle says of itself: the typed content of ``bundle.json``."""

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from freezeframe.ensemble.rules import Rule
from freezeframe.errors import UserError
from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.imaging.preprocess import Preprocessing

SCHEMA_VERSION = 1
CONTENTS = "bundle.json"
INPUT = "images"
LOGITS, FEATURES, MAP = "logits", "features", "map"
"""Outputs of a member: (N, C) logits, (N, F) activations that are compared with the training images', and the last
feature map (N, K, h, w)."""
HEAT = "weights"
"""What weighs the channels of the map: the tensor in a heat file, (C, K), and the output of a heat graph, (N, C, K)."""

# A backslash divides values in DICOM (PS3.5, section 6.2).
_PLAIN = r"^[^\\\x00-\x1f\x7f]+$"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _inside(path: str) -> str:
    parts = path.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError("is no plain path inside the bundle")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Part of a bundle's description; refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Code(Section):
    """A coded concept, as DICOM's code sequences have it (PS3.3, section 8.8).

    A value of up to 16 characters is written as Code Value (0008,0100), a longer one as Long Code Value (0008,0119):
    SNOMED CT has identifiers of up to 18 digits.
    """

    scheme: str = Field(
        min_length=1, max_length=16, pattern=_PLAIN, description="coding scheme designator, such as SCT"
    )
    value: str = Field(min_length=1, max_length=64, pattern=_PLAIN, description="such as 233604007")
    meaning: str = Field(min_length=1, max_length=64, pattern=_PLAIN, description="in English")


class Class(Section):
    """One of the classes, in the order of the answers."""

    label: str = Field(min_length=1, description="as in the training data")
    code: Code | None = Field(default=None, description="None where nobody has given one")


class Member(Section):
    """One network of the ensemble.

    Its graph takes ``images`` (N, 3, height, width) float32, prepared and normalised by its preprocessing, and gives
    ``logits``, ``features`` and, where the network has one, ``map``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="unique")
    backbone: str
    weight: Annotated[float, Field(ge=0)] = Field(description="in the rule")
    graph: Inside = Field(description="ONNX file")
    kind: Literal["float32", "int8"] = "float32"
    preprocessing: dict[str, Any] = Field(description="Preprocessing.to_dict() of the training")
    heat: Inside | None = Field(
        default=None,
        description="what weighs the channels of the map: a safetensors file (C, K), or an ONNX graph from ``map`` to "
        "(N, C, K) where the weights depend on the image; None where there is no map",
    )
    reference: Inside | None = Field(
        default=None, description="safetensors file with the distribution of the training images' features"
    )

    def prepared_by(self) -> Preprocessing:
        """Return the one preprocessing, as in training."""
        return Preprocessing.from_dict(self.preprocessing)


class Point(Section):
    """A named operating point, chosen on validation images with the combined, uncalibrated probabilities."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    point: dict[str, Any] = Field(description="OperatingPoint.to_dict()")

    def threshold(self) -> OperatingPoint:
        """Return the operating point, checked."""
        point = OperatingPoint.from_dict(self.point)
        return TypeAdapter(OperatingPoint).validate_python(asdict(point))


class Intended(Section):
    """What the model was made for; images outside are scored all the same and flagged. Empty says nothing."""

    modalities: tuple[str, ...] = Field(
        default=(), description="DICOM Modality (0008,0060), such as CR and DX"
    )
    body_parts: tuple[str, ...] = Field(default=(), description="BodyPartExamined (0018,0015), such as CHEST")
    views: tuple[str, ...] = Field(default=(), description="ViewPosition (0018,5101), such as PA and AP")
    ages: tuple[float, float] | None = Field(default=None, description="youngest and oldest, in years")


class Contents(Section):
    """All of ``bundle.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(min_length=1, max_length=64)
    made: str = Field(description="date and time, ISO 8601, UTC")
    versions: dict[str, str | None] = Field(description="of freezeframe and what it was made with")
    classes: Annotated[tuple[Class, ...], Field(min_length=2)]
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    rule: Rule
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="of the combined probabilities, fitted on validation images"
    )
    operating_points: tuple[Point, ...] = Field(
        default=(), description="the first is taken where none is named"
    )
    intended: Intended = Intended()
    licence: str = Field(description="of the bundle, as its maker says; '' where not said")
    parity: dict[str, Any] = Field(default={}, description="what the parity gate measured")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Contents":
        for kind, names in (
            ("classes", [entry.label for entry in self.classes]),
            ("members", [member.name for member in self.members]),
            ("operating points", [point.name for point in self.operating_points]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind} have the same name")
        if self.rule == "weighted" and not sum(member.weight for member in self.members):
            raise ValueError("all members have the weight 0")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of the answers."""
        return tuple(entry.label for entry in self.classes)


def parse(content: Any, origin: str) -> Contents:
    """Check what was read from ``bundle.json``.

    Raises
    ------
    UserError
        With the field that is wrong, or the version that is not known.
    """
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else None
        raise UserError(
            f"{origin} is of schema version {version}.",
            f"version {SCHEMA_VERSION}.",
            "Use the release of freezeframe that wrote the bundle, or export it again.",
        )
    try:
        contents = Contents.model_validate(content)
        for member in contents.members:
            member.prepared_by()
        for point in contents.operating_points:
            if point.threshold().positive_class not in contents.labels:
                raise UserError(
                    f"{origin}: the operating point {point.name} is about the class "
                    f"'{point.threshold().positive_class}'.",
                    f"one of {', '.join(contents.labels)}.",
                )
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UserError(
            f"{origin} does not describe a bundle: {problems}.", action="Export it again."
        ) from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{origin} lacks {error}.", action="Export it again.") from error
    return contents
