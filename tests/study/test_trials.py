"""The trials of a search: an exact budget, nothing lost when processes die, the same choices again."""

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pg8000.native
import pytest
from pretended import accuracy, begin, make_study, pretend, work

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study import search
from freezeframe.study.budget import expected, tick
from freezeframe.study.folder import StudyFolder
from freezeframe.study.results import read
from freezeframe.study.trials import Trials

HERE = Path(__file__).resolve().parent


def start_process(folder: StudyFolder, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "pretended.py"), str(folder.path), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])},
    )


def points(folder: StudyFolder) -> list[dict]:
    return [row["point"] for row in files.read_json(folder.path / "trials.json")["trials"]]


def test_a_search_finds_a_better_recipe_than_it_began_with_and_spends_its_budget_exactly(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study())
    taken = work(folder, trials)
    assert taken == [f"trial-{number:04d}" for number in range(12)]
    summary = search.summarise(folder.path)
    assert (summary.trials, summary.finished, summary.seconds) == (12, 12, 12 * 1.5)
    # The base recipe: learning rate 1e-3, head only.
    assert summary.default == pytest.approx(0.8)
    assert summary.best_value is not None
    assert summary.best_value > summary.default
    assert work(folder, Trials(make_study(), folder)) == []


def test_the_results_of_a_search_read_like_those_of_a_grid(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study())
    work(folder, trials, most=3)
    folder.begin(make_study())  # as another process does that joins, or the same after a kill
    results = read(folder.path)
    assert [cell.name for cell in results.finished] == ["trial-0000", "trial-0001", "trial-0002"]
    assert set(results.axes) == {"learning_rate", "unfreeze"}
    assert results.cells[0].values == {"learning_rate": "0.001", "unfreeze": "head"}
    assert results.cells[0].scores["validation"]["accuracy"] == pytest.approx(0.8)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_one_process_chooses_the_same_trials_again_also_when_it_is_interrupted(tmp_path, sampler):
    study = make_study(sampler=sampler, trials=13)
    one, trials = begin(tmp_path / "one", study)
    work(one, trials)
    other, trials = begin(tmp_path / "other", study)
    work(other, trials, most=11)
    work(other, Trials(study, other))
    assert points(one) == points(other)
    assert len({str(point) for point in points(one)}) == 13


def test_another_seed_chooses_other_trials(tmp_path):
    for seed in (0, 1):
        study = make_study(trials=3).model_copy(update={"seeds": [seed]})
        work(*begin(tmp_path / str(seed), study))
    first, second = (points(StudyFolder(tmp_path / str(seed))) for seed in (0, 1))
    assert first[0] == second[0]
    assert first[1:] != second[1:]


def test_a_grid_search_tries_everything_once_and_ends_by_itself(tmp_path):
    study = make_study(
        sampler="grid",
        trials=None,
        space={"unfreeze": ["head", {"layers": 2}], "optimiser": ["sgd", "adamw"]},
    )
    folder, trials = begin(tmp_path / "study", study)
    work(folder, trials)
    assert expected(study, folder) == 4
    assert points(folder)[0] == {"unfreeze": "head", "optimiser": "adamw"}
    assert len({str(point) for point in points(folder)}) == 4


def test_a_base_recipe_outside_the_space_is_trained_and_compared_but_guides_no_sampler(tmp_path):
    study = make_study(space={"learning_rate": {"low": 1e-2, "high": 1e-1}}, trials=3)
    folder, trials = begin(tmp_path / "study", study)
    work(folder, trials)
    history = search.history(folder.path)
    assert history["state"].tolist() == ["finished"] * 3
    assert history["value"][0] == pytest.approx(0.8)
    assert pd.isna(history["learning_rate"][0])
    assert search.summarise(folder.path).default == pytest.approx(0.8)
    with sqlite3.connect(folder.path / "search.db") as connection:
        states = connection.execute("select state from trials order by number").fetchall()
    assert states == [("FAIL",), ("COMPLETE",), ("COMPLETE",)]


def test_two_processes_share_a_budget_exactly_and_train_no_trial_twice(tmp_path):
    folder, _ = begin(tmp_path / "study", make_study(sampler="random", trials=25))
    processes = [start_process(folder, 0.02) for _ in range(2)]
    taken = [process.communicate(timeout=60)[0].split() for process in processes]
    assert all(taken)
    assert sorted(taken[0] + taken[1]) == [f"trial-{number:04d}" for number in range(25)]
    history = search.history(folder.path)
    assert (history["state"] == "finished").all()
    assert len(folder.cells()) == 25


def test_a_trial_whose_process_was_killed_is_trained_again_under_its_number(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(trials=4))
    work(folder, trials, most=1)
    process = start_process(folder, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "trial-0001\n"
    before = points(folder)[1]
    assert expected(make_study(trials=4), folder) == 4
    # While its process lives, the trial belongs to it.
    assert work(folder, trials, most=1) == ["trial-0002"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert work(folder, trials) == ["trial-0001", "trial-0003"]
    assert points(folder)[1] == before
    assert search.summarise(folder.path).finished == 4


def test_a_trial_that_ended_unheard_is_told_and_not_trained_again(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(trials=3))
    with trials.take() as trial:
        assert trial is not None
        pretend(folder, trial, 0.7)  # and its process dies before it tells
    with trials.take() as trial:
        assert trial is not None
        assert trial.number == 1
        folder.record_failure(trial.cell.name, "WorkerDied", "its process was ended.", "")
    trials.settle()
    history = search.history(folder.path)
    assert history["state"].tolist() == ["finished", "failed"]
    assert history["value"][0] == pytest.approx(0.7)
    assert work(folder, trials) == ["trial-0002"]


def test_values_that_do_not_go_together_fail_as_one_trial_and_the_search_goes_on(tmp_path):
    study = make_study(
        sampler="grid",
        trials=None,
        space={"split.validation": [0.15, 0.6], "split.test": [0.15, 0.5]},
    )
    folder, trials = begin(tmp_path / "study", study)
    taken = work(folder, trials)
    assert len(taken) == 3
    history = search.history(folder.path)
    assert history["state"].tolist() == ["finished", "finished", "finished", "failed"]
    assert "no patients for training" in files.read_json(folder.failure("trial-0003"))["error"]
    assert expected(study, folder) == 3


def observe(trials: Trials, folder: StudyFolder, curve: list[float]) -> int | None:
    """Train a trial with this curve; returns the epoch at which it was stopped."""
    with trials.take() as trial:
        assert trial is not None
        for epoch, value in enumerate(curve):
            if trial.observe(epoch, value):
                run = folder.run(trial.cell.name)
                files.write_json(run / "run.json", {"status": "pruned"})
                trials.finish(trial)
                return epoch
        pretend(folder, trial, accuracy(trial))
        trials.finish(trial)
        return None


GOOD = [0.6 + 0.03 * epoch for epoch in range(10)]
BAD = [0.5] * 10


def test_a_hopeless_trial_is_stopped_after_its_first_epochs_but_never_one_of_the_first_five(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(sampler="random"))
    assert [observe(trials, folder, curve) for curve in (BAD, BAD, GOOD, GOOD, GOOD)] == [None] * 5
    # A fifth of 10 epochs passes first: epochs 0 and 1.
    assert observe(trials, folder, BAD) == 2
    assert observe(trials, folder, GOOD) is None
    history = search.history(folder.path)
    assert history["state"].tolist() == ["finished"] * 5 + ["pruned", "finished"]
    assert history["value"][5] == 0.5


def test_without_pruning_nothing_is_stopped(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(sampler="random", pruning=False))
    assert [observe(trials, folder, curve) for curve in [GOOD] * 5 + [BAD]] == [None] * 6


def test_a_resumed_trial_may_report_its_epochs_again(tmp_path):
    _, trials = begin(tmp_path / "study", make_study(sampler="random", trials=2))
    with trials.take() as trial:
        assert trial is not None
        trial.observe(0, 0.5)
        trial.observe(1, 0.6)
    with trials.take() as trial:
        assert trial is not None
        assert trial.number == 0
        assert not trial.observe(1, 0.6)
        assert not trial.observe(2, 0.7)
        assert trial.asked.study.trials[0].intermediate_values == {0: 0.5, 1: 0.6, 2: 0.7}


def test_a_budget_in_minutes_lets_no_trial_begin_when_it_is_over(tmp_path):
    study = make_study(sampler="random", trials=None, minutes=1.0)
    folder, trials = begin(tmp_path / "study", study)
    assert len(work(folder, trials, most=2)) == 2
    assert expected(study, folder) > 2
    clock = files.read_json(folder.path / "clock.json")
    files.write_json(folder.path / "clock.json", {**clock, "seconds": 61.0})
    assert work(folder, trials) == []
    assert expected(study, folder) == 2


def test_the_clock_of_a_budget_begins_with_the_first_trial(tmp_path):
    study = make_study(trials=None, minutes=1.0)
    folder, trials = begin(tmp_path / "study", study)
    assert expected(study, folder) == 1
    assert not (folder.path / "clock.json").exists()
    work(folder, trials, most=1)
    assert (folder.path / "clock.json").exists()


def test_time_in_which_a_search_stood_still_costs_no_budget(tmp_path):
    folder, _ = begin(tmp_path / "study", make_study())
    now = time.time()
    files.write_json(folder.path / "clock.json", {"seconds": 30.0, "seen": now - 3600})
    assert tick(folder) == 30.0
    files.write_json(folder.path / "clock.json", {"seconds": 30.0, "seen": now - 20})
    assert tick(folder) == pytest.approx(50, abs=5)


def test_a_folder_goes_on_with_a_larger_budget_and_refuses_another_space(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(trials=2))
    work(folder, trials)
    larger = make_study(trials=3)
    assert work(folder, Trials(larger, folder)) == ["trial-0002"]
    with pytest.raises(UserError, match="holds another search"):
        Trials(make_study(space={"unfreeze": ["head"]}), folder)


def test_the_field_that_decides_is_the_most_important(tmp_path):
    folder, trials = begin(tmp_path / "study", make_study(sampler="random", trials=30))
    assert search.importances(folder.path) == {}
    work(folder, trials)
    found = search.importances(folder.path)
    assert list(found) == ["learning_rate", "unfreeze"]
    assert found["learning_rate"] > 0.7
    assert sum(found.values()) == pytest.approx(1)


def test_a_database_that_cannot_be_reached_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"database can't be opened"):
        begin(tmp_path / "study", make_study(storage="postgresql+pg8000://nobody@127.0.0.1:1/none"))


@pytest.fixture
def postgresql(monkeypatch) -> Iterator[str]:
    """The address of a PostgreSQL server of its own, whose port stands in a variable of the environment."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed.")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    identity: dict = {}
    if os.geteuid() == 0:  # as which it refuses to run
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [programs[-1] / "initdb", "-D", data, "-U", "search", "--auth=trust", "--no-sync", "--no-locale"],
        check=True, capture_output=True, cwd=folder, timeout=60, **identity,
    )  # fmt: skip
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    server = subprocess.Popen(
        [programs[-1] / "postgres", "-D", data, "-p", str(port), *options],
        stderr=subprocess.DEVNULL, cwd=folder, **identity,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while True:
            try:
                pg8000.native.Connection("search", host="127.0.0.1", port=port, database="postgres").close()
                break
            except pg8000.native.Error:
                assert time.monotonic() < end
                assert server.poll() is None
                time.sleep(0.1)
        monkeypatch.setenv("SEARCH_PORT", str(port))
        yield "postgresql+pg8000://search@127.0.0.1:$SEARCH_PORT/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # ends it without waiting for those who are connected
        server.wait(30)
        shutil.rmtree(folder)


def test_two_processes_share_a_search_in_postgresql_as_they_do_in_a_file(tmp_path, postgresql):
    study = make_study(storage=postgresql, trials=12)
    folder, _ = begin(tmp_path / "study", study)
    killed = start_process(folder, 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "trial-0000\n"
    killed.kill()
    killed.communicate()
    processes = [start_process(folder, 0.02) for _ in range(2)]
    taken = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(taken[0] + taken[1]) == [f"trial-{number:04d}" for number in range(12)]
    assert search.summarise(folder.path).finished == 12
    assert not (folder.path / "search.db").exists()


def test_one_database_holds_the_searches_of_several_folders(tmp_path):
    address = f"sqlite:///{tmp_path / 'all.db'}"
    for name in ("one", "other"):
        folder, trials = begin(tmp_path / name, make_study(storage=address, trials=2))
        assert work(folder, trials) == ["trial-0000", "trial-0001"]
