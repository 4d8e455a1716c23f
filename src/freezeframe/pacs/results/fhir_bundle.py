"""The FHIR R4 transaction of a result: a preliminary DiagnosticReport, its Observations, and the Device that answered.

Every entry is created only if none with its identifier is there (``ifNoneExist``), so that a retry makes nothing twice,
also at servers that let no client choose ids.
"""

import json
import uuid
from typing import Any

from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results import concepts
from freezeframe.pacs.results.context import MANUFACTURER, Context
from freezeframe.pacs.results.sentences import conclusion, image_warnings
from freezeframe.pacs.results.words import say

UIDS = "urn:dicom:uid"
"""System of the identifiers of DICOM's UIDs (FHIR R4, ImagingStudy, section 8.17.3)."""
_URIS = "urn:ietf:rfc3986"
_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    concepts.PRIVATE_SCHEME: "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_OID, concepts.PRIVATE_SCHEME)),
}
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
MOST_IMAGES = 8
"""Observations of a report, of the images with the largest probabilities."""


def fhir_bundle(context: Context) -> bytes:
    """Make the transaction.

    Returns
    -------
    bytes
        A Bundle as JSON in UTF-8, to be posted to a server's base address.
    """
    device = _device(context)
    observations = [
        _observation(context, image, number, _reference(device))
        for number, image in enumerate(context.reading.images[:MOST_IMAGES], 1)
    ]
    report = _report(context, observations)
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": _time(context),
        "entry": [_entry(resource) for resource in (device, *observations, report)],
    }
    return json.dumps(bundle, ensure_ascii=False).encode()


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    identifier = resource["identifier"][0]
    return {
        "fullUrl": _address(identifier["value"]),
        "resource": resource,
        "request": {
            "method": "POST",
            "url": resource["resourceType"],
            "ifNoneExist": f"identifier={identifier['system']}|{identifier['value']}",
        },
    }


def _device(context: Context) -> dict[str, Any]:
    model = context.reading.model
    return {
        "resourceType": "Device",
        "identifier": [{"system": _URIS, "value": _address(model.sha256)}],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "serialNumber": model.sha256,
        "deviceName": [{"name": model.name or MANUFACTURER, "type": "model-name"}],
        "version": [{"value": model.software}],
    }


def _observation(
    context: Context, image: ImageReading, number: int, device: dict[str, Any]
) -> dict[str, Any]:
    model, language = context.reading.model, context.language
    target = context.target(image)
    is_present = image.decision == target
    said = [say(language, "not_verified"), *image_warnings(context, image)]
    return {
        "resourceType": "Observation",
        "language": language,
        "identifier": [_identifier(context.uid("fhir", "observation", number))],
        "status": "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": "imaging"}]}],
        "code": _concept(concepts.of_class(model, target), target),
        "subject": _subject(context),
        "effectiveDateTime": _time(context),
        "valueQuantity": _percent(image.probabilities[target]),
        "interpretation": [
            {
                "coding": [
                    {
                        "system": _INTERPRETATION,
                        "code": "POS" if is_present else "NEG",
                        "display": "Positive" if is_present else "Negative",
                    }
                ],
                "text": image.decision,
            }
        ],
        "note": [{"text": sentence} for sentence in said],
        "device": device,
        "derivedFrom": [_study(context)],
        "component": _components(context, image),
    }


def _components(context: Context, image: ImageReading) -> list[dict[str, Any]]:
    model, language = context.reading.model, context.language
    numbers = [
        (concepts.class_probability(label, language), value) for label, value in image.probabilities.items()
    ]
    if model.threshold is not None:
        numbers.append((concepts.THRESHOLD, model.threshold))
    if image.spread is not None:
        numbers.append((concepts.private("spread", language), image.spread))
    return [
        {"code": _concept(name, name.meaning), "valueQuantity": _percent(share)} for name, share in numbers
    ]


def _report(context: Context, observations: list[dict[str, Any]]) -> dict[str, Any]:
    reading, language = context.reading, context.language
    sentences = [say(language, "not_verified") + ".", conclusion(context)]
    sentences += [say(language, "unreadable", uid=uid, reason=reason) for uid, reason in reading.unreadable]
    if len(reading.images) > MOST_IMAGES:
        sentences.append(say(language, "more_images", count=len(reading.images) - MOST_IMAGES))
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "language": language,
        "identifier": [_identifier(context.uid("fhir", "report"))],
        "status": "preliminary",
        "category": [{"coding": [{"system": _SECTION, "code": "RAD", "display": "Radiology"}]}],
        "code": {
            "coding": [{"system": _SYSTEMS["LN"], "code": "18748-4", "display": "Diagnostic imaging study"}],
            "text": context.description,
        },
        "subject": _subject(context),
        "effectiveDateTime": _time(context),
        "issued": _time(context),
        "imagingStudy": [_study(context)],
        "conclusion": " ".join(sentences),
    }
    if observations:
        report["result"] = [_reference(observation) for observation in observations]
    if reading.outcome == "positive":
        target = context.target(reading.images[0])
        report["conclusionCode"] = [_concept(concepts.of_class(reading.model, target), target)]
    return report


def _reference(resource: dict[str, Any]) -> dict[str, Any]:
    return {"reference": _address(resource["identifier"][0]["value"])}


def _address(identifier: str) -> str:
    """Return the temporary address of an entry, by which the others of the transaction refer to it."""
    return "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_OID, identifier))


def _identifier(uid: str) -> dict[str, str]:
    return {"system": UIDS, "value": f"urn:oid:{uid}"}


def _study(context: Context) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": _identifier(context.reading.study_uid)}


def _subject(context: Context) -> dict[str, Any]:
    """Name the patient by the number that the hospital gives, which the server may resolve."""
    number = str(context.identity.PatientID)
    subject: dict[str, Any] = {"type": "Patient"}
    if not number:
        return {**subject, "display": "unknown"}
    issuer = str(context.identity.get("IssuerOfPatientID", ""))
    identifier: dict[str, Any] = {"value": number}
    if issuer:
        identifier["assigner"] = {"display": issuer}
    return {**subject, "identifier": identifier}


def _concept(concept: concepts.CodedConcept, text: str) -> dict[str, Any]:
    coding: dict[str, Any] = {"code": concept.value, "display": concept.meaning}
    if concept.scheme_designator in _SYSTEMS:
        coding["system"] = _SYSTEMS[concept.scheme_designator]
    return {"coding": [coding], "text": text}


def _percent(share: float) -> dict[str, Any]:
    return {"value": round(100 * share, 4), "unit": "%", "system": _SYSTEMS["UCUM"], "code": "%"}


def _time(context: Context) -> str:
    return context.moment.isoformat(timespec="seconds")
