import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.bundle.runtime.contents import Intended
from freezeframe.bundle.runtime.header_checks import age_in_years, from_header
from freezeframe.imaging.decode import decode

CHILDREN = Intended(modalities=("CR", "DX"), body_parts=("CHEST",), views=("PA", "AP"), ages=(1, 5))
CHEST = {"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "AP", "PatientAge": "004Y"}


def keys(attributes, intended=CHILDREN):
    return [warning.key for warning in from_header(attributes, intended)]


def test_a_radiograph_as_intended_is_not_flagged():
    assert keys(CHEST) == []


@pytest.mark.parametrize(
    ("keyword", "value", "key"),
    [
        ("Modality", "CT", "modality"),
        ("BodyPartExamined", "KNEE", "body-part"),
        ("ViewPosition", "LL", "view"),
        ("PatientAge", "045Y", "age"),
        ("PatientAge", "003M", "age"),
        ("PresentationIntentType", "FOR PROCESSING", "for-processing"),
        ("ImageType", "['DERIVED', 'SECONDARY']", "secondary"),
    ],
)
def test_what_the_model_was_not_made_for_is_flagged(keyword, value, key):
    assert keys({**CHEST, keyword: value}) == [key]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BodyPartExamined", "Portable chest"),
        ("ImageType", "['DERIVED', 'PRIMARY']"),
        ("PresentationIntentType", "FOR PRESENTATION"),
        ("ViewPosition", "ap"),
    ],
)
def test_other_ways_to_say_what_is_intended_are_not_flagged(keyword, value):
    assert keys({**CHEST, keyword: value}) == []


def test_a_header_that_says_nothing_is_not_flagged():
    assert keys({"mode": "L", "bits": 8}) == []
    assert keys(dict.fromkeys(CHEST, "")) == []


def test_a_bundle_that_says_nothing_flags_no_modality_view_or_age():
    assert keys({"Modality": "CT", "ViewPosition": "LL", "PatientAge": "080Y"}, Intended()) == []


@pytest.mark.parametrize(
    ("age", "flagged"), [("005Y", False), ("071M", False), ("006Y", True), ("072M", True)]
)
def test_a_child_is_five_until_the_sixth_birthday(age, flagged):
    assert (keys({"PatientAge": age}) == ["age"]) == flagged


@pytest.mark.parametrize(
    ("age", "flagged"), [("000Y", False), ("005M", True), ("006M", False), ("180D", True)]
)
def test_an_age_in_whole_years_may_be_any_month_of_the_year(age, flagged):
    assert (keys({"PatientAge": age}, Intended(ages=(0.5, 5))) == ["age"]) == flagged


@pytest.mark.parametrize("text", ["", "12Y", "0012Y", "012", "012X", "-12Y", "abcY", "²²²Y"])
def test_what_is_no_dicom_age_says_nothing(text):
    assert age_in_years(text) is None
    assert keys({"PatientAge": text}) == []


@given(st.text(max_size=20))
def test_no_text_of_an_age_raises(text):
    age = age_in_years(text)
    assert age is None or 0 <= age[0] < age[1]


def test_a_hip_and_an_ultrasound_from_real_files_are_flagged(shared_data):
    hip = decode(shared_data / "dicom/cr_other/RG2_J2KI.dcm").attributes
    assert "body-part" in keys(hip)
    ultrasound = decode(shared_data / "dicom/pydicom_test_files/examples_palette.dcm").attributes
    assert "modality" in keys(ultrasound)
    chest = decode(shared_data / "dicom/chest_cr/cr_mono1_10bit_explicit_le.dcm").attributes
    assert not {"modality", "body-part", "view"} & set(keys(chest))
