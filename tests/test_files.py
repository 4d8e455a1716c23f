"""Files that are old or new, never half."""

import os
import signal
import subprocess
import sys
import time

import pytest

from freezeframe import files
from freezeframe.errors import UserError

REWRITER = """
import sys
from pathlib import Path
from freezeframe import files
path = Path(sys.argv[1])
for number in range(1_000_000):
    files.write_text(path, str(number) * 20_000)
    if number == 3:
        print("ready", flush=True)
"""


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file.txt"
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", REWRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        text = path.read_text()
        number = text[: len(text) // 20_000]
        assert text == number * 20_000


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(ValueError, match="stop"), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        files.write_text(tmp_path / "file" / "inner.txt", "x")


def test_broken_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


def test_files_can_be_read_by_others_as_the_umask_says(tmp_path):
    files.write_text(tmp_path / "a.txt", "x")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask
