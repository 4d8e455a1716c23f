"""The coded concepts of result objects: of DICOM and SNOMED CT where they have one, otherwise of a private scheme."""

import hashlib
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from freezeframe.pacs.reading.findings import Model
from freezeframe.pacs.results.source import printable
from freezeframe.pacs.results.words import say

PRIVATE_SCHEME = "99FREEZEFRAME"
"""Private schemes begin with 99 (PS3.16, section 8.2)."""

# Context group 100 of PS3.16 holds it; validators of template 1500 ask for one of these.
PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
THRESHOLD = CodedConcept("122411", "DCM", "Threshold Value")
PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
COMMENT = CodedConcept("121106", "DCM", "Comment")
QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
PRESENT = CodedConcept.from_code(codes.cid240.Present)
ABSENT = CodedConcept.from_code(codes.cid240.Absent)
PERCENT = CodedConcept("%", "UCUM", "Percent")
LANGUAGES = {
    "en": CodedConcept("en", "RFC5646", "English"),
    "es": CodedConcept("es", "RFC5646", "Spanish"),
}

_LONGEST_MEANING = 64


def of_class(model: Model, label: str) -> CodedConcept:
    """Return the bundle's code of a class, or a private one that depends on nothing but the label."""
    scheme, value, meaning = triple(model, label)
    return CodedConcept(value, scheme, meaning)


def triple(model: Model, label: str) -> tuple[str, str, str]:
    """Return scheme, value and meaning of a class."""
    code: dict[str, Any] | None = next(
        (entry["code"] for entry in model.classes if entry["label"] == label), None
    )
    if code is not None and len(code["scheme"]) <= 16:
        return code["scheme"], code["value"], printable(code["meaning"])[:_LONGEST_MEANING] or label
    meaning = printable(label)[:_LONGEST_MEANING] or "?"
    return PRIVATE_SCHEME, f"class-{_short_hash(label)}", meaning


def private(key: str, language: str) -> CodedConcept:
    """Return a concept of the private scheme: its value is a key of `words.WORDS`, its meaning what that says."""
    return CodedConcept(key, PRIVATE_SCHEME, say(language, key))


def class_probability(label: str, language: str) -> CodedConcept:
    """Return the private concept of the probability of a class."""
    meaning = printable(say(language, "class_probability", label=label))[:_LONGEST_MEANING]
    return CodedConcept(f"p-{_short_hash(label)}", PRIVATE_SCHEME, meaning)


def _short_hash(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:10]
