"""A watched folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from configured import configured
from pydicom.uid import BasicTextSRStorage, DeflatedExplicitVRLittleEndian, RLELossless
from small_images import as_bytes, make_image, write
from sqlalchemy import select

from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake import watched
from freezeframe.pacs.intake.keeping import Keeper, Origin
from freezeframe.pacs.intake.watched import FolderWatch
from freezeframe.pacs.tables import Image, Refused, Study


class Watching:
    """A node's watch of a folder, with a clock of the test's own."""

    def __init__(self, tmp_path: Path, **fields) -> None:
        self.inbox = tmp_path / "inbox"
        self.inbox.mkdir()
        source = {"kind": "folder", "name": "inbox", "path": str(self.inbox), "seconds": 2}
        fields = {"retention": {"least_free_gigabytes": 0}, **fields}
        self.configuration = configured(tmp_path / "node", sources=[source], **fields)
        self.database = open_database(self.configuration)
        self.keeper = Keeper(self.database, self.configuration)
        self.now = 1000.0
        self.start()

    def start(self) -> None:
        source = self.configuration.sources[0]
        self.watch = FolderWatch(self.database, self.configuration, self.keeper, source)

    def look(self, seconds: float = 2) -> int:
        self.now += seconds
        return self.watch.step(self.now)

    def images(self) -> list[str]:
        with self.database.reading() as session:
            return sorted(session.scalars(select(Image.sop_instance_uid)))

    def refused(self) -> list[Refused]:
        with self.database.reading() as session:
            return list(session.scalars(select(Refused)))

    def left(self) -> list[str]:
        return sorted(path.name for path in self.inbox.rglob("*") if not path.is_dir())

    def leftovers(self) -> list[Path]:
        return list((self.configuration.folder / "incoming").iterdir())


@pytest.fixture
def watching(tmp_path):
    made = Watching(tmp_path)
    yield made
    assert made.leftovers() == []
    made.database.close()


def test_a_file_is_kept_at_the_second_look_and_removed(watching):
    path = write(watching.inbox / "any name.xyz", make_image())
    content = path.read_bytes()
    assert watching.look() == 0
    assert watching.look() == 1
    assert watching.images() == [make_image().SOPInstanceUID]
    assert watching.left() == []
    (kept,) = (watching.configuration.folder / "images").rglob("*.dcm")
    assert kept.read_bytes() == content
    with watching.database.reading() as session:
        assert session.scalars(select(Study)).one().source == "inbox"


def test_between_looks_nothing_is_done(watching):
    write(watching.inbox / "1", make_image())
    watching.look()
    assert watching.look(1.9) == 0
    assert watching.look(0.1) == 1


def test_files_in_sub_folders_are_taken_and_the_folders_stay(watching):
    write(watching.inbox / "a/b/1.dcm", make_image(1))
    write(watching.inbox / "a/2.dcm", make_image(2))
    watching.look()
    assert watching.look() == 2
    assert (watching.inbox / "a/b").is_dir()


def test_a_file_that_grows_is_taken_when_it_has_stopped(watching):
    content = as_bytes(make_image())
    path = watching.inbox / "growing"
    for end in range(100, len(content), 200):
        path.write_bytes(content[:end])
        assert watching.look() == 0
    path.write_bytes(content)
    watching.look()
    assert watching.look() == 1
    assert watching.refused() == []


def test_a_copy_that_stalls_is_waited_for(watching):
    content = as_bytes(make_image())
    path = watching.inbox / "stalling"
    path.write_bytes(content[:-100])
    for _ in range(10):
        assert watching.look() == 0
    path.write_bytes(content)
    watching.look()
    assert watching.look() == 1
    assert (watching.refused(), len(watching.images())) == ([], 1)


def test_a_file_that_was_moved_in_is_taken(watching, tmp_path):
    write(tmp_path / "elsewhere", make_image()).rename(watching.inbox / "moved")
    watching.look()
    assert watching.look() == 1


def test_another_file_under_the_same_name_is_waited_for_again(watching):
    write(watching.inbox / "1", make_image(1))
    watching.look()
    write(watching.inbox / "new", make_image(2)).rename(watching.inbox / "1")
    assert watching.look() == 0
    assert watching.look() == 1
    assert watching.images() == [make_image(2).SOPInstanceUID]


def compressed(syntax: str) -> bytes:
    image = make_image()
    if syntax == DeflatedExplicitVRLittleEndian:
        image.file_meta.TransferSyntaxUID = syntax
    else:
        image.compress(syntax)
    return as_bytes(image)


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_compressed_images_are_taken(watching, syntax):
    (watching.inbox / "1").write_bytes(compressed(syntax))
    watching.look()
    assert watching.look() == 1
    assert len(watching.images()) == 1


def refuse(watching: Watching, content: bytes) -> Refused:
    (watching.inbox / "PHANTOM^0001.dcm").write_bytes(content)
    watching.look()
    assert watching.look() == 0
    assert watching.look(watched.SETTLE_SECONDS) == 1
    assert watching.left() == watching.images() == []
    (row,) = watching.refused()
    assert (watching.configuration.folder / row.path).read_bytes() == content
    assert "PHANTOM" not in row.path + row.reason
    return row


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no DICOM file"),
        (b"a letter about PHANTOM^0001", "no DICOM file"),
        (as_bytes(make_image(SOPClassUID=BasicTextSRStorage)), "are not taken"),
        (as_bytes(make_image())[:-1], "cut off"),
        (as_bytes(make_image(PixelData=None)), "cut off"),
        (compressed(RLELossless)[:-8], "cut off"),
    ],
    ids=["empty", "text", "report", "cut", "without pixels", "cut within fragments"],
)
def test_what_is_no_image_or_cut_off_is_put_aside_with_a_reason(watching, content, words):
    row = refuse(watching, content)
    assert words in row.reason
    assert row.source == "inbox"


def test_the_same_file_put_aside_twice_makes_one_row(watching):
    refuse(watching, b"nothing")
    (watching.inbox / "again").write_bytes(b"nothing")
    watching.look()
    watching.look()
    assert watching.look(watched.SETTLE_SECONDS) == 1
    assert len(watching.refused()) == 1


def test_other_bytes_under_a_known_uid_are_put_aside(watching):
    for patient in ("PHANTOM-1", "PHANTOM-2"):
        write(watching.inbox / patient, make_image(PatientID=patient))
        watching.look()
        watching.look()
    (row,) = watching.refused()
    assert (row.sop_instance_uid, watching.left()) == (make_image().SOPInstanceUID, [])


def test_a_file_that_was_kept_before_a_kill_is_removed_after_it(watching):
    path = write(watching.inbox / "1", make_image())
    copy = watching.keeper.new_file()
    copy.write_bytes(path.read_bytes())
    watching.keeper.keep(copy, Origin("inbox"))
    watching.start()
    watching.look()
    assert watching.look() == 1
    assert (watching.left(), len(watching.images())) == ([], 1)


def test_links_pipes_and_hidden_files_are_left_alone(watching, tmp_path):
    outside = write(tmp_path / "outside/1", make_image())
    (watching.inbox / "link").symlink_to(outside)
    (watching.inbox / "linked").symlink_to(outside.parent, target_is_directory=True)
    os.mkfifo(watching.inbox / "pipe")
    write(watching.inbox / ".1.dcm.Xy12", make_image())
    write(watching.inbox / ".hidden/1", make_image())
    for _ in range(3):
        assert watching.look(watched.SETTLE_SECONDS) == 0
    assert outside.exists()
    assert watching.images() == []


def test_a_full_disk_leaves_the_files_where_they_are(tmp_path):
    watching = Watching(tmp_path, retention={"least_free_gigabytes": 1e9})
    write(watching.inbox / "1", make_image())
    for _ in range(40):
        assert watching.look() == 0
    assert (watching.left(), watching.refused(), watching.leftovers()) == (["1"], [], [])
    watching.database.close()


def test_a_folder_that_is_not_there_is_waited_for(watching, caplog):
    caplog.set_level("INFO")
    watching.inbox.rmdir()
    for _ in range(3):
        assert watching.look() == 0
    watching.inbox.mkdir()
    write(watching.inbox / "1", make_image())
    watching.look()
    assert watching.look() == 1
    said = [record.message for record in caplog.records if "watched folder" in record.message]
    assert said == ["A watched folder is missing.", "A watched folder is back."]


def test_a_file_larger_than_is_taken_stays_and_is_said_once(watching, monkeypatch, caplog):
    monkeypatch.setattr(watched, "LARGEST_INSTANCE", 100)
    write(watching.inbox / "PHANTOM^0001", make_image())
    for _ in range(5):
        assert watching.look() == 0
    assert [record.message for record in caplog.records] == ["A file of a watched folder is too large."]
    assert "PHANTOM" not in str(caplog.records[0].__dict__)


def test_one_call_takes_a_bounded_number_and_the_next_the_rest(watching, monkeypatch):
    monkeypatch.setattr(watched, "MOST_AT_ONCE", 2)
    for number in range(5):
        write(watching.inbox / str(number), make_image(number=number))
    watching.look()
    assert [watching.look(), watching.look(0.1), watching.look(0.1), watching.look(0.1)] == [2, 2, 1, 0]


def test_a_file_that_changes_while_it_is_copied_is_not_taken(watching, monkeypatch):
    path = write(watching.inbox / "1", make_image())
    new_file: Callable[[], Path] = watching.keeper.new_file

    def meanwhile() -> Path:
        path.write_bytes(path.read_bytes() + b"\0")
        return new_file()

    watching.look()
    monkeypatch.setattr(watching.keeper, "new_file", meanwhile)
    assert watching.look() == 0
    assert (watching.left(), watching.images()) == (["1"], [])
