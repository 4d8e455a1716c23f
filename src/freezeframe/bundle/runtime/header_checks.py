"""What a DICOM header says against what a model was made for."""

import math
import re
from collections.abc import Mapping
from typing import Any

from freezeframe.bundle.runtime.contents import Intended
from freezeframe.bundle.runtime.sentences import InputWarning

_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def from_header(attributes: Mapping[str, Any], intended: Intended) -> list[InputWarning]:
    """Compare what a DICOM header says with what the model was made for; what is not said is not compared.

    An image for presentation is often marked as derived, which says nothing. Flagged are raw detector values
    (Presentation Intent Type FOR PROCESSING, PS3.3 C.8.11.1) and images made after the examination (second value of
    Image Type SECONDARY, PS3.3 C.7.6.1.1.2), such as captures of a screen.

    Parameters
    ----------
    attributes : mapping
        As of `DecodedImage`: DICOM keywords to text, and others.
    intended : Intended
        Of the bundle.

    Examples
    --------
    >>> from_header({"Modality": "CT", "PatientAge": ""}, Intended(modalities=("CR", "DX"), ages=(1, 5)))
    [InputWarning(key='modality', found='CT')]
    """
    found = []
    for key, keyword, wanted in (
        ("modality", "Modality", intended.modalities),
        ("body-part", "BodyPartExamined", intended.body_parts),
        ("view", "ViewPosition", intended.views),
    ):
        said = _text(attributes, keyword)
        # Body parts come with additions, such as PORTABLE CHEST.
        if said and wanted and not any(_words(name) <= _words(said) for name in wanted):
            found.append(InputWarning(key, said))
    years = _outside(_text(attributes, "PatientAge"), intended.ages)
    if years is not None:
        found.append(InputWarning("age", f"{years:.3g}"))
    if _text(attributes, "PresentationIntentType").upper() == "FOR PROCESSING":
        found.append(InputWarning("for-processing"))
    if "SECONDARY" in _words(_text(attributes, "ImageType")):
        found.append(InputWarning("secondary"))
    return found


def _text(attributes: Mapping[str, Any], keyword: str) -> str:
    return str(attributes.get(keyword) or "").strip()


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.upper()))


def age_in_years(text: str) -> tuple[float, float] | None:
    """Read a DICOM age (PS3.5, AS): the youngest that it may mean, and what it stays below; None where it is none.

    Examples
    --------
    >>> age_in_years("012Y"), age_in_years("018M"), age_in_years("12"), age_in_years("")
    ((12.0, 13.0), (1.5, 1.5833333333333333), None, None)
    """
    match = _AGE.fullmatch(text.strip().upper())
    if match is None:
        return None
    count, unit = int(match[1]), _YEARS[match[2]]
    return count * unit, (count + 1) * unit


def _outside(text: str, ages: tuple[float, float] | None) -> float | None:
    """Return an age in years that is outside; who is five is so until the sixth birthday."""
    age = age_in_years(text)
    if age is None or ages is None:
        return None
    return age[0] if age[1] <= ages[0] or math.floor(age[0]) > ages[1] else None
