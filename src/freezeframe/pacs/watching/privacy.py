"""What may stand in a log: no patient's name, number, date of birth or accession number, whoever logs it."""

import re
from typing import Any

import pydicom
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

REMOVED = "[removed]"
LONGEST = 4000
"""Characters of a text that are logged."""
PATIENT_KEYS = frozenset(
    {
        "patient", "patientname", "patientid", "patientbirthdate", "patientsex", "patientage", "patientaddress",
        "otherpatientids", "name", "mrn", "birthdate", "dateofbirth", "accession", "accessionnumber", "address",
        "referringphysician", "referringphysicianname", "dataset", "header", "password", "token",
    }
)  # fmt: skip
"""Names of fields that are never logged, compared without case and signs."""

# A line of a printed data set: tag, then keyword or description, VR and value.
_ELEMENT = re.compile(r"\(\s*([0-9A-Fa-f]{4})\s*,\s*([0-9A-Fa-f]{4})\s*\)[^\n]*")
# A value beside the keyword of a patient's attribute, as in a JSON text, a repr, or a query.
_NAMED = re.compile(
    r"\b((?:Patient|OtherPatient|Referring|Accession|Physician|Operators?|Requesting|Performing)[A-Za-z'’]*"
    r"(?:\s?(?:Name|ID|Birth ?Date|Number|Address))?)\s*[\"']?\s*[:=]\s*[^\n;]*",
    re.IGNORECASE,
)
_QUERY = re.compile(r"((?:https?:/)?/[^\s\"'?]*)\?[^\s\"']*")
# PS3.5, section 6.2.1: the components of a name are divided by carets.
_PERSON = re.compile(r"[^\W\d_][\w.'’-]*(?: [\w.'’-]+){0,4}\^[^\s,;)\]\"]*")


def is_private(key: str) -> bool:
    """Tell whether a field of this name may hold a patient's data.

    Examples
    --------
    >>> is_private("PatientName"), is_private("patient_id"), is_private("study_uid")
    (True, True, False)
    """
    return "".join(character for character in key.casefold() if character.isalnum()) in PATIENT_KEYS


def cleaned_text(text: str) -> str:
    """Take out of a text what looks like a printed data set, a person's name, a query or a patient's attribute.

    Examples
    --------
    >>> cleaned_text("GET /studies?PatientID=17 took long")
    'GET /studies?[removed] took long'
    >>> cleaned_text("(0010,0010) Patient's Name PN: 'PHANTOM^0001'")
    '(0010,0010) [removed]'
    """
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} [...]"
    text = _ELEMENT.sub(lambda found: f"({found[1]},{found[2]}) {REMOVED}", text)
    text = _QUERY.sub(lambda found: f"{found[1]}?{REMOVED}", text)
    text = _NAMED.sub(lambda found: f"{found[1]}: {REMOVED}", text)
    return _PERSON.sub(REMOVED, text)


def cleaned(value: Any) -> Any:
    """Return a value as plain data that may be logged: data sets, elements, names and bytes are only named as such."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, PersonName | pydicom.DataElement | bytes | bytearray | memoryview):
        return REMOVED
    if isinstance(value, pydicom.Dataset):
        return f"[data set of {len(value)} elements]"
    if isinstance(value, dict):
        return {str(key): cleaned(entry) for key, entry in value.items() if not is_private(str(key))}
    if isinstance(value, list | tuple | set | frozenset | MultiValue):
        return [cleaned(entry) for entry in value]
    if isinstance(value, BaseException):
        return type(value).__name__
    return cleaned_text(str(value))
