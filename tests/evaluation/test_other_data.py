"""Another data set's classes, and images that the model has seen."""

from dataclasses import replace
from pathlib import Path

import pytest

from factories import make_manifest
from freezeframe.errors import UserError
from freezeframe.evaluation.other_data import leave_out_known, match_classes


def test_classes_are_matched_whatever_their_case_and_take_the_models_order():
    other = make_manifest(Path("/other"), n=16, classes=("NORMAL", "PNEUMONIA"))
    matched = match_classes(other, ("pneumonia", "normal"))
    assert matched.classes == ("pneumonia", "normal")
    assert set(matched.table["label"]) == {"normal", "pneumonia"}
    assert matched.labels().tolist() == [1 - label for label in other.labels()]


def test_a_label_can_be_said_to_be_a_class():
    other = make_manifest(Path("/other"), n=16, classes=("normal", "viral"))
    matched = match_classes(other, ("normal", "pneumonia"), {"Viral": "pneumonia"})
    assert set(matched.table["label"]) == {"normal", "pneumonia"}


def test_an_unknown_label_is_refused_by_name_with_the_way_out():
    other = make_manifest(Path("/other"), n=16, classes=("normal", "viral"))
    with pytest.raises(UserError, match=r"label 'viral'.*--map 'viral=normal'"):
        match_classes(other, ("normal", "pneumonia"))


def test_images_without_a_label_are_left_out_and_counted():
    other = make_manifest(Path("/other"), n=16)
    labels = ["", "", *other.table["label"][2:]]
    matched = match_classes(replace(other, table=other.table.assign(label=labels)), other.classes)
    assert len(matched) == 14
    assert matched.notes[-1] == "2 images without a label left out."
    with pytest.raises(UserError, match=r"No image in .* has a label"):
        match_classes(replace(other, table=other.table.assign(label="")), other.classes)


def test_identical_images_are_left_out_but_not_those_that_were_held_out():
    training = make_manifest(Path("/ours"), n=64)
    new = make_manifest(Path("/other"), n=16, data_seed=9)
    both = replace(
        new, table=new.table.assign(sha256=[*training.table["sha256"][:3], *new.table["sha256"][3:]])
    )
    kept, [warning] = leave_out_known(both, [training])
    assert len(kept) == 13
    assert warning.startswith(
        "3 images left out, identical to training or validation images: 'normal/9-00000.png'"
    )
    held_out = training.subset("test")
    assert leave_out_known(held_out, [training])[1] == []


def test_patients_of_an_equal_name_are_a_warning_and_left_out_only_on_demand():
    training = make_manifest(Path("/ours"), n=64)
    new = make_manifest(Path("/other"), n=16, data_seed=9)
    known = training.subset("train").table["patient"].iloc[0]
    other = replace(new, table=new.table.assign(patient=[known, *new.table["patient"][1:]]))
    kept, [warning] = leave_out_known(other, [training])
    assert len(kept) == 16
    assert warning.startswith("1 image of 1 patient kept")
    kept, [warning] = leave_out_known(other, [training], patients_too=True)
    assert len(kept) == 15
    assert warning.startswith("1 image of 1 patient left out")


def test_data_that_was_all_trained_with_is_refused():
    training = make_manifest(Path("/ours"), n=64)
    with pytest.raises(UserError, match=r"All 32 images .* were used for training"):
        leave_out_known(training.subset("train"), [training])
