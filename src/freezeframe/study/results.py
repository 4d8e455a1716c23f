"""What a study has found so far: its folder, read into plain data.

Cells may be finished, failed, given up, begun or still waiting; whatever is there is read, and nothing that is
missing is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import softmax

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.evaluation import metrics

SCHEMA_VERSION = 1
SPLITS = ("validation", "test")
Status = Literal["finished", "failed", "pruned", "begun", "waiting"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model says of the labelled images of one split, in the order of the images' names.

    Attributes
    ----------
    images, patients : ndarray of str (N,)
        An image without a patient is a patient of its own, with the image's name.
    labels : ndarray of int64 (N,)
        Index of each image's class.
    probabilities : ndarray of float64 (N, C)
        In the order of the study's classes.
    """

    images: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def among(self, images: np.ndarray) -> "Predictions":
        """Keep only these images."""
        kept = np.isin(self.images, images)
        return Predictions(
            self.images[kept], self.patients[kept], self.labels[kept], self.probabilities[kept]
        )


@dataclass(frozen=True, eq=False)
class Cell:
    """One training of a study.

    Attributes
    ----------
    name : str
        Of its run's folder.
    setting : str
        The name without seed and fold: what its repeats share.
    values : dict of str to str
        Its label on each axis.
    seed : int
    fold : int or None
        The fold that is the test split; None without cross-validation.
    folder : Path
        Of its run, which may not exist yet.
    status : str
        'finished', 'failed', 'pruned' (a search gave it up), 'begun' (trained in part) or 'waiting'.
    run : dict
        Its ``run.json``; empty where there is none.
    failure : dict
        ``error``, ``kind`` and ``attempts`` of a cell that failed.
    curves : DataFrame
        Its ``metrics.csv``, one row an epoch; may be empty.
    predictions : dict of str to Predictions
        Of the splits 'validation' and 'test', of a finished cell.
    scores : dict of str to dict
        All metrics of `freezeframe.evaluation.metrics.score` on these splits; NaN where undefined.
    """

    name: str
    setting: str
    values: Mapping[str, str]
    seed: int
    fold: int | None
    folder: Path
    status: Status = "waiting"
    run: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, Any] = field(default_factory=dict)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def recipe(self) -> dict[str, Any]:
        """Read the recipe that its run was trained with, as plain data; empty where there is none."""
        return _read_recipe(self.folder)


@dataclass(frozen=True, eq=False)
class Extra:
    """A baseline or an ensemble beside the cells.

    Attributes
    ----------
    name : str
        Of its folder.
    folder : Path
    kind : str
        'baseline' or 'ensemble'.
    details : dict
        Its ``run.json`` or ``ensemble.json``.
    predictions, scores : dict
        As those of a cell.
    """

    name: str
    folder: Path
    kind: Literal["baseline", "ensemble"]
    details: Mapping[str, Any]
    predictions: Mapping[str, Predictions]
    scores: Mapping[str, Mapping[str, float]]

    @property
    def fold(self) -> int | None:
        """The fold that is its test split; None without cross-validation."""
        return self.details.get("fold")

    def recipe(self) -> dict[str, Any]:
        """Read the recipe that it was fitted with, as plain data; empty where there is none."""
        return _read_recipe(self.folder)


@dataclass(frozen=True, eq=False)
class Results:
    """All that a study's folder tells.

    Attributes
    ----------
    folder : Path
        Of the study.
    name : str
    metric : str
        That settings are chosen by.
    classes : tuple of str
        In the order of the first finished cell's network; empty where none is finished.
    positive : int
        Index of the positive class.
    axes : dict of str to tuple of str
        The labels of each axis, in order.
    cells : tuple of Cell
        In the study's order.
    extras : tuple of Extra
        Baselines, then ensembles.
    plan, progress : dict
        ``plan.json`` and ``progress.json``; empty where missing.
    specification : dict
        ``study.yaml``; empty where missing.
    """

    folder: Path
    name: str
    metric: str
    classes: tuple[str, ...]
    positive: int
    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Cell, ...]
    extras: tuple[Extra, ...]
    plan: Mapping[str, Any]
    progress: Mapping[str, Any]
    specification: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of each setting, in the study's order."""
        grouped: dict[str, list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault(cell.setting, []).append(cell)
        return {name: tuple(cells) for name, cells in grouped.items()}

    @property
    def finished(self) -> tuple[Cell, ...]:
        """The cells that have results."""
        return tuple(cell for cell in self.cells if cell.status == "finished")

    def table(self) -> pd.DataFrame:
        """Return a row a cell, for programs: axes, seed, fold, status, scores and costs.

        Returns
        -------
        DataFrame
            ``cell``, ``setting``, one column an axis, ``seed``, ``fold``, ``status``, ``validation_<metric>`` and
            ``test_<metric>`` for each of `freezeframe.evaluation.metrics.OVERALL`, ``trainable_parameters``,
            ``total_parameters``, ``store_seconds``, ``training_seconds``, ``total_seconds``,
            ``peak_memory_bytes``. Empty cells where a value does not exist.
        """
        return pd.DataFrame([self._row(cell) for cell in self.cells])

    def _row(self, cell: Cell) -> dict[str, Any]:
        row: dict[str, Any] = {"cell": cell.name, "setting": cell.setting}
        row |= {axis: cell.values.get(axis) for axis in self.axes}
        row |= {"seed": cell.seed, "fold": cell.fold, "status": cell.status}
        for split in SPLITS:
            scores = cell.scores.get(split, {})
            row |= {f"{split}_{name}": scores.get(name, np.nan) for name in metrics.OVERALL}
        parameters, seconds = cell.run.get("parameters") or {}, cell.run.get("seconds") or {}
        row |= {f"{kind}_parameters": parameters.get(kind) for kind in ("trainable", "total")}
        row |= {f"{stage}_seconds": seconds.get(stage) for stage in ("store", "training", "total")}
        return row | {"peak_memory_bytes": cell.run.get("peak_memory_bytes")}


def read(folder: str | Path) -> Results:
    """Read a study's folder.

    Raises
    ------
    UserError
        If it is no study, or its list of cells is of another version or broken.
    """
    folder = Path(folder)
    if not (folder / "cells.json").is_file():
        raise UserError(
            f"{folder} holds no cells.json.",
            "the folder of a study.",
            "Make one with `freezeframe study run STUDY.yaml --out DIR`.",
        )
    content = files.read_json(folder / "cells.json")
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{folder / 'cells.json'} is of another version of freezeframe.",
            f"schema_version {SCHEMA_VERSION}.",
            "Run the study again with this version.",
        )
    try:
        planned = [
            Cell(
                one["name"],
                one["setting"],
                one["values"],
                int(one["seed"]),
                one["fold"],
                folder / "runs" / one["name"],
            )
            for one in content["cells"]
        ]
        axes = {axis: tuple(map(str, labels)) for axis, labels in content["axes"].items()}
        name, metric = str(content["name"]), str(content["metric"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / 'cells.json'} can't be read ({error!r}).",
            "the list of cells as `freezeframe study run` writes it.",
            "Run the study again.",
        ) from error
    runs = {cell.name: _optional(cell.folder / "run.json") for cell in planned}
    done = [cell.name for cell in planned if runs[cell.name].get("status") == "finished"]
    classes = tuple(runs[done[0]].get("classes", ())) if done else ()
    asked = content.get("positive")
    positive = classes.index(asked) if asked in classes else max(len(classes) - 1, 0)
    specification = folder / "study.yaml"
    return Results(
        folder=folder,
        name=name,
        metric=metric,
        classes=classes,
        positive=positive,
        axes=axes,
        cells=tuple(_cell(cell, runs[cell.name], folder, classes, positive) for cell in planned),
        extras=_extras(folder, classes, positive),
        plan=_optional(folder / "plan.json"),
        progress=_optional(folder / "progress.json"),
        specification=(files.read_yaml(specification) or {}) if specification.is_file() else {},
    )


def _cell(planned: Cell, run: dict[str, Any], study: Path, classes: tuple[str, ...], positive: int) -> Cell:
    known = (planned.name, planned.setting, planned.values, planned.seed, planned.fold, planned.folder)
    failure = _optional(study / "failures" / f"{planned.name}.json")
    curves = _curves(planned.folder / "metrics.csv")
    if run.get("status") != "finished":
        status: Status = "failed" if failure else "begun" if run else "waiting"
        if run.get("status") == "pruned":
            status = "pruned"
        return Cell(*known, status, run, failure, curves)
    try:
        predictions = read_predictions(planned.folder, classes)
    except (OSError, ValueError, KeyError) as error:
        # A run that lost its predictions is a row of the report, not the end of it.
        failure = {"error": f"Its predictions can't be read: {error}", "kind": type(error).__name__}
        return Cell(*known, "failed", run, failure, curves)
    scores = {split: _scores(one, classes, positive) for split, one in predictions.items()}
    return Cell(*known, "finished", run, {}, curves, predictions, scores)


def read_predictions(folder: Path, classes: tuple[str, ...]) -> dict[str, Predictions]:
    """Read a run's or an ensemble's answers to the labelled validation and test images.

    Parameters
    ----------
    folder : Path
        With ``predictions/<split>.parquet``, whose columns are ``logit_<class>`` or ``probability_<class>``.
    classes : tuple of str
        Order of the probabilities.
    """
    found = {}
    for split in SPLITS:
        path = folder / "predictions" / f"{split}.parquet"
        if not path.is_file():
            continue
        table = pd.read_parquet(path)
        label = pd.Categorical(table["label"], categories=list(classes)).codes
        if f"logit_{classes[0]}" in table:
            probabilities = softmax(
                table[[f"logit_{one}" for one in classes]].to_numpy(dtype=np.float64), axis=1
            )
        else:
            probabilities = table[[f"probability_{one}" for one in classes]].to_numpy(dtype=np.float64)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"{path.name} holds logits that are no finite numbers")
        images = table["image"].to_numpy(dtype=str)
        patients = table["patient"].fillna("").to_numpy(dtype=str)
        order = np.argsort(images, kind="stable")
        order = order[label[order] >= 0]
        found[split] = Predictions(
            images[order],
            np.where(patients == "", images, patients)[order],
            label[order].astype(np.int64),
            probabilities[order],
        )
    return found


def _extras(study: Path, classes: tuple[str, ...], positive: int) -> tuple[Extra, ...]:
    if not classes:
        return ()
    found = []
    kinds: tuple[tuple[str, str, Literal["baseline", "ensemble"]], ...] = (
        ("baselines", "run.json", "baseline"),
        ("ensembles", "ensemble.json", "ensemble"),
    )
    for place, description, kind in kinds:
        for path in sorted((study / place).glob(f"*/{description}")):
            details = files.read_json(path)
            if kind == "baseline" and details.get("status") != "finished":
                continue
            try:
                predictions = read_predictions(path.parent, classes)
            except (OSError, ValueError, KeyError):
                continue
            scores = {split: _scores(one, classes, positive) for split, one in predictions.items()}
            found.append(Extra(path.parent.name, path.parent, kind, details, predictions, scores))
    return tuple(found)


def _scores(predictions: Predictions, classes: tuple[str, ...], positive: int) -> dict[str, float]:
    if not len(predictions.labels):
        return {}
    values = metrics.score(predictions.labels, predictions.probabilities, classes, positive)
    return {name: float(value[0]) for name, value in values.items()}


def _optional(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.is_file() else {}


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.yaml"
    return files.read_yaml(path) if path.is_file() else {}


def _curves(path: Path) -> pd.DataFrame:
    if not path.is_file() or not path.stat().st_size:
        return pd.DataFrame()
    return pd.read_csv(path)
