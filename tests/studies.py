"""Makers of study folders with synthetic logits, for the tests of what comes after a study's trainings."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factories import CLASSES, make_manifest, make_run
from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.recipe import Recipe
from freezeframe.seeds import generator

AXES = {
    "backbone": ("lite0", "lite1"),
    "unfreeze": ("head", "layers 2", "layers 4"),
    "augment": ("none", "flip"),
}
# How far a label puts the true class's logit ahead, in standard deviations of the noise, and how much trains.
GAIN = {"lite1": 0.3, "layers 2": 0.5, "layers 4": 0.6, "flip": 0.25, "weights": 0.1, "focal": 0.05}
TRAINABLE = {"head": 2_562, "layers 2": 412_000, "layers 4": 840_000}


def cell_name(values: Mapping[str, str]) -> str:
    return "-".join(value.replace(" ", "-") for value in values.values())


def correlated_logits(labels: np.ndarray, classes: int, skill: float, seed: int) -> np.ndarray:
    """Draw logits (N, C) of a model that shares most of its mistakes with others on the same images."""
    shared = generator(0, "difficulty").normal(0, 1, (len(labels), classes))
    own = generator(seed, "own").normal(0, 0.45, (len(labels), classes))
    logits = shared + own
    logits[np.arange(len(labels)), labels] += skill
    return logits.astype(np.float32)


def write_predictions(folder: Path, manifest: Manifest, skill: float, seed: int) -> None:
    """Write ``predictions/{validation,test}.parquet`` of a model into a folder."""
    logits = correlated_logits(manifest.labels(), len(manifest.classes), skill, seed)
    for split in ("validation", "test"):
        chosen = (manifest.table["split"] == split).to_numpy()
        table = manifest.table.loc[chosen, ["image", "patient", "label", "site"]].reset_index(drop=True)
        for index, label in enumerate(manifest.classes):
            table[f"logit_{label}"] = logits[chosen, index]
        path = folder / "predictions" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)


def in_fold(manifest: Manifest, fold: int, folds: int) -> Manifest:
    """Make the images of one fold the test split, by patient."""
    number = manifest.table["patient"].astype("category").cat.codes.to_numpy()
    turn = number // len(manifest.classes)  # the classes take turns, and each fold has all of them
    split = np.where(turn % folds == fold, "test", np.where(turn % 5 == 4, "validation", "train"))
    return Manifest(manifest.table.assign(split=split), manifest.root, manifest.classes, manifest.notes)


def make_study(
    folder: Path,
    axes: Mapping[str, Sequence[str]] = AXES,
    seeds: Sequence[int] = (0,),
    *,
    n: int = 160,
    classes: tuple[str, ...] = CLASSES,
    images_per_patient: int = 1,
    folds: int | None = None,
    failed: Sequence[str] = (),
    waiting: Sequence[str] = (),
    extras: bool = True,
    metric: str = "roc_auc",
    manifest: Manifest | None = None,
) -> Path:
    """Make the folder of a study over all combinations of the axes' labels, and return it.

    `failed` and `waiting` name cells (``lite0-head-none-seed0``) without a finished run.
    """
    manifest = manifest or make_manifest(folder, n, classes, images_per_patient)
    cells = []
    for number, labels in enumerate(itertools.product(*axes.values())):
        values = dict(zip(axes, labels, strict=True))
        setting = cell_name(values)
        for seed, fold in itertools.product(seeds, range(folds) if folds else [None]):
            name = f"{setting}-seed{seed}" + ("" if fold is None else f"-fold{fold}")
            cells.append({"name": name, "setting": setting, "values": values, "seed": seed, "fold": fold})
            if name in failed:
                failure = {"error": "The loss is not a number.", "kind": "NotFinite", "attempts": 2}
                files.write_json(folder / "failures" / f"{name}.json", {**failure, "traceback": "..."})
            elif name not in waiting:
                own = manifest if fold is None else in_fold(manifest, fold, folds or 2)
                _make_cell(folder / "runs", name, values, seed, 1000 * number + seed, own)
    described = {
        "schema_version": 1,
        "name": folder.name,
        "metric": metric,
        "positive": None,
        "axes": {axis: list(labels) for axis, labels in axes.items()},
        "cells": cells,
    }
    files.write_json(folder / "cells.json", described)
    files.write_yaml(folder / "study.yaml", {"name": folder.name, "axes": described["axes"]})
    plan = {"trainings": len(cells), "seconds": 80.0, "naive_seconds": 1900.0}
    files.write_json(folder / "plan.json", {**plan, "store_bytes": 2.4e8, "prefix_images": 960})
    files.write_json(folder / "progress.json", {"seconds": 95.0})
    for fold in (range(folds) if folds else [None]) if extras else ():
        _make_baselines(
            folder / "baselines", manifest if fold is None else in_fold(manifest, fold, folds or 2), fold
        )
    return folder


def _make_cell(
    runs: Path, name: str, values: Mapping[str, str], seed: int, number: int, manifest: Manifest
) -> None:
    skill = 0.8 + sum(GAIN.get(label, 0.0) for label in values.values())
    run = make_run(runs, name, number, manifest=manifest, backbone="efficientnet-lite0")
    write_predictions(run, manifest, skill, number)
    recipe: dict[str, Any] = {"data": str(manifest.root), "backbone": "efficientnet-lite0", "seed": seed}
    if "unfreeze" in values:
        kind, _, count = values["unfreeze"].partition(" ")
        recipe["unfreeze"] = {kind: int(count)} if count else kind
    Recipe.parse(recipe).write(run / "recipe.yaml")
    trainable = TRAINABLE.get(values.get("unfreeze", ""), 412_000)
    files.write_json(
        run / "run.json",
        files.read_json(run / "run.json")
        | {
            "parameters": {"total": 3_400_000, "trainable": trainable},
            "seconds": {"store": 1.5, "training": 2.0 + trainable / 200_000, "total": 6.0},
            "peak_memory_bytes": int(7e8 + 200 * trainable),
        },
    )
    epochs = np.arange(1, 9)
    curve = 1 - 0.4 * np.exp(-epochs * skill / 3)
    pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": 0.7 * np.exp(-epochs * skill / 4),
            "validation_loss": 0.25 + 0.5 * np.exp(-epochs * skill / 3),
            "validation_accuracy": curve - 0.05,
            "validation_roc_auc": curve,
            "seconds": 0.3,
        }
    ).to_csv(run / "metrics.csv", index=False)


def _make_baselines(folder: Path, manifest: Manifest, fold: int | None) -> None:
    for name, method, components, skill in (
        ("lite0-probe", "linear probe", None, 0.7),
        ("lite0-pca", "PCA + logistic regression", 32, 0.75),
    ):
        own = folder / (name if fold is None else f"{name}-fold{fold}")
        write_predictions(own, manifest, skill, 77)
        described = {"status": "finished", "method": method, "backbone": "lite0", "components": components}
        files.write_json(
            own / "run.json",
            {**described, "fold": fold, "seconds": {"total": 0.8}, "parameters": {"trainable": 2_562}},
        )
        split = {"folds": 3, "fold": fold} if fold is not None else {}
        files.write_yaml(own / "recipe.yaml", {"backbone": "lite0", "split": split})
