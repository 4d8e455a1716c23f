"""A maker of a search's folder: the trials are real, their trainings are made-up curves and logits."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from factories import make_manifest, make_run
from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study
from freezeframe.study.trials import Trial, Trials
from studies import TRAINABLE, write_predictions

SPACE = {
    "unfreeze": ["head", {"layers": 2}, {"layers": 4}],
    "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "hidden": [None, 64, 256],
    "optimiser": ["adamw", "sgd"],
    "momentum": {"low": 0.5, "high": 0.95, "when": {"optimiser": "sgd"}},
}
EPOCHS = 8


def make_search(folder: Path, trials: int = 24, metric: str = "roc_auc", **search: Any) -> Path:
    """Make the folder of a finished search over six fields, and return it.

    The best learning rate is 1e-2; deeper is better; a trial far from that rate is given up.
    """
    manifest = make_manifest(folder, 480)
    study = Study.parse(
        {
            "name": folder.name,
            "recipe": {
                "data": str(manifest.root),
                "backbone": "efficientnet-lite0",
                "unfreeze": "head",
                "epochs": EPOCHS,
            },
            "search": {"space": SPACE, "sampler": "random", "trials": trials, **search},
            "metric": metric,
        }
    )
    made = StudyFolder(folder)
    made.begin(study)
    asked = Trials(study, made)
    for _ in range(trials + 1):
        with asked.take() as trial:
            if trial is None:
                return folder
            _pretend(made, trial, manifest)
            asked.finish(trial)
    raise AssertionError("the search went beyond its budget")


def _pretend(folder: StudyFolder, trial: Trial, manifest: Manifest) -> None:
    recipe, values = trial.cell.recipe, trial.cell.values
    depth = list(TRAINABLE).index(values["unfreeze"])
    skill = 1.6 - 0.45 * abs(math.log10(recipe.learning_rate) + 2) + 0.2 * depth
    epochs = np.arange(EPOCHS)
    curve = 1 - 0.5 * np.exp(-0.15 * max(skill, 0.0) * (epochs + 1))
    loss = 1.5 - curve if recipe.learning_rate < 0.05 else 3.0 + 40 * epochs  # too fast: it diverges
    table = pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": loss - 0.1,
            "validation_loss": loss,
            "validation_accuracy": curve - 0.05,
            "validation_roc_auc": curve,
            "seconds": 0.3,
        }
    )
    given_up = next((epoch for epoch in epochs if trial.observe(int(epoch), float(curve[epoch]))), None)
    run = folder.run(trial.cell.name)
    make_run(run.parent, run.name, trial.number, manifest=manifest)
    recipe.write(run / "recipe.yaml")
    trainable = TRAINABLE[values["unfreeze"]]
    changes: dict[str, Any] = {
        "parameters": {"total": 3_400_000, "trainable": trainable},
        "seconds": {"store": 1.5, "training": 2.0 + trainable / 200_000, "total": 6.0},
        "peak_memory_bytes": int(7e8 + 200 * trainable),
    }
    if given_up is None:
        write_predictions(run, manifest, skill, 1000 + trial.number)
    else:
        changes["status"] = "pruned"
        table = table.iloc[: given_up + 1]
        for path in (run / "predictions").iterdir():
            path.unlink()
    table.to_csv(run / "metrics.csv", index=False)
    files.write_json(run / "run.json", files.read_json(run / "run.json") | changes)
