"""The HL7 message of a result: ORU^R01 of version 2.5.1, preliminary because nobody verified it."""

import hashlib
from collections.abc import Iterable, Sequence

from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results import concepts
from freezeframe.pacs.results.context import Context
from freezeframe.pacs.results.hl7_text import escape
from freezeframe.pacs.results.sentences import conclusion, image_warnings
from freezeframe.pacs.results.words import say

PRELIMINARY = "P"
"""Result status of HL7 tables 0085 and 0123."""
MOST_IMAGES = 8
"""Whose numbers a message has; the rest is counted in a note."""

_SEXES = {"M": "M", "F": "F", "O": "O"}
_CONTROL_ID = 20  # characters of MSH-10 in version 2.5.1


def hl7_message(context: Context) -> bytes:
    """Make the message.

    Returns
    -------
    bytes
        Segments that end with a carriage return, in UTF-8, without MLLP's frame. MSH-5 and MSH-6 are empty: see
        `hl7_text.addressed`.
    """
    segments = [_header(context), _patient(context), _request(context)]
    segments.append(_segment("NTE", "1", "L", escape(say(context.language, "not_verified"))))
    segments += [
        _segment("OBX", str(number), *fields) for number, fields in enumerate(_observations(context), 1)
    ]
    return "".join(segment + "\r" for segment in segments).encode()


def _segment(name: str, *fields: str) -> str:
    return "|".join((name, *fields)).rstrip("|")


def _header(context: Context) -> str:
    control_id = hashlib.sha256(context.uid("hl7").encode()).hexdigest()[:_CONTROL_ID].upper()
    return _segment(
        "MSH", r"^~\&", escape(context.configuration.ae_title), escape(context.configuration.results.institution),
        "", "", _time(context), "", "ORU^R01^ORU_R01", control_id, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8",
    )  # fmt: skip


def _patient(context: Context) -> str:
    identity = context.identity
    authority = escape(str(identity.get("IssuerOfPatientID", "")))
    number = escape(str(identity.PatientID))
    return _segment(
        "PID", "1", "", f"{number}^^^{authority}".rstrip("^"), "", _names(str(identity.PatientName)), "",
        str(identity.PatientBirthDate), _SEXES.get(str(identity.PatientSex), "U"),
    )  # fmt: skip


def _names(name: str) -> str:
    """Write a name as repetitions of XPN: DICOM has prefix before suffix, HL7 has it after."""
    written = []
    for group, representation in zip(name.split("="), "AIP", strict=False):
        family, given, middle, prefix, suffix = ([escape(part) for part in group.split("^")] + [""] * 5)[:5]
        if group.strip("^"):
            written.append("^".join((family, given, middle, suffix, prefix, "", "L", representation)))
    return "~".join(written)


def _request(context: Context) -> str:
    identity = context.identity
    accession = escape(str(identity.AccessionNumber))
    procedure = "^".join(
        (concepts.PROCEDURE.value, concepts.PROCEDURE.meaning, concepts.PROCEDURE.scheme_designator)
    )
    fields = [""] * 25
    fields[0] = "1"
    # Systems that know no accession number need something to file the result under.
    fields[2] = accession or escape(context.reading.study_uid)
    fields[3] = procedure
    fields[6] = (
        f"{identity.StudyDate}{str(identity.StudyTime).partition('.')[0]}" if identity.StudyDate else ""
    )
    fields[17] = accession
    fields[21] = _time(context)
    fields[23] = "RAD"
    fields[24] = PRELIMINARY
    return _segment("OBR", *fields)


def _observations(context: Context) -> Iterable[Sequence[str]]:
    reading, language = context.reading, context.language
    yield _observation(context, "ST", _name("110180", "Study Instance UID"), reading.study_uid)
    yield _observation(context, "TX", _name("121077", "Conclusion"), escape(conclusion(context)))
    for number, image in enumerate(reading.images[:MOST_IMAGES], 1):
        yield from _of_image(context, image, str(number))
    said = [say(language, "unreadable", uid=uid, reason=reason) for uid, reason in reading.unreadable]
    if len(reading.images) > MOST_IMAGES:
        said.append(say(language, "more_images", count=len(reading.images) - MOST_IMAGES))
    for sentence in said:
        yield _observation(context, "TX", _coded(concepts.COMMENT), escape(sentence))


def _of_image(context: Context, image: ImageReading, group: str) -> Iterable[Sequence[str]]:
    model, language = context.reading.model, context.language
    target = context.target(image)
    presence = concepts.PRESENT if image.decision == target else concepts.ABSENT
    flag = "A" if image.positive else "N"  # HL7 table 0078
    yield _observation(
        context,
        "ST",
        _name("image", "SOP Instance UID", concepts.PRIVATE_SCHEME),
        image.sop_instance_uid,
        group,
    )
    yield _observation(
        context, "CWE", _name("121071", "Finding"), _coded(concepts.of_class(model, target)), group
    )
    yield _observation(context, "CWE", _coded(concepts.PRESENCE), _coded(presence), group, flag=flag)
    decided = _coded(concepts.of_class(model, image.decision))
    yield _observation(context, "CWE", _coded(concepts.private("decision", language)), decided, group)
    numbers = [(concepts.CERTAINTY, image.probabilities[target]), (concepts.THRESHOLD, model.threshold)]
    numbers += [
        (concepts.class_probability(label, language), value) for label, value in image.probabilities.items()
    ]
    numbers.append((concepts.private("spread", language), image.spread))
    for name, share in numbers:
        if share is not None:
            yield _observation(
                context, "NM", _coded(name), f"{100 * share:.4f}", group, unit="%^Percent^UCUM"
            )
    for sentence in image_warnings(context, image):
        yield _observation(context, "TX", _coded(concepts.COMMENT), escape(sentence), group)


def _observation(
    context: Context, kind: str, name: str, value: str, group: str = "", unit: str = "", flag: str = ""
) -> Sequence[str]:
    """List the fields of an OBX after its number."""
    model = context.reading.model
    device = f"{model.sha256}^{escape(model.name)}"
    return (
        kind, name, group, value, unit, "", flag, "", "", PRELIMINARY, "", "", _time(context), "", "", "", device,
    )  # fmt: skip


def _name(value: str, meaning: str, scheme: str = "DCM") -> str:
    return "^".join((value, meaning, scheme))


def _coded(concept: concepts.CodedConcept) -> str:
    return "^".join(escape(part) for part in (concept.value, concept.meaning, concept.scheme_designator))


def _time(context: Context) -> str:
    return context.moment.strftime("%Y%m%d%H%M%S%z")[:19]
