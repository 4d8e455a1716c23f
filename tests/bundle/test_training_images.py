"""What the headers of training images say."""

from freezeframe.bundle.runtime.contents import Intended
from freezeframe.bundle.training_images import intended_from


def test_images_without_headers_say_nothing():
    assert intended_from([{}, {"mode": "L"}]) == Intended()


def test_a_value_of_one_image_in_a_thousand_is_a_mistake():
    headers = [{"Modality": "DX", "ViewPosition": "PA"}] * 999 + [{"Modality": "CT", "ViewPosition": "PA"}]
    found = intended_from(headers)
    assert found.modalities == ("DX",)
    assert found.views == ("PA",)


def test_spellings_are_one_and_the_outermost_ages_are_left_out():
    headers = [{"BodyPartExamined": part, "PatientAge": "040Y"} for part in ("CHEST", "Chest ")] * 400
    headers += [{"PatientAge": "999Y"}, {"PatientAge": "003M"}, {"PatientAge": "nonsense"}]
    found = intended_from(headers)
    assert found.body_parts == ("CHEST",)
    assert found.ages == (40.0, 40.0)


def test_months_count_as_parts_of_a_year():
    assert intended_from([{"PatientAge": "006M"}, {"PatientAge": "018M"}]).ages == (0.0, 2.0)
