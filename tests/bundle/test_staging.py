"""A bundle takes its place whole or not at all."""

import pytest

from freezeframe.bundle.staging import staged
from freezeframe.errors import UserError


def test_what_is_made_becomes_the_folder(tmp_path):
    with staged(tmp_path / "new" / "chest") as place:
        (place / "bundle.json").write_text("{}")
        assert not (tmp_path / "new" / "chest").exists()
    assert (tmp_path / "new" / "chest" / "bundle.json").read_text() == "{}"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chest"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="x"), staged(tmp_path / "chest") as place:
        (place / "bundle.json").write_text("{}")
        raise ValueError("x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"no bundle: it has no bundle\.json"), staged(tmp_path):
        pytest.fail("was let in")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_files_and_folders_of_the_wrong_kind_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ffb").mkdir()
    for name, words in (("file", "is a file"), ("folder.ffb", "is a folder")):
        with pytest.raises(UserError, match=words), staged(tmp_path / name):
            pytest.fail("was let in")


def test_what_a_killed_export_left_is_removed_and_an_old_bundle_put_back(tmp_path):
    (tmp_path / ".chest.abc.partial").mkdir()
    (tmp_path / ".chest.old").mkdir()
    for name in ("bundle.json", "checksums.txt"):
        (tmp_path / ".chest.old" / name).write_text("old")
    with pytest.raises(ValueError, match="x"), staged(tmp_path / "chest"):
        raise ValueError("x")
    assert [path.name for path in tmp_path.iterdir()] == ["chest"]
    assert (tmp_path / "chest" / "bundle.json").read_text() == "old"
