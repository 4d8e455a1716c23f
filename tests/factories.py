"""Makers of valid run folders with synthetic logits, for the tests of all that comes after training."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import save_file

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.recipe import Recipe
from freezeframe.seeds import generator

CLASSES = ("normal", "pneumonia")
SPLITS = ("train", "validation", "test")


def make_manifest(
    folder: Path,
    n: int = 120,
    classes: tuple[str, ...] = CLASSES,
    images_per_patient: int = 1,
    data_seed: int = 0,
    images: bool = False,
) -> Manifest:
    """Make a manifest of `n` images: a half in train, a quarter each in validation and test, by patient.

    All images of a patient have one class; the classes take turns. With `images`, a small grey PNG is drawn
    for each row under ``folder/images/<class>/``; without, only the names and made-up hashes are there.
    """
    random = generator(data_seed, "images")
    patient_number = np.arange(n) // images_per_patient
    patients = patient_number.max() + 1
    turn = np.arange(patients) // len(classes) % 8
    split_of_patient = np.array(SPLITS)[np.digitize(turn, [4, 6])]
    root = folder / "images"
    rows = []
    for i in range(n):
        patient = int(patient_number[i])
        label = patient % len(classes)
        name = f"{classes[label]}/{data_seed}-{i:05d}.png"
        content = f"{data_seed}/{i}".encode()
        if images:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = 60 + 120 * label / max(len(classes) - 1, 1)
            Image.fromarray(np.clip(random.normal(shade, 30, (48, 40)), 0, 255).astype(np.uint8)).save(path)
            content = path.read_bytes()
        rows.append(
            {
                "image": name,
                "label": classes[label],
                "patient": f"{data_seed}-p{patient:05d}",
                "site": ("north", "south")[patient % 2],
                "split": split_of_patient[patient],
                "sha256": hashlib.sha256(content).hexdigest(),
                "frame": 0,
            }
        )
    return Manifest(pd.DataFrame(rows), root, tuple(classes), ("These images are made up for a test.",))


def synthetic_logits(labels: np.ndarray, classes: int, seed: int, skill: float) -> np.ndarray:
    """Draw logits (N, C) whose class of the label is `skill` standard deviations above the others."""
    random = generator(seed, "logits")
    logits = random.normal(0, 1, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    return logits.astype(np.float32)


def make_run(
    folder: Path,
    name: str,
    seed: int = 0,
    n: int = 120,
    classes: tuple[str, ...] = CLASSES,
    *,
    skill: float = 1.5,
    images_per_patient: int = 1,
    data_seed: int = 0,
    images: bool = False,
    backbone: str = "efficientnet-lite0",
    status: str = "finished",
    manifest: Manifest | None = None,
) -> Path:
    """Make the folder of a run that looks as training leaves it, and return its path ``folder/name``.

    Parameters
    ----------
    folder : Path
        Runs made in one folder with the same `data_seed`, `n` and `classes` share their images.
    name : str
        Of the run.
    seed : int
        Of the logits: runs with different seeds make different mistakes.
    n, classes, images_per_patient, data_seed, images
        See `make_manifest`.
    skill : float
        How far the true class's logit is above the others, in standard deviations; 0 is guessing.
    backbone, status : str
        Written into the recipe and run.json.
    manifest : Manifest, optional
        Used instead of a made one.
    """
    run = folder / name
    run.mkdir(parents=True)
    manifest = manifest or make_manifest(folder, n, classes, images_per_patient, data_seed, images)
    classes = manifest.classes
    manifest.write(run / "manifest.parquet")
    recipe = Recipe.parse(
        {
            "data": str(manifest.root),
            "backbone": backbone,
            "unfreeze": {"blocks": 1},
            "epochs": 3,
            "seed": seed,
        }
    )
    recipe.write(run / "recipe.yaml")
    files.write_json(
        run / "environment.json",
        {"schema_version": 1, "python": "3.11.0", "packages": {"numpy": np.__version__}},
    )

    labels = manifest.labels()
    logits = synthetic_logits(labels, len(classes), seed, skill)
    (run / "predictions").mkdir()
    for split in SPLITS:
        chosen = (manifest.table["split"] == split).to_numpy()
        table = manifest.table.loc[chosen, ["image", "patient", "label", "site"]].reset_index(drop=True)
        for index, label in enumerate(classes):
            table[f"logit_{label}"] = logits[chosen, index]
        table.to_parquet(run / "predictions" / f"{split}.parquet")

    epochs = np.arange(1, 4)
    pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": 0.9 / epochs,
            "validation_loss": 0.8 / epochs + 0.05 * seed,
            "validation_accuracy": 0.7 + 0.05 * epochs,
            "validation_roc_auc": 0.8 + 0.04 * epochs,
            "learning_rate": 1e-3 / epochs,
            "seconds": 2.0 + 0.1 * epochs,
        }
    ).to_csv(run / "metrics.csv", index=False)
    (run / "checkpoints").mkdir()
    save_file(
        {"head.weight": np.full((len(classes), 4), seed, np.float32)},
        run / "checkpoints" / "best.safetensors",
    )
    description = {
        "schema_version": 1,
        "status": status,
        "name": name,
        "backbone": backbone,
        "weights": {"source": "made up for a test", "sha256": hashlib.sha256(backbone.encode()).hexdigest()},
        "unfreeze": {"blocks": 1},
        "classes": list(classes),
        "parameters": {"total": 3_400_000, "trainable": 410_000},
        "seconds": {"store": 4.0, "training": 6.6, "prediction": 1.2, "total": 11.8},
        "peak_memory_bytes": 900_000_000,
        "store_bytes": 12_000_000,
        "best_epoch": 3,
        "best_validation_loss": 0.27,
        "epochs": 3,
        "preprocessing": {"input_size": [224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "activations": {"mode": "store", "views": 1},
        "notes": [],
    }
    (run / "run.json").write_text(json.dumps(description, indent=2))
    return run
