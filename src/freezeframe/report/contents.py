"""What a report is made from: an evaluation folder and the runs that it names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError


@dataclass(frozen=True, eq=False)
class Member:
    """A run of the ensemble, as its folder tells it.

    Attributes
    ----------
    name : str
        In the ensemble.
    folder : Path
        Of the run.
    run, recipe, environment : dict
        Its ``run.json``, ``recipe.yaml`` and ``environment.json``; empty where the folder is gone.
    curves : DataFrame
        Its ``metrics.csv``, one row an epoch; empty where there is none.
    weight : float
        In the ensemble's rule; the weights sum to 1.
    """

    name: str
    folder: Path
    run: dict[str, Any]
    recipe: dict[str, Any]
    environment: dict[str, Any]
    curves: pd.DataFrame
    weight: float


@dataclass(frozen=True, eq=False)
class Contents:
    """An evaluation: its figures, its predictions, its members and their data set.

    Attributes
    ----------
    metrics : dict
        ``metrics.json``.
    details : dict
        ``evaluation.json``.
    predictions : DataFrame
        ``predictions.parquet``, the rows with a label.
    classes : tuple of str
        In the order of the networks' outputs.
    positive : int
        Index of the positive class of two.
    members : tuple of Member
        In the ensemble's order.
    manifest : Manifest or None
        Of the data set that the members were trained from, where a run still has it.
    evaluated : Manifest or None
        Of the evaluated images.
    root : Path or None
        Folder that the images' names start from.
    """

    metrics: dict[str, Any]
    details: dict[str, Any]
    predictions: pd.DataFrame
    classes: tuple[str, ...]
    positive: int
    members: tuple[Member, ...]
    manifest: Manifest | None
    evaluated: Manifest | None
    root: Path | None

    @property
    def labels(self) -> np.ndarray:
        """Index of each image's true class, int64 (N,)."""
        index = {label: number for number, label in enumerate(self.classes)}
        return np.array([index[label] for label in self.predictions["label"]], dtype=np.int64)

    @property
    def predicted(self) -> np.ndarray:
        """Index of each image's most probable class, int64 (N,)."""
        return self.probabilities().argmax(axis=1)

    @property
    def threshold(self) -> float | None:
        """Threshold of the operating point on the positive class's probability; None with more classes."""
        point = self.metrics.get("operating_point") or {}
        threshold = point.get("threshold")
        return float(threshold) if isinstance(threshold, int | float) and len(self.classes) == 2 else None

    def probabilities(self, member: str | None = None) -> np.ndarray:
        """Return the probabilities of a member, or of the ensemble, float64 (N, C)."""
        prefix = "" if member is None else f"{member}_"
        columns = [f"{prefix}probability_{label}" for label in self.classes]
        return self.predictions[columns].to_numpy(dtype=np.float64)


def read(folder: Path) -> Contents:
    """Read an evaluation folder and what is left of its runs.

    Raises
    ------
    UserError
        If the folder is no evaluation; a run that was moved or deleted is no error, its part is left out.
    """
    folder = Path(folder)
    missing = [
        name
        for name in ("metrics.json", "evaluation.json", "predictions.parquet")
        if not (folder / name).is_file()
    ]
    if missing:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}.",
            "a folder made by `freezeframe evaluate`.",
            f"Run `freezeframe evaluate RUN_OR_ENSEMBLE --out {folder}` first.",
        )
    metrics, details = files.read_json(folder / "metrics.json"), files.read_json(folder / "evaluation.json")
    try:
        predictions = pd.read_parquet(folder / "predictions.parquet")
        classes = tuple(metrics["classes"])
        positive_class = metrics.get("positive_class")
        members = _members(folder, metrics, details)
        labelled = predictions.query("label in @classes").reset_index(drop=True)
        for prefix in ("", *(f"{member.name}_" for member in members)):
            labelled[[f"{prefix}probability_{label}" for label in classes]]
    except (KeyError, OSError, ValueError) as error:
        raise UserError(
            f"The evaluation in {folder} can't be read ({error}).",
            "metrics.json and predictions.parquet as `freezeframe evaluate` writes them.",
            "Evaluate again with this version of freezeframe.",
        ) from error
    if labelled.empty:
        raise UserError(
            f"The evaluation in {folder} has no labelled image.", "at least one.", "Evaluate labelled data."
        )
    manifest = _manifest(member.folder for member in members)
    evaluated = _manifest([folder])
    root = details.get("root")
    return Contents(
        metrics=metrics,
        details=details,
        predictions=labelled,
        classes=classes,
        positive=classes.index(positive_class) if positive_class in classes else len(classes) - 1,
        members=members,
        manifest=manifest,
        evaluated=evaluated,
        root=Path(root) if root else (manifest.root if manifest else None),
    )


def _members(folder: Path, metrics: Mapping[str, Any], details: Mapping[str, Any]) -> tuple[Member, ...]:
    weights = details.get("weights") or {}
    total = sum(weights.values()) or 1
    members = []
    for name in metrics["members"]:
        path = Path(details["runs"][name])
        path = path if path.is_absolute() else folder / path
        curves = path / "metrics.csv"
        members.append(
            Member(
                name,
                path,
                _optional(path / "run.json", files.read_json),
                _optional(path / "recipe.yaml", files.read_yaml),
                _optional(path / "environment.json", files.read_json),
                pd.read_csv(curves) if curves.is_file() and curves.stat().st_size else pd.DataFrame(),
                weights.get(name, 1) / total if weights else 1 / len(metrics["members"]),
            )
        )
    return tuple(members)


def _optional(path: Path, reader: Any) -> dict[str, Any]:
    return reader(path) if path.is_file() else {}


def _manifest(folders: Iterable[Path]) -> Manifest | None:
    for folder in folders:
        path = folder / "manifest.parquet"
        if path.is_file():
            return Manifest.read(path)
    return None
