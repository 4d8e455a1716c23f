"""The manifest: checked when it is made, and the same after writing and reading."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.data.manifest import ImageReference, Manifest, image_name
from freezeframe.errors import UserError


def table(**changes: list) -> pd.DataFrame:
    columns = {
        "image": ["a.png", "b.dcm#0", "b.dcm#1"],
        "label": ["cat", "dog", "dog"],
        "patient": ["p1", "", ""],
        "site": ["", "", ""],
        "split": ["train", "test", "test"],
        "sha256": ["aa", "bb", "bb"],
        "frame": [0, 0, 1],
    }
    return pd.DataFrame({**columns, **changes})


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(table(), tmp_path, ("dog", "cat"), ("Größe: 3 images.",))


def test_labels_are_indices_into_the_classes(manifest: Manifest):
    assert manifest.labels().tolist() == [1, 0, 0]
    assert manifest.labels().dtype == "int64"


def test_an_image_without_a_label_is_minus_one(tmp_path: Path):
    assert Manifest(table(label=["", "dog", ""]), tmp_path, ("dog",)).labels().tolist() == [-1, 0, -1]


def test_references_take_the_frame_off_the_name(manifest: Manifest):
    root = manifest.root
    assert manifest.references() == [
        ImageReference(root / "a.png", 0),
        ImageReference(root / "b.dcm", 0),
        ImageReference(root / "b.dcm", 1),
    ]


def test_keys_tell_later_frames_apart(manifest: Manifest):
    assert manifest.keys() == ["aa", "bb", "bb#1"]


def test_a_manifest_without_a_frame_column_holds_first_frames(tmp_path: Path):
    manifest = Manifest(table(image=["a", "b", "c"]).drop(columns="frame"), tmp_path, ("cat", "dog"))
    assert [reference.frame for reference in manifest.references()] == [0, 0, 0]


def test_frames_of_one_file_without_a_patient_are_one_group(manifest: Manifest):
    assert manifest.patients().tolist() == ["p1", "b.dcm", "b.dcm"]


def test_a_subset_keeps_classes_and_order(manifest: Manifest):
    subset = manifest.subset("test")
    assert subset.table["image"].tolist() == ["b.dcm#0", "b.dcm#1"]
    assert subset.classes == manifest.classes
    assert len(manifest.subset("validation")) == 0


def test_an_unknown_split_is_suggested(manifest: Manifest):
    with pytest.raises(UserError, match="did you mean 'validation'"):
        manifest.subset("validaton")


def test_writing_and_reading_gives_the_same_manifest(manifest: Manifest, tmp_path: Path):
    manifest.write(tmp_path / "run" / "manifest.parquet")
    again = Manifest.read(tmp_path / "run" / "manifest.parquet")
    pd.testing.assert_frame_equal(again.table, manifest.table)
    assert (again.root, again.classes, again.notes) == (manifest.root, manifest.classes, manifest.notes)


def test_images_that_were_moved_are_read_from_another_root(manifest: Manifest, tmp_path: Path):
    manifest.write(tmp_path / "manifest.parquet")
    moved = Manifest.read(tmp_path / "manifest.parquet", root=tmp_path / "elsewhere")
    assert moved.references()[0].path == tmp_path / "elsewhere" / "a.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ["a", "b", "a"]}, "'a' more than once"),
        ({"label": ["cat", "cow", "dog"]}, "the label 'cow'"),
        ({"split": ["train", "holdout", ""]}, "the split 'holdout'"),
        ({"patient": ["p", None, "q"]}, "1 rows of the manifest have no patient"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changes: dict, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        Manifest(table(**changes), tmp_path, ("cat", "dog"))


def test_a_missing_column_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="no column site, sha256"):
        Manifest(table().drop(columns=["site", "sha256"]), tmp_path, ("cat", "dog"))


def test_a_class_named_twice_is_refused(manifest: Manifest):
    with pytest.raises(UserError, match="named twice"):
        replace(manifest, classes=("cat", "dog", "cat"))


def test_any_other_parquet_file_is_no_manifest(tmp_path: Path):
    pa.parquet.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="is no manifest"):
        Manifest.read(tmp_path / "other.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_broken_manifest_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"broken.parquet can't be read"):
        Manifest.read(tmp_path / "broken.parquet")


def test_a_missing_manifest_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="There is no manifest"):
        Manifest.read(tmp_path / "nowhere.parquet")


PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(
    lambda text: f"x{text}"
)


@given(st.lists(st.tuples(PATHS, st.integers(1, 3)), max_size=6, unique_by=lambda pair: pair[0]))
def test_every_name_can_be_taken_apart_again(files: list[tuple[str, int]]):
    rows = [
        (image_name(path, frame, frames), path, frame) for path, frames in files for frame in range(frames)
    ]
    text = dict.fromkeys(("label", "patient", "site", "split", "sha256"), "")
    frame = pd.DataFrame([{"image": name, "frame": number, **text} for name, _, number in rows])
    if rows:
        manifest = Manifest(frame, Path("/images"), ())
        assert manifest.file_names() == [path for _, path, _ in rows]
