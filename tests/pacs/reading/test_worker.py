"""Workers as processes: they read, they end, they are killed, and each study gets one current result."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from reading_jobs import add_film, add_study, get
from sqlalchemy import func, select

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.reading import process
from freezeframe.pacs.reading.findings import StudyReading
from freezeframe.pacs.reading.watch import OVER_LIMIT
from freezeframe.pacs.reading.worker import disk_is_full, reason_of
from freezeframe.pacs.tables import (
    DELIVERING,
    JOB_CLAIMED,
    JOB_DONE,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    Job,
    Result,
    ResultObject,
    Study,
    Worker,
)

DEADLINE = 240.0


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it takes too long"
        time.sleep(0.05)


class Supervisor:
    """Starts workers, and others in the place of those that ended, as the node does."""

    def __init__(self, configuration: NodeConfiguration, count: int) -> None:
        self._file = process.write_configuration(configuration)
        self.workers = {f"worker-{number}": self._start(f"worker-{number}") for number in range(count)}
        self.codes: list[int] = []

    def _start(self, name: str) -> subprocess.Popen:
        return process.start(self._file, name)

    def look(self) -> None:
        for name, worker in self.workers.items():
            if (code := worker.poll()) is not None:
                self.codes.append(code)
                self.workers[name] = self._start(name)

    def end(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait(60)


@contextmanager
def supervised(configuration: NodeConfiguration, count: int = 1) -> Iterator[Supervisor]:
    supervisor = Supervisor(configuration, count)
    try:
        yield supervisor
    finally:
        supervisor.end()


def open_jobs(database: Database) -> int:
    with database.reading() as session:
        count = select(func.count()).where(Job.state.not_in([JOB_DONE, JOB_QUARANTINED]))
        return session.scalar(count) or 0


def with_limits(configuration: NodeConfiguration, **limits: float) -> NodeConfiguration:
    return configuration.model_copy(update={"limits": configuration.limits.model_copy(update=limits)})


@pytest.fixture
def configuration(tmp_path, small_bundle, configure) -> NodeConfiguration:
    return configure(tmp_path / "node", small_bundle)


@pytest.fixture
def database(configuration) -> Iterator[Database]:
    opened = open_database(configuration)
    yield opened
    opened.close()


def test_a_worker_reads_what_waits_and_ends_when_it_is_told(configuration, database):
    jobs = [add_film(database, configuration.folder, number)[0] for number in range(1, 4)]
    with supervised(configuration) as supervisor:
        until(lambda: not open_jobs(database))
        with database.reading() as session:
            assert session.scalars(select(Worker.name)).all() == ["worker-0"]
        (worker,) = supervisor.workers.values()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert {get(database, job_id)[1].state for job_id in jobs} == {DELIVERING}
    with database.reading() as session:
        assert [result.current for result in session.scalars(select(Result))] == [True] * 3
        assert session.scalars(select(Worker)).all() == []


def test_a_worker_and_its_decoder_end_when_the_node_is_killed(configuration, database):
    program = (
        "import sys, time; from pathlib import Path; from freezeframe.pacs.reading import process; "
        "print(process.start(Path(sys.argv[1]), 'worker-0').pid, flush=True); time.sleep(600)"
    )
    path = process.write_configuration(configuration)
    node = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        worker = psutil.Process(int(node.stdout.readline()))
        add_film(database, configuration.folder, 1)
        until(lambda: not open_jobs(database))
        family = [worker, *worker.children(recursive=True)]
        assert len(family) == 2
    finally:
        node.kill()
        node.wait(60)
    psutil.wait_procs(family, 60)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


@pytest.mark.slow
def test_an_endless_study_is_stopped_and_put_aside_after_its_attempts_with_the_reason(
    configuration, database
):
    limited = with_limits(configuration, seconds=2, attempts=2, first_wait=0.1)
    paths = tuple(f"images/{number}.dcm" for number in range(4))
    (configuration.folder / "images").mkdir()
    for path in paths:  # nobody ever writes into them: each takes a decoder half of the time that there is
        os.mkfifo(configuration.folder / path)
    (endless,) = add_study(database, 1, paths, priority=0)
    (other,) = add_film(database, configuration.folder, 2)
    with supervised(limited) as supervisor:
        until(lambda: supervisor.look() or not open_jobs(database))
        assert supervisor.codes == [OVER_LIMIT] * 2
    job, study = get(database, endless)
    assert (job.state, job.attempts, job.reason) == (JOB_QUARANTINED, 2, "it took longer than 2 s.")
    assert (study.state, study.reason) == (QUARANTINED, job.reason)
    assert get(database, other)[0].state == JOB_DONE


def test_a_reading_that_takes_too_much_memory_is_stopped_and_put_aside(configuration, database):
    limited = with_limits(configuration, memory_gigabytes=1e-5, attempts=1)
    (job_id,) = add_film(database, configuration.folder, 1, films=8)
    with supervised(limited) as supervisor:
        until(lambda: supervisor.look() or not open_jobs(database))
    job, _ = get(database, job_id)
    assert (job.state, job.reason) == (JOB_QUARANTINED, "it took more than 1e-05 GB of memory.")


def test_a_job_of_a_bundle_that_is_gone_waits_with_the_reason(configuration, database):
    (job_id,) = add_study(database, 1, bundles=("gone",))
    with supervised(configuration):
        until(lambda: get(database, job_id)[0].reason)
    job, _ = get(database, job_id)
    assert (job.state, job.attempts) == (JOB_WAITING, 1)
    assert "not in the configuration" in job.reason


def test_an_error_of_ours_is_the_reason(configuration, database):
    (job_id,) = add_film(database, configuration.folder, 1)
    path = configuration.folder / "results" / "1.2.3.1"
    path.parent.mkdir()
    path.write_text("in the way of a folder")
    with supervised(configuration):
        until(lambda: get(database, job_id)[0].reason)
    assert "can't be written (Not a directory)" in get(database, job_id)[0].reason


def test_an_error_that_is_not_ours_is_told_by_its_kind_and_place_alone():
    with pytest.raises(KeyError) as caught:
        StudyReading.from_dict({"images": [{"PHANTOM^0001": 1}]})
    assert re.fullmatch(r"KeyError in pacs/reading/findings\.py, line \d+\.", reason_of(caught.value))


def test_a_full_disk_is_told_from_other_errors():
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", 0) as full:
        full.write(b"1")
    explained = UserError("The disk is full.")
    explained.__cause__ = caught.value
    assert disk_is_full(explained)
    assert not disk_is_full(UserError("It is not."))
    assert not disk_is_full(FileNotFoundError(2, "No such file"))


def test_a_worker_that_is_stuck_in_native_code_is_ended_by_the_system(configuration, database):
    (job_id,) = add_study(database, 1)
    limited = with_limits(configuration, seconds=0.5)
    program = (
        "import ctypes, os, sys, time; from pathlib import Path\n"
        "from freezeframe.pacs.configuration import NodeConfiguration\n"
        "from freezeframe.pacs.database import open_database\n"
        "from freezeframe.pacs.reading import queue, watch\n"
        "watch.GRACE = 1.0\n"
        "node = NodeConfiguration.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "database = open_database(node)\n"
        "held = queue.claim(database, 'worker-0', 30, time.time())\n"
        "with watch.Watch(database, 'worker-0', node.limits, os.getppid()) as watched:\n"
        "    watched.begin(held)\n"
        "    ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock: no other thread can run\n"
    )
    words = [sys.executable, "-c", program, str(process.write_configuration(limited))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert get(database, job_id)[0].state == JOB_CLAIMED, "until the claim runs out"


def test_a_worker_without_a_bundle_says_so_and_ends_with_the_code_of_a_mistake(tmp_path, configure):
    path = process.write_configuration(configure(tmp_path / "node", tmp_path / "nothing"))
    program = [sys.executable, "-m", "freezeframe.pacs.reading", str(path), "worker-0"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_terminal_sends_to_the_node_does_not_reach_its_workers(configuration):
    worker = process.start(process.write_configuration(configuration), "worker-0")
    try:
        assert os.getpgid(worker.pid) == worker.pid
    finally:
        worker.kill()
        worker.wait(DEADLINE)


def test_what_workers_are_told_is_the_nodes_configuration_and_private(configuration):
    path = process.write_configuration(configuration)
    assert path.parent.stat().st_mode & 0o077 == 0
    assert NodeConfiguration.model_validate_json(path.read_text()) == configuration


@pytest.mark.slow
def test_workers_that_are_killed_at_random_moments_give_each_study_one_current_result(node):
    """Two workers on one database, SIGKILL four times."""
    database, configuration = node
    configuration = with_limits(
        configuration, workers=2, attempts=50, first_wait=0.05, longest_wait=0.5, lease_seconds=2
    )
    moments = random.Random(5)
    studies = range(1, 11)
    for number in studies:
        add_film(database, configuration.folder, number, now=time.time() - 100)
    kills = 0
    with supervised(configuration, 2) as supervisor:

        def done() -> int:
            supervisor.look()
            return len(studies) - open_jobs(database)

        until(lambda: done() >= 1)
        while kills < 4:
            pause = time.monotonic() + moments.uniform(0, 1)
            until(lambda: supervisor.look() or time.monotonic() > pause)  # noqa: B023 - called at once
            moments.choice(list(supervisor.workers.values())).kill()
            kills += 1
            ready = done() + 1
            until(lambda: done() >= min(ready, len(studies)))  # noqa: B023 - called at once
        until(lambda: done() == len(studies))
    assert supervisor.codes.count(-signal.SIGKILL) >= 3
    with database.reading() as session:
        jobs = session.scalars(select(Job)).all()
        assert {(job.state, job.version) for job in jobs} == {(JOB_DONE, 1)}
        results = session.scalars(select(Result)).all()
        assert sorted(result.study_id for result in results) == sorted(job.study_id for job in jobs)
        assert all(result.current for result in results)
        assert {study.state for study in session.scalars(select(Study))} == {DELIVERING}
        objects = session.scalars(select(ResultObject)).all()
    assert len({entry.sop_instance_uid for entry in objects}) == len(objects) == 2 * len(studies)
    for entry in objects:
        content = (configuration.folder / entry.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry.sha256
