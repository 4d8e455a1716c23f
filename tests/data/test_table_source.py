"""Tables of labels: alone, or beside a folder of images."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.sources.join import match_files
from freezeframe.data.sources.table import read_table
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("x/a.png", "x/b.png", "y/c.png", "y/d.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, **fields: object) -> Manifest:
    return read_manifest(DataSource.model_validate({"path": path, **fields}))


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.table["image"], manifest.table["label"], strict=True))


FOUR = "file,label\nx/a.png,cat\nx/b.png,cat\ny/c.png,dog\ny/d.png,dog\n"
MEANT = {"x/a.png": "cat", "x/b.png": "cat", "y/c.png": "dog", "y/d.png": "dog"}


def test_paths_of_a_table_start_from_its_folder(images: Path):
    manifest = read(write(images / "labels.csv", FOUR))
    assert labels(manifest) == MEANT
    assert manifest.root == images


def test_paths_of_a_table_may_be_absolute(images: Path, tmp_path: Path):
    (tmp_path / "tables").mkdir()
    text = f"image,class\n{images}/x/a.png,cat\n{images}/y/c.png,dog\n"
    manifest = read(write(tmp_path / "tables" / "labels.csv", text))
    assert [reference.path for reference in manifest.references()] == [images / "x/a.png", images / "y/c.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", FOUR.replace(",", ";")),
        ("t.tsv", FOUR.replace(",", "\t")),
        ("t.csv", "\ufeff" + FOUR),
        ("t.csv", FOUR.replace("\n", "\r\n")),
        ("t.csv", FOUR.replace("/", "\\")),
        ("t.csv", FOUR.replace("file,label", "Image Path,Finding Labels")),
    ],
    ids=["semicolons", "tabs", "byte order mark", "Windows lines", "Windows paths", "other names"],
)
def test_tables_of_many_programs_are_read(name: str, text: str, images: Path):
    assert labels(read(write(images / name, text))) == MEANT


def test_a_table_from_windows_is_read_in_its_encoding(images: Path):
    (images / "t.csv").write_bytes("file;label\nx/a.png;neumonía\ny/c.png;sano\n".encode("cp1252"))
    assert read(images / "t.csv").classes == ("neumonía", "sano")


def test_parquet_numbers_become_plain_labels(images: Path):
    table = pd.DataFrame(
        {
            "file": list(MEANT),
            "label": [0.0, 1.0, 10.0, None],
            "patient_id": [1, 2, 3, 4],
            "age": [50, 60, 70, 80],
        }
    )
    table.to_parquet(images / "t.parquet")
    manifest = read(images / "t.parquet")
    assert labels(manifest) == {"x/a.png": "0", "x/b.png": "1", "y/c.png": "10"}
    assert manifest.classes == ("0", "1", "10")
    assert manifest.table["patient"].tolist() == ["1", "2", "3"]
    assert manifest.table["age"].tolist() == ["50", "60", "70"]
    assert any("1 image with an empty label: 'y/d.png'" in note for note in manifest.notes)


def test_patient_ids_keep_their_zeros_and_labels_may_be_words_for_nothing(images: Path):
    text = "file,label,patient\nx/a.png,NA,007\nx/b.png,None,07\ny/c.png,null,7\n"
    manifest = read(write(images / "t.csv", text))
    assert manifest.table["patient"].tolist() == ["007", "07", "7"]
    assert manifest.classes == ("NA", "None", "null")


def test_columns_are_taken_as_the_recipe_names_them(images: Path):
    text = "file,label,dx,who,where,part\nx/a.png,1,cat,p1,north,val\ny/c.png,2,dog,p2,south,train\n"
    manifest = read(
        write(images / "t.csv", text),
        label_column="dx",
        patient_column="who",
        site_column="Where",
        split_column="part",
    )
    row = manifest.table.iloc[0]
    assert (row["label"], row["patient"], row["site"], row["split"]) == ("cat", "p1", "north", "validation")
    assert row["table_label"] == "1"


def test_a_missing_label_column_lists_the_columns(images: Path):
    with pytest.raises(UserError, match=r"no column of labels; it has 'file', 'age'.*label_column"):
        read(write(images / "t.csv", "file,age\nx/a.png,3\n"))


def test_a_misspelt_column_is_suggested(images: Path):
    with pytest.raises(UserError, match=r"no column 'diagnoses' \(label_column\).*did you mean 'diagnosis'"):
        read(write(images / "t.csv", "file,diagnosis\nx/a.png,3\n"), label_column="diagnoses")


def test_splits_of_another_kind_are_not_used(images: Path):
    text = "file,label,split\nx/a.png,cat,1\ny/c.png,dog,2\n"
    manifest = read(write(images / "t.csv", text))
    assert set(manifest.table["split"]) == {""}
    assert any("'split' of t.csv is not used" in note for note in manifest.notes)
    with pytest.raises(UserError, match="holds '1', '2'"):
        read(images / "t.csv", split_column="split")


def test_a_few_rows_without_a_file_are_counted(images: Path):
    manifest = read(write(images / "t.csv", FOUR + "z/gone.png,cat\n"))
    assert labels(manifest) == MEANT
    assert "Left out 1 row of t.csv without an image file: 'z/gone.png'." in manifest.notes


def test_more_than_half_without_a_file_is_refused(images: Path):
    with pytest.raises(UserError, match=r"2 of the 3 rows of t.csv have no image file: 'p.png', 'q.png'"):
        read(write(images / "t.csv", "file,label\nx/a.png,cat\np.png,cat\nq.png,dog\n"))


def test_a_cell_longer_than_any_name_is_a_missing_file(images: Path):
    assert labels(read(write(images / "t.csv", f"{FOUR}{'long' * 2000},cat\n"))) == MEANT


def test_rows_that_repeat_an_image_are_dropped(images: Path):
    manifest = read(write(images / "t.csv", FOUR + "x/a.png,cat\n"))
    assert labels(manifest) == MEANT
    assert any("1 row of t.csv repeated an image's row and agreed" in note for note in manifest.notes)


def test_rows_of_one_image_that_contradict_each_other_are_refused(images: Path):
    with pytest.raises(
        UserError, match=r"different labels: 1 image, 'x/a.png' \(the first has 'cat', 'dog'\)"
    ):
        read(write(images / "t.csv", FOUR + "x/a.png,dog\n"))


def test_a_table_without_any_label_is_refused(images: Path):
    with pytest.raises(UserError, match=r"'label' of t.csv is empty in every row"):
        read(write(images / "t.csv", "file,label\nx/a.png,\ny/c.png,\n"))


def test_a_folder_takes_its_labels_from_a_table(images: Path, tmp_path: Path):
    table = write(tmp_path / "labels.csv", FOUR.replace("y/d.png,dog\n", ""))
    manifest = read(images, table=table)
    assert labels(manifest) == {name: label for name, label in MEANT.items() if name != "y/d.png"}
    assert any("1 image without a row in labels.csv" in note for note in manifest.notes)


def test_a_table_in_the_folder_is_named_by_its_name(images: Path):
    write(images / "labels.csv", FOUR)
    manifest = read(images, table="labels.csv")
    assert labels(manifest) == MEANT
    assert not any("Left out" in note for note in manifest.notes)


def test_skin_is_read_with_its_lesions(shared_data: Path):
    skin = {
        "table": "manifest.csv",
        "image_column": "file",
        "label_column": "label",
        "patient_column": "group",
    }
    manifest = read(shared_data / "skin", **skin)
    assert len(manifest) == 2636
    assert manifest.table["label"].value_counts().to_dict() == {"benign": 1440, "malignant": 1196}
    assert not manifest.table["patient"].eq("").any()
    assert any(
        "1 row of manifest.csv without an image file: 'train/malignant/769.jpg'" in note
        for note in manifest.notes
    )


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("x/a.png", "x/a.png"),
        ("a.png", "x/a.png"),
        ("a", "x/a.png"),
        ("x/a", "x/a.png"),
        ("/home/somebody/images/x/a.png", "x/a.png"),
        ("./x/a.png", "x/a.png"),
        ("b.png", ""),
        ("y/a.png", ""),
        ("nowhere.png", ""),
        ("", ""),
    ],
)
def test_a_cell_means_a_file_only_where_no_other_is_possible(cell: str, file: str):
    files = ["x/a.png", "x/b.png", "y/b.png"]
    assert match_files([cell], files, (Path("/data"), Path("/tables"))) == [file]


def test_a_cell_means_a_file_in_either_unicode_form():
    file = unicodedata.normalize("NFD", "niño.png")
    assert match_files([unicodedata.normalize("NFC", file)], [file], (Path("/data"),)) == [file]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", "is no table that can be read"),
        ("t.csv", b"", "can't be read as a table"),
        ("t.csv", b"file,label\n", "has no rows"),
        ("t.csv", b'file,label\n"x', "can't be read as a table"),
        ("t.csv", b"file,label\nx.png,cat,dog\n", "can't be read as a table"),
        ("t.parquet", b"not parquet", "can't be read as a table"),
    ],
)
def test_a_broken_table_is_explained(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / name)


def test_one_image_is_no_data_set(images: Path):
    with pytest.raises(UserError, match="is one image"):
        read(images / "x" / "a.png")


def test_a_column_and_a_pattern_for_patients_are_one_too_many(images: Path):
    with pytest.raises(UserError, match="Both patient_column and patient_pattern"):
        read(write(images / "t.csv", FOUR), patient_column="label", patient_pattern="none")


@given(st.lists(st.text(max_size=12), max_size=4), st.lists(st.text(min_size=1, max_size=12), max_size=4))
def test_any_cell_is_matched_to_a_file_or_to_none(cells: list[str], files: list[str]):
    assert set(match_files(cells, files, (Path("/data"), Path("/tables")))) <= {*files, ""}


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_explained(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except UserError as error:
        assert_named = str(path) in str(error)
    else:
        assert_named = not table.empty
    assert assert_named
