"""Conditions of rules."""

import pytest
from configured import configured
from pydicom.sequence import Sequence
from small_images import make_image

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import Rule
from freezeframe.pacs.studies.rules import age, chooses, explain


def rule(**conditions) -> Rule:
    return Rule(name="test", **conditions)


def test_a_rule_without_conditions_chooses_everything():
    assert explain(make_image(), rule()) == []


def test_all_conditions_must_hold():
    conditions = {
        "modality": ("CR", "DX"),
        "body_part": ("CHEST",),
        "view": ("PA", "AP"),
        "station": ("ROOM1",),
    }
    assert chooses(make_image(), rule(**conditions))
    assert not chooses(make_image(ViewPosition="LL"), rule(**conditions))


def test_it_says_what_does_not_fit():
    image = make_image(Modality="CT", BodyPartExamined=None)
    assert explain(image, rule(modality=("DX",), body_part=("CHEST",), view=("PA",))) == [
        "the modality is CT",
        "the body part is not stated",
    ]


def test_an_empty_code_chooses_images_without_one():
    assert chooses(make_image(ViewPosition=None), rule(view=("PA", "")))
    assert chooses(make_image(ViewPosition=""), rule(view=("PA", "")))
    assert not chooses(make_image(ViewPosition="LL"), rule(view=("PA", "")))


def test_codes_are_compared_without_their_case():
    assert chooses(make_image(BodyPartExamined="Chest"), rule(body_part=("CHEST",)))


@pytest.mark.parametrize(
    ("elements", "years"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientBirthDate": "20000615", "StudyDate": "20180614"}, 17),
        ({"PatientBirthDate": "20000615", "StudyDate": "20180615"}, 18),
        ({"PatientBirthDate": "20000229", "StudyDate": "20180228"}, 17),
        ({"PatientBirthDate": "20000229", "StudyDate": "20180301"}, 18),
        ({"PatientBirthDate": "2000.06.15", "StudyDate": None, "SeriesDate": "20180615"}, 18),
        ({"PatientAge": "old", "PatientBirthDate": "20000615", "StudyDate": "20180615"}, 18),
    ],
)
def test_the_age_comes_from_the_age_or_the_birth_date(elements, years):
    found = age(make_image(**elements))
    assert found == years if years < 1 else int(found) == years


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientBirthDate": None},
        {"PatientBirthDate": ""},
        {"StudyDate": None},
        {"PatientBirthDate": "20300101"},
    ],
)
def test_an_age_that_is_not_known_fits_no_range(elements):
    image = make_image(**elements)
    assert age(image) is None
    assert explain(image, rule(age=(0, 200))) == ["the age is not known"]


@pytest.mark.parametrize(
    ("stated", "fits"), [("017Y", False), ("018Y", True), ("090Y", True), ("091Y", False)]
)
def test_both_ends_of_an_age_are_within(stated, fits):
    assert chooses(make_image(PatientAge=stated), rule(age=(18, 90))) == fits


def test_somebody_is_of_an_age_until_the_next_birthday():
    image = make_image(PatientBirthDate="20000615", StudyDate="20190614")
    assert chooses(image, rule(age=(0, 18)))
    assert not chooses(image, rule(age=(0, 17)))
    assert not chooses(image, rule(age=(0, 18.5)))


def test_an_expression_must_match_the_whole_value():
    image = make_image(StudyDescription="Chest PA and lateral")
    assert chooses(image, rule(attributes={"StudyDescription": "(?i)chest.*"}))
    assert chooses(image, rule(attributes={"0008,1030": "Chest .*"}))
    assert not chooses(image, rule(attributes={"StudyDescription": "Chest"}))


def test_an_expression_sees_several_values_divided_by_a_backslash_and_a_missing_one_as_empty():
    image = make_image(ImageType=["ORIGINAL", "PRIMARY"])
    assert chooses(image, rule(attributes={"ImageType": r"ORIGINAL\\PRIMARY", "ProtocolName": ""}))


def test_a_value_of_an_attribute_is_never_told():
    reasons = explain(make_image(PatientID="PHANTOM-SECRET"), rule(attributes={"PatientID": "X.*"}))
    assert reasons == ["PatientID does not fit"]


def test_a_code_that_is_none_is_not_told():
    assert explain(make_image(Modality="Phantom^Name"), rule(modality=("DX",))) == ["the modality is another"]


def test_a_long_value_fits_no_expression():
    image = make_image(ImageComments="a" * 5000)
    assert explain(image, rule(attributes={"ImageComments": ".*"})) == [
        "ImageComments is longer than 256 characters"
    ]


def test_an_item_instead_of_a_text_is_no_match():
    image = make_image()
    image.add_new(0x00081030, "SQ", Sequence([]))
    assert explain(image, rule(attributes={"StudyDescription": "CHEST"})) == ["StudyDescription does not fit"]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"StudyDescripton": ".*"}, "did you mean 'StudyDescription'?"),
        ({"ViewCodeSequence": ".*"}, "holds no text"),
        ({"StudyDescription": "(chest"}, "is no regular expression"),
        ({"StudyDescription": "(a+)+b"}, "can take forever"),
        ({"StudyDescription": "(?:CHEST|THORAX)*"}, "can take forever"),
        ({"StudyDescription": "((a{2,})b)*"}, "can take forever"),
    ],
)
def test_an_expression_that_can_not_be_asked_is_refused_with_the_configuration(tmp_path, attributes, words):
    with pytest.raises(UserError, match=r"attributes") as caught:
        configured(tmp_path, rules=[{"name": "one", "attributes": attributes}])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "pattern", ["CHEST.*|THORAX", "(ab){3}", "[(+]*", r"\(a+\)+", "(a+)?b", "[]a+]+", "(?i)a+b*"]
)
def test_an_expression_that_ends_soon_is_taken(pattern):
    assert rule(attributes={"StudyDescription": pattern}).attributes == {"StudyDescription": pattern}
