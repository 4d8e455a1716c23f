"""A process that works at a study: it takes what nobody else is at, one training after another.

Started by `freezeframe.study.engine` as ``python -m freezeframe.study.worker FOLDER WORKERS``. It tells of what
it does in lines of JSON on standard output; what is said for people goes to standard error, which is its log. It ends
with the process that started it, also when that one is killed: its standard input is then closed.
"""

import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from freezeframe import progress
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.study import baseline as baselines
from freezeframe.study import sharing
from freezeframe.study.cells import Cell
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study
from freezeframe.study.trials import Hopeless, Trial, Trials, reported
from freezeframe.training.activations import MEMORY_SHARE
from freezeframe.training.callbacks import METRICS, Watch, write_metrics
from freezeframe.training.fit import train
from freezeframe.training.run import write_status
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
    if study.search is not None:
        search(study, folder, shared, tell)
        return
    for group in sharing.groups(study.cells()):
        waiting = [cell for cell in group if folder.state(cell.name) == "waiting"]
        if not waiting:
            continue
        prepare(study, folder, [cell.recipe for cell in waiting], shared, tell)
        for cell in waiting:
            attempt(cell, folder, shared, tell)


def search(study: Study, folder: StudyFolder, shared: Shared, tell: Tell) -> None:
    """Train one trial of a search after another, until its budget is spent and nothing is left that others began."""
    trials = Trials(study, folder)
    while True:
        with trials.take() as trial:
            if trial is None:
                return
            prepare(study, folder, [trial.cell.recipe], shared, tell)
            train_cell(trial.cell, folder, shared, tell, partial(_stop_if_hopeless, study, trial))
            trials.finish(trial)


def _stop_if_hopeless(study: Study, trial: Trial, epoch: int, row: dict[str, float]) -> None:
    if trial.observe(epoch, reported(study, row)):
        raise Hopeless


def prepare(study: Study, folder: StudyFolder, recipes: Sequence[Recipe], shared: Shared, tell: Tell) -> None:
    """Compute what trainings of one group need from the frozen part, and the baselines that go with them."""
    probes = [
        recipe
        for recipe in (baselines.distinct(recipes) if study.baseline else ())
        if any(not (folder.baseline(name) / "run.json").exists() for name in baselines.names(recipe))
    ]
    try:
        sharing.fill([*recipes, *probes], shared)
    except Exception:
        # Each training meets the same obstacle, and it is recorded there.
        traceback.print_exc()
    for recipe in probes:
        for name, method in baselines.names(recipe).items():
            fit_baseline(name, method, recipe, folder, shared, tell)


def fit_baseline(
    name: str, method: baselines.Method, recipe: Recipe, folder: StudyFolder, shared: Shared, tell: Tell
) -> None:
    """Fit a baseline if nobody else is at it; a failure is told, and the study goes on without it."""
    with folder.claim(f"baseline-{name}") as mine:
        if not mine:
            return
        tell(event="progress", what=f"{method} of {recipe.backbone}", done=0, total=0, unit="")
        try:
            baselines.baseline(recipe, folder.baseline(name), method, shared)
        except Exception as error:
            traceback.print_exc()
            write_status(folder.baseline(name), status="failed", method=method, error=str(error))
            tell(event="note", message=f"There is no {method} of {recipe.backbone}: {error}")


def attempt(cell: Cell, folder: StudyFolder, shared: Shared, tell: Tell) -> None:
    """Train one cell if it is still to be done and nobody else is at it; a failure is recorded."""
    with folder.claim(cell.name) as mine:
        if mine and folder.state(cell.name) == "waiting":
            train_cell(cell, folder, shared, tell)


def train_cell(
    cell: Cell, folder: StudyFolder, shared: Shared, tell: Tell, heard: Watch | None = None
) -> None:
    """Train one cell, which is claimed; how it ends is recorded in the folder.

    Parameters
    ----------
    cell : Cell
        The training.
    folder : StudyFolder
        Of the study.
    shared : Shared
        Of this process.
    tell : callable
        Takes an event's fields by name.
    heard : callable, optional
        Called after each epoch with its number, from 0, and its row; raises `Hopeless` to give the training up.
    """
    run = folder.run(cell.name)
    tell(event="begun", cell=cell.name, epochs=cell.recipe.epochs)
    begun = time.monotonic()
    rows: dict[int, dict[str, float]] = {}

    def watch(epoch: int, row: dict[str, float]) -> None:
        rows[int(epoch)] = dict(row)
        tell(event="epoch", cell=cell.name, epoch=int(epoch) + 1, validation=row)
        if heard is not None:
            heard(int(epoch), row)

    try:
        train(cell.recipe, run, shared, watch)
    except Hopeless:
        _give_up(run, cell, rows, time.monotonic() - begun)
        tell(event="pruned", cell=cell.name)
    except Exception as error:
        text = traceback.format_exc()
        print(text, file=sys.stderr, flush=True)
        kind = type(error).__name__
        message = str(error) if isinstance(error, UserError) else f"{kind}: {error}"
        folder.record_failure(cell.name, kind, message, text)
        tell(event="failed", cell=cell.name, error=message)
    else:
        tell(event="finished", cell=cell.name, seconds=time.monotonic() - begun)


def _give_up(run: Path, cell: Cell, rows: dict[int, dict[str, float]], seconds: float) -> None:
    """Write what is known of a training that was stopped: its curves, also those from before it was resumed."""
    path = run / METRICS
    if path.exists():
        before = {int(row["epoch"]): row for row in pd.read_csv(path).to_dict("records")}
        rows = {**before, **rows}  # pyright: ignore[reportAssignmentType]
    write_metrics(path, [rows[epoch] for epoch in sorted(rows)])
    write_status(
        run,
        status="pruned",
        backbone=cell.recipe.backbone,
        unfreeze=cell.recipe.unfreeze,
        epochs=len(rows),
        seconds={"total": round(seconds, 2)},
    )


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
    # The memory of a training is collected at its end. To look through all that torch and Lightning have imported
    # as well took half a second each time, several times what a small training takes.
    gc.collect()
    gc.freeze()
    folder = StudyFolder(Path(arguments[0]))
    workers = int(arguments[1])
    with progress.heard_by(hear(tell)):
        work(folder.read(), folder, workers, tell)
    tell(event="done")


if __name__ == "__main__":
    main(sys.argv[1:])
