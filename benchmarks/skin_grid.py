"""The MobileNet part of the skin grid against the same grid as plain scripts, on one machine in one run.

    python benchmarks/skin_grid.py
    python benchmarks/skin_grid.py --peers fastai,keras --peer-python other/bin/python
    python benchmarks/skin_grid.py --only ours
    python benchmarks/skin_grid.py --images 60 --epochs 2 --seeds 1 --score-epochs 1    # to see that it works

Four augmentations x five depths, ten epochs, batches of 16, with EfficientNet-Lite0 in the place of MobileNet v1, whose
weights are not on this disk. Ours is the whole command `freezeframe study run`, from an empty store to the predictions
of every training. The plain PyTorch loop and the Lightning script train the same network, frozen at the same place in
inference mode, on the same views, decoded by two workers; they recompute the frozen part, as scripts do. All their
epochs cost alike, so two epochs are measured (the faster counts) of the shallowest, the middle and the deepest
training; the total is the mean of the three x epochs x 20. It leaves out their validation and the start of Python.
fastai and Keras (EfficientNetB0, its nearest) train the head alone, without augmentation, which is less than any cell
asks: their totals are lower bounds.

Then the scores: ours and the plain loop train some cells over several seeds, with validation after each epoch and the
test accuracy of the best one.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

import frozen_training
from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.evaluation.intervals import wilson
from freezeframe.recipe import Recipe
from freezeframe.study import results
from freezeframe.study.cells import Cell
from freezeframe.study.spec import Study
from freezeframe.training.schedule import rate_factor

NETWORK = "efficientnet-lite0"
CELLS = 20
TESTED_AT_ONCE = 64


def grid(data: Path, folder: Path, epochs: int) -> Study:
    """Return the first of the two grids of the shipped study: one network, four augmentations, five depths."""
    changes = [f"data.path={data}", f"epochs={epochs}", f"store={folder / 'store'}", "device=cpu"]
    whole = Study.read(Path("skin-grid"), changes, [NETWORK]).to_dict()
    return Study.parse({**whole, "axes": whole["axes"][:1], "baseline": False})


def few(source: Path, target: Path, count: int) -> Path:
    """Copy an even selection of the images, half of each class, with their rows of the table."""
    for label in ("benign", "malignant"):
        (target / "train" / label).mkdir(parents=True)
        paths = sorted((source / "train" / label).iterdir())
        for path in paths[:: len(paths) // (count // 2)][: count // 2]:
            shutil.copy(path, target / "train" / label)
    table = pd.read_csv(source / "manifest.csv", dtype="str")
    table[[(target / name).is_file() for name in table["file"]]].to_csv(target / "manifest.csv", index=False)
    return target


def run_study(study: Study, folder: Path, name: str, workers: int | None) -> float:
    """Run a study as a command; returns its seconds."""
    study.write(folder / f"{name}.yaml")
    command = [sys.executable, "-m", "freezeframe", "study", "run", str(folder / f"{name}.yaml")]
    command += ["--out", str(folder / name), *(["--workers", str(workers)] if workers else [])]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def print_grid(folder: Path) -> None:
    """Print test accuracies, augmentations down, depths across."""
    found = results.read(folder)
    labels = found.finished[0].predictions["test"].labels
    low, high = wilson(0.89 * len(labels), len(labels))
    counts = ", ".join(f"{np.sum(labels == i)} {name}" for i, name in enumerate(found.classes))
    print(
        f"Test accuracy on {len(labels)} images ({counts}); the 95 % interval of 0.89 is {low:.3f} to {high:.3f}.\n"
    )
    depths = found.axes["unfreeze"]
    print("| augmentation | " + " | ".join(depths) + " |\n|" + " --- |" * (len(depths) + 1))
    score = {
        (cell.values["augment"], cell.values["unfreeze"]): cell.scores["test"] for cell in found.finished
    }
    for policy in found.axes["augment"]:
        cells = [f"{score[policy, depth]['accuracy']:.4f}" for depth in depths]
        print(f"| {policy} | " + " | ".join(cells) + " |")


def peer_recipe(cell: Cell) -> Recipe:
    """Return a cell's recipe for a script: with all cores."""
    return cell.recipe.changed(threads=None)


def time_peers(
    study: Study, folder: Path, peers: list[str], python: str, policy: str, ours: float | None
) -> None:
    """Measure a few cells of each peer and print what the whole grid would take."""
    cells = [cell for cell in study.cells() if cell.values["augment"] == policy]
    chosen = [cells[0], cells[len(cells) // 2], cells[-1]]
    run = manifest_folder(study, folder)
    epochs = study.cells()[0].recipe.epochs
    print(
        f"\nSeconds an epoch of the peers, {len(Manifest.read(run / 'manifest.parquet').subset('train')):,} images:\n"
    )
    print(
        "| script | "
        + " | ".join(cell.values["unfreeze"] for cell in chosen)
        + " | whole grid, s | to ours |"
    )
    print("|" + " --- |" * (len(chosen) + 3))
    scripts = {"plain PyTorch": frozen_training.plain_loop, "Lightning": frozen_training.lightning_loop}
    for name, script in scripts.items():
        each = [script(peer_recipe(cell), run)[0] for cell in chosen]
        print_peer(name, each, epochs, ours, f"mean of {', '.join(f'{value:.1f}' for value in each)}")
    for peer in peers:
        head = peer_recipe(chosen[0]).changed(unfreeze="head", augment="none")
        seconds = frozen_training.other_process(peer, head, run, python)
        print_peer(
            f"{peer}, head", [seconds] + [float("nan")] * (len(chosen) - 1), epochs, ours, f"{seconds:.1f}"
        )


def print_peer(name: str, each: list[float], epochs: int, ours: float | None, origin: str) -> None:
    """Print a peer's row with the arithmetic of its total."""
    total = float(np.nanmean(each)) * epochs * CELLS
    cells = ["" if np.isnan(value) else f"{value:.1f}" for value in each]
    ratio = "" if ours is None else f"{total / ours:.1f}"
    print(
        f"| {name} | " + " | ".join(cells) + f" | {total:,.0f} = ({origin}) x {epochs} x {CELLS} | {ratio} |",
        flush=True,
    )


def manifest_folder(study: Study, folder: Path) -> Path:
    """Return a folder with the manifest that the study divides; it is made where the study has not run."""
    for run in sorted((folder / "grid" / "runs").glob("*/manifest.parquet")):
        return run.parent
    from freezeframe.training.shared import Shared

    Shared().manifest(study.cells()[0].recipe).write(folder / "manifest.parquet")
    return folder


class Evaluated(frozen_training.Images):
    """A split as it is, in its own order."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.turns = [(index, 0) for index in range(len(self.labels))]


def plain_score(recipe: Recipe, run: Path) -> float:
    """Train a cell with the plain loop; returns the test accuracy of the epoch with the best validation loss."""
    model, images, optimiser = frozen_training.prepare(recipe, run)
    manifest = Manifest.read(run / "manifest.parquet")
    held_out = {
        split: Evaluated(manifest.subset(split), recipe, images.preprocessing)
        for split in ("validation", "test")
    }
    best, accuracy = np.inf, float("nan")
    for epoch in range(recipe.epochs):
        images.begin(epoch)
        model.train()
        loader = DataLoader(images, recipe.batch_size, num_workers=2)
        for step, (inputs, targets) in enumerate(loader):
            for group in optimiser.param_groups:
                group["lr"] = group["base_rate"] * rate_factor(recipe, epoch + step / len(loader))
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimiser.step()
        loss, _ = evaluate(model, held_out["validation"])
        if loss < best:
            best, (_, accuracy) = loss, evaluate(model, held_out["test"])
    return accuracy


@torch.no_grad()
def evaluate(model: torch.nn.Module, images: Evaluated) -> tuple[float, float]:
    """Return log loss and accuracy on a split."""
    model.eval()
    loader = DataLoader(images, TESTED_AT_ONCE, num_workers=2)
    answers = [(model(inputs), targets) for inputs, targets in loader]
    logits, targets = (torch.cat(parts) for parts in zip(*answers, strict=True))
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return float(loss), float((logits.argmax(1) == targets).double().mean())


def compare_scores(
    study: Study, folder: Path, wanted: list[str], seeds: int, epochs: int, workers: int | None
) -> None:
    """Print test accuracies of some cells over seeds, ours and the plain loop's."""
    content = study.to_dict()
    content["recipe"]["epochs"] = epochs
    cells = [dict(zip(("augment", "layers"), text.split(":"), strict=True)) for text in wanted]
    content |= {"axes": [{}], "seeds": list(range(seeds))}
    content["include"] = [
        {"augment": cell["augment"], "unfreeze": {"layers": int(cell["layers"])}} for cell in cells
    ]
    # An empty grid is one cell of the base recipe; it is left out.
    content["exclude"] = [{}]
    content["recipe"]["backbone"] = NETWORK
    repeats = Study.parse(content)
    run_study(repeats, folder, "repeats", workers)
    scores = {
        cell.name: cell.scores["test"]["accuracy"] for cell in results.read(folder / "repeats").finished
    }
    print(
        f"\nTest accuracy over seeds, {epochs} epochs:\n\n"
        "| cell | seed | ours | plain loop |\n| --- | --- | --- | --- |"
    )
    for cell in repeats.cells():
        plain = plain_score(peer_recipe(cell), folder / "repeats" / "runs" / cell.name)
        print(f"| {cell.setting} | {cell.seed} | {scores[cell.name]:.4f} | {plain:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data/skin"))
    parser.add_argument("--only", choices=["ours", "peers", "scores"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, help="only so many")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--policy", default="none", help="augmentation of the peers' cells")
    parser.add_argument("--peers", default="", help="fastai,keras: also these, where their Python has them")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--seeds", type=int, default=2, help="of the scores")
    parser.add_argument("--score-epochs", type=int, default=5)
    parser.add_argument("--score-cells", default="none:2,flip-hv:6", help="augmentation:layers, ...")
    parser.add_argument("--keep", type=Path, help="leave the studies in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = arguments.data.absolute()
        if arguments.images:
            data = few(data, folder / "data", arguments.images)
        study = grid(data, folder, arguments.epochs)
        ours = None
        if arguments.only in (None, "ours"):
            ours = run_study(study, folder, "grid", arguments.workers)
            size = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
            inside = files.read_json(folder / "grid" / "progress.json")["seconds"]
            print(
                f"Ours: {ours:.0f} s in all ({inside:.0f} s of them the study), {size / 1e9:.1f} GB in the store.\n"
            )
            print_grid(folder / "grid")
        if arguments.only in (None, "peers"):
            peers = [peer for peer in arguments.peers.split(",") if peer]
            time_peers(study, folder, peers, arguments.peer_python, arguments.policy, ours)
        if arguments.only in (None, "scores"):
            wanted = arguments.score_cells.split(",")
            compare_scores(study, folder, wanted, arguments.seeds, arguments.score_epochs, arguments.workers)


if __name__ == "__main__":
    main()
