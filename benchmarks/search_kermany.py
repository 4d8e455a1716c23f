"""A Bayesian search on chest radiographs: what 50 trials find beyond the default recipe, and how long they take.

    python benchmarks/search_kermany.py ../shared/data/kermany/compact_224
    python benchmarks/search_kermany.py ../shared/data/kermany/compact_224 --images 120 --trials 3 --epochs 1

EfficientNet-Lite0 with ImageNet weights. The search (Optuna's TPE, hopeless trials are stopped) is over the head, the
learning rate, the weight decay, the augmentation and the depth; trial 0 is the recipe with freezeframe's defaults.
Trials are compared by log loss on the validation images, since ROC AUC is near 1 for all of them; the test images
choose nothing, so that the best of 50 is not flattered by being the best.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from freezeframe import files
from freezeframe.study import results, search, settings
from freezeframe.study.spec import Study

SPACE = {
    "hidden": [None, 64, 256],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "augment": ["none", "flip", "radiograph"],
    "unfreeze": ["head", {"layers": 2}, {"layers": 4}, {"blocks": 1}],
}
SHOWN = ("roc_auc", "accuracy", "balanced_accuracy", "log_loss")


def few(source: Path, target: Path, count: int) -> Path:
    """Copy an even selection of the images, half of each class."""
    for label in ("NORMAL", "PNEUMONIA"):
        (target / label).mkdir(parents=True)
        paths = sorted((source / "train" / label).iterdir())
        for path in paths[:: len(paths) // (count // 2)][: count // 2]:
            shutil.copy(path, target / label)
    return target


def study_of(data: Path, store: Path, trials: int, epochs: int, metric: str) -> Study:
    """Make the search."""
    return Study.parse(
        {
            "name": "search-kermany",
            "recipe": {
                "data": str(data), "backbone": "efficientnet-lite0", "epochs": epochs, "store": str(store),
                "device": "cpu",
            },
            "search": {"space": SPACE, "sampler": "tpe", "trials": trials},
            "metric": metric,
            "positive": "PNEUMONIA",
        }
    )  # fmt: skip


def print_scores(folder: Path) -> None:
    """Print the default's and the best trial's scores, and what mattered."""
    found, summary = results.read(folder), search.summarise(folder)
    cells = {cell.name: cell for cell in found.finished}
    print(
        f"{summary.trials} trials: {summary.finished} finished, {summary.pruned} stopped as hopeless, {summary.failed} "
        f"failed; {summary.seconds:.0f} s if one had followed another."
    )
    default = next(iter(cells.values()))
    print(
        f"\n| trial | validation {found.metric} | "
        + " | ".join(f"test {name} (95 %)" for name in SHOWN)
        + " |"
    )
    print("|" + " --- |" * (len(SHOWN) + 2))
    chosen = {"default": default, "best": cells[summary.best or default.name]}
    for role, cell in chosen.items():
        test = settings.estimate(found, [cell], SHOWN)
        shown = [
            f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"
            for one in (test[name] for name in SHOWN)
            if one.value is not None and one.low is not None and one.high is not None
        ]
        validation = cell.scores["validation"][found.metric]
        print(f"| {role}: {cell.name} | {validation:.4f} | " + " | ".join(shown) + " |")
    best = search.history(folder).set_index("name").loc[chosen["best"].name, list(SPACE)]
    print("\nBest: " + ", ".join(f"{name} {value}" for name, value in best.items()) + ".")
    mattered = search.importances(folder)
    print(
        "Share of the variance: "
        + (", ".join(f"{name} {share:.0%}" for name, share in mattered.items()) or "?")
    )
    extras = [extra for extra in found.extras if extra.kind == "baseline"]
    for extra in extras:
        print(f"{extra.name}: test ROC AUC {extra.scores['test']['roc_auc']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--metric", default="log_loss")
    parser.add_argument("--images", type=int, help="only so many")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--keep", type=Path, help="leave the study in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = arguments.data.absolute()
        if arguments.images:
            data = few(data, folder / "data", arguments.images)
        study = study_of(data, folder / "store", arguments.trials, arguments.epochs, arguments.metric)
        study.write(folder / "search.yaml")
        command = [sys.executable, "-m", "freezeframe", "study", "run", str(folder / "search.yaml")]
        command += ["--out", str(folder / "study")]
        command += ["--workers", str(arguments.workers)] if arguments.workers else []
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        inside = files.read_json(folder / "study" / "progress.json")["seconds"]
        print(f"{seconds:.0f} s in all, from an empty store ({inside:.0f} s of them the study).")
        print_scores(folder / "study")


if __name__ == "__main__":
    main()
