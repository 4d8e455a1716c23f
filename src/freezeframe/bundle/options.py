"""What a user says of a bundle that is to be made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from freezeframe import files
from freezeframe.bundle.runtime.contents import Intended
from freezeframe.errors import UserError


class Purpose(Intended):
    """What a user says that a model is for: the fields of `Intended`, and a sentence."""

    use: str = Field(default="", max_length=2000, description="in a sentence or two")


@dataclass(frozen=True)
class Options:
    """What is asked of an export.

    Attributes
    ----------
    name : str
        Of the bundle, at most 64 characters.
    codes : Path or None
        Table of the classes' codes, see `freezeframe.bundle.codes.codes_for`.
    licence : str
        Its text; '' where not said.
    purpose : Purpose
        What the model is for; fields that are left empty are read from DICOM headers of training images.
    positive : str or None
        The class that added operating points are about; the ensemble's where None.
    sensitivities, specificities : sequence of float
        Least values of operating points to add.
    evaluation : Path or None
        Folder of an evaluation, for the card; the stored predictions of the test images where None.
    secret_key : Path or None
        Minisign key to sign with.
    password : str
        Of the key.
    screening : bool
        Describe the training images, so that images unlike them are flagged.
    """

    name: str
    codes: Path | None = None
    licence: str = ""
    purpose: Purpose = field(default_factory=Purpose)
    positive: str | None = None
    sensitivities: Sequence[float] = ()
    specificities: Sequence[float] = ()
    evaluation: Path | None = None
    secret_key: Path | None = None
    password: str = ""
    screening: bool = True


def read_purpose(path: Path) -> Purpose:
    """Read what a model is for from a YAML file with the fields of `Purpose`.

    Raises
    ------
    UserError
        With the field that is wrong.
    """
    content = files.read_yaml(path)
    try:
        return Purpose.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        wrong = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{path}: {wrong}: {problem['msg']}.",
            f"the fields {', '.join(Purpose.model_fields)}.",
            f"For example: {yaml.safe_dump({'use': 'Pneumonia in children', 'views': ['PA']}).strip()}",
        ) from error
