"""What the doctor says."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from freezeframe.cli import doctor as command_line
from freezeframe.verbs.doctor import doctor

app = typer.Typer()
app.command()(command_line.command)


@pytest.fixture(autouse=True)
def _own_home_and_no_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("FREEZEFRAME_HOME", str(tmp_path))
    # Port 9 (discard) of this machine: refused at once.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def findings(topic: str) -> dict[str, object]:
    return {finding.name: finding for finding in doctor() if finding.topic == topic}


def test_the_machine_is_described():
    machine = findings("machine")
    assert set(machine) == {"System", "Cores", "Memory", "GPU"}
    assert "for this process" in machine["Cores"].detail


def test_every_codec_that_freezeframe_promises_is_there():
    codecs = findings("codecs")
    assert len(codecs) == 14
    assert {finding.state for finding in codecs.values()} == {"good"}


def test_extras_are_listed_with_their_versions():
    import onnxruntime

    assert f"onnxruntime {onnxruntime.__version__}" in findings("software")["Extra 'node'"].detail


def test_weights_in_installed_packages_are_at_hand_without_a_hub():
    weights = findings("weights")
    assert "efficientnet-lite0" in weights["On this disk"].detail
    assert weights["Model hub"].state == "note"
    assert "can't be reached" in weights["Model hub"].detail
    assert "HF_ENDPOINT" in weights["Model hub"].action


def test_a_hub_that_never_answers_holds_nothing_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        hub = findings("weights")["Model hub"]
        assert time.monotonic() - start < 10
    assert hub.state == "note"


def test_what_is_missing_comes_with_what_to_do():
    assert all(finding.action for finding in doctor() if finding.state != "good")


def test_the_store_is_measured_where_it_lies(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "record").write_bytes(b"x" * 1_000_000)
    assert findings("store")["Store"].detail == f"{folder}, 1.0 MB"


def test_the_table_is_printed_with_its_square_brackets_and_exit_0():
    answer = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert "JPEG-LS lossless" in answer.output


def test_json_is_for_programs():
    answer = CliRunner().invoke(app, ["--json"])
    assert answer.exit_code == 0
    printed = json.loads(answer.output)
    assert {"topic", "name", "state", "detail", "action"} == set(printed[0])
    assert {finding["state"] for finding in printed} <= {"good", "missing", "note"}


def test_the_doctor_runs_without_torch():
    program = (
        "import sys; from freezeframe.verbs.doctor import doctor; doctor(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, cwd=Path.cwd()).returncode == 0
