"""The synthetic hospital."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from freezeframe.data.phantom import make_hospital, plan
from freezeframe.data.phantom_machine import render
from freezeframe.errors import UserError

PATIENTS = 24


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    return make_hospital(tmp_path_factory.mktemp("hospital"), patients=PATIENTS, seed=3).parent


@pytest.fixture(scope="module")
def images(hospital) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(hospital.rglob("*.dcm"))]


def rows(hospital: Path) -> list[dict[str, str]]:
    with (hospital / "labels.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_table_names_each_image_once_with_its_patient_and_site(hospital, images):
    table = {row["SOPInstanceUID"]: row for row in rows(hospital)}
    assert len(table) == len(rows(hospital)) == len(images) >= PATIENTS
    for image in images:
        row = table[image.SOPInstanceUID]
        assert row["patient"] == image.PatientID
        assert image.InstitutionName == f"Synthetic site {row['site']}"


def test_every_file_says_that_it_is_synthetic(hospital, images):
    assert {row["synthetic"] for row in rows(hospital)} == {"true"}
    for image in images:
        assert image.PatientName == "SYNTHETIC^PHANTOM"
        assert image.PatientID.startswith("SYN")
        assert image.SeriesDescription == image.ImageComments == "SYNTHETIC - not a patient"


def test_the_notice_is_burned_into_the_same_corner_of_all_images_alike(images):
    # Of the lettering, the share of bright pixels is alike whatever the site, class and collimation.
    shares = []
    for image in images:
        pixels = image.pixel_array.astype(float) / (2**image.BitsStored - 1)
        if image.PhotometricInterpretation == "MONOCHROME1":
            pixels = 1 - pixels
        height = image.Rows // 50
        corner = pixels[-height:, -5 * height :]
        assert corner.max() > 0.7
        shares.append((corner > 0.5).mean())
    assert max(shares) < 0.5
    assert min(shares) > 0.05


def test_the_sites_differ_as_real_machines_do(images):
    kinds = {site: [image for image in images if image.InstitutionName.endswith(site)] for site in ("A", "B")}
    assert {image.Modality for image in kinds["A"]} == {"DX"}
    assert {image.Modality for image in kinds["B"]} == {"CR"}
    assert {image.BitsStored for image in kinds["A"]} == {14, 16}
    assert {image.BitsStored for image in kinds["B"]} == {12}
    assert {image.PhotometricInterpretation for image in kinds["A"]} == {"MONOCHROME2"}
    assert "MONOCHROME1" in {image.PhotometricInterpretation for image in kinds["B"]}


def test_some_files_are_compressed_and_decode_to_what_was_drawn(images):
    syntaxes = Counter(image.file_meta.TransferSyntaxUID.name for image in images)
    assert len(syntaxes) == 3
    drawn = {shot.uid: shot for shot in plan(PATIENTS, seed=3)}
    compressed = next(image for image in images if image.file_meta.TransferSyntaxUID.is_compressed)
    white = 2**compressed.BitsStored - 1
    stored = compressed.pixel_array.astype(int)
    if compressed.PhotometricInterpretation == "MONOCHROME1":
        stored = white - stored
    picture, _ = render(drawn[compressed.SOPInstanceUID])
    assert np.abs(stored - picture * white).max() <= 1


def test_the_header_is_complete_and_the_stored_values_fit_it(images):
    for image in images:
        assert image.BodyPartExamined == "CHEST"
        assert image.ViewPosition in ("PA", "AP")
        assert image.StudyDate == "20260101"
        assert 512 <= image.Rows <= 700
        assert image.SOPInstanceUID.startswith("2.25.")
        assert image.SOPInstanceUID.is_valid
        pixels = image.pixel_array
        assert pixels.shape == (image.Rows, image.Columns)
        assert pixels.max() < 2**image.BitsStored
        # The window covers most of the range that is used.
        assert 0 < image.WindowCenter < 2**image.BitsStored
        assert image.WindowWidth > 0.8 * 2**image.BitsStored
        assert (image.Modality == "DX") == ("PresentationIntentType" in image)


def test_the_same_call_makes_the_same_bytes(hospital, tmp_path):
    again = make_hospital(tmp_path, patients=PATIENTS, seed=3).parent
    names = sorted(path.relative_to(hospital) for path in hospital.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((again / name).read_bytes() == (hospital / name).read_bytes() for name in names)


def test_a_killed_call_goes_on_and_keeps_what_is_there(tmp_path):
    table = make_hospital(tmp_path, patients=4)
    kept, lost, *_ = sorted(tmp_path.rglob("*.dcm"))
    content, before = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    table.unlink()
    assert make_hospital(tmp_path, patients=4) == table
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == before


def test_another_hospital_or_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    make_hospital(tmp_path / "one", patients=2)
    with pytest.raises(UserError, match="2 patients, seed 0"):
        make_hospital(tmp_path / "one", patients=3)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        make_hospital(tmp_path / "two", patients=2)
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="at least 2"):
        make_hospital(tmp_path / "three", patients=1)


def test_the_plan_holds_two_sites_with_a_slightly_different_prevalence():
    shots = list(plan(4000, seed=0))
    share = {
        site: np.mean([shot.label == "opacity" for shot in shots if shot.site.name == site]) for site in "AB"
    }
    assert 0.3 < share["A"] < share["B"] < 0.5
    images_of_a_patient = Counter(shot.patient for shot in shots)
    assert set(images_of_a_patient.values()) == {1, 2}
    assert 4200 < len(shots) < 4400


def test_an_opacity_is_brighter_than_the_same_lung_without_it():
    shot = next(shot for shot in plan(50, seed=0) if shot.opacities)
    ill, _ = render(shot)
    well, _ = render(replace(shot, opacities=()))
    difference = ill - well
    assert ill.shape == well.shape
    assert np.percentile(difference, 99.5) > 0.05
    assert np.median(np.abs(difference)) < 0.02
