import json
from dataclasses import replace

import pytest
import readings
from fhir.resources.R4B.bundle import Bundle

from freezeframe.pacs.results.making import make_objects

DESTINATION = {"kind": "fhir", "name": "server", "url": "http://127.0.0.1/fhir"}


def transaction(folder, probability=0.87, change=None, alter=lambda reading: reading, **settings) -> dict:
    path = readings.phantom("CR", folder / "image.dcm", change)
    made = make_objects(
        alter(readings.study_reading([path], probability)),
        readings.sources([path]),
        {},
        readings.configuration(
            folder, structured_report=False, secondary_capture=False, destinations=[DESTINATION], **settings
        ),
        readings.NOW,
    )
    assert [one.kind for one in made] == ["fhir"]
    return json.loads(made[0].content)


def resources(bundle: dict, kind: str) -> list[dict]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("probability", [0.87, 0.03, None])
def test_a_transaction_is_valid_fhir(folder, probability, language):
    bundle = transaction(folder, probability, language=language)
    assert Bundle.model_validate(bundle).type == "transaction"
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["language"] == language


def test_the_model_of_fhir_refuses_a_transaction_without_status(folder):
    bundle = transaction(folder)
    del resources(bundle, "DiagnosticReport")[0]["status"]
    with pytest.raises(ValueError, match="status"):
        Bundle.model_validate(bundle)


def test_an_observation_has_the_probability_and_the_decision(folder):
    (observation,) = resources(transaction(folder), "Observation")
    assert observation["code"]["coding"][0] == {
        "system": "http://snomed.info/sct", "code": "233604007", "display": "Pneumonia",
    }  # fmt: skip
    assert observation["valueQuantity"]["value"] == 87.0
    assert observation["valueQuantity"]["code"] == "%"
    assert observation["interpretation"][0]["coding"][0]["code"] == "POS"
    assert observation["note"][0]["text"] == "AI result, not verified"
    assert {part["code"]["text"]: part["valueQuantity"]["value"] for part in observation["component"]} == {
        "Probability of normal": 9.1, "Probability of pneumonia": 87.0, "Probability of opacity": 3.9,
        "Threshold Value": 42.0, "Spread over the members": 5.0,
    }  # fmt: skip


def test_a_negative_study_is_interpreted_as_negative_and_has_no_conclusion_code(folder):
    bundle = transaction(folder, 0.03)
    assert resources(bundle, "Observation")[0]["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert "conclusionCode" not in resources(bundle, "DiagnosticReport")[0]


def test_a_refused_study_has_a_report_that_says_so_and_no_observation(folder):
    bundle = transaction(folder, None)
    assert resources(bundle, "Observation") == []
    assert (
        "could not be read: its pixel data is truncated."
        in resources(bundle, "DiagnosticReport")[0]["conclusion"]
    )


def test_a_retry_creates_nothing_twice(folder):
    first, second = transaction(folder), transaction(folder)
    assert first == second
    for entry in first["entry"]:
        identifier = entry["resource"]["identifier"][0]
        assert entry["request"]["method"] == "POST"
        assert entry["request"]["ifNoneExist"] == f"identifier={identifier['system']}|{identifier['value']}"


def test_another_version_has_other_identifiers_and_the_same_device(folder):
    first = transaction(folder)
    second = transaction(folder, alter=lambda reading: replace(reading, version=2))
    asked = [[entry["request"]["ifNoneExist"] for entry in bundle["entry"]] for bundle in (first, second)]
    assert asked[0][0] == asked[1][0]
    assert set(asked[0][1:]).isdisjoint(asked[1][1:])


def test_every_reference_leads_to_an_entry_or_an_identifier(folder):
    bundle = transaction(folder)
    addresses = {entry["fullUrl"] for entry in bundle["entry"]}
    (report,) = resources(bundle, "DiagnosticReport")
    (observation,) = resources(bundle, "Observation")
    assert {reference["reference"] for reference in (*report["result"], observation["device"])} <= addresses
    study = report["imagingStudy"][0]["identifier"]
    assert study["system"] == "urn:dicom:uid"
    assert study["value"].startswith("urn:oid:2.25.")


def test_a_patient_is_named_by_the_hospitals_number_alone(folder):
    change = {"PatientID": "4711", "IssuerOfPatientID": "HOSPITAL", "PatientName": "PHANTOM^0001"}
    bundle = transaction(folder, change=change)
    assert resources(bundle, "DiagnosticReport")[0]["subject"] == {
        "type": "Patient", "identifier": {"value": "4711", "assigner": {"display": "HOSPITAL"}},
    }  # fmt: skip
    assert "PHANTOM" not in json.dumps(bundle)
    assert Bundle.model_validate(transaction(folder, change={"PatientID": None}))
