"""A process that works at a study: it takes what nobody else is at, one training after another.

Started by `freezeframe.study.engine` as ``python -m freezeframe.study.worker FOLDER NUMBER WORKERS``. It tells of what
it does in lines of JSON on standard output; what is said for people goes to standard error, which is its log. It ends
with the process that started it, also when that one is killed: its standard input is then closed.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freezeframe import progress
from freezeframe.errors import UserError
from freezeframe.study import sharing
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Cell, Study
from freezeframe.training.activations import MEMORY_SHARE
from freezeframe.training.fit import train
from freezeframe.training.shared import Shared

SECONDS_BETWEEN_EVENTS = 0.3
Tell = Callable[..., None]


def work(study: Study, folder: StudyFolder, workers: int, tell: Tell) -> None:
    """Do all that is left of a study and that nobody else is at.

    Parameters
    ----------
    study : Study
        What there is to do.
    folder : StudyFolder
        Where it is done.
    workers : int
        Processes that share this machine's memory.
    tell : callable
        Takes an event's fields by name.
    """
    shared = Shared(MEMORY_SHARE / workers)
    for group in sharing.groups(study.cells()):
        waiting = [cell for cell in group if folder.state(cell.name) == "waiting"]
        if not waiting:
            continue
        try:
            sharing.fill([cell.recipe for cell in waiting], shared)
        except Exception:
            # Each training meets the same obstacle, and it is recorded there.
            traceback.print_exc()
        for cell in waiting:
            attempt(cell, folder, shared, tell)


def attempt(cell: Cell, folder: StudyFolder, shared: Shared, tell: Tell) -> None:
    """Train one cell if it is still to be done and nobody else is at it; a failure is recorded."""
    with folder.claim(cell.name) as mine:
        if not mine or folder.state(cell.name) != "waiting":
            return
        tell(event="begun", cell=cell.name, epochs=cell.recipe.epochs)
        begun = time.monotonic()

        def watch(epoch: int, row: dict[str, float]) -> None:
            tell(event="epoch", cell=cell.name, epoch=int(epoch) + 1, validation=row)

        try:
            train(cell.recipe, folder.run(cell.name), shared, watch)
        except Exception as error:
            text = traceback.format_exc()
            print(text, file=sys.stderr, flush=True)
            kind = type(error).__name__
            message = str(error) if isinstance(error, UserError) else f"{kind}: {error}"
            folder.record_failure(cell.name, kind, message, text)
            tell(event="failed", cell=cell.name, error=message)
        else:
            tell(event="finished", cell=cell.name, seconds=time.monotonic() - begun)


def teller() -> Tell:
    """Take standard output for events, and send everything else that is printed to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(**event: Any) -> None:
        with lock:
            events.write(json.dumps(event, default=float) + "\n")
            events.flush()

    return tell


def hear(tell: Tell) -> progress.Listener:
    """Return a listener of progress that tells of it now and then."""
    last = 0.0

    def listener(what: str, done: int, total: int, unit: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_EVENTS:
            last = now
            tell(event="progress", what=what, done=done, total=total, unit=unit)

    return listener


def end_with_parent() -> None:
    """End this process as soon as standard input is closed, which the system does when the parent dies."""

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold while the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Run a worker process."""
    tell = teller()
    end_with_parent()
    folder = StudyFolder(Path(arguments[0]))
    workers = int(arguments[1])
    with progress.heard_by(hear(tell)):
        work(folder.read(), folder, workers, tell)
    tell(event="done")


if __name__ == "__main__":
    main(sys.argv[1:])
