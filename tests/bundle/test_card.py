"""What a card says, as data and in two languages."""

import re

import pytest

from freezeframe.bundle.card import describe, render
from freezeframe.bundle.measuring import labelled, measure, settle
from freezeframe.bundle.options import Options
from freezeframe.bundle.runtime.contents import Class, Contents, Intended, Member
from freezeframe.ensemble.folder import read_ensemble
from freezeframe.errors import UserError
from freezeframe.evaluation.assessment import Labelled
from freezeframe.verbs.evaluate import evaluate


@pytest.fixture(scope="module")
def ensemble(trained_ensemble):
    return read_ensemble(trained_ensemble)


def contents(ensemble, points=(), **changes) -> Contents:
    members = tuple(
        Member(
            name=run.name,
            backbone="test_resnet",
            weight=0.5,
            graph="members/a.onnx",
            preprocessing=run.details["preprocessing"],
        )
        for run in ensemble.members
    )
    return Contents(
        name="chest | one",
        made="2026-01-02T03:04:05+00:00",
        versions={"freezeframe": "0.1.0", "timm": None},
        classes=tuple(Class(label=label) for label in ensemble.classes),
        members=members,
        rule="mean",
        temperature=1.25,
        operating_points=points,
        licence="",
        parity={"images": 40, "tolerance": 1e-4, "largest_difference": 2.9e-8, "decisions_changed": {}},
        **changes,
    )


@pytest.fixture(scope="module")
def full(ensemble) -> dict:
    options = Options("chest", sensitivities=(0.9,))
    validation = labelled(ensemble, "validation", None)
    assert isinstance(validation, Labelled)
    _, points = settle(ensemble, validation, options)
    measured = measure(ensemble, points, options)
    described = contents(ensemble, points, intended=Intended(modalities=("CR",), ages=(1, 5)))
    return describe(ensemble, described, "Pneumonia in children.", measured, 70, {"run1": "no_gradient"})


def test_the_page_says_that_it_is_no_medical_device_in_both_languages(full):
    assert "Research use. Not a medical device." in render(full, "en")
    assert "No es un producto sanitario." in render(full, "es")


def test_every_section_is_there_in_both_languages_with_the_same_numbers(full):
    english, spanish = render(full, "en"), render(full, "es")
    assert english.count("\n## ") == spanish.count("\n## ") == 9
    assert english.count("\n| ") == spanish.count("\n| ")
    for page in (english, spanish):
        assert not re.search(r"[{}%]{2}|None|Undefined", page)
    found = re.findall(r"\d+\.\d{3}\b", english)
    assert [number.replace(".", ",") for number in found] == re.findall(r"\d+,\d{3}\b", spanish)


def test_intervals_operating_points_and_headers_are_told(full):
    page = render(full, "en")
    assert "| accuracy | " in page
    assert re.search(r"\| sensitivity-0\.9 \| 0\.\d{4} \| sensitivity of at least 0\.900 \|", page)
    assert "- Modalities: CR" in page
    assert "- Ages: 1 to 5 years" in page
    assert "DICOM headers of 70 training images" in page
    assert "Members without a heat map: run1." in page


def test_names_cannot_break_the_pages_tables(full):
    assert "# chest \\| one" in render(full, "en")


def test_without_test_images_and_points_the_page_says_so(ensemble):
    card = describe(ensemble, contents(ensemble), "", None, 0, {})
    assert "no_test" in card["limits"]
    assert "it is not known" in render(card, "en")
    assert "la clase más probable" in render(card, "es")
    assert "has not said what it is for" in render(card, "en")


def test_an_evaluation_folder_gives_its_figures_and_another_models_is_refused(ensemble, tmp_path):
    options = Options("chest", evaluation=evaluate(ensemble.folder, tmp_path / "own", bootstrap=100))
    validation = labelled(ensemble, "validation", None)
    assert validation is not None
    _, points = settle(ensemble, validation, options)
    found = measure(ensemble, points, options)
    own = measure(ensemble, points, Options("chest"))
    assert found is not None
    assert own is not None
    assert found["metrics"]["roc_auc"]["value"] == own["metrics"]["roc_auc"]["value"]
    assert found["operating_points"] == own["operating_points"]
    other = evaluate(ensemble.members[0].folder, tmp_path / "other", bootstrap=100)
    with pytest.raises(UserError, match="is the evaluation of"):
        measure(ensemble, points, Options("chest", evaluation=other))
