"""Labels from the names of files."""

import unicodedata
from pathlib import Path

import pytest

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.sources.labels import match_labels
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource

KERMANY = "(NORMAL|bacteria|virus)"


def read(path: Path, **fields: object) -> Manifest:
    return read_manifest(DataSource.model_validate({"path": path, **fields}))


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.table["image"], manifest.table["label"], strict=True))


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("a_cat.png", "more/b_dog.png", "more/c_cat.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_the_three_classes_of_kermany_are_in_its_names(shared_data: Path):
    manifest = read(shared_data / "kermany" / "compact_224", label_pattern=KERMANY)
    # SOURCE.md: 1,341 + 8 normal, 2,530 + 8 bacterial and 1,345 viral, of which 1, 18 and 7 were moved away as copies.
    assert manifest.classes == ("NORMAL", "bacteria", "virus")
    assert manifest.table["label"].value_counts().to_dict() == {
        "NORMAL": 1348,
        "bacteria": 2520,
        "virus": 1338,
    }
    assert "label_pattern finds 3 classes: NORMAL (1,348), bacteria (2,520), virus (1,338)." in manifest.notes
    table = shared_data / "kermany" / "manifest.csv"
    joined = read(shared_data / "kermany" / "compact_224", label_pattern=KERMANY, table=table)
    assert labels(joined) == labels(manifest)
    known = joined.table[joined.table["label"] != "NORMAL"]
    assert known["subtype"].tolist() == known["label"].tolist()


def test_folders_tell_nothing_where_names_do(flat: Path):
    expected = {"a_cat.png": "cat", "more/b_dog.png": "dog", "more/c_cat.png": "cat"}
    assert labels(read(flat, label_pattern="_(cat|dog)")) == expected


def test_split_folders_still_tell_the_splits(tmp_path: Path):
    for name in ("train/a_cat.png", "train/b_dog.png", "test/deep/c_dog.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    manifest = read(tmp_path, label_pattern="_(cat|dog)")
    rows = list(zip(manifest.table["label"], manifest.table["split"], strict=True))
    assert rows == [("dog", "test"), ("cat", "train"), ("dog", "train")]


def test_a_table_needs_no_labels_where_names_have_them(flat: Path):
    (flat / "t.csv").write_text("file,site\na_cat.png,North\nmore/b_dog.png,South\n")
    manifest = read(flat / "t.csv", label_pattern="_(cat|dog)")
    assert labels(manifest) == {"a_cat.png": "cat", "more/b_dog.png": "dog"}
    assert manifest.table["site"].tolist() == ["North", "South"]


def test_images_in_whose_names_nothing_is_found_are_listed_and_counted(flat: Path):
    with pytest.raises(UserError, match=r"finds no label in 2 images of 3: 'a_cat.png', 'more/c_cat.png'\."):
        read(flat, label_pattern="_(dog)")


def test_a_group_that_may_be_missing_finds_nothing_there():
    with pytest.raises(UserError, match=r"finds no label in 1 image of 2: 'x.png'"):
        match_labels(["a_1.png", "x.png"], r"(?:a_(\d))?")


@pytest.mark.parametrize(
    ("pattern", "said"), [("(cat", "is no regular expression: missing"), ("cat", "has no group")]
)
def test_a_pattern_that_is_none_is_refused_with_an_example(pattern: str, said: str, flat: Path):
    with pytest.raises(UserError, match=said) as caught:
        read(flat, label_pattern=pattern)
    assert "(NORMAL|bacteria|virus)" in str(caught.value)


def test_a_column_and_a_pattern_of_labels_are_one_too_many(flat: Path):
    with pytest.raises(UserError, match="Both label_column and label_pattern are given"):
        read(flat, label_column="x", label_pattern="_(cat|dog)")


def test_names_in_two_unicode_forms_are_one_class():
    composed, decomposed = (unicodedata.normalize(form, "niño") for form in ("NFC", "NFD"))
    found, _ = match_labels([f"a/{composed}_1.png", f"a/{decomposed}_2.png"], f"({decomposed})_")
    assert found == [composed, composed]


def test_a_table_without_the_images_that_it_names_says_which(shared_data: Path):
    kermany = shared_data / "kermany"
    with pytest.raises(
        UserError,
        match=r"3,646 of the 5,206 rows of manifest.csv have no image file: 'compact_224/train/NORMAL/IM-0115",
    ):
        read(kermany / "compact_320_subset", table=kermany / "manifest.csv", label_column="subtype")


def test_a_table_beside_the_folder_is_pointed_to(flat: Path):
    (flat.parent / "t.csv").write_text("file,label\na_cat.png,cat\n")
    with pytest.raises(
        UserError, match=r"There is no table t.csv, neither here nor in .*/images.*say 'table: /"
    ):
        read(flat, table="t.csv")
