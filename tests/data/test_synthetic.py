"""Synthetic images: for training alone, marked, never dealt."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import check_unchanged, read_manifest
from freezeframe.data.splits import check_overlap, make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource, Split


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"content of {folder.name}/{name}".encode())
    return folder


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return fill(
        tmp_path / "real", *(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(20))
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return fill(tmp_path / "made", "cat/a.png", "dog/x/b.png", "dog/c.png")


def read(path: Path, **fields: object) -> Manifest:
    return read_manifest(DataSource.model_validate({"path": path, **fields}))


def added(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    rows = manifest.table.loc[manifest.added(), ["image", "label", "split", "patient"]]
    return list(rows.itertuples(index=False, name=None))


def test_they_come_last_are_marked_and_named_by_their_absolute_path(real: Path, made: Path):
    manifest = read(real, synthetic=[made])
    assert added(manifest) == [
        (f"{made}/cat/a.png", "cat", "", ""),
        (f"{made}/dog/c.png", "dog", "", ""),
        (f"{made}/dog/x/b.png", "dog", "", ""),
    ]
    assert manifest.table["synthetic"].tolist() == [""] * 40 + ["added"] * 3
    assert all(reference.path.is_file() for reference in manifest.references())
    assert "Synthetic images, added to the training images only: 3, cat (1), dog (2)." in manifest.notes
    plain = read(real)
    pd.testing.assert_frame_equal(manifest.table.iloc[:40].drop(columns="synthetic"), plain.table)
    assert manifest.classes == plain.classes


@pytest.mark.parametrize(
    "split",
    [
        Split(),
        Split(folds=4, fold=1),
        Split(train_share=0.2),
        Split(folds=4, fold=3, train_share=0.5, draw=2),
    ],
)
def test_the_real_images_are_divided_as_if_they_were_not_there(split: Split, real: Path, made: Path):
    result = make_splits(read(real, synthetic=[made]), split, 0)
    plain = make_splits(read(real), split, 0)
    assert [row[2] for row in added(result)] == ["train"] * 3
    own = result.table.loc[~result.added()].drop(columns="synthetic")
    pd.testing.assert_frame_equal(own, plain.table)
    assert set(plain.notes) < set(result.notes)
    check_overlap(result)


def test_folders_of_one_class_each_may_be_given(real: Path, made: Path):
    manifest = read(real, synthetic=[made / "dog", made / "cat", made / "dog"])
    assert {row[1] for row in added(manifest)} == {"cat", "dog"}
    assert len(added(manifest)) == 3


def test_a_folder_inside_of_the_data_set_is_no_class_of_it(real: Path):
    fill(real / "made", "cat/a.png", "dog/b.png")
    manifest = read(real, synthetic=["made"])
    assert manifest.classes == ("cat", "dog")
    assert [row[0] for row in added(manifest)] == ["made/cat/a.png", "made/dog/b.png"]
    assert len(manifest) == 42


def test_a_link_from_the_data_set_to_the_folder_is_not_followed_twice(real: Path, made: Path):
    (real / "dog" / "more").symlink_to(made / "dog", target_is_directory=True)
    manifest = read(real, synthetic=[made])
    assert len(manifest) == 43
    assert manifest.added().sum() == 3


def test_a_table_s_rows_of_synthetic_images_are_not_real_ones(real: Path):
    fill(real / "made", "cat/a.png")
    (real / "t.csv").write_text(
        "file,label,age\nmade/cat/a.png,cat,1\ncat/0.png,cat,2\ncat/1.png,cat,3\ndog/0.png,dog,4\n"
    )
    for fields in ({"path": real / "t.csv"}, {"path": real, "table": "t.csv"}):
        manifest = read(**fields, synthetic=[real / "made"])
        assert [row[0] for row in added(manifest)] == ["made/cat/a.png"]
        assert manifest.table["age"].tolist() == ["2", "3", "4", ""]


def test_given_splits_are_kept_and_they_are_in_train(real: Path, made: Path, tmp_path: Path):
    data = tmp_path / "split"
    for split in ("train", "val", "test"):
        shutil.copytree(real, data / split)
        for path in (data / split).rglob("*.png"):
            path.write_bytes(f"{split} {path.name} {path.parent.name}".encode())
    manifest = read(data, synthetic=[made])
    assert [row[2] for row in added(manifest)] == ["train"] * 3
    result = make_splits(manifest, Split(), 0)
    assert result.table["split"].value_counts().to_dict() == {"train": 43, "validation": 40, "test": 40}


def test_one_that_is_a_copy_of_a_test_image_is_refused(real: Path, made: Path):
    divided = make_splits(read(real, synthetic=[made]), Split(), 0)
    test = divided.subset("test").table["image"].iloc[0]
    shutil.copy(real / test, made / "cat" / "a.png")
    with pytest.raises(UserError, match=r"1 identical image in more than one split: .* \(train, test\)"):
        check_overlap(make_splits(read(real, synthetic=[made]), Split(), 0))


def test_one_that_changed_is_noticed_on_resuming(real: Path, made: Path, tmp_path: Path):
    make_splits(read(real, synthetic=[made]), Split(), 0).write(tmp_path / "manifest.parquet")
    stored = Manifest.read(tmp_path / "manifest.parquet")
    check_unchanged(stored)
    assert stored.added().sum() == 3
    (made / "cat" / "a.png").write_bytes(b"another")
    with pytest.raises(UserError, match=r"1 image in .* changed or went away .*/made/cat/a.png"):
        check_unchanged(stored)


def test_an_invented_data_set_is_divided_like_any_other(real: Path, made: Path):
    names = [path.relative_to(real).as_posix() for path in sorted(real.rglob("*.png"))]
    (real / "t.csv").write_text(
        "file,label,synthetic\n" + "".join(f"{name},{name[:3]},true\n" for name in names)
    )
    manifest = read(real / "t.csv")
    assert not manifest.added().any()
    assert set(make_splits(manifest, Split(), 0).table["split"]) == {"train", "validation", "test"}
    both = read(real / "t.csv", synthetic=[made])
    assert both.table["synthetic"].value_counts().to_dict() == {"true": 40, "added": 3}


def test_what_can_t_be_added_is_refused(real: Path, made: Path):
    with pytest.raises(UserError, match="There is no folder of synthetic images nowhere"):
        read(real, synthetic=["nowhere"])
    with pytest.raises(UserError, match="holds the data set itself"):
        read(real / "cat", synthetic=[real])
    fill(made, "cow/d.png", "e.png")
    with pytest.raises(UserError, match=r"holds 2 images outside of a class's folder: 'cow/d.png', 'e.png'"):
        read(real, synthetic=[made])
    empty = made.parent / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no images"):
        read(real, synthetic=[empty])


def test_dicom_files_may_be_added(real: Path, shared_data: Path, tmp_path: Path):
    pictures = sorted((shared_data / "dicom").rglob("*.dcm"))
    (tmp_path / "made" / "cat").mkdir(parents=True)
    shutil.copy(pictures[0], tmp_path / "made" / "cat")
    manifest = read(real, synthetic=[tmp_path / "made"])
    assert manifest.added().sum() >= 1
    assert manifest.table["frame"].dtype == "int64"
