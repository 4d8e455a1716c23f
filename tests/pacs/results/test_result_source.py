import io
import warnings

import pytest
import readings
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from freezeframe.pacs.results.source import day, person_name, time_of_day

TEXTS = st.text(max_size=80)
KEYWORDS = [
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "BodyPartExamined", "Laterality", "ReferringPhysicianName", "StudyDescription", "PatientAge",
    "IssuerOfPatientID", "TimezoneOffsetFromUTC", "ImageLaterality", "PhotometricInterpretation",
]  # fmt: skip
REQUIRED = {
    "sr": (
        "CompletionFlag",
        "VerificationFlag",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    "sc": ("PixelData", "Rows", "ConversionType", "PhotometricInterpretation"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about the values that are written here
@settings(max_examples=25, deadline=None)
@given(header=st.dictionaries(st.sampled_from(KEYWORDS), TEXTS))
def test_whatever_a_header_says_the_objects_have_what_they_must(folder, radiographs, header):
    path = folder / "any.dcm"
    data = dcmread(radiographs["CR"])
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword, text in header.items():
        try:
            setattr(data, keyword, text)
            data.save_as(path)
        except Exception:  # not even pydicom writes it
            del data[keyword]
    data.save_as(path)
    for one in readings.make(folder, path, presentation_state=False):
        made = dcmread(io.BytesIO(one.content))
        for keyword in (
            *REQUIRED[one.kind],
            "PatientID",
            "PatientName",
            "StudyDate",
            "StudyID",
            "AccessionNumber",
        ):
            assert keyword in made
        assert made.SpecificCharacterSet == "ISO_IR 192"
        assert len(str(made.PatientID)) <= 64
        assert str(made.StudyDate) == day(str(made.StudyDate))


@given(TEXTS)
def test_a_cleaned_name_is_a_valid_one_and_stays_as_it_is(text):
    name = person_name(text)
    groups = name.split("=")
    assert len(groups) <= 3
    assert all(len(group) <= 64 and group.count("^") <= 4 for group in groups)
    assert "\\" not in name
    assert person_name(name) == name


@given(TEXTS)
def test_days_and_times_are_valid_or_nothing(text):
    assert day(text) == "" or (len(day(text)) == 8 and day(text).isascii() and day(text).isdigit())
    assert time_of_day(text) == "" or time_of_day(text)[:2] <= "23"


def test_odd_values_of_a_patient_get_into_no_warning_and_no_log(folder, caplog):
    values = {"PatientName": "UNDIVIDED", "PatientBirthDate": "SECRETDAY", "PatientID": "SECRET\\ID" * 20}
    path = readings.phantom("CR", folder / "secret.dcm", values)
    caplog.set_level("DEBUG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        readings.make(folder, path)
    said = caplog.text + " ".join(str(warning.message) for warning in caught)
    assert "UNDIVIDED" not in said
    assert "SECRET" not in said
