"""A study on a cluster of two Ray nodes, both on this machine: what is lost is done again, and nothing twice."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study import engine, ray_engine
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study

# Without a token, whether or not another test's local cluster has left one in the home folder.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_AUTH_MODE": "disabled"}


@dataclass
class Node:
    """A Ray node on this machine: ``ray start --block``, which takes its processes with it."""

    process: subprocess.Popen[bytes]

    def stop(self, hard: bool = False) -> None:
        """End the node, or have it die all at once."""
        own = psutil.Process(self.process.pid)
        below = own.children(recursive=True)
        if hard:
            for one in [own, *below]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        else:
            own.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for one in [own, *below]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(20)


@dataclass
class Cluster:
    """Two nodes with a core each."""

    address: str
    nodes: list[Node]

    def start(self, *arguments: str) -> None:
        """Start a node."""
        common = ["--node-ip-address", "127.0.0.1", "--num-cpus", "1", "--object-store-memory", "100000000"]
        self.nodes.append(
            Node(
                subprocess.Popen(
                    [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *common, "--block"],
                    env={**os.environ, **QUIET},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        )

    def actors(self, kind: str) -> list[psutil.Process]:
        """Return the processes of our workers, or of the coordinator, on all nodes."""
        found = []
        for node in self.nodes:
            if node.process.poll() is None:
                below = psutil.Process(node.process.pid).children(recursive=True)
                found += [one for one in below if title(one).startswith(f"ray::{kind}")]
        return found


def title(process: psutil.Process) -> str:
    """Return what a process calls itself."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """Two nodes, of which the tests take away the second."""
    # The paths of its sockets have a greatest length.
    folder = Path(tmp_path_factory.mktemp("ray", numbered=True))
    short = Path(f"{os.environ.get('TMPDIR', '/tmp')}/ff-{os.getpid()}")
    short.symlink_to(folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    one = Cluster(f"127.0.0.1:{port}", [])
    try:
        one.start(
            "--head", "--port", str(port), "--node-name", "one", "--include-dashboard=false",
            "--temp-dir", str(short),
        )  # fmt: skip
        until(lambda: can_connect(port), "the head answers")
        one.start("--address", one.address, "--node-name", "two")
        until(lambda: len(alive(one)) == 2, "two nodes are there")
        yield one
    finally:
        for node in reversed(one.nodes):
            with contextlib.suppress(psutil.NoSuchProcess):
                node.stop()
        short.unlink()


def until(true: Callable[[], Any], what: str, seconds: float = 150.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def can_connect(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def alive(cluster: Cluster) -> list[str]:
    script = (
        "import ray, sys, logging; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR);"
        "print(*[node['NodeName'] for node in ray.nodes() if node['Alive']])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, cluster.address],
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def study_of(base: dict[str, Any], sizes: list[int], rates: list[float], engine: str) -> Study:
    preparations = {f"of {size}": {"preprocess": [{"resize": {"size": size}}]} for size in sizes}
    return Study.parse(
        {
            "name": "cluster",
            "recipe": base,
            "axes": {"picture": preparations, "learning_rate": rates},
            "seeds": 2,
            "baseline": False,
            "engine": engine,
        }
    )


@contextlib.contextmanager
def driver(cluster: Cluster, study: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `freezeframe study run` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "freezeframe", "study", "run", str(study), "--out", str(out)],
        env={**os.environ, **QUIET, "RAY_ADDRESS": cluster.address},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(folder: StudyFolder) -> list[str]:
    return [cell["name"] for cell in folder.cells() if folder.state(cell["name"]) == "finished"]


def endings(folder: StudyFolder) -> list[str]:
    """Return the runs that workers have said to have finished, each as often as it was said."""
    lines = [line for log in (folder.path / "logs").iterdir() for line in log.read_text().splitlines()]
    return sorted(Path(line.split(": best epoch")[0]).name for line in lines if ": best epoch" in line)


@pytest.mark.slow
def test_driver_worker_and_coordinator_may_die_and_the_predictions_are_those_of_a_local_study(
    cluster, base, tmp_path, tmp_path_factory
):
    rates = [0.001, 0.003, 0.005, 0.01]
    study = study_of(
        {**base, "epochs": 20, "store": str(tmp_path / "store"), "patience": None}, [64], rates, "ray"
    )
    study.write(tmp_path / "study.yaml")
    folder = StudyFolder(tmp_path / "out")

    with driver(cluster, tmp_path / "study.yaml", folder.path) as first:
        until(lambda: len(finished(folder)) >= 1, "a training is finished")
        first.kill()
    until(lambda: cluster.actors("Worker"), "a worker is there")
    before = finished(folder)
    assert len(before) < 8
    for worker in cluster.actors("Worker"):
        worker.send_signal(signal.SIGKILL)

    with driver(cluster, tmp_path / "study.yaml", folder.path) as second:
        until(lambda: len(finished(folder)) > len(before), "another training is finished")
        (coordinator,) = cluster.actors("Coordinator")
        coordinator.send_signal(signal.SIGKILL)
        _, said = second.communicate(timeout=240)
        assert second.returncode == 0, said
    assert "The study goes on in the cluster already" in said
    assert len(finished(folder)) == 8
    assert not folder.forget_failures()
    assert endings(folder) == sorted(finished(folder))

    local = StudyFolder(tmp_path / "local")
    engine.run(study_of({**base, "epochs": 20, "store": str(tmp_path / "store"), "patience": None}, [64], rates,
                        "local"), local, workers=1)  # fmt: skip
    for name in finished(local):
        for split in ("validation", "test"):
            one, other = (
                pd.read_parquet(where.run(name) / "predictions" / f"{split}.parquet")
                for where in (folder, local)
            )
            pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.slow
def test_networks_have_their_nodes_and_a_lost_node_s_trainings_are_done_elsewhere(cluster, base, tmp_path):
    study = study_of({**base, "epochs": 150, "patience": None}, [64, 72], [0.001, 0.002, 0.003, 0.004], "ray")
    study.write(tmp_path / "study.yaml")
    folder = StudyFolder(tmp_path / "out")
    with driver(cluster, tmp_path / "study.yaml", folder.path) as process:
        homes = folder.path / "nodes.json"
        until(lambda: homes.exists() and len(files.read_json(homes)["homes"]) == 2, "both groups have a home")
        assert sorted(files.read_json(homes)["homes"].values()) == [["one"], ["two"]]
        # Each group has one home, so both nodes are at work when a training of each is finished.
        until(
            lambda: len({name.split("-")[1] for name in finished(folder)}) == 2,
            "both nodes have finished a training",
        )
        cluster.nodes[1].stop(hard=True)
        assert len(finished(folder)) < 16
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    assert len(finished(folder)) == 16
    assert endings(folder) == sorted(finished(folder))


@pytest.mark.slow
def test_a_search_runs_on_a_cluster_to_its_budget(cluster, base, tmp_path):
    files.write_yaml(
        tmp_path / "search.yaml",
        {
            "recipe": base,
            "search": {"space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, "trials": 4},
            "baseline": False,
            "engine": "ray",
        },
    )
    folder = StudyFolder(tmp_path / "out")
    with driver(cluster, tmp_path / "search.yaml", folder.path) as process:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    assert len(finished(folder)) == 4
    assert endings(folder) == sorted(finished(folder))


def test_without_a_cluster_the_message_says_what_to_do(base, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="ray start --head"):
        ray_engine.stop(str(tmp_path))
