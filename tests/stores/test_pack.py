"""Packs: found by content, whole or not there, shared between processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.stores.pack import Pack, Writer, writing


def make_pack(folder: Path, **description: object) -> Pack:
    return Pack(folder, "activations", {"what": "test", **description}, (4,), np.float32)


def record(key: str) -> np.ndarray:
    """Return the record that belongs to a key, so that a wrong hit shows."""
    return np.frombuffer(key.encode().ljust(16, b"\0")[:16], np.uint8).view(np.float32).copy()


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.text("abcdef", min_size=1, max_size=8), max_size=6), max_size=6),
    wanted=st.lists(st.text("abcdef", min_size=1, max_size=8), max_size=10),
)
def test_a_pack_returns_what_was_put_under_a_key_and_nothing_else(tmp_path_factory, batches, wanted):
    folder = tmp_path_factory.mktemp("pack")
    pack = make_pack(folder)
    written: set[str] = set()
    for keys in batches:
        new = [key for key in dict.fromkeys(keys) if key not in written]
        if new:
            pack.append(new, np.stack([record(key) for key in new]))
            written |= set(new)
    for reader in (pack, make_pack(folder)):
        assert set(reader.missing(wanted)) == set(wanted) - written
        present = [key for key in wanted if key in written]
        for key, row in zip(present, reader.read(present), strict=True):
            assert row.tobytes() == record(key).tobytes()


def test_another_description_is_another_pack(tmp_path):
    make_pack(tmp_path, weights="a").append(["x"], record("x")[None])
    assert make_pack(tmp_path, weights="b").missing(["x"]) == ["x"]
    assert Pack(tmp_path, "activations", {"what": "test"}, (4,), np.float16).missing(["x"]) == ["x"]


def test_a_segment_without_its_keys_is_never_read(tmp_path):
    pack = make_pack(tmp_path)
    pack.append(["x", "y"], np.stack([record("x"), record("y")]))
    next(pack.folder.glob("*.keys")).unlink()
    assert make_pack(tmp_path).missing(["x", "y"]) == ["x", "y"]


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_segment_that_somebody_damaged_counts_as_missing_and_is_made_again(tmp_path, damage):
    pack = make_pack(tmp_path)
    pack.append(["x"], record("x")[None])
    data = next(pack.folder.glob("*.npy"))
    if damage == "delete":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:-8])
    again = make_pack(tmp_path)
    assert again.missing(["x"]) == ["x"]
    again.append(["x"], record("x")[None])
    assert make_pack(tmp_path).missing(["x"]) == []


def test_what_a_writer_gathered_is_kept_when_the_block_fails(tmp_path):
    pack = make_pack(tmp_path)
    with pytest.raises(RuntimeError), writing(pack) as writer:
        writer.add("x", record("x"))
        raise RuntimeError
    assert make_pack(tmp_path).missing(["x"]) == []


def test_a_writer_starts_a_new_segment_when_one_is_full(tmp_path):
    pack = make_pack(tmp_path)
    writer = Writer(pack, segment_bytes=2 * pack.record_bytes)
    for key in "abcde":
        writer.add(key, record(key))
    assert sorted(pack.missing(list("abcde"))) == ["e"]
    writer.flush()
    assert len(list(pack.folder.glob("*.npy"))) == 3


FILLER = """
import sys
from pathlib import Path
import numpy as np
from freezeframe.stores.pack import Pack, Writer
pack = Pack(Path(sys.argv[1]), "activations", {"what": "kill"}, (4096,), np.float32)
writer = Writer(pack, segment_bytes=8 * pack.record_bytes)
print("ready", flush=True)
for number in range(100_000):
    writer.add(f"key{number}", np.full(4096, number, np.float32))
"""


def test_a_killed_filler_leaves_only_whole_records(tmp_path):
    description = {"what": "kill"}
    for delay in (0.05, 0.2, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", FILLER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        pack = Pack(tmp_path, "activations", description, (4096,), np.float32)
        assert len(pack) > 0
        for number in range(len(pack)):
            assert (pack.read([f"key{number}"]) == number).all()
        with pack.filling():
            pack.sweep()
        assert not list(pack.folder.glob(".*.partial"))


def _hold(folder: Path, held: object, release: object) -> None:
    with make_pack(folder).filling():
        held.set()  # type: ignore[attr-defined]
        release.wait(90)  # type: ignore[attr-defined]


def test_a_second_filler_is_told_and_waits(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(90)
    waited = []

    def on_wait() -> None:
        waited.append(process.is_alive())
        release.set()

    with make_pack(tmp_path).filling(on_wait):
        pass
    assert waited == [True]
    process.join()


FILL_THE_DISK = """
import sys
from pathlib import Path
import numpy as np
from freezeframe.errors import UserError
from freezeframe.stores.pack import Pack
pack = Pack(Path(sys.argv[1]), "activations", {"what": "full"}, (4096,), np.float32)
written = 0
try:
    for number in range(1000):
        pack.append([f"key{number}"], np.full((1, 4096), number, np.float32))
        written += 1
except UserError as error:
    print(error)
again = Pack(Path(sys.argv[1]), "activations", {"what": "full"}, (4096,), np.float32)
assert len(again) == written > 0
assert all((again.read([f"key{number}"]) == number).all() for number in range(written))
assert not list(pack.folder.glob(".*.partial"))
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    # A real small file system, in a mount namespace of its own.
    command = 'mount -t tmpfs -o size=256k none "$0" && exec "$1" -c "$2" "$0"'
    result = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            command,
            str(tmp_path),
            sys.executable,
            FILL_THE_DISK,
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "disk is full" in result.stdout


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "activations").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="can't be written"):
        make_pack(tmp_path)


def test_reading_a_large_pack_leaves_memory_flat(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from freezeframe.stores.pack import Pack, Writer
pack = Pack(Path(sys.argv[1]), "activations", {}, (256, 1024), np.float32)
writer = Writer(pack)
for number in range(400):
    writer.add(str(number), np.full((256, 1024), number, np.float32))
writer.flush()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(400):
    assert (pack.read([str(number)]) == number).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True)
    # 400 MB were read, and 64 MB of pages may stay; in kilobytes.
    assert int(grown) < 100_000
