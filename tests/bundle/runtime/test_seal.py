"""Checksums, and one file of it all."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.making import make_bundle
from freezeframe.bundle.runtime import seal as sealing
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.seal import CHECKSUMS, SIGNATURE, pack, read_checksums, seal, unpack
from freezeframe.errors import UserError


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def bundle(tmp_path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_the_checksums_are_those_of_sha256sum(bundle):
    answer = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=bundle, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count(": OK") == len(contents(bundle)) - 1


def test_sealing_again_changes_nothing_and_keeps_the_signature(bundle):
    (bundle / SIGNATURE).write_text("a signature")
    before = contents(bundle)
    seal(bundle)
    assert contents(bundle) == before


def test_sealing_other_content_removes_the_signature_of_the_old(bundle):
    (bundle / SIGNATURE).write_text("a signature")
    (bundle / "card.md").write_text("# another\n")
    seal(bundle)
    assert not (bundle / SIGNATURE).exists()
    open_bundle(bundle)


def test_a_folder_with_a_link_is_not_sealed(bundle):
    (bundle / "link.onnx").symlink_to("members/member0.onnx")
    with pytest.raises(UserError, match="is a link"):
        seal(bundle)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z.]{0,9}", fullmatch=True), st.binary(min_size=32, max_size=32))
)
def test_checksums_are_read_as_they_were_written(hashes):
    written = {name: digest.hex() for name, digest in hashes.items()}
    assert read_checksums(sealing.write_checksums(written).encode(), "checksums.txt") == written


@pytest.mark.parametrize(
    "content",
    [
        b"0" * 64 + b" *a\n",
        b"0" * 64 + b"  a",
        b"0" * 64 + b"  a\r\n",
        b"A" * 64 + b"  a\n",
        b"0" * 63 + b"  a\n",
        b"0" * 64 + b"  b\n" + b"0" * 64 + b"  a\n",
        b"0" * 64 + b"  a\n" + b"1" * 64 + b"  a\n",
        b"0" * 64 + b"  \xff\n",
        b"\n",
    ],
)
def test_checksums_in_another_form_are_refused_so_that_one_content_has_one_identity(content):
    with pytest.raises(UserError, match=r"checksums\.txt"):
        read_checksums(content, "checksums.txt")


def test_packing_twice_gives_the_same_bytes(bundle, tmp_path):
    first = pack(bundle, tmp_path / "first.ffb").read_bytes()
    for path in bundle.rglob("*"):
        path.touch()
    assert pack(bundle, tmp_path / "second.ffb").read_bytes() == first


def test_the_zip_is_sorted_dated_1980_and_keeps_weights_as_they_are(bundle, tmp_path):
    with zipfile.ZipFile(pack(bundle, tmp_path / "small.ffb")) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(contents(bundle))
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    stored = {entry.filename for entry in entries if entry.compress_type == zipfile.ZIP_STORED}
    assert stored == {name for name in contents(bundle) if name.endswith((".onnx", ".safetensors"))}


def test_what_was_packed_is_unpacked(bundle, tmp_path):
    packed = pack(bundle, tmp_path / "small.ffb")
    assert contents(unpack(packed, tmp_path / "again")) == contents(bundle)
    assert open_bundle(packed).sha256 == open_bundle(tmp_path / "again").sha256 == open_bundle(bundle).sha256


def test_a_folder_that_holds_something_is_not_unpacked_into(bundle, tmp_path):
    packed = pack(bundle, tmp_path / "small.ffb")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/mine.txt").touch()
    with pytest.raises(UserError, match="holds something"):
        unpack(packed, tmp_path / "used")
    assert contents(tmp_path / "used") == {"mine.txt": b""}


def test_a_zip_that_breaks_off_leaves_no_folder(bundle, tmp_path):
    packed = pack(bundle, tmp_path / "small.ffb")
    content = bytearray(packed.read_bytes())
    place = content.index(b"members/member1.onnx") + 200
    content[place] ^= 1
    packed.write_bytes(content)
    with pytest.raises(UserError, match="can't be read as a zip"):
        unpack(packed, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "small.ffb"]


def test_a_zip_is_not_packed_into_the_bundle_itself(bundle):
    with pytest.raises(UserError, match="inside the bundle"):
        pack(bundle, bundle / "small.ffb")
    open_bundle(bundle)


def test_a_folder_that_is_no_bundle_is_not_packed(tmp_path):
    with pytest.raises(UserError, match=r"no checksums\.txt"):
        pack(tmp_path, tmp_path.parent / "small.ffb")


def test_a_file_is_not_sealed_or_packed(bundle, tmp_path):
    packed = pack(bundle, tmp_path / "small.ffb")
    for refused in (lambda: seal(packed), lambda: pack(packed, tmp_path / "again.ffb")):
        with pytest.raises(UserError, match="is a file"):
            refused()
