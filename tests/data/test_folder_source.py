"""Class folders: labels and splits from folders, whatever else lies there."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.sources.folder import read_class_folders
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_files(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"content of {name}".encode())
        return tmp_path / "set"

    return make_files


def read(root: Path, **fields: object) -> Manifest:
    return read_manifest(DataSource.model_validate({"path": root, **fields}))


def rows(manifest: Manifest) -> list[tuple[str, str, str]]:
    return list(manifest.table[["image", "label", "split"]].itertuples(index=False, name=None))


def test_class_folders_give_labels_in_code_point_order(make: Make):
    manifest = read(make("dog/b.png", "cat/a.jpg", "cat/B.jpg"))
    assert rows(manifest) == [("cat/B.jpg", "cat", ""), ("cat/a.jpg", "cat", ""), ("dog/b.png", "dog", "")]
    assert manifest.classes == ("cat", "dog")


def test_files_are_hashed_and_measured(make: Make):
    manifest = read(make("cat/a.png", "dog/b.png"))
    content = b"content of cat/a.png"
    assert manifest.table["sha256"][0] == hashlib.sha256(content).hexdigest()
    assert manifest.table["bytes"][0] == len(content)


def test_split_folders_are_known_by_many_words(make: Make):
    manifest = read(make("Training/cat/a.png", "VAL/cat/b.png", "valid/dog/c.png", "testing/dog/d.png"))
    assert rows(manifest) == [
        ("Training/cat/a.png", "cat", "train"),
        ("VAL/cat/b.png", "cat", "validation"),
        ("testing/dog/d.png", "dog", "test"),
        ("valid/dog/c.png", "dog", "validation"),
    ]


def test_the_data_set_s_own_splits_can_be_turned_off(make: Make):
    manifest = read(make("train/cat/a.png", "test/dog/b.png"), split_column="none")
    assert set(manifest.table["split"]) == {""}
    assert any("own splits are not used" in note for note in manifest.notes)


def test_folders_below_a_class_are_free(make: Make):
    assert {row[1] for row in rows(read(make("cat/2019/one/a.png", "cat/b.png", "dog/c.png")))} == {
        "cat",
        "dog",
    }


def test_a_lone_folder_around_the_data_set_is_entered(make: Make):
    manifest = read(make("export/data/train/cat/a.png", "export/data/train/dog/b.png", "export/overview.png"))
    assert [row[1:] for row in rows(manifest)] == [("cat", "train"), ("dog", "train")]
    assert any("export/data/, which was entered" in note for note in manifest.notes)
    assert any("'export/overview.png'" in note for note in manifest.notes)


def test_a_second_copy_beside_the_split_folders_is_left_out(make: Make):
    manifest = read(make("train/cat/a.png", "train/dog/b.png", "again/train/cat/a.png"))
    assert len(manifest) == 2
    assert any(
        "1 image outside of the split folders: 'again/train/cat/a.png'" in note for note in manifest.notes
    )


def test_a_test_folder_beside_class_folders_is_refused(make: Make):
    with pytest.raises(UserError, match="lie side by side"):
        read(make("cat/a.png", "dog/b.png", "test/c.png"))


def test_unlabelled_images_beside_class_folders_are_left_out(make: Make):
    manifest = read(make("train/cat/a.png", "train/dog/b.png", "test/c.png"))
    assert len(manifest) == 2
    assert any("1 image outside of the class folders: 'test/c.png'" in note for note in manifest.notes)


def test_a_plain_folder_of_images_has_no_labels_and_says_so(make: Make):
    manifest = read(make("a.png", "b.png"))
    assert rows(manifest) == [("a.png", "", ""), ("b.png", "", "")]
    assert manifest.classes == ()
    assert any("no labels" in note for note in manifest.notes)


def test_one_class_is_read_because_it_may_be_predicted(make: Make):
    assert read(make("cat/a.png", "cat/b.png")).classes == ("cat",)


def test_what_is_no_image_is_left_out_and_counted(make: Make):
    root = make(
        "cat/a.png", "dog/b.png", "README.md", "cat/labels.txt", ".DS_Store", "cat/._a.png",
        "__MACOSX/cat/a.png", "dog/Thumbs.db",
    )  # fmt: skip
    manifest = read(root)
    assert len(manifest) == 2
    assert "Left out 6 files that are no images, such as 'README.md', 'cat/labels.txt'." in manifest.notes


def test_a_table_beside_class_folders_is_mentioned_and_not_read(make: Make):
    manifest = read(make("cat/a.png", "dog/b.png", "manifest.csv"))
    assert any("'table: manifest.csv' would use it" in note for note in manifest.notes)


def test_images_are_found_under_any_name(make: Make):
    root = make("cat/a", "dog/b.1", "dog/c.dat")
    (root / "cat" / "a").write_bytes(b"\xff\xd8\xff\xe0 jpeg")
    (root / "dog" / "b.1").write_bytes(b"\x89PNG\r\n\x1a\n png")
    assert [row[0] for row in rows(read(root))] == ["cat/a", "dog/b.1"]


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no images"):
        read(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="There is no folder or table"):
        read(tmp_path / "nowhere")


def test_a_folder_without_images_says_what_it_holds(make: Make):
    with pytest.raises(UserError, match=r"holds no images.*2 files that are no images, such as 'a.txt'"):
        read(make("a.txt", "b/c.txt"))


def test_a_column_without_a_table_is_refused(make: Make):
    with pytest.raises(UserError, match="label_column is given"):
        read(make("cat/a.png"), label_column="dx")


def test_loops_of_links_end_and_are_named(make: Make):
    root = make("cat/a.png", "dog/b.png")
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    (root / "dog" / "self").symlink_to(root / "dog", target_is_directory=True)
    (root / "dog" / "endless").symlink_to(root / "dog" / "endless")
    manifest = read(root)
    assert [row[0] for row in rows(manifest)] == ["cat/a.png", "dog/b.png"]
    assert any(
        "2 links to folders that are read already: 'cat/up', 'dog/self'" in note for note in manifest.notes
    )
    assert any("dog/endless" in note for note in manifest.notes)


def test_links_to_folders_elsewhere_are_followed_once(make: Make, tmp_path: Path):
    root = make("cat/a.png")
    (tmp_path / "kennel").mkdir()
    (tmp_path / "kennel" / "b.png").write_bytes(b"b")
    (root / "dog").symlink_to(tmp_path / "kennel", target_is_directory=True)
    (root / "wolf").symlink_to(tmp_path / "kennel", target_is_directory=True)
    assert [row[:2] for row in rows(read(root))] == [("cat/a.png", "cat"), ("dog/b.png", "dog")]


def test_a_link_to_nothing_is_listed(make: Make):
    root = make("cat/a.png", "dog/b.png")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    manifest = read(root)
    assert len(manifest) == 2
    assert any("cat/gone.png (a link to nothing)" in note for note in manifest.notes)


def test_a_pipe_is_not_waited_on(make: Make):
    root = make("cat/a.png", "dog/b.png")
    os.mkfifo(root / "cat" / "pipe.png")
    assert len(read(root)) == 2


def test_names_in_any_script_are_read(make: Make):
    names = ["кот/снимок 1.png", "犬/画像.png", "🦊/photo 😀.png", "cat #1/a#3.png"]
    manifest = read(make(*names))
    assert sorted(manifest.file_names()) == sorted(names)
    assert {path.path for path in manifest.references()} == {manifest.root / name for name in names}
    assert set(manifest.classes) == {"кот", "犬", "🦊", "cat #1"}


def test_one_class_written_in_two_unicode_forms_is_one_class(make: Make):
    composed, decomposed = (unicodedata.normalize(form, "niño") for form in ("NFC", "NFD"))
    manifest = read(make(f"train/{composed}/a.png", f"test/{decomposed}/b.png", "train/otro/c.png"))
    assert manifest.classes == (composed, "otro")
    assert all(reference.path.is_file() for reference in manifest.references())


def test_a_name_that_is_not_utf8_is_listed_and_left_out(make: Make):
    root = make("cat/a.png", "dog/b.png")
    (root / os.fsdecode(b"cat/\xff\xfe.png")).write_bytes(b"x")
    manifest = read(root)
    assert len(manifest) == 2
    assert any(r"cat/\xff\xfe.png (the name is not UTF-8)" in note for note in manifest.notes)
    manifest.write(root / "manifest.parquet")


def test_an_empty_file_is_named(make: Make):
    root = make("cat/a.png", "dog/b.png")
    (root / "dog" / "b.png").write_bytes(b"")
    assert "1 file is empty (0 bytes): 'dog/b.png'." in read(root).notes


def test_classes_can_be_put_in_another_order(make: Make):
    assert read(make("cat/a.png", "dog/b.png"), classes=("dog", "cat")).classes == ("dog", "cat")


def test_a_label_that_is_not_among_the_classes_is_refused(make: Make):
    with pytest.raises(UserError, match="the label 'dog', which is not among 'classes'"):
        read(make("cat/a.png", "dog/b.png"), classes=("cat", "cow"))


def test_numbered_classes_are_in_the_order_of_their_numbers(make: Make):
    assert read(make("10/a.png", "9/b.png", "0/c.png")).classes == ("0", "9", "10")


def test_folders_of_patients_instead_of_classes_are_suspected(make: Make):
    manifest = read(make(*(f"patient{number}/a.png" for number in range(20))))
    assert any("20 class folders hold only 20 images" in note for note in manifest.notes)


def test_kermany_is_read_with_its_patients_and_splits(shared_data: Path):
    manifest = read(shared_data / "kermany" / "compact_224")
    assert len(manifest) == 5206
    assert Counter(manifest.table["split"]) == {"train": 5190, "validation": 16}
    assert manifest.classes == ("NORMAL", "PNEUMONIA")
    assert len(set(manifest.table["patient"])) == 2861
    assert not manifest.table["patient"].eq("").any()


def test_beans_have_their_own_splits_and_no_patients(shared_data: Path):
    manifest = read(shared_data / "beans")
    assert Counter(manifest.table["split"]) == {"train": 1034, "validation": 133, "test": 128}
    assert any("No patients are known" in note for note in manifest.notes)


PART = st.text(min_size=1, max_size=6).filter(lambda part: "/" not in part and part not in (".", ".."))


@given(
    st.lists(
        st.lists(PART | st.sampled_from(["train", "val", "cat"]), min_size=1, max_size=5).map("/".join),
        unique=True,
    )
)
def test_any_tree_is_understood_or_refused_with_a_reason(names: list[str]):
    try:
        result = read_class_folders(names)
    except UserError as error:
        reason = str(error)
    else:
        reason = ""
        assert set(result.table["file"]) <= set(names)
        labelled = result.table["label"] != ""
        assert labelled.all() or not labelled.any()
    assert not reason or "side by side" in reason
