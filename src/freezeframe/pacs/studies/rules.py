"""Which images a rule chooses, and in words why not."""

import re
from collections.abc import Sequence
from datetime import date

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from freezeframe.imaging.header import text
from freezeframe.pacs.configuration import Rule

LONGEST_VALUE = 256
"""Characters of an attribute that an expression is asked of; bounds what a hostile value can cost."""

_UNITS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  # PS3.5, section 6.2, AS
_STUDY_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
_PLAIN_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")


def explain(header: Dataset, rule: Rule) -> list[str]:
    """Say which conditions of a rule an image does not meet.

    Parameters
    ----------
    header : Dataset
        The image's elements before its pixels.
    rule : Rule
        Of the configuration.

    Returns
    -------
    list of str
        One sentence part for each condition that does not hold, such as ``"the modality is CT"``; empty where the rule
        chooses the image. Codes of the modality, body part, view and station are named; other values never are.
    """
    reasons = [
        f"{words} is {_shown(header, keyword)}"
        for words, keyword, allowed in (
            ("the modality", "Modality", rule.modality),
            ("the body part", "BodyPartExamined", rule.body_part),
            ("the view", "ViewPosition", rule.view),
            ("the station", "StationName", rule.station),
        )
        if allowed and not _is_one_of(text(header, keyword), allowed)
    ]
    if rule.age is not None:
        years = age(header)
        if years is None:
            reasons.append("the age is not known")
        elif not _is_between(years, rule.age):
            reasons.append(f"the age is not {rule.age[0]:g} to {rule.age[1]:g} years")
    for name, pattern in rule.attributes.items():
        value = _value(header, name)
        if len(value) > LONGEST_VALUE:
            reasons.append(f"{name} is longer than {LONGEST_VALUE} characters")
        elif not re.fullmatch(pattern, value):
            reasons.append(f"{name} does not fit")
    return reasons


def chooses(header: Dataset, rule: Rule) -> bool:
    """Return whether all conditions of a rule hold for an image."""
    return not explain(header, rule)


def age(header: Dataset) -> float | None:
    """Return the patient's age in years: PatientAge, else from the birth date to the study; None where not known.

    Examples
    --------
    >>> image = Dataset()
    >>> image.PatientAge = "018M"
    >>> age(image)
    1.5
    """
    stated = re.fullmatch(r"([0-9]{1,3})([DWMY])", text(header, "PatientAge"))
    if stated:
        return int(stated[1]) * _UNITS[stated[2]]
    born = _date(text(header, "PatientBirthDate"))
    studied = next(filter(None, (_date(text(header, keyword)) for keyword in _STUDY_DATES)), None)
    if born is None or studied is None or studied < born:
        return None
    years = studied.year - born.year
    if studied < _birthday(born, studied.year):
        years -= 1
    return years + (studied - _birthday(born, born.year + years)).days / 366


def _birthday(born: date, year: int) -> date:
    try:
        return born.replace(year=year)
    except ValueError:  # whoever was born on 29 February
        return date(year, 3, 1)


def _date(value: str) -> date | None:
    digits = value.replace(".", "").replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def _is_between(years: float, bounds: tuple[float, float]) -> bool:
    youngest, oldest = bounds
    # Somebody is 18 until the nineteenth birthday, as PatientAge says it too.
    return youngest <= years and (years < oldest + 1 if oldest.is_integer() else years <= oldest)


def _is_one_of(value: str, allowed: Sequence[str]) -> bool:
    return value.strip().upper() in {entry.strip().upper() for entry in allowed}


def _shown(header: Dataset, keyword: str) -> str:
    value = text(header, keyword)
    if not value:
        return "not stated"
    return value if _PLAIN_CODE.fullmatch(value) else "another"


def _value(header: Dataset, name: str) -> str:
    """Return an element of the data set's first level as text, several values divided by a backslash."""
    tag = tag_for_keyword(name) if "," not in name else int(name.replace(",", ""), 16)
    try:
        value = header[tag].value  # type: ignore[index]
    except Exception:  # missing, or broken in any way
        return ""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    many = value if isinstance(value, MultiValue | list | tuple) else [value]
    return "\\".join(str(entry).strip(" \0") for entry in many)
