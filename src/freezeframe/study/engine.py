"""Runs a study on this machine: starts worker processes, shows what they do, replaces those that die."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from rich.live import Live

from freezeframe import files, machine
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import console, say
from freezeframe.study.board import Board, Seat
from freezeframe.study.budget import expected
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study
from freezeframe.study.trials import Trials

# A process that the system ends (for want of memory, say) may have been unlucky: its training is tried again so often.
DEATHS = 2
SECONDS_BETWEEN_LOOKS = 1.0
Show = Callable[[str | None], None]


def default_workers() -> int:
    """Return how many processes work at a study: one for each core, or one where a GPU does the work."""
    return 1 if Path("/dev/nvidia0").exists() else machine.available_cores()


def run(study: Study, folder: StudyFolder, workers: int | None = None, retry: bool = False) -> Board:
    """Do all trainings of a study that are not done; the same call again goes on where it was.

    Parameters
    ----------
    study : Study
        What to do.
    folder : StudyFolder
        Where. Several processes may work at one folder, also on several machines that share it.
    workers : int, optional
        Processes; see `default_workers`.
    retry : bool
        Whether trainings that failed are tried again.

    Returns
    -------
    Board
        What was finished, and what failed.

    Raises
    ------
    UserError
        If the folder holds another study.
    FreezeframeError
        If the workers end without having done anything.
    """
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers can't work.", "one or more.", "Leave --workers out.")
    folder.begin(study)
    trials = None if study.search is None else Trials(study, folder)
    if retry and trials is not None:
        say("A search goes on to other trials; those that failed stay so.")
    elif retry and (count := folder.forget_failures()):
        say(f"{count} trainings that failed are tried again.")
    if trials is not None:
        trials.settle()
    board = board_of(study, folder)
    if not board.left:
        return board
    if study.engine == "ray":
        from freezeframe.study import ray_engine

        ray_engine.run(folder, board, workers)
        return board
    deaths: Counter[str] = Counter()
    with folder.timed() as tick, shown(board) as show:
        while True:
            count = workers or default_workers()
            if trials is None or trials.limit is not None:
                count = min(count, board.left)
            before = board.left
            _round(study, folder, board, count, deaths, show, tick)
            if trials is not None:
                trials.settle()
            look(study, folder, board)
            if not board.left:
                return board
            if board.left == before and not _wait_for_others(study, folder, board):
                raise FreezeframeError(
                    f"The workers ended with {board.left} trainings undone; {folder.path / 'logs'} tells why."
                )


def board_of(study: Study, folder: StudyFolder) -> Board:
    """Return a study's board as its folder has it."""
    cells = folder.cells()
    plan = folder.path / "plan.json"
    estimates = files.read_json(plan).get("cells", {}) if plan.exists() else {}
    board = Board(len(cells), study.metric, estimates)
    look(study, folder, board)
    return board


def look(study: Study, folder: StudyFolder, board: Board) -> None:
    """See what is done by now, whoever did it; of a search also how much there will be."""
    if study.search is not None:
        board.total = expected(study, folder)
    for cell in folder.cells():
        name = cell["name"]
        if name in board.finished or name in board.failed or name in board.pruned:
            continue
        state = folder.state(name)
        if state == "finished":
            board.finished.add(name)
        elif state == "pruned":
            board.pruned.add(name)
        elif state == "failed":
            board.failed[name] = files.read_json(folder.failure(name))["error"]


def _round(
    study: Study,
    folder: StudyFolder,
    board: Board,
    count: int,
    deaths: Counter[str],
    show: Show,
    tick: Callable[[], None],
) -> None:
    """Let workers work until none of them finds anything to do."""
    events: queue.SimpleQueue[tuple[int, dict[str, object] | None]] = queue.SimpleQueue()
    processes = {number: _start(folder, number, count, events) for number in range(count)}
    board.seats = {number: Seat() for number in processes}
    try:
        looked = time.monotonic()
        while processes:
            with contextlib.suppress(queue.Empty):
                number, event = events.get(timeout=SECONDS_BETWEEN_LOOKS)
                if event is not None:
                    show(board.hear(number, event))
                else:
                    process, seat = processes.pop(number), board.seats.pop(number, Seat())
                    if process.wait() and seat.cell:
                        _bury(folder, board, seat.cell, process.returncode, deaths, show)
                        if board.left:
                            processes[number] = _start(folder, number, count, events)
            if time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
                looked = time.monotonic()
                look(study, folder, board)
                tick()
    finally:
        for process in processes.values():
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()  # on which it ends
            process.kill()
            process.wait()


def _start(
    folder: StudyFolder,
    number: int,
    workers: int,
    events: "queue.SimpleQueue[tuple[int, dict[str, object] | None]]",
) -> subprocess.Popen[bytes]:
    log = folder.path / "logs" / f"worker-{os.getpid()}-{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    search = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    with log.open("ab") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "freezeframe.study.worker", str(folder.path), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
            env={**os.environ, "PYTHONPATH": search},
        )
    assert process.stdout is not None
    threading.Thread(target=_listen, args=(number, process.stdout, events), daemon=True).start()
    return process


def _listen(
    number: int,
    stream: IO[bytes],
    events: "queue.SimpleQueue[tuple[int, dict[str, object] | None]]",
) -> None:
    with stream:
        for line in stream:
            with contextlib.suppress(ValueError):  # a line that a kill has cut short
                events.put((number, json.loads(line)))
    events.put((number, None))


def _bury(folder: StudyFolder, board: Board, name: str, code: int, deaths: Counter[str], show: Show) -> None:
    """Note that a worker died at a training; after the second time the study goes on without it."""
    deaths[name] += 1
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    why = " (the system ends processes so when memory runs out)" if code == -signal.SIGKILL else ""
    message = f"its process {how}{why}."
    if deaths[name] < DEATHS:
        show(f"{name}: {message} It is tried again.")
        return
    folder.record_failure(name, "WorkerDied", message, "")
    show(board.hear(-1, {"event": "failed", "cell": name, "error": message}))
    board.seats.pop(-1, None)


def _wait_for_others(study: Study, folder: StudyFolder, board: Board) -> bool:
    """Wait while other processes are at what is left; returns whether there were any."""
    waited = False
    while True:
        names = [cell["name"] for cell in folder.cells()]
        open_ones = [name for name in names if folder.state(name) == "waiting"]
        for name in open_ones:
            with folder.claim(name) as free:
                if free:
                    look(study, folder, board)
                    return waited
        if not open_ones:
            look(study, folder, board)
            return True
        if not waited:
            say(f"Other processes are at the last {len(open_ones)} trainings; waiting for them.")
        waited = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
        look(study, folder, board)


@contextlib.contextmanager
def shown(board: Board) -> Iterator[Show]:
    """Show a board while the block runs; what is yielded takes the lines of a log, and None for none."""

    def show(line: str | None) -> None:
        if line is not None:
            say(line)

    if not console.is_terminal:
        say(f"{board.left} of {board.total} trainings to do.")
        yield show
        return
    with Live(board, console=console, refresh_per_second=4, transient=False):
        yield show
