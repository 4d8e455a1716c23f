"""What a bundle said of the images of a study, as plain data: the contract between reading and what is made of it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from freezeframe.bundle.runtime.sentences import InputWarning

Outcome = Literal["positive", "negative", "refused"]


@dataclass(frozen=True)
class Region:
    """The main region of a heat map in the original image.

    Attributes
    ----------
    points : tuple of (float, float)
        Closed outline as (column, row) in pixels from the upper left corner of the upper left pixel, as a SCOORD has
        them (PS3.3, section C.18.6.1.2); the last point is the first.
    """

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ImageReading:
    """What a bundle of M members said of one image.

    Attributes
    ----------
    sop_instance_uid, sop_class_uid, series_uid : str
        Of the image.
    frame : int
        From 0.
    rows, columns : int
        Of the original image.
    probabilities : dict of str to float
        Of each class, combined by the bundle's rule; decisions are made on these.
    calibrated : dict of str to float
        After the bundle's temperature.
    members : dict of str to dict of str to float
        Each member's probabilities.
    decision : str
        Label of the class that was decided on.
    positive : bool
        Whether that is the operating point's positive class; without an operating point, whether it is another class
        than the first.
    spread : float or None
        As of `Answers`; None with one member.
    warnings : tuple of InputWarning
        Why the image may be one that the model was not made for.
    distance : float or None
        Mean over the members that have a reference.
    heat_map : str or None
        Path below the node's folder of an 8-bit grey PNG (original aspect ratio and frame, at most 512 pixels high and
        wide) that is 255 where most spoke for the positive class; None where the bundle has no heat maps.
    region : Region or None
        Its main region; where there is no heat map or nothing in it, None.
    inputs : dict of str to float
        Statistics of the pixels for drift: mean, standard deviation, share of border, all in [0, 1].
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    frame: int
    rows: int
    columns: int
    probabilities: dict[str, float]
    calibrated: dict[str, float]
    members: dict[str, dict[str, float]]
    decision: str
    positive: bool
    spread: float | None
    warnings: tuple[InputWarning, ...]
    distance: float | None
    heat_map: str | None
    region: Region | None
    inputs: dict[str, float]


@dataclass(frozen=True)
class Model:
    """Which bundle answered.

    Attributes
    ----------
    name : str
        That the bundle gives itself.
    sha256 : str
        Its identity: of its checksums.
    software : str
        Version of freezeframe.
    members : int
        How many.
    classes : tuple of dict
        Each class's ``label`` and ``code``: ``{"scheme", "value", "meaning"}`` or None.
    positive_class : str or None
        Of the operating point; None where it has none.
    operating_point : str or None
        Its name.
    threshold : float or None
        Of the positive class's probability.
    validation_sensitivity, validation_specificity : float or None
        Of the operating point.
    configured_as : str
        Its name in the node's configuration; '' in readings of earlier releases.
    """

    name: str
    sha256: str
    software: str
    members: int
    classes: tuple[dict[str, Any], ...]
    positive_class: str | None
    operating_point: str | None
    threshold: float | None
    validation_sensitivity: float | None
    validation_specificity: float | None
    configured_as: str = ""


@dataclass(frozen=True)
class StudyReading:
    """What a bundle said of a version of a study.

    Attributes
    ----------
    study_uid : str
        Of the study.
    version : int
        From 1.
    model : Model
        Which bundle.
    images : tuple of ImageReading
        Those that were read, the one with the largest probability of the positive class first.
    unreadable : tuple of (str, str)
        SOP instance UIDs of images that could not be read, and why.
    outcome : str
        'positive' if any image is, else 'negative'; 'refused' where no image could be read.
    probability : float or None
        Of the positive class, the largest of the images; None where refused or without an operating point.
    """

    study_uid: str
    version: int
    model: Model
    images: tuple[ImageReading, ...]
    unreadable: tuple[tuple[str, str], ...]
    outcome: Outcome
    probability: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the database and the API."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "StudyReading":
        """Make it from what `to_dict` returned, also after JSON."""
        images = tuple(
            ImageReading(
                **{
                    **entry,
                    "warnings": tuple(InputWarning(*warning) for warning in entry["warnings"]),
                    "region": _region(entry["region"]),
                }
            )
            for entry in plain["images"]
        )
        model = Model(**{**plain["model"], "classes": tuple(plain["model"]["classes"])})
        unreadable = tuple((uid, reason) for uid, reason in plain["unreadable"])
        return cls(**{**plain, "model": model, "images": images, "unreadable": unreadable})


def _region(plain: dict[str, Any] | None) -> Region | None:
    if plain is None:
        return None
    return Region(tuple((float(column), float(row)) for column, row in plain["points"]))
