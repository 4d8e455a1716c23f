"""Runs and ensembles as folders: read, check that they belong together, write."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.ensemble.rules import RULES, Rule, combine
from freezeframe.errors import UserError

SCHEMA_VERSION = 1
ENSEMBLE = "ensemble"
"""Name of the whole among the models."""
IMAGE_COLUMNS = ["image", "patient", "label", "site"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    name : str
        Of its folder, unique in an ensemble.
    folder : Path
        Absolute.
    classes : tuple of str
        In the order of the network's outputs.
    weights_sha256 : str
        Hash of the trained weights' file.
    details : dict
        The content of ``run.json``.
    manifest : Manifest
        All images, with their splits.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    weights_sha256: str
    details: dict[str, Any]
    manifest: Manifest


@dataclass(frozen=True, eq=False)
class Answers:
    """What all members say of the same images.

    Attributes
    ----------
    images : DataFrame (N rows)
        ``image``, ``patient``, ``label`` ('' where unknown) and ``site``.
    logits : ndarray of float64 (M, N, C)
        In the order of the members and of the ensemble's classes.
    left_out : int
        Images that only some of the members have an answer to.
    """

    images: pd.DataFrame
    logits: np.ndarray
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Runs and the rule that combines them; a single run is an ensemble of one.

    Attributes
    ----------
    folder : Path
        Of the ensemble, or of the single run.
    members : tuple of Run
        In order.
    classes : tuple of str
        In the order of the first member.
    rule : str
        See `freezeframe.ensemble.rules.combine`.
    weights : dict of str to float
        For each member; equal where the rule does not use them.
    operating_point : dict or None
        As the evaluation chose it on validation images.
    temperature : float or None
        That would calibrate the probabilities best on validation images.
    """

    folder: Path
    members: tuple[Run, ...]
    classes: tuple[str, ...]
    rule: Rule
    weights: dict[str, float]
    operating_point: dict[str, Any] | None = None
    temperature: float | None = None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Combine the members' logits (M, N, C) into probabilities (N, C)."""
        return combine(logits, self.rule, np.array([self.weights[member.name] for member in self.members]))

    def answers(self, split: str) -> Answers:
        """Read the members' stored answers to the images of one split."""
        return join([_read_predictions(member, split) for member in self.members], self.members, self.classes)


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read the folder of a finished run.

    Raises
    ------
    UserError
        If it is no run, is not finished, or its weights are gone.
    """
    folder = Path(folder).absolute()
    if not (folder / "run.json").is_file():
        raise UserError(
            f"{folder} holds no run.json.",
            "the folder of a run.",
            "Make one with `freezeframe train RECIPE --out DIR`.",
        )
    details = files.read_json(folder / "run.json")
    if details.get("status") != "finished":
        raise UserError(
            f"The run {folder} is {details.get('status', 'of unknown status')}.",
            "a finished run.",
            "Start its `freezeframe train` line again; it continues where it stopped.",
        )
    weights = folder / "checkpoints" / "best.safetensors"
    if not weights.is_file():
        raise UserError(f"The run {folder} has lost its weights {weights.name}.", action="Train it again.")
    return Run(
        name or unique_names([folder.resolve().name])[0],
        folder,
        tuple(details["classes"]),
        files.sha256_file(weights),
        details,
        Manifest.read(folder / "manifest.parquet"),
    )


def read_members(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Read runs that are to be combined, give them unique names and check that they belong together.

    Raises
    ------
    UserError
        If a run is given twice, their classes differ, or an image or patient that one was trained or chosen
        with is among the test images of another.
    """
    places = [Path(folder).resolve() for folder in folders]
    twice = sorted({str(place) for place in places if places.count(place) > 1})
    if twice:
        raise UserError(f"The run {twice[0]} is given twice.", "each run once.", "Leave one out.")
    names = unique_names([place.name for place in places])
    members = tuple(read_run(Path(folder), name) for folder, name in zip(folders, names, strict=True))
    for member in members[1:]:
        if set(member.classes) != set(members[0].classes):
            raise UserError(
                f"The classes of {members[0].name} are {', '.join(members[0].classes)}, those of {member.name} "
                f"{', '.join(member.classes)}.",
                "the same classes in all runs.",
                "Train them with the same `classes`.",
            )
    for used in members:
        for held_out in members:
            if used is not held_out:
                check_splits(used.name, used.manifest, held_out.name, held_out.manifest)
    return members


def check_splits(used: str, seen_by: Manifest, held_out: str, judged_on: Manifest) -> None:
    """Refuse that what one run learned from or was chosen with judges another.

    Parameters
    ----------
    used, held_out : str
        Names of the two, for the message.
    seen_by, judged_on : Manifest
        Their images with their splits.

    Raises
    ------
    UserError
        If training or validation images (or patients) of the one are in a later split of the other.
    """
    # Each split is chosen from what comes before it: weights on train, the best epoch and the rule on
    # validation.
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        seen, unseen = seen_by.subset(earlier), judged_on.subset(later)
        known = set(seen.keys())
        images = [
            image for image, key in zip(unseen.table["image"], unseen.keys(), strict=True) if key in known
        ]
        patients = sorted(set(seen.table["patient"]) & set(unseen.table["patient"]) - {""})
        for kind, shared in (("images", images), ("patients", patients)):
            if shared:
                shown = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
                raise UserError(
                    f"{len(shared):,} {later} {kind} of {held_out} are {earlier} {kind} of {used}: {shown}.",
                    "runs with the same split, or what they make would be judged on what it was trained with.",
                    "Train them with the same data, `split` and `split: {seed: ...}`.",
                )


def read_ensemble(folder: Path) -> Ensemble:
    """Read the folder of an ensemble, or of a single run as an ensemble of one.

    Raises
    ------
    UserError
        If it is neither, a member is gone, or a member was trained further since.
    """
    folder = Path(folder).absolute()
    if not (folder / "ensemble.json").is_file():
        if not (folder / "run.json").is_file():
            raise UserError(
                f"{folder} holds neither ensemble.json nor run.json.",
                "the folder of an ensemble or of a run.",
                "Make one with `freezeframe ensemble` or `freezeframe train`.",
            )
        run = read_run(folder)
        return Ensemble(folder, (run,), run.classes, "mean", {run.name: 1.0})
    content = files.read_json(folder / "ensemble.json")
    if content.get("schema_version") != SCHEMA_VERSION or content.get("rule") not in RULES:
        raise UserError(
            f"{folder / 'ensemble.json'} has version {content.get('schema_version')} and rule {content.get('rule')!r}.",
            f"version {SCHEMA_VERSION} and one of {', '.join(RULES)}.",
            "Make the ensemble again with `freezeframe ensemble`.",
        )
    members = []
    for name, place in content["members"].items():
        member = read_run(Path(os.path.normpath(folder / place["path"])), name)
        if member.weights_sha256 != place["weights_sha256"]:
            raise UserError(
                f"The run {member.folder} has other weights than when the ensemble {folder} was made.",
                action="Make the ensemble again with `freezeframe ensemble`.",
            )
        members.append(member)
    return Ensemble(
        folder,
        tuple(members),
        tuple(content["classes"]),
        content["rule"],
        content["weights"],
        content["operating_point"],
        content["temperature"],
    )


def write_ensemble(ensemble: Ensemble, validation: dict[str, Any], score: str | None) -> None:
    """Write ``ensemble.json`` and the combined predictions of each split.

    Parameters
    ----------
    ensemble : Ensemble
        Its folder is made.
    validation : dict
        What was chosen with, and how the members did: plain data.
    score : str or None
        That the weights were made from.
    """
    for split in ("train", "validation", "test"):
        # A data set may lack a split, and training leaves out the prediction of train images where it is
        # not asked for.
        if all(_predictions_path(member, split).is_file() for member in ensemble.members):
            answers = ensemble.answers(split)
            table = answers.images.copy()
            for label, values in zip(ensemble.classes, ensemble.probabilities(answers.logits).T, strict=True):
                table[f"probability_{label}"] = values
            with files.atomic(ensemble.folder / "predictions" / f"{split}.parquet") as temporary:
                table.to_parquet(temporary, index=False)
    files.write_json(
        ensemble.folder / "ensemble.json",
        {
            "schema_version": SCHEMA_VERSION,
            "rule": ensemble.rule,
            "score": score,
            "weights": ensemble.weights,
            "members": {
                member.name: {
                    "path": place(member.folder, ensemble.folder),
                    "weights_sha256": member.weights_sha256,
                    "backbone": member.details.get("backbone"),
                }
                for member in ensemble.members
            },
            "classes": list(ensemble.classes),
            "operating_point": ensemble.operating_point,
            "temperature": ensemble.temperature,
            "validation": validation,
        },
    )


def place(member: Path, folder: Path) -> str:
    """Write where a run is: relative to the folder where it lies beside it, so that both can be moved together."""
    return os.path.relpath(member, folder) if member.is_relative_to(folder.parent) else str(member)


def join(tables: Sequence[pd.DataFrame], members: Sequence[Run], classes: tuple[str, ...]) -> Answers:
    """Line up the members' predictions by image.

    Parameters
    ----------
    tables : sequence of DataFrame
        One for each member: ``image``, ``patient``, ``label``, ``site`` and ``logit_<class>`` columns.
    members : sequence of Run
        In the same order.
    classes : tuple of str
        Order of the classes in the answer.

    Raises
    ------
    UserError
        If the members share no image, or disagree about a label.
    """
    indexed = [table.set_index("image") for table in tables]
    shared = indexed[0].index
    for table in indexed[1:]:
        shared = shared[shared.isin(table.index)]
    union = set().union(*(table.index for table in indexed))
    if union and shared.empty:
        raise UserError(
            f"{', '.join(member.name for member in members)} have no image in common.",
            "runs on the same images.",
            "Train them with the same `data` and `split`.",
        )
    aligned = [table.loc[shared] for table in indexed]
    for member, table in zip(members[1:], aligned[1:], strict=True):
        differing = shared[(table["label"] != aligned[0]["label"]).to_numpy()]
        if len(differing):
            raise UserError(
                f"{members[0].name} and {member.name} have different labels for {len(differing):,} images, "
                f"such as {differing[0]}.",
                "runs with the same labels.",
                "Train them with the same `data`.",
            )
    columns = [f"logit_{label}" for label in classes]
    logits = np.stack([table[columns].to_numpy(dtype=np.float64) for table in aligned])
    bad = [str(shared[row]) for row in np.flatnonzero(~np.isfinite(logits).all(axis=(0, 2)))]
    if bad:
        raise UserError(
            f"Logits that are not finite numbers for {len(bad):,} images, such as {bad[0]}.",
            action="Train the run again with a smaller learning rate.",
        )
    return Answers(aligned[0].reset_index()[IMAGE_COLUMNS], logits, len(union) - len(shared))


def _predictions_path(run: Run, split: str) -> Path:
    return run.folder / "predictions" / f"{split}.parquet"


def _read_predictions(run: Run, split: str) -> pd.DataFrame:
    path = _predictions_path(run, split)
    if not path.is_file():
        found = sorted(file.stem for file in path.parent.glob("*.parquet"))
        raise UserError(
            f"The run {run.name} has no predictions of the split '{split}'.",
            f"one of {', '.join(found)}." if found else "predictions/<split>.parquet in its folder.",
            "Take another --split, or train the run again.",
        )
    return pd.read_parquet(path)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Tell equal names apart by a number; 'ensemble' is taken already, by the whole.

    Examples
    --------
    >>> unique_names(["a", "b", "a", "ensemble"])
    ('a', 'b', 'a-2', 'ensemble-2')
    """
    chosen: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in (ENSEMBLE, *chosen) or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name}-{number}"
        chosen.append(candidate)
    return tuple(chosen)
