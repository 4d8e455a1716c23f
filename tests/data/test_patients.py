"""Patients from file names."""

import contextlib
import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.data.sources.patients import detect_patients, kermany_patient, match_patients
from freezeframe.errors import UserError


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/PNEUMONIA/person7_bacteria_24.jpeg", "person7"),
        ("person7_virus_12.jpeg", "person7"),
        ("person1372_virus_2366_2.png", "person1372"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0115-0001-0002.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("BACTERIA-1008087-0001.jpeg", "1008087"),
        ("person7.jpeg", ""),
        ("PERSON7_fungus_1.jpeg", ""),
        ("xIM-0115-0001.jpeg", ""),
    ],
)
def test_a_kermany_name_tells_its_patient(name: str, patient: str):
    assert kermany_patient(name) == patient


def test_the_strict_grouping_agrees_with_the_data_set_s_own_table(shared_data: Path):
    with (shared_data / "kermany" / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) > 5000
    assert [kermany_patient(row["file"]) for row in rows] == [row["patient_loose"] for row in rows]


def test_the_naming_is_recognised_in_nine_of_ten_names():
    names = [f"IM-{number:04d}-0001.jpeg" for number in range(9)]
    patients, notes = detect_patients([*names, "cat.png"])
    assert patients == [*(f"IM-{number:04d}" for number in range(9)), ""]
    assert "Kermany" in notes[0]
    assert "9 patients" in notes[0]
    assert "1 other name tells no patient" in notes[0]


def test_the_naming_is_not_recognised_in_fewer():
    names = [f"IM-{number:04d}-0001.jpeg" for number in range(8)]
    assert detect_patients([*names, "cat.png", "dog.png"]) == ([""] * 10, [])


def test_no_names_have_no_patients():
    assert detect_patients([]) == ([], [])


def test_the_first_group_of_a_pattern_is_the_patient():
    patients, notes = match_patients(["site1/P01_left.png", "site1/P02.png", "x.png"], r"(P\d+)(_left)?")
    assert patients == ["P01", "P02", ""]
    assert "2 patients" in notes[0]
    assert "'x.png'" in notes[1]


def test_a_pattern_without_a_group_is_the_patient_itself():
    assert match_patients(["P01_left.png"], r"P\d+")[0] == ["P01"]


def test_a_group_that_takes_no_part_tells_no_patient():
    assert match_patients(["a1", "b"], r"a(\d)|b")[0] == ["1", ""]


def test_none_turns_patients_off():
    assert match_patients(["IM-0115-0001.jpeg"], "none")[0] == [""]


def test_a_broken_pattern_is_explained():
    with pytest.raises(UserError, match="is no regular expression"):
        match_patients(["a.png"], "(")


def test_a_pattern_that_finds_nothing_is_refused():
    with pytest.raises(UserError, match=r"finds no patient in 1 name: 'a.png'"):
        match_patients(["a.png"], "kermany")


@given(st.text())
def test_any_name_is_read_without_a_crash(name: str):
    patient = kermany_patient(name)
    assert patient == "" or patient in name
    assert detect_patients([name])[0] == [patient]


@given(
    st.integers(1, 9999),
    st.sampled_from(["bacteria", "virus"]),
    st.integers(1, 9999),
    st.sampled_from([".jpeg", ".png", ""]),
)
def test_every_pneumonia_name_gives_its_person(person: int, subtype: str, image: int, suffix: str):
    assert kermany_patient(f"a/b/person{person}_{subtype}_{image}{suffix}") == f"person{person}"


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.text(max_size=6))
def test_any_pattern_gives_patients_or_an_explanation(names: list[str], pattern: str):
    with contextlib.suppress(UserError):  # nothing else may be raised
        assert len(match_patients(names, pattern)[0]) == len(names)
