"""Trials whose training takes no time: what a search needs of a run, with a score that follows from the recipe.

As a program (``python pretended.py FOLDER [SECONDS]``) it works at the search in a folder until nothing is left, and
writes the name of each trial that it takes to standard output; each takes so many seconds.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.study.folder import StudyFolder
from freezeframe.study.spec import Study
from freezeframe.study.trials import Trial, Trials

IMAGES = 1000
CLASSES = ("normal", "pneumonia")


def make_study(**search: Any) -> Study:
    """Make a study that searches a learning rate and a depth, compared by accuracy."""
    space = {
        "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "unfreeze": ["head", {"layers": 2}, {"layers": 4}],
    }
    return Study.parse(
        {
            "recipe": {"data": "images/", "backbone": "resnet18", "epochs": 10},
            "search": {"space": space, "trials": 12, **search},
            "metric": "accuracy",
        }
    )


def begin(folder: Path, study: Study) -> tuple[StudyFolder, Trials]:
    """Make the folder of a search."""
    made = StudyFolder(folder)
    made.begin(study)
    return made, Trials(study, made)


def accuracy(trial: Trial) -> float:
    """Return the score of a trial: the best learning rate is 1e-2, and deeper is better."""
    depth = {"head": 0, "layers 2": 1, "layers 4": 2}[trial.cell.values.get("unfreeze", "head")]
    return 0.9 - 0.1 * abs(math.log10(trial.cell.recipe.learning_rate) + 2) + 0.02 * depth


def pretend(folder: StudyFolder, trial: Trial, score: float) -> None:
    """Write what a finished training of this accuracy leaves."""
    right = round(score * IMAGES)
    labels = np.arange(IMAGES) % 2
    predicted = np.where(np.arange(IMAGES) < right, labels, 1 - labels)
    table = pd.DataFrame(
        {
            "image": [f"{index:04d}" for index in range(IMAGES)],
            "patient": "",
            "label": np.array(CLASSES)[labels],
            **{f"logit_{name}": (predicted == index) * 4.0 for index, name in enumerate(CLASSES)},
        }
    )
    run = folder.run(trial.cell.name)
    (run / "predictions").mkdir(parents=True, exist_ok=True)
    table.to_parquet(run / "predictions" / "validation.parquet", index=False)
    files.write_json(
        run / "run.json", {"status": "finished", "classes": list(CLASSES), "seconds": {"total": 1.5}}
    )


def work(folder: StudyFolder, trials: Trials, most: int = 1000, seconds: float = 0.0) -> list[str]:
    """Take trials until there are none, or so many are done; returns their names."""
    taken: list[str] = []
    while len(taken) < most:
        with trials.take() as trial:
            if trial is None:
                break
            taken.append(trial.cell.name)
            print(trial.cell.name, flush=True)
            time.sleep(seconds)
            pretend(folder, trial, accuracy(trial))
            trials.finish(trial)
    return taken


if __name__ == "__main__":
    at = StudyFolder(Path(sys.argv[1]))
    work(at, Trials(at.read(), at), seconds=float(sys.argv[2]))
