"""Running studies with real processes: resumed, killed, shared between processes, with trainings that fail."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study import engine
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study
from processes import start_study

CURVES = ["epoch", "train_loss", "validation_loss", "validation_roc_auc", "learning_rate"]


def answers(folder: StudyFolder) -> dict[str, pd.DataFrame]:
    """Return what must not depend on how a study came to its end: predictions and curves of each training."""
    found = {}
    for cell in folder.cells():
        run = folder.run(cell["name"])
        for split in ("validation", "test"):
            found[f"{cell['name']} {split}"] = pd.read_parquet(run / "predictions" / f"{split}.parquet")
        found[f"{cell['name']} curves"] = pd.read_csv(run / "metrics.csv")[CURVES]
    return found


def assert_same(one: StudyFolder, other: StudyFolder) -> None:
    first, second = answers(one), answers(other)
    assert first.keys() == second.keys()
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name], check_exact=True)


def wait_for(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def unbroken(grid, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("studies") / "unbroken")
    board = engine.run(grid, folder, workers=1)
    assert len(board.finished) == 6
    assert not board.failed
    return folder


def test_a_finished_study_has_a_run_for_each_training_and_says_what_it_took(unbroken, grid):
    assert {path.name for path in (unbroken.path / "runs").iterdir()} == {cell.name for cell in grid.cells()}
    assert files.read_json(unbroken.path / "progress.json")["seconds"] > 0
    assert unbroken.read() == grid


def test_the_number_of_workers_changes_no_result(unbroken, grid, tmp_path):
    folder = StudyFolder(tmp_path / "two")
    engine.run(grid, folder, workers=2)
    assert_same(folder, unbroken)


def test_a_finished_study_trains_nothing_again(unbroken, grid):
    before = {path: path.stat().st_mtime_ns for path in unbroken.path.rglob("run.json")}
    board = engine.run(grid, unbroken)
    assert board.left == 0
    assert {path: path.stat().st_mtime_ns for path in unbroken.path.rglob("run.json")} == before


def test_a_study_may_grow_but_its_trainings_stay_what_they_were(unbroken, grid, base, tmp_path):
    fields = {**grid.to_dict(), "axes": [{"unfreeze": ["head"], "augment": ["none"]}]}
    folder = StudyFolder(tmp_path / "grows")
    engine.run(Study.parse(fields), folder, workers=1)
    with pytest.raises(UserError, match="1 trainings of other recipes"):
        engine.run(Study.parse({**fields, "recipe": {**base, "epochs": 1}}), folder)
    fields["axes"] = [{"unfreeze": ["head"], "augment": ["none", "flip"]}]
    assert len(engine.run(Study.parse(fields), folder, workers=1).finished) == 2


def test_a_training_that_fails_is_recorded_and_the_study_goes_on(grid, tmp_path):
    fields = {
        **grid.to_dict(),
        "axes": [{"unfreeze": ["head", {"from": "nowhere"}], "augment": ["none"]}],
    }
    folder = StudyFolder(tmp_path / "fails")
    board = engine.run(Study.parse(fields), folder, workers=1)
    assert board.finished == {"head-none"}
    assert "no module 'nowhere'" in board.failed["from-nowhere-none"]
    failure = files.read_json(folder.failure("from-nowhere-none"))
    assert failure["attempts"] == 1
    assert failure["kind"] == "UserError"
    assert "Traceback" in failure["traceback"]
    # It is not tried again unless that is asked for.
    engine.run(Study.parse(fields), folder, workers=1)
    assert files.read_json(folder.failure("from-nowhere-none"))["attempts"] == 1
    engine.run(Study.parse(fields), folder, workers=1, retry=True)
    assert files.read_json(folder.failure("from-nowhere-none"))["error"] == board.failed["from-nowhere-none"]


def test_two_studies_at_one_folder_share_the_work_and_do_nothing_twice(unbroken, grid, tmp_path):
    grid.write(tmp_path / "grid.yaml")
    processes = [start_study(tmp_path / "grid.yaml", tmp_path / "both", workers=1) for _ in range(2)]
    printed = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    folder = StudyFolder(tmp_path / "both")
    begun = [
        line for log in (folder.path / "logs").glob("*.log") for line in log.read_text().splitlines()
        if "best epoch" in line
    ]  # fmt: skip
    assert len(begun) == 6, begun
    assert_same(folder, unbroken)


@pytest.mark.slow
def test_a_study_killed_ten_times_at_random_ends_as_an_unbroken_one(unbroken, grid, tmp_path):
    grid.write(tmp_path / "grid.yaml")
    folder = StudyFolder(tmp_path / "killed")
    chance = random.Random(7)
    kills = 0
    while kills < 10:
        process = start_study(tmp_path / "grid.yaml", folder.path)
        begun = time.monotonic()
        wait_for(
            lambda process=process: (
                list((folder.path / "runs").glob("*/run.json")) or process.poll() is not None
            )
        )
        time.sleep(chance.uniform(0, 2.5))
        if process.poll() is not None:
            break  # it was done before the kill
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        # The workers end with the process that started them.
        psutil.wait_procs(children, timeout=20)
        assert not [
            child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]
        assert time.monotonic() - begun < 100
    last = start_study(tmp_path / "grid.yaml", folder.path)
    printed, _ = last.communicate(timeout=200)
    assert last.returncode == 0, printed
    assert_same(folder, unbroken)


def test_a_worker_that_is_killed_is_replaced_and_its_training_goes_on(unbroken, grid, tmp_path):
    grid.write(tmp_path / "grid.yaml")
    folder = StudyFolder(tmp_path / "worker")
    process = start_study(tmp_path / "grid.yaml", folder.path, workers=1)
    wait_for(lambda: list((folder.path / "runs").glob("*/.lock")))
    worker = next(
        child
        for child in psutil.Process(process.pid).children()
        if "freezeframe.study.worker" in child.cmdline()
    )
    os.kill(worker.pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert "SIGKILL" in printed
    assert not list(folder.path.glob("failures/*"))
    assert_same(folder, unbroken)


def test_a_kill_loses_only_seconds_of_what_a_study_took(tmp_path, monkeypatch):
    monkeypatch.setattr("freezeframe.study.folder.SECONDS_BETWEEN_ACCOUNTS", 0.1)
    folder = StudyFolder(tmp_path)
    account = tmp_path / "progress.json"
    with folder.timed() as tick:
        tick()
        assert not account.exists()
        time.sleep(0.15)
        tick()
        first = files.read_json(account)["seconds"]
        assert first >= 0.15
    with folder.timed() as tick:
        time.sleep(0.15)
        tick()
        assert files.read_json(account)["seconds"] >= first + 0.15


def test_a_half_written_event_is_passed_over():
    from io import BytesIO
    from queue import SimpleQueue

    events: SimpleQueue = SimpleQueue()
    engine._listen(3, BytesIO(json.dumps({"event": "done"}).encode() + b'\n{"event": "beg'), events)
    assert [events.get() for _ in range(2)] == [(3, {"event": "done"}), (3, None)]


def test_no_workers_at_all_is_refused(grid, tmp_path):
    with pytest.raises(UserError, match="0 workers"):
        engine.run(grid, StudyFolder(tmp_path), workers=0)
    assert not Path(tmp_path / "cells.json").exists()
