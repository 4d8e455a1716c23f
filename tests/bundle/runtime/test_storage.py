"""What a folder or a zip may hold, found before any of it is read."""

import io
import os
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from freezeframe.bundle.runtime import storage
from freezeframe.bundle.runtime.storage import open_storage
from freezeframe.errors import UserError


def archive(
    tmp_path: Path, entries: Sequence[tuple[str | zipfile.ZipInfo, bytes]], compression=zipfile.ZIP_STORED
) -> Path:
    path = tmp_path / "bundle.ffb"
    with zipfile.ZipFile(path, "w", compression) as written:
        for name, content in entries:
            written.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_storage(path)
    assert caught.value.action
    return str(caught.value)


def test_a_folder_and_a_zip_give_the_same_names_sizes_and_bytes(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "members").mkdir(parents=True)
    contents = {"a.txt": b"x" * 3_000_000, "members/b.onnx": b""}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for path in (folder, archive(tmp_path, list(contents.items()))):
        opened = open_storage(path)
        assert dict(opened.sizes) == {name: len(content) for name, content in contents.items()}
        with opened.opened() as chunks:
            assert {name: b"".join(chunks(name)) for name in contents} == contents


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "a/../../b", "a//b", "a\\b", "C:a", ".hidden", "ünicode", "a b", "a\nb", "x" * 200, "./a"],
)
def test_names_that_are_no_plain_path_inside_are_refused_in_a_zip(tmp_path, name):
    assert "holds the file name" in refusal(archive(tmp_path, [(name, b"")]))


def test_a_name_that_hides_its_end_behind_a_zero_byte_is_refused(tmp_path):
    path = archive(tmp_path, [("a.txtX../b", b"")])
    path.write_bytes(path.read_bytes().replace(b"a.txtX../b", b"a.txt\x00../b"))
    assert "holds the file name" in refusal(path)


def test_names_that_are_not_plain_are_refused_in_a_folder(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / ".hidden").touch()
    assert "'.hidden'" in refusal(tmp_path / "bundle")


@pytest.mark.parametrize("target", ["outside", "bundle/a.txt", "nowhere", "outside_folder"])
def test_links_in_a_folder_are_refused_wherever_they_lead(tmp_path, target):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/a.txt").touch()
    (tmp_path / "outside").touch()
    (tmp_path / "outside_folder").mkdir()
    (tmp_path / "bundle/link").symlink_to(tmp_path / target)
    assert "link is a link" in refusal(tmp_path / "bundle")


def test_a_pipe_in_a_folder_is_refused_without_waiting(tmp_path):
    (tmp_path / "bundle").mkdir()
    os.mkfifo(tmp_path / "bundle/pipe")
    assert "pipe is no plain file" in refusal(tmp_path / "bundle")


@pytest.mark.parametrize("replaced_by", ["link", "pipe", "longer", "shorter", "nothing"])
def test_a_file_that_is_replaced_after_the_look_is_not_read(tmp_path, replaced_by):
    path = tmp_path / "bundle/a.txt"
    path.parent.mkdir()
    path.write_bytes(b"content")
    opened = open_storage(path.parent)
    path.unlink()
    if replaced_by == "link":
        (tmp_path / "secret").write_bytes(b"secrets")
        path.symlink_to(tmp_path / "secret")
    elif replaced_by == "pipe":
        os.mkfifo(path)
    elif replaced_by in ("longer", "shorter"):
        path.write_bytes(b"content and more" if replaced_by == "longer" else b"con")
    with opened.opened() as chunks, pytest.raises(UserError, match=r"a\.txt"):
        b"".join(chunks("a.txt"))


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "bundle-2").mkdir()
    (tmp_path / "current").symlink_to("bundle-2")
    assert not open_storage(tmp_path / "current").sizes


def test_a_link_in_a_zip_is_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    assert "link is a link" in refusal(archive(tmp_path, [(entry, b"/etc/passwd")]))


def test_a_name_that_is_twice_in_a_zip_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path, [("a.txt", b"1"), ("a.txt", b"2")])
    assert "holds a.txt 2 times" in refusal(path)


def test_names_that_differ_by_capitals_only_are_refused(tmp_path):
    assert "one file on some systems" in refusal(archive(tmp_path, [("a.txt", b""), ("A.txt", b"")]))


def test_an_encrypted_entry_is_refused(tmp_path):
    path = archive(tmp_path, [("a.txt", b"content")])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refusal(path)


def test_an_unusual_compression_is_refused(tmp_path):
    assert "unusual" in refusal(archive(tmp_path, [("a.txt", b"content")], zipfile.ZIP_LZMA))


def test_a_bomb_is_refused_by_its_ratio_without_reading_it(tmp_path):
    path = archive(tmp_path, [("a.txt", bytes(300_000_000))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    assert "zip bomb" in refusal(path)


def test_a_bomb_that_declares_a_small_size_gives_no_more_than_it_declares(tmp_path):
    path = archive(tmp_path, [("a.txt", bytes(50_000_000))], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for place in (22, directory + 24):  # uncompressed size, in the entry's own header and in the directory
        content[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(content)
    opened = open_storage(path)
    received = 0
    with pytest.raises(UserError, match="can't be read as a zip"), opened.opened() as chunks:
        for chunk in chunks("a.txt"):
            received += len(chunk)
    assert received <= 1000


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = archive(tmp_path, [("a0.txt", os.urandom(10_000))])
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start:end]
    directory = b"".join(entry.replace(b"a0.txt", f"a{index}.txt".encode()) for index in range(9))
    closing = bytearray(content[end:])
    closing[8:12] = struct.pack("<HH", 9, 9)
    closing[12:16] = struct.pack("<I", len(directory))
    path.write_bytes(content[:start] + directory + closing)
    assert "overlap" in refusal(path)


def test_more_files_than_a_bundle_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MOST_FILES", 3)
    entries = [(f"{index}.txt", b"") for index in range(4)]
    assert "more than 3 files" in refusal(archive(tmp_path, entries))
    for name, _ in entries:
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).touch()
    assert "more than 3 files" in refusal(tmp_path / "folder")


def test_a_directory_of_entries_that_would_fill_the_memory_is_not_read(tmp_path):
    path = tmp_path / "bundle.ffb"
    with path.open("wb") as handle:
        handle.truncate(1 << 30)  # takes no room on the disk
        handle.seek(0, io.SEEK_END)
        handle.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 1 << 30, 0, 0))
    assert "directory is too long" in refusal(path)


@pytest.mark.parametrize("limit", ["LARGEST_FILE", "LARGEST_BUNDLE"])
def test_sizes_above_the_limits_are_refused_before_anything_is_read(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(storage, limit, 1 << 32)
    (tmp_path / "bundle").mkdir()
    for name in ("a.onnx", "b.onnx"):
        with (tmp_path / "bundle" / name).open("wb") as handle:
            handle.truncate((3 << 30) + (2 << 30) * (limit == "LARGEST_FILE"))
    assert "4,294,967,296" in refusal(tmp_path / "bundle")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + b"\xff" * 18])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    path = tmp_path / "bundle.ffb"
    path.write_bytes(content)
    assert "can't be read" in refusal(path)


def test_what_is_not_there_is_named(tmp_path):
    assert "There is no bundle" in refusal(tmp_path / "nothing")


def test_a_folder_that_may_not_be_read_is_named():
    # The superuser may read everything, and becomes nobody for the moment.
    own = os.geteuid()
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        (Path(root) / "bundle").mkdir(mode=0o000)
        if own == 0:
            os.seteuid(65534)
        try:
            assert "can't be read (Permission denied)" in refusal(Path(root) / "bundle")
        finally:
            os.seteuid(own)
