import json
import re
from importlib import resources
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.report.language import load

ENGLISH, SPANISH = load("en"), load("es")


def placeholders(message) -> set[str]:
    texts = message.values() if isinstance(message, dict) else [message]
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name and name != "count"}


def test_both_languages_have_the_same_messages_with_the_same_values():
    assert ENGLISH.messages.keys() == SPANISH.messages.keys()
    for key, message in ENGLISH.messages.items():
        assert placeholders(message) == placeholders(SPANISH.messages[key]), key


def test_every_message_that_the_template_names_exists():
    template = resources.files("freezeframe.report").joinpath("templates", "report.html.j2").read_text()
    keys = set(re.findall(r't\("(\w+)"[,)]', template)) | set(re.findall(r"t\('(\w+)'[,)]", template))
    assert len(keys) > 30
    assert keys <= ENGLISH.messages.keys()


def test_spanish_writes_a_comma_and_a_space_before_the_percent_sign():
    assert SPANISH.number(0.9751) == "0,975"
    assert SPANISH.percent(0.9751) == "97,5\u00a0%"
    assert ENGLISH.percent(0.9751) == "97.5%"


def test_spanish_groups_digits_from_five_on():
    assert SPANISH.integer(1234) == "1234"
    assert SPANISH.integer(1234567) == "1\u202f234\u202f567"
    assert ENGLISH.integer(1234567) == "1,234,567"


def test_plural_forms_follow_the_count():
    assert ENGLISH.text("answer_images", count=1) == "1 image"
    assert SPANISH.text("answer_patients", count=2000) == "2000 pacientes"


def test_a_negative_zero_has_no_sign_and_a_missing_number_is_a_dash():
    assert ENGLISH.signed(-0.0001) == "0.000"
    assert ENGLISH.signed(0.02) == "+0.020"
    assert SPANISH.signed(-0.02) == "\u22120,020"
    assert ENGLISH.number(None) == ENGLISH.number(float("nan")) == ENGLISH.percent(None) == "–"


def test_spanish_joins_with_e_before_the_sound_of_i():
    assert SPANISH.enumerate(["sano", "infectado"]) == "sano e infectado"
    assert SPANISH.enumerate(["a", "b", "hielo"]) == "a, b y hielo"


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="en or es"):
        load("fr")


def test_a_note_without_a_translation_keeps_its_language():
    assert SPANISH.note("Something new was found.") == ("Something new was found.", "en")


def test_the_usual_notes_of_a_data_set_are_translated():
    sentence, code = SPANISH.note("No patients are known: each image counts as a patient of its own.")
    assert code == "es"
    assert "pacientes" in sentence


def test_the_locale_files_hold_valid_patterns_whose_groups_are_all_used():
    content = json.loads(
        resources.files("freezeframe.report").joinpath("locale", "es.json").read_text("utf-8")
    )
    for pattern, sentence in content["notes"]:
        groups = re.compile(pattern).groups
        assert set(re.findall(r"\\(\d)", sentence)) == {str(number) for number in range(1, groups + 1)}, (
            pattern
        )


@given(st.floats(-1e9, 1e9))
def test_a_spanish_number_is_the_english_one_with_another_mark(value):
    assert SPANISH.number(value).replace(",", ".") == ENGLISH.number(value)
