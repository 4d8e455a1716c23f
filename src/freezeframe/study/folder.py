"""The study's folder: what it holds, what each training's state is, and who is at work at what.

study.yaml           the study as it was asked for
cells.json           its trainings: names, labels, seeds, folds
runs/<name>/         a run folder each
failures/<name>.json what went wrong, for a training that failed
claims/<name>.lock   held by the process that is at it; the system lets go when that process dies
baselines/<name>/    predictions of a linear probe, and of PCA with logistic regression
ensembles/<name>/    ensembles of the runs
plan.json            what it was estimated to cost
search.json, search.db, trials.json, clock.json
                     the trials of a search (see `freezeframe.study.trials`)
progress.json        what it took
nodes.json           on a Ray cluster: which node's store holds which frozen network's activations
logs/                what the worker processes said
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study.cells import Cell
from freezeframe.study.spec import Study

SCHEMA_VERSION = 1
SECONDS_BETWEEN_ACCOUNTS = 10.0
State = Literal["finished", "failed", "pruned", "waiting"]


class StudyFolder:
    """The files of one study.

    Parameters
    ----------
    path : Path
        The folder; it is made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()

    @property
    def specification(self) -> Path:
        """The file that says what the study is."""
        return self.path / "study.yaml"

    def run(self, name: str) -> Path:
        """Return the folder of a training's run."""
        return self.path / "runs" / name

    def baseline(self, name: str) -> Path:
        """Return the folder of a baseline."""
        return self.path / "baselines" / name

    def ensemble(self, name: str) -> Path:
        """Return the folder of an ensemble."""
        return self.path / "ensembles" / name

    def read(self) -> Study:
        """Read the study that the folder was made for.

        Raises
        ------
        UserError
            If the folder holds none.
        """
        if not self.specification.exists():
            raise UserError(
                f"{self.path} is no study's folder.",
                "a folder that `freezeframe study run` made.",
                "Check the path.",
            )
        return Study.read(self.specification)

    def begin(self, study: Study) -> None:
        """Write what the study is; one that was begun may grow, but its trainings stay what they were.

        Raises
        ------
        UserError
            If trainings that were begun would be of another recipe now.
        """
        cells = study.cells()
        hashes = {cell.name: recipe_hash(cell) for cell in cells}
        before = self.cells()
        changed = [
            one["name"]
            for one in before
            if hashes.get(one["name"], one["recipe_sha256"]) != one["recipe_sha256"]
            and self.run(one["name"]).exists()
        ]
        if changed:
            raise UserError(
                f"{self.path} holds {len(changed)} trainings of other recipes ({', '.join(changed[:3])}"
                f"{', ...' if len(changed) > 3 else ''}).",
                "the same base recipe; axes, seeds and cells may be added.",
                "Choose another --out, or delete the folder.",
            )
        study.write(self.specification)
        if study.search is None or not (self.path / "cells.json").exists():
            self.write_cells(study, cells)

    def write_cells(self, study: Study, cells: Sequence[Cell]) -> None:
        """Write `cells.json`, which everybody who reads results begins with."""
        axes: dict[str, list[str]] = {}
        for cell in cells:
            for axis, label in cell.values.items():
                known = axes.setdefault(axis, [])
                if label not in known:
                    known.append(label)
        content = {
            "schema_version": SCHEMA_VERSION,
            "name": study.name,
            "metric": study.metric,
            "positive": study.positive,
            "axes": axes,
            "cells": [{**cell.to_dict(), "recipe_sha256": recipe_hash(cell)} for cell in cells],
        }
        path = self.path / "cells.json"
        if not path.exists() or files.read_json(path) != content:
            files.write_json(path, content)

    def add_cell(self, study: Study, cell: Cell) -> None:
        """Add a training to `cells.json`, or leave it there: a search's are known one after another."""
        path = self.path / "cells.json"
        if not path.exists():
            self.write_cells(study, [])
        content = files.read_json(path)
        if all(row["name"] != cell.name for row in content["cells"]):
            content["cells"].append({**cell.to_dict(), "recipe_sha256": recipe_hash(cell)})
            for axis, label in cell.values.items():
                known = content["axes"].setdefault(axis, [])
                if label not in known:
                    known.append(label)
            files.write_json(path, content)

    def cells(self) -> list[dict[str, Any]]:
        """Read the trainings as `cells.json` has them; none where the study was not begun."""
        path = self.path / "cells.json"
        return files.read_json(path)["cells"] if path.exists() else []

    def state(self, name: str) -> State:
        """Say how far a training is; one that is being trained, here or elsewhere, is still waiting."""
        status = self.run(name) / "run.json"
        if status.exists():
            known = files.read_json(status).get("status")
            if known == "finished" and (self.run(name) / "predictions" / "validation.parquet").exists():
                return "finished"
            if known == "pruned":
                return "pruned"
        return "failed" if self.failure(name).exists() else "waiting"

    def failure(self, name: str) -> Path:
        """Return the file that says why a training failed."""
        return self.path / "failures" / f"{name}.json"

    def record_failure(self, name: str, kind: str, error: str, traceback: str) -> None:
        """Note that a training failed, so that the study goes on without it."""
        path = self.failure(name)
        attempts = files.read_json(path)["attempts"] if path.exists() else 0
        files.write_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "kind": kind,
                "error": error,
                "traceback": traceback,
                "attempts": attempts + 1,
            },
        )

    def forget_failures(self) -> int:
        """Let failed trainings be tried again; returns how many there are."""
        failures = sorted((self.path / "failures").glob("*.json"))
        for path in failures:
            path.unlink()
        return len(failures)

    def claim(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Hold the right to work at something; yields False where another process has it."""
        return files.claimed(self.path / "claims" / f"{name}.lock")

    @contextlib.contextmanager
    def timed(self) -> Iterator[Callable[[], None]]:
        """Add the time of the block to what the study took, in `progress.json`.

        Yields
        ------
        callable
            Called now and then, so that a kill loses only seconds of the account.
        """
        path = self.path / "progress.json"
        before = files.read_json(path)["seconds"] if path.exists() else 0.0
        begun = written = time.monotonic()

        def write() -> None:
            seconds = round(before + time.monotonic() - begun, 2)
            files.write_json(path, {"schema_version": SCHEMA_VERSION, "seconds": seconds})

        def tick() -> None:
            nonlocal written
            if time.monotonic() - written >= SECONDS_BETWEEN_ACCOUNTS:
                written = time.monotonic()
                write()

        try:
            yield tick
        finally:
            write()


def recipe_hash(cell: Cell) -> str:
    """Return the hash of what a training's recipe says; a field that a later release adds does not change it."""
    return files.sha256_json(cell.recipe.model_dump(mode="json", exclude_defaults=True))
