"""A worker of a study inside a Ray cluster: it does what the coordinator says."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any, cast

from freezeframe.study.cells import Cell
from freezeframe.study.folder import StudyFolder

# A group of the coordinator's threads that has one: what a worker tells is heard in its order.
ORDERED = "ordered"
SECONDS_BETWEEN_ORDERS = 1.0


class Worker:
    """Does trainings on one node, one after another, as a local worker process does.

    Parameters
    ----------
    coordinator : actor
        Which tells it what to do.
    number : int
        Its own.
    path, working_folder : str
        As the coordinator's.
    workers : int
        Workers that share the node's memory.
    """

    def __init__(self, coordinator: Any, number: int, path: str, working_folder: str, workers: int) -> None:
        enter(working_folder)
        self.coordinator, self.number, self.workers = coordinator, number, workers
        self.folder = StudyFolder(Path(path))

    def work(self) -> None:
        """Do what the coordinator says until it says to end."""
        from freezeframe import progress
        from freezeframe.study.worker import hear

        log = self.folder.path / "logs" / f"worker-{os.uname().nodename}-{os.getpid()}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            log.open("a", encoding="utf-8", buffering=1) as handle,
            contextlib.redirect_stderr(handle),
            contextlib.redirect_stdout(handle),
            progress.heard_by(hear(self._tell)),
        ):
            self._work()

    def _work(self) -> None:
        import ray

        from freezeframe.study import worker
        from freezeframe.training.activations import MEMORY_SHARE
        from freezeframe.training.shared import Shared

        study = self.folder.read()
        shared = Shared(MEMORY_SHARE / self.workers)
        cells: dict[str, Cell] = {}
        ready: set[str] = set()
        while (order := self._order())["do"] != "end":
            if order["do"] == "wait":
                time.sleep(SECONDS_BETWEEN_ORDERS)
                continue
            if order["do"] == "search":
                worker.search(study, self.folder, shared, self._tell)
                continue
            if not cells.keys() >= set(order["with"]):  # the study has grown since
                study = self.folder.read()
                cells = {cell.name: cell for cell in study.cells()}
            if not ready >= set(order["with"]):
                begun = time.monotonic()
                recipes = [cells[name].recipe for name in order["with"]]
                worker.prepare(study, self.folder, recipes, shared, self._tell)
                self._tell(event="prepared", group=order["group"], seconds=time.monotonic() - begun)
                ready |= set(order["with"])
            begun = time.monotonic()
            worker.attempt(cells[order["cell"]], self.folder, shared, self._tell)
            state = self.folder.state(order["cell"])
            ray.get(self._in_order("done").remote(self.number, state, time.monotonic() - begun))
            if state == "waiting":
                time.sleep(SECONDS_BETWEEN_ORDERS)

    def _order(self) -> dict[str, Any]:
        import ray

        return cast(dict[str, Any], ray.get(self.coordinator.next.remote(self.number)))

    def _tell(self, **event: Any) -> None:
        self._in_order("tell").remote(self.number, event)

    def _in_order(self, method: str) -> Any:
        """Return a method of the coordinator that takes one call after another, not several at a time."""
        return getattr(self.coordinator, method).options(concurrency_group=ORDERED)


def enter(working_folder: str) -> None:
    """Make paths in recipes mean what they mean where the study was started."""
    if Path(working_folder).is_dir():
        os.chdir(working_folder)
