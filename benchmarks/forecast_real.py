"""How often do forecasts of a learning curve hold on real images? Half of the data is hidden, and forecast.

    python benchmarks/forecast_real.py ../shared/data
    python benchmarks/forecast_real.py ../shared/data --only beans --heads linear --draws 2 --epochs 3    # to try it

EfficientNet-Lite0 with ImageNet weights, head alone, without augmentation: each image goes through the network once,
and all trainings of a data set read what is stored. For each data set and head there are five shares of the training
patients (a sixteenth to all), each in several draws. The score with all patients is forecast from at most a half of
them, and from at most a quarter of them (four times the data), and compared with what was measured; from each draw
alone, and from all draws together. Shown is how often the 95 % interval held for a single training, how wide it was,
and how far its middle was from the measured mean. Trainings of a data set share test images, and draws share all
patients, so the cases are far from independent.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from freezeframe.errors import UserError
from freezeframe.evaluation.learning_curve import fit
from freezeframe.recipe import Recipe
from freezeframe.study import results
from freezeframe.study.shares import AXIS, study_of
from freezeframe.study.spec import Study
from freezeframe.verbs.study_run import study_run

DATA = {"kermany": "kermany/compact_224", "skin": "skin", "beans": "beans"}
HEADS = {"linear": {"hidden": None}, "hidden 64": {"hidden": 64}, "slow": {"learning_rate": 1e-4}}
METRICS = ("roc_auc", "accuracy")
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
HIDDEN = {"a half": 0.5, "a quarter": 0.25}


def study(data: Path, name: str, heads: list[str], draws: int, epochs: int, store: Path) -> Study:
    recipe = Recipe.parse(
        {
            "data": str(data), "backbone": "efficientnet-lite0", "epochs": epochs, "patience": 5, "store": str(store),
            "device": "cpu",
        }
    )  # fmt: skip
    plain = study_of(recipe, name, SHARES, draws).to_dict()
    axes = {"head": {head: HEADS[head] for head in heads}, **plain["axes"][0]}
    return Study.parse({**plain, "axes": axes})


def scores_of(folder: Path, head: str, metric: str) -> np.ndarray:
    """Return the test scores (shares, draws) of one head; NaN where a training failed."""
    cells = [cell for cell in results.read(folder).cells if cell.values["head"] == head]
    seeds = sorted({cell.seed for cell in cells})
    found = np.full((len(SHARES), len(seeds)), np.nan)
    labels = list(dict.fromkeys(cell.values[AXIS] for cell in cells))
    for cell in cells:
        place = labels.index(cell.values[AXIS]), seeds.index(cell.seed)
        found[place] = cell.scores.get("test", {}).get(metric, np.nan)
    return found


def cases(scores: np.ndarray, largest: float, draws: list[int]) -> tuple[int, int, float, float]:
    """Forecast the score with all patients from these draws: trainings in the interval, trainings, width, error."""
    sizes = np.repeat(SHARES, len(draws))
    known = sizes <= largest
    found = fit(1000 * sizes[known], scores[:, draws].ravel()[known]).forecast(1000, same_test_images=True)
    measured = scores[-1][np.isfinite(scores[-1])]
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    held = int(np.sum((measured >= found.low) & (measured <= found.high)))
    return held, len(measured), found.high - found.low, found.value - float(measured.mean())


def summary(rows: list[tuple[int, int, float, float]]) -> str:
    held, trainings = sum(row[0] for row in rows), sum(row[1] for row in rows)
    width, error = np.median([row[2] for row in rows]), np.mean([row[3] for row in rows])
    return f"{held} of {trainings} ({held / trainings:.0%}) | {width:.3f} | {error:+.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with " + ", ".join(DATA.values()))
    parser.add_argument("--only", default=",".join(DATA), help="data sets, divided by commas")
    parser.add_argument("--heads", default=",".join(HEADS), help="heads, divided by commas")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--out", type=Path, help="folder that is kept, so that the same line goes on; a temporary one"
    )
    arguments = parser.parse_args()
    heads = arguments.heads.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        folders = {}
        for name in arguments.only.split(","):
            begun = time.perf_counter()
            asked = study(
                arguments.data / DATA[name], name, heads, arguments.draws, arguments.epochs, out / "store"
            )
            folders[name] = study_run(asked, out / name, arguments.workers)
            print(f"{name}: {len(asked.cells())} trainings, {time.perf_counter() - begun:.0f} s", flush=True)
        report(folders, heads, arguments.draws)


def report(folders: dict[str, Path], heads: list[str], draws: int) -> None:
    print(
        "\n| data | head | metric | at 1/16 | at 1/2 | at 1 |" + " at most | draws | held | width | error |"
    )
    print("| --- " * 11 + "|")
    totals: dict[tuple[str, str], list[tuple[int, int, float, float]]] = {}
    for name, folder in folders.items():
        for head in heads:
            for metric in METRICS:
                scores = scores_of(folder, head, metric)
                means = " | ".join(f"{value:.3f}" for value in np.nanmean(scores, axis=1)[[0, 3, 4]])
                for label, largest in HIDDEN.items():
                    for kind, groups in (
                        ("each", [[draw] for draw in range(draws)]), ("all", [list(range(draws))]),
                    ):  # fmt: skip
                        try:
                            rows = [cases(scores, largest, group) for group in groups]
                        except UserError as error:
                            print(f"| {name} | {head} | {metric} | {error} |")
                            continue
                        totals.setdefault((label, kind), []).extend(rows)
                        print(
                            f"| {name} | {head} | {metric} | {means} | {label} | {kind} | {summary(rows)} |"
                        )
    for (label, kind), rows in totals.items():
        print(f"| all |  |  |  |  |  | {label} | {kind} | {summary(rows)} |")


if __name__ == "__main__":
    main()
