"""DICOM files: joined to a table by an identifier, or in class folders; a frame each."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.sources.dicom import read_header
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource


def save(path: Path, **attributes: object) -> Path:
    """Write a small DICOM file; attributes given as None are left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    defaults = {"SOPInstanceUID": "1.2.3", "PatientID": "P1", "Rows": 2, "Columns": 2, "Modality": "CR"}
    for name, value in {**defaults, **attributes}.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four images of three patients; the last two are one study."""
    folder = tmp_path / "archive"
    for number, (patient, study) in enumerate([("P1", 1), ("P2", 2), ("P3", 3), ("P3", 3)]):
        save(
            folder / f"series{number}" / f"IM-000{number}-0001.dcm",
            SOPInstanceUID=f"1.2.3.{number}",
            StudyInstanceUID=f"1.2.9.{study}",
            AccessionNumber=f"A{study}",
            PatientID=patient,
            InstitutionName="north" if patient == "P1" else "south",
        )
    return folder


def table(archive: Path, text: str) -> str:
    (archive.parent / "labels.csv").write_text(text)
    return str(archive.parent / "labels.csv")


def read(root: Path, **fields: object) -> Manifest:
    return read_manifest(DataSource.model_validate({"path": root, **fields}))


@pytest.mark.parametrize(
    "text",
    [
        "SOP Instance UID,label\n1.2.3.0,cat\n1.2.3.1,dog\n1.2.3.2,dog\n1.2.3.3,dog\n",
        "study_instance_uid,label\n1.2.9.1,cat\n1.2.9.2,dog\n1.2.9.3,dog\n",
        "AccessionNumber,label\nA1,cat\nA2,dog\nA3,dog\n",
        "PATIENTID,label\nP1,cat\nP2,dog\nP3,dog\n",
    ],
    ids=["SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID"],
)
def test_the_identifier_is_found_by_the_column_s_name(text: str, archive: Path):
    manifest = read(archive, table=table(archive, text))
    assert manifest.table["label"].tolist() == ["cat", "dog", "dog", "dog"]
    assert manifest.table["patient"].tolist() == ["P1", "P2", "P3", "P3"]
    assert manifest.table["site"].tolist() == ["north", "south", "south", "south"]


def test_the_recipe_can_name_the_identifier(archive: Path):
    text = "SOPInstanceUID,AccessionNumber,label\nwrong,A1,cat\nwrong,A2,dog\nwrong,A3,dog\n"
    manifest = read(archive, table=table(archive, text), join_on="AccessionNumber")
    assert manifest.table["label"].tolist() == ["cat", "dog", "dog", "dog"]


def test_a_named_identifier_without_a_column_lists_the_columns(archive: Path):
    with pytest.raises(
        UserError, match=r"no column 'AccessionNumber' \(join_on\); it has 'PatientID', 'label'"
    ):
        read(archive, table=table(archive, "PatientID,label\nP1,cat\n"), join_on="AccessionNumber")


def test_dicom_files_are_joined_by_their_names_too(archive: Path):
    text = "file,label,PatientID\nIM-0000-0001,cat,X\nIM-0001-0001.dcm,dog,Y\n"
    manifest = read(archive, table=table(archive, text))
    assert manifest.table["label"].tolist() == ["cat", "dog"]
    assert manifest.table["patient"].tolist() == ["X", "Y"]


def test_patients_that_changed_their_label_are_refused(archive: Path):
    with pytest.raises(UserError, match=r"different labels: 2 images.*SOPInstanceUID"):
        read(archive, table=table(archive, "PatientID,label\nP1,cat\nP3,cat\nP3,dog\n"))


def test_an_image_without_a_row_is_counted(archive: Path):
    manifest = read(archive, table=table(archive, "PatientID,label\nP1,cat\nP3,dog\n"))
    assert len(manifest) == 3
    assert any("1 image without a row" in note for note in manifest.notes)


def test_a_table_that_joins_nothing_is_refused(archive: Path):
    with pytest.raises(UserError, match="no column that joins it"):
        read(archive, table=table(archive, "number,label\n1,cat\n"))


def test_class_folders_of_dicom_files_have_the_headers_patients(tmp_path: Path):
    save(tmp_path / "cat" / "1.2.3", PatientID="P1")
    save(tmp_path / "dog" / "IM-0001-0001.dcm", PatientID=" P2 ")
    save(tmp_path / "dog" / "IM-0002-0001.dcm", PatientID="")
    manifest = read(tmp_path)
    assert manifest.table["patient"].tolist() == ["P1", "P2", ""]
    assert any("2 patients; 1 file without one" in note for note in manifest.notes)


def test_one_patient_id_for_all_is_suspected(tmp_path: Path):
    for number in range(3):
        save(tmp_path / "cat" / f"{number}.dcm", PatientID="ANON")
    assert any("carry the PatientID 'ANON'" in note for note in read(tmp_path).notes)


def test_patients_can_be_turned_off(tmp_path: Path):
    save(tmp_path / "cat" / "1.dcm", PatientID="ANON")
    assert read(tmp_path, patient_pattern="none").table["patient"].tolist() == [""]


def test_each_frame_has_a_row(tmp_path: Path):
    save(tmp_path / "cat" / "loop.dcm", NumberOfFrames=3, PatientID="")
    save(tmp_path / "dog" / "one.dcm", NumberOfFrames=1, PatientID="")
    manifest = read(tmp_path)
    assert manifest.table["image"].tolist() == [
        "cat/loop.dcm#0",
        "cat/loop.dcm#1",
        "cat/loop.dcm#2",
        "dog/one.dcm",
    ]
    assert manifest.table["frame"].tolist() == [0, 1, 2, 0]
    assert {reference.path.name for reference in manifest.references()} == {"loop.dcm", "one.dcm"}
    assert len(set(manifest.keys())) == 4
    assert len(set(manifest.patients())) == 2


def test_reports_are_left_out_and_named(tmp_path: Path):
    save(tmp_path / "cat" / "image.dcm")
    save(tmp_path / "cat" / "report.dcm", Rows=None, Columns=None, Modality="SR")
    manifest = read(tmp_path)
    assert manifest.table["image"].tolist() == ["cat/image.dcm"]
    assert any(
        "1 DICOM file without an image" in note and "'cat/report.dcm'" in note for note in manifest.notes
    )


def test_a_broken_file_is_kept_for_the_decoder_to_refuse(tmp_path: Path):
    save(tmp_path / "cat" / "image.dcm")
    (tmp_path / "cat" / "broken.dcm").write_bytes(b"not DICOM at all")
    manifest = read(tmp_path)
    assert manifest.table["image"].tolist() == ["cat/broken.dcm", "cat/image.dcm"]
    assert any("1 DICOM file without a readable header: 'cat/broken.dcm'" in note for note in manifest.notes)


def test_every_dicom_file_at_hand_is_listed_or_left_out_by_name(shared_data: Path):
    manifest = read(shared_data / "dicom")
    assert len(set(manifest.file_names())) == 90
    assert any("9 DICOM files without an image" in note for note in manifest.notes)
    assert any("7 multi-frame files hold 81 frames" in note for note in manifest.notes)


def test_the_index_of_the_dicom_files_labels_them_by_path(shared_data: Path):
    manifest = read(shared_data / "dicom", table="index.csv", label_column="modality")
    assert {"CR", "DX", "CT", "MR", "US"} <= set(manifest.classes)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_as_a_header_without_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, begun: bool
):
    path = tmp_path_factory.mktemp("dicom") / "any.dcm"
    path.write_bytes((b"\0" * 128 + b"DICM" if begun else b"") + content)
    header = read_header(path)
    assert header is None or header.frames >= 1
