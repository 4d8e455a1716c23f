"""What is kept: files, rows, and what happens where they can't be."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pg8000.native
import pytest
from dicom_files import make_image, write_image
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from waiting import eventually

from freezeframe.pacs import database as database_module
from freezeframe.pacs.database import open_database
from freezeframe.pacs.delivery.retention import delete_due
from freezeframe.pacs.intake.header import NotAnImageError, read_header
from freezeframe.pacs.intake.keeping import CannotKeepError, Keeper, MismatchError, Origin
from freezeframe.pacs.intake.rows import RowWriter
from freezeframe.pacs.tables import Image, Refused, Study

ORIGIN = Origin("pacs", "PACS_SEND")


def give(keeper: Keeper, path: Path, **expected):
    """Copy a file to where received ones are, and have it kept."""
    received = keeper.new_file()
    shutil.copyfile(path, received)
    return keeper.keep(received, ORIGIN, **expected)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def changed(path: Path) -> Path:
    """Return a copy whose last pixel is another one."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = path.with_suffix(".other")
    other.write_bytes(content)
    return other


def rows(database, table) -> list:
    with database.reading() as session:
        return list(session.scalars(select(table).order_by(table.id)))


def test_an_image_is_kept_unchanged_with_its_row_and_its_study(keeper, database, configuration, image):
    film = image()
    kept = give(keeper, film)
    assert (kept.state, kept.study_uid, kept.sop_instance_uid) == ("kept", "2.25.2000.1", "2.25.4000.1")
    [row] = rows(database, Image)
    assert row.path == "images/2.25.2000.1/2.25.4000.1.dcm"
    assert (configuration.folder / row.path).read_bytes() == film.read_bytes()
    assert (row.source, row.calling_ae, row.size) == ("pacs", "PACS_SEND", film.stat().st_size)
    assert (row.series_uid, row.transfer_syntax_uid) == ("2.25.3000.1", ExplicitVRLittleEndian)
    [study] = rows(database, Study)
    assert (study.patient_name, study.patient_id, study.patient_sex) == ("PHANTOM^0001", "P1", "O")
    assert (study.study_date, study.study_time, study.accession_number) == ("20260102", "101112", "A1")
    assert (study.patient_birth_date, study.description, study.modalities) == (
        "19700101",
        "Synthetic chest",
        "CR",
    )
    assert (study.images, study.state) == (1, "receiving")
    assert files_below(configuration.folder / "incoming") == []


def test_the_same_data_set_is_known_whatever_its_file_meta_says(keeper, database, configuration, image):
    film = image()
    give(keeper, film)
    content = film.read_bytes()
    start = read_header(film).start
    twin = film.with_suffix(".twin")
    version = b"\x02\0\x13\0SH\x06\0OTHER "  # another implementation's version name
    length = int.from_bytes(content[140:144], "little") + len(version)
    meta = bytearray(content[:start] + version)
    meta[140:144] = length.to_bytes(4, "little")
    twin.write_bytes(meta + content[start:])
    assert give(keeper, twin).state == "known"
    assert [study.images for study in rows(database, Study)] == [1]
    assert len(files_below(configuration.folder / "images")) == 1
    assert files_below(configuration.folder / "incoming") == []


def test_other_bytes_under_a_known_uid_are_put_aside_once_and_the_kept_ones_stay(
    keeper, database, configuration, image
):
    film = image()
    give(keeper, film)
    other = changed(film)
    assert [give(keeper, other).state for _ in range(3)] == ["refused"] * 3
    [refused] = rows(database, Refused)
    assert (configuration.folder / refused.path).read_bytes() == other.read_bytes()
    assert (refused.sop_instance_uid, refused.calling_ae) == ("2.25.4000.1", "PACS_SEND")
    [row] = rows(database, Image)
    assert (configuration.folder / row.path).read_bytes() == film.read_bytes()
    assert len(files_below(configuration.folder / "refused")) == 1


def test_an_image_that_retention_deleted_is_there_again_when_it_comes_again(
    keeper, database, configuration, image
):
    film = image()
    give(keeper, film)
    [row] = rows(database, Image)
    (configuration.folder / row.path).unlink()
    with database.transaction() as session:
        session.get_one(Image, row.id).deleted_at = 1.0
    assert give(keeper, film).state == "known"
    assert (configuration.folder / row.path).read_bytes() == film.read_bytes()
    assert [entry.deleted_at for entry in rows(database, Image)] == [None]
    assert [study.images for study in rows(database, Study)] == [1]  # nobody asked for another reading


def test_an_image_that_came_again_has_the_days_of_retention_again(keeper, database, configuration, image):
    film = image()
    give(keeper, film)
    now = time.time()
    with database.transaction() as session:
        study, row = session.scalars(select(Study)).one(), session.scalars(select(Image)).one()
        study.state, study.deadline, study.last_at = "done", None, now - 40 * 86400
        row.received_at = study.last_at
    assert delete_due(database, configuration, now) == 1
    assert give(keeper, film).state == "known"
    assert delete_due(database, configuration, now + 60) == 0
    assert (configuration.folder / row.path).is_file()
    assert delete_due(database, configuration, now + 31 * 86400) == 1


def test_an_image_that_was_cut_short_on_the_disk_is_whole_again_when_it_comes_again(
    keeper, database, configuration, image
):
    film = image()
    give(keeper, film)
    [row] = rows(database, Image)
    (configuration.folder / row.path).write_bytes(film.read_bytes()[:500])
    assert give(keeper, film).state == "known"
    assert (configuration.folder / row.path).read_bytes() == film.read_bytes()


def test_a_file_without_a_row_does_not_stand_in_the_way(keeper, database, configuration, image):
    # As after a crash between the rename and the commit.
    film = image()
    place = configuration.folder / "images/2.25.2000.1/2.25.4000.1.dcm"
    place.parent.mkdir()
    place.write_bytes(b"half")
    assert give(keeper, film).state == "kept"
    assert place.read_bytes() == film.read_bytes()


def test_the_same_image_at_the_same_time_on_many_threads_is_kept_once(keeper, database, configuration, image):
    film = image()
    other = changed(film)
    states: list[str] = []
    threads = [
        threading.Thread(target=lambda path=path: states.append(give(keeper, path).state))
        for path in [film, other] * 6
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(states) == ["kept"] + ["known"] * 5 + ["refused"] * 6
    [row] = rows(database, Image)
    winner = film if read_digest(film) == row.sha256 else other
    assert (configuration.folder / row.path).read_bytes() == winner.read_bytes()


def read_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()[read_header(path).start :]).hexdigest()


def test_rows_of_many_threads_are_all_there(keeper, database, image):
    films = [image(StudyInstanceUID=f"2.25.2000.{number % 3}") for number in range(24)]
    errors: list[Exception] = []

    def some(mine: list[Path]) -> None:
        try:
            for film in mine:
                give(keeper, film)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=some, args=(films[index::6],)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(rows(database, Image)) == 24
    assert sorted(study.images for study in rows(database, Study)) == [8, 8, 8]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"StudyInstanceUID": None}, "no study UID"),
        ({"SeriesInstanceUID": None}, "no series UID"),
        ({"SOPInstanceUID": None}, "no SOP instance UID"),
        ({"StudyInstanceUID": "../../../tmp/x"}, "study UID is none"),
        ({"StudyInstanceUID": "1.2/../3"}, "study UID is none"),
        ({"SOPInstanceUID": ".."}, "SOP instance UID is none"),
        ({"StudyInstanceUID": "1." * 40 + "1"}, "study UID is none"),
        ({"SOPClassUID": EnhancedSRStorage}, "not taken"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_image_of_a_study_is_refused_and_leaves_nothing(
    keeper, database, configuration, tmp_path, attributes, reason
):

    data = make_image(1)
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            data[keyword] = DataElement(keyword, "UI", value, validation_mode=0)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID", "1.2")
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    path = tmp_path / "odd.dcm"
    data.preamble = b"\0" * 128
    dcmwrite(path, data, enforce_file_format=False)
    with pytest.raises(NotAnImageError, match=reason) as caught:
        give(keeper, path)
    assert "PHANTOM" not in str(caught.value)
    assert rows(database, Image) == []
    assert (
        files_below(configuration.folder / "images") == files_below(configuration.folder / "incoming") == []
    )
    assert not (configuration.folder.parent.parent / "x").exists()


def test_what_was_announced_must_come(keeper, image):
    with pytest.raises(MismatchError):
        give(keeper, image(), expected_sop_instance_uid="1.2.3")
    with pytest.raises(MismatchError):
        give(keeper, image(), expected_sop_class_uid=CTImageStorage)


def test_a_uid_that_is_cut_off_is_not_taken_for_a_shorter_one(image):
    film = image()
    content = film.read_bytes()
    film.write_bytes(content[: content.index(b"2.25.3000.1") + 8])
    with pytest.raises(NotAnImageError, match="series UID"):
        read_header(film)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_both_representations_are_read(tmp_path, syntax):
    header = read_header(write_image(tmp_path / "film.dcm", 7, syntax))
    assert (header.sop_instance_uid, header.study.patient_id, header.transfer_syntax_uid) == (
        "2.25.4000.7", "P7", syntax,
    )  # fmt: skip


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_big_endian_and_deflated_data_sets_are_read(tmp_path, syntax):

    data = make_image(7)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(
        tmp_path / "film.dcm",
        enforce_file_format=True,
        little_endian=syntax != ExplicitVRBigEndian,
        implicit_vr=False,
    )
    header = read_header(tmp_path / "film.dcm")
    assert (header.sop_instance_uid, header.study.patient_id) == ("2.25.4000.7", "P7")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "FANTOMÁS^0001"),
        ("ISO_IR 192", "ФАНТОМ^0001"),
        ("\\ISO 2022 IR 87", "PHANTOM^0001=幻影^一"),
    ],
)
def test_names_in_other_character_sets_are_read(keeper, database, image, character_set, name):
    give(keeper, image(SpecificCharacterSet=character_set.split("\\"), PatientName=name))
    assert rows(database, Study)[0].patient_name == name


def test_a_value_in_an_unknown_character_set_costs_no_image(keeper, database, image):
    film = image()
    content = film.read_bytes().replace(b"PHANTOM^0001", b"PHANTOM^\xff\xfe01")
    film.write_bytes(content)
    assert give(keeper, film).state == "kept"
    assert rows(database, Study)[0].patient_name.startswith("PHANTOM^")


def test_with_less_than_the_least_free_space_nothing_is_taken(database, configuration):
    most = configuration.retention.model_copy(update={"least_free_gigabytes": 1e9})
    keeper = Keeper(database, configuration.model_copy(update={"retention": most}))
    with pytest.raises(CannotKeepError, match="free space"):
        keeper.new_file()


def test_a_locked_database_is_no_success_and_the_next_try_is(monkeypatch, configuration, image):
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 0.3)
    database = open_database(configuration)
    keeper = Keeper(database, configuration)
    film = image()
    holder = sqlite3.connect(configuration.folder / "node.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(CannotKeepError):
        give(keeper, film)
    holder.execute("ROLLBACK")
    holder.close()
    assert rows(database, Image) == []
    assert give(keeper, film).state == "kept"
    assert len(rows(database, Image)) == len(rows(database, Study)) == 1
    database.close()


def test_a_failure_of_one_does_not_spoil_the_rows_of_others(keeper, database, image):
    writer = RowWriter(database)
    outcomes: dict[int, str] = {}
    entered, go_on = threading.Event(), threading.Event()

    def first(session):
        entered.set()
        assert go_on.wait(30)

    def spoil(session):
        session.add(Refused(path=None, sha256="", source="", received_at=0.0, reason=""))
        session.flush()

    def good(number):
        return lambda session: session.add(
            Refused(path=f"{number}", sha256="", source="", received_at=0.0, reason="")
        )

    def run(number, work):
        try:
            writer.write(work)
            outcomes[number] = "done"
        except Exception:
            outcomes[number] = "failed"

    threads = [threading.Thread(target=run, args=(0, first))]
    threads[0].start()
    assert entered.wait(30)
    threads += [
        threading.Thread(target=run, args=(number, spoil if number == 2 else good(number)))
        for number in range(1, 5)
    ]
    for thread in threads[1:]:
        thread.start()
    eventually(lambda: len(writer._waiting) == 4)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert outcomes == {0: "done", 1: "done", 2: "failed", 3: "done", 4: "done"}
    assert sorted(row.path for row in rows(database, Refused)) == ["1", "3", "4"]


def test_a_locked_database_is_waited_for_once_by_all_that_write_together(monkeypatch, configuration):
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    database = open_database(configuration)
    writer = RowWriter(database)
    errors: list[Exception] = []

    def write() -> None:
        try:
            writer.write(
                lambda session: session.add(
                    Refused(path="", sha256="", source="", received_at=0.0, reason="")
                )
            )
        except OperationalError as error:
            errors.append(error)

    with database.transaction() as session:
        session.connection()
        threads = [threading.Thread(target=write) for _ in range(12)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (
            time.monotonic() - started < 8
        )  # two waits of a second: the first alone, then all others together
    assert len(errors) == 12
    assert rows(database, Refused) == []
    database.close()


FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dicom_files import write_image
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake.keeping import CannotKeepError, Keeper, Origin
from freezeframe.pacs.tables import Image
from sqlalchemy import select

disk = Path(sys.argv[1])
configuration = NodeConfiguration.parse({
    "folder": str(disk / "node"), "bundles": [{"path": "b"}], "rules": [{"name": "all"}],
    "retention": {"least_free_gigabytes": 0},
}, "node.yaml")
database = open_database(configuration)
keeper = Keeper(database, configuration)

def give(number):
    path = keeper.new_file()
    try:
        write_image(path, number, side=200)
    except OSError:
        path.unlink(missing_ok=True)
        raise CannotKeepError("no room") from None
    return keeper.keep(path, Origin("pacs")).state

kept, failed = [], None
for number in range(1, 200):
    try:
        assert give(number) == "kept"
        kept.append(number)
    except CannotKeepError:
        failed = number
        break
assert failed, "the disk did not fill"
with database.reading() as session:
    found = {row.sop_instance_uid: row.path for row in session.scalars(select(Image))}
assert len(found) == len(kept) > 3
for path in found.values():
    assert (configuration.folder / path).stat().st_size > 80_000
assert not list((configuration.folder / "incoming").iterdir())
(disk / "ballast").unlink()
assert give(failed) == "kept"
print("kept", len(kept))
"""


def test_a_full_disk_is_no_success_loses_nothing_and_a_retry_succeeds(tmp_path):
    # A real small file system, in a mount namespace of its own.
    disk = tmp_path / "disk"
    disk.mkdir()
    command = 'mount -t tmpfs -o size=4m none "$0" && head -c 1m /dev/zero > "$0/ballast" && exec "$@"'
    done = subprocess.run(
        [
            "unshare", "--map-root-user", "--mount", "sh", "-c", command, disk, sys.executable, "-c",
            FULL_DISK, disk, Path(__file__).parent,
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout


def test_the_file_is_synced_before_it_has_its_name_and_the_row_comes_last(
    monkeypatch, keeper, database, configuration, image
):
    film = image()
    received = keeper.new_file()
    shutil.copyfile(film, received)
    steps: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(descriptor):
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        steps.append(f"sync {name.removeprefix(str(configuration.folder) + '/')}")
        with database.reading() as session:
            assert session.scalar(select(func.count()).select_from(Image)) == 0
        real_sync(descriptor)

    def rename(path, target):
        steps.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    keeper.keep(received, ORIGIN)
    assert steps == [f"sync incoming/{received.name}", "rename", "sync images/2.25.2000.1", "sync images"]


def test_an_image_is_not_safe_before_the_folder_that_another_thread_made_for_its_study(
    monkeypatch, keeper, configuration, image
):
    films = [image(StudyInstanceUID="2.25.2000.1") for _ in range(2)]
    received = [keeper.new_file() for _ in films]
    for film, path in zip(films, received, strict=True):
        shutil.copyfile(film, path)
    synced: list[tuple[str, str]] = []
    first_is_slow, go_on = threading.Event(), threading.Event()
    real_sync = os.fsync

    def sync(descriptor):
        name, thread = Path(f"/proc/self/fd/{descriptor}").readlink().name, threading.current_thread().name
        if (name, thread) == ("2.25.2000.1", "first"):
            first_is_slow.set()
            go_on.wait(60)
        real_sync(descriptor)
        synced.append((thread, name))

    monkeypatch.setattr(os, "fsync", sync)
    first = threading.Thread(target=keeper.keep, args=(received[0], ORIGIN), name="first")
    first.start()
    try:
        assert first_is_slow.wait(60)
        assert keeper.keep(received[1], ORIGIN).state == "kept"
        assert ("MainThread", "images") in synced
    finally:
        go_on.set()
        first.join(60)


def test_two_nodes_with_one_postgresql_keep_an_image_once(postgresql_port, configuration, tmp_path):
    # Each has its folder; the row says where the image is, and the other's copy is not acknowledged as new.
    name = f"keeping_{time.monotonic_ns()}"
    server = pg8000.native.Connection("node", host="127.0.0.1", port=postgresql_port, database="postgres")
    server.run(f"CREATE DATABASE {name}")
    server.close()
    shared = configuration.model_copy(
        update={"database": f"postgresql+pg8000://node@127.0.0.1:{postgresql_port}/{name}"}
    )
    database = open_database(shared)
    try:
        keepers = [
            Keeper(database, shared.model_copy(update={"folder": tmp_path / f"node{number}"}))
            for number in range(2)
        ]
        films = [write_image(tmp_path / f"{number}.dcm", number + 1) for number in range(6)]
        outcomes: list[str] = []

        def some(keeper: Keeper) -> None:
            for film in films:
                try:
                    outcomes.append(give(keeper, film).state)
                except CannotKeepError:  # the other was quicker: the sender tries again
                    outcomes.append(give(keeper, film).state)

        threads = [threading.Thread(target=some, args=(keeper,)) for keeper in keepers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert sorted(outcomes) == ["kept"] * 6 + ["known"] * 6
        assert len(rows(database, Image)) == 6
        assert [study.images for study in rows(database, Study)] == [1] * 6
    finally:
        database.close()
