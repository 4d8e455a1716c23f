import json
import re
from importlib import resources
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from note_sentences import note_sentences

import freezeframe
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource, Split
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


def written_notes() -> list[str]:
    source = Path(freezeframe.__file__).parent
    modules = dict.fromkeys(sorted((source / "data").rglob("*.py")))
    modules |= dict.fromkeys([source / "evaluation" / "other_data.py", source / "verbs" / "evaluate.py"])
    modules[source / "training" / "assembly.py"] = {"readable"}
    found = [text for path, functions in modules.items() for text in note_sentences(path, functions)]
    return list(dict.fromkeys(found))


def test_every_note_that_the_code_can_write_has_a_spanish_form_without_english_words():
    notes = written_notes()
    assert len(notes) > 100
    assert [note for note in notes if SPANISH.note(note)[1] != "es"] == []
    english = r"\b(and|the|images?|files?|patients?|more|train|test|is|are|of|1,234)\b"
    # The fields of a recipe are named alike in every language.
    shown = [re.sub(r"\w+_(pattern|column): none|table: ", "", SPANISH.note(note)[0]) for note in notes]
    assert [text for text in shown if re.search(english, text)] == []


def test_the_notes_that_are_checked_are_those_of_a_real_data_set(shared_data):
    source = DataSource(path=shared_data / "kermany" / "compact_224", split_column="none")
    notes = make_splits(read_manifest(source), Split(), 0).notes
    assert len(notes) >= 3
    assert [note for note in notes if SPANISH.note(note)[1] != "es"] == []


def test_numbers_of_a_note_are_grouped_as_spanish_does_and_names_are_left_alone():
    note = "Left out 12,345 images without a row in a 1,234.csv."
    assert SPANISH.note(note)[0] == "Imágenes omitidas por no tener fila en a 1,234.csv: 12\u202f345."


def test_numbers_of_a_list_are_grouped_before_its_commas_too():
    note = "The data set's own splits are kept: train 41,710 images, validation 1,468 images, test 12,521 images."
    numbers = [part.rpartition(" ")[2].rstrip(".") for part in SPANISH.note(note)[0].split(",")]
    assert numbers == ["41\u202f710", "1468", "12\u202f521"]


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
