"""A database on a server and the folder that its rows are of."""

import pytest
from configured import configured

from freezeframe.errors import UserError
from freezeframe.pacs.database import open_database
from freezeframe.pacs.node import Node
from freezeframe.pacs.one_folder import MARK, check_folder
from freezeframe.pacs.watching import log


def test_a_database_is_taken_with_its_own_folder_alone(database, tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
        (folder / "images").mkdir()
    check_folder(database, here)
    check_folder(database, here)
    if database.is_sqlite:
        assert not (here / MARK).exists()
    else:
        with pytest.raises(UserError, match="another folder"):
            check_folder(database, elsewhere)
        (here / MARK).rename(elsewhere / MARK)
        check_folder(database, elsewhere)


def test_a_kill_between_the_two_marks_does_no_harm(postgresql, tmp_path):
    database = open_database(configured(tmp_path, database=postgresql.new_database()))
    (tmp_path / MARK).write_text("ab\n")
    check_folder(database, tmp_path)
    check_folder(database, tmp_path)
    assert (tmp_path / MARK).read_text() == "ab\n"
    database.close()


def test_a_node_whose_storage_is_not_mounted_does_not_take_all_images_for_lost(
    postgresql, tmp_path, small_bundle, monkeypatch
):
    monkeypatch.setattr(log, "set_up", lambda *arguments: None)  # which is for a whole process
    address = postgresql.new_database()

    def node(folder):
        bundles = [{"path": str(small_bundle)}]
        return Node(configured(tmp_path / folder, database=address, bundles=bundles, dicom=None), ["intake"])

    with node("mounted"):
        pass
    with pytest.raises(UserError, match="not mounted"):
        node("empty").start()
