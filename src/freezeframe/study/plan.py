"""What a study will cost, before anything runs: trainings, what they share, pictures, disk, time; and done naively."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freezeframe import files
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import say
from freezeframe.study.cells import Cell
from freezeframe.study.engine import default_workers
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study

# Seconds beside the steps: of a training (folders, checkpoints, predictions) and of a step (Lightning, batches).
# Measured with benchmarks/study_growth.py.
TRAINING_SECONDS, STEP_SECONDS = 0.1, 0.0015


@dataclass(frozen=True)
class Group:
    """Trainings that share a frozen network.

    Attributes
    ----------
    backbone : str
        Its name.
    trainings : int
        How many begin with it.
    cuts : list of lists of str
        Where it is divided: the layers whose activations are kept, for each depth.
    pictures : int
        Different views that have yet to go through it, once for all cuts.
    bytes : int
        What their activations take on disk.
    seconds, decoding_seconds : float
        Of that pass, and of preparing images before it.
    images_to_decode : int
        Images that are not prepared yet.
    """

    backbone: str
    trainings: int
    cuts: list[list[str]]
    pictures: int
    bytes: int
    seconds: float
    decoding_seconds: float
    images_to_decode: int


@dataclass(frozen=True)
class Plan:
    """What a study will cost.

    Attributes
    ----------
    trainings : int
        All of it.
    done : int
        Finished already.
    workers : int
        Processes that the estimate is for.
    groups : tuple of Group
        By frozen network.
    prefix_images : int
        Pictures through frozen parts.
    store_bytes : int
        Of activations that will be written.
    seconds : float
        Until everything is done. Trainings that stop early make it less.
    naive_seconds : float
        The same trainings one after another, the frozen part recomputed for every image of every epoch.
    naive_images : int
        Pictures through frozen parts then.
    cells : dict
        Seconds of each training that is not done.
    """

    trainings: int
    done: int
    workers: int
    groups: tuple[Group, ...]
    prefix_images: int
    store_bytes: int
    seconds: float
    naive_seconds: float
    naive_images: int
    cells: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def make_plan(study: Study, folder: StudyFolder, workers: int | None = None) -> Plan:
    """Estimate what is left of a study, by measuring on this machine for some seconds.

    Parameters
    ----------
    study : Study
        A grid; a search's trainings are not known before it runs.
    folder : StudyFolder
        Where it will run; the plan is kept there, for the time left.
    workers : int, optional
        Processes; see `engine.default_workers`.

    Raises
    ------
    UserError
        If the study is a search.
    """
    if study.search is not None:
        raise UserError(
            "A search chooses its trainings as it goes.",
            "a study with axes.",
            "`freezeframe study run` shows the time left of its budget.",
        )
    folder.begin(study)
    count = workers or default_workers()
    say("Measuring on this machine what a step and a picture cost.")
    probes, start_seconds = _probe(folder, count)
    plan = _estimate(study.cells(), folder, count, probes, start_seconds)
    files.write_json(folder.path / "plan.json", {"schema_version": 1, **plan.to_dict()})
    return plan


def _probe(folder: StudyFolder, count: int) -> tuple[list[dict[str, Any]], float]:
    search = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    log = folder.path / "logs" / f"probe-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("ab") as handle:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "freezeframe.study.probe", str(folder.path), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=handle,
                env={**os.environ, "PYTHONPATH": search},
            )
            for number in range(count)
        ]
    start_seconds, found = 0.0, []
    try:
        for process in processes:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "ready":
                    start_seconds = max(start_seconds, time.monotonic() - begun)
                elif event["event"] == "probed":
                    found.append(event)
            process.wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if len(found) < count:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = lines[-1] if lines else "it ended without a word"
        if (mark := "UserError: ") in reason:
            raise UserError(reason.partition(mark)[2])
        raise FreezeframeError(f"The plan could not be measured ({reason}); {log} tells more.")
    return found, start_seconds


def _estimate(
    cells: list[Cell], folder: StudyFolder, workers: int, probes: list[dict[str, Any]], start_seconds: float
) -> Plan:
    first = next(one for one in probes if one["images"])
    groups = tuple(Group(**group) for group in first["groups"])
    seconds: dict[str, float] = {}
    naive_seconds, naive_images, done = 0.0, 0, 0
    for cell in cells:
        recipe = cell.recipe
        key = first["keys"][cell.name]
        train, validation, test = first["images"][cell.name]
        batches = -(-train // recipe.batch_size)
        plain = first["plain"][key]
        evaluated = (recipe.epochs + 1) * validation + test
        naive_images += recipe.epochs * train + evaluated
        naive_seconds += (
            (recipe.epochs * train + evaluated) * plain["prefix"]
            + recipe.epochs * batches * (plain["step"] + STEP_SECONDS)
            + evaluated * plain["infer"]
            + TRAINING_SECONDS
        )
        if folder.state(cell.name) != "waiting":
            done += 1
            continue
        step, infer = (
            sum(probe["steps"][key][name] for probe in probes) / len(probes) for name in ("step", "infer")
        )
        seconds[cell.name] = (
            recipe.epochs * batches * (step + STEP_SECONDS) + evaluated * infer + TRAINING_SECONDS
        )
    passes = sum(group.seconds + group.decoding_seconds for group in groups)
    longest = max(seconds.values(), default=0.0)
    # Where one process has nothing more to take, the other is, on average, in the middle of a training.
    training = max(longest, sum(seconds.values()) / workers + longest / 2 * (workers > 1))
    return Plan(
        trainings=len(cells),
        done=done,
        workers=workers,
        groups=groups,
        prefix_images=sum(group.pictures for group in groups),
        store_bytes=sum(group.bytes for group in groups),
        seconds=start_seconds + passes + training if seconds else 0.0,
        naive_seconds=naive_seconds,
        naive_images=naive_images,
        cells=seconds,
    )
