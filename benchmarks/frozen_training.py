"""Frozen training against peers: seconds for 10 epochs with the making of the store, one run side by side.

    python benchmarks/frozen_training.py ../shared/data/kermany/compact_224 --images 400
    python benchmarks/frozen_training.py ../shared/data/kermany/compact_224 --images 400 --peers fastai,keras

Each peer trains the same network, frozen at the same place, on the same images, batch size and learning rates. A peer's
epochs all cost the same, so two are measured and ten are stated; ours are all run, from an empty store. Networks whose
weights are not on this disk start from random ones: that changes no time. The plain loop sees the batches that ours
sees, so its losses must be ours.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from freezeframe.backbones import catalogue, cut, unfreeze, zoo
from freezeframe.data.manifest import Manifest
from freezeframe.imaging import augment
from freezeframe.imaging.preprocess import Preprocessing, prepare_image
from freezeframe.recipe import Recipe
from freezeframe.training.assembly import preprocessing_of, views_of
from freezeframe.training.batches import order
from freezeframe.training.fit import train
from freezeframe.training.schedule import parameter_groups

EPOCHS, PEER_EPOCHS, BATCH = 10, 2, 16
CASES = {
    "efficientnet-lite0": ["head", {"blocks": 1}, {"blocks": 3}],
    "resnet18": ["head", {"blocks": 1}, {"blocks": 2}],
    "densenet121": ["head", {"blocks": 1}],
    "mobilenet-v3": ["head", {"blocks": 1}],
}
AUGMENTATIONS = {"none": 1, "flip": 4, "radiograph": 4}


class Images(Dataset):
    """The training images of a run, decoded anew for every epoch as a plain loop does."""

    def __init__(self, manifest: Manifest, recipe: Recipe, preprocessing: Preprocessing) -> None:
        self.references, self.keys, self.labels = manifest.references(), manifest.keys(), manifest.labels()
        self.recipe, self.preprocessing = recipe, preprocessing
        self.policy = augment.Policy.named(recipe.augment)
        self.views = views_of(recipe, self.policy)
        self.view_seed = recipe.seed if recipe.augment_seed is None else recipe.augment_seed
        self.turns: list[tuple[int, int]] = []

    def begin(self, epoch: int) -> None:
        """Take the order and views of an epoch."""
        self.turns = [
            (index, epoch % self.views) for index, _ in order(self.labels, self.recipe.seed, epoch, False)
        ]

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        index, view = self.turns[position]
        image = prepare_image(self.references[index], self.preprocessing)
        parameters = augment.draw(self.policy, self.view_seed, self.keys[index], view)
        if parameters:
            image = augment.apply(image, parameters)[0]
        return self.preprocessing.normalise(image[None])[0], int(self.labels[index])


class FrozenFirst(nn.Module):
    """The whole network, with no gradient kept for its frozen part."""

    def __init__(self, network: zoo.Network, unfrozen: unfreeze.Unfrozen) -> None:
        super().__init__()
        self.network, self.unfrozen = network.module, unfrozen
        unfreeze.apply(network.module, unfrozen)

    def train(self, mode: bool = True) -> "FrozenFirst":
        """Keep the frozen part in inference mode, as ours does."""
        super().train(mode)
        if mode:
            unfreeze.set_training_mode(self.network, self.unfrozen)
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From images to logits; autograd itself skips what needs no gradient."""
        return self.network(images)


def prepare(recipe: Recipe, run: Path) -> tuple[FrozenFirst, Images, torch.optim.Optimizer]:
    """Build what plain torch and Lightning train."""
    manifest = Manifest.read(run / "manifest.parquet").subset("train")
    network = zoo.build(recipe.backbone, len(manifest.classes), recipe.weights, seed=recipe.seed)
    unfrozen = unfreeze.resolve(recipe.unfreeze, network)
    model = FrozenFirst(network, unfrozen)
    preprocessing = preprocessing_of(recipe, network.backbone)
    optimiser = torch.optim.AdamW(parameter_groups(network.module, unfrozen, recipe), fused=True)
    return model, Images(manifest, recipe, preprocessing), optimiser


def plain_loop(recipe: Recipe, run: Path) -> tuple[float, float]:
    """Return seconds an epoch and the last epoch's loss of a straightforward loop."""
    model, images, optimiser = prepare(recipe, run)
    model.train()
    seconds, loss_sum = [], 0.0
    for epoch in range(PEER_EPOCHS):
        images.begin(epoch)
        start = time.perf_counter()
        loss_sum = 0.0
        for inputs, targets in DataLoader(images, BATCH, num_workers=2):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(targets)
        seconds.append(time.perf_counter() - start)
    return min(seconds), loss_sum / len(images)


def lightning_loop(recipe: Recipe, run: Path) -> tuple[float, float]:
    """Return the same of Lightning's Trainer with its own loop."""
    import lightning

    model, images, optimiser = prepare(recipe, run)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.loss_sum, self.starts = 0.0, []

        def training_step(self, batch, index):
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            self.loss_sum += loss.item() * len(batch[1])
            return loss

        def on_train_epoch_start(self) -> None:
            self.starts.append(time.perf_counter())
            self.loss_sum = 0.0
            self.model.train()

        def configure_optimizers(self):
            return optimiser

    class Epochs:
        def __iter__(self):
            images.begin(len(module.starts) - 1 if module.starts else 0)
            return iter(DataLoader(images, BATCH, num_workers=2))

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=PEER_EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, Epochs())
    ends = [*module.starts[1:], time.perf_counter()]
    seconds = [end - start for start, end in zip(module.starts, ends, strict=True)]
    return min(seconds), module.loss_sum / len(images)


def ours(recipe: Recipe, run: Path) -> tuple[dict[str, float], list[float]]:
    """Return the seconds of each stage and the training loss of each epoch."""
    start = time.perf_counter()
    train(recipe, run)
    total = time.perf_counter() - start
    status = json.loads((run / "run.json").read_text())
    losses = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)["train_loss"]
    return {**status["seconds"], "total": total}, losses.tolist()


def other_process(peer: str, recipe: Recipe, run: Path, python: str) -> float:
    """Return the seconds an epoch of a peer that lives in an environment of its own; NaN for what it lacks."""
    if peer == "keras" and (recipe.unfreeze != "head" or recipe.backbone == "resnet18"):
        return float("nan")
    script = Path(__file__).with_name(f"peer_{peer}.py")
    manifest = Manifest.read(run / "manifest.parquet").subset("train")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        files = [str(reference.path) for reference in manifest.references()]
        json.dump(
            {"files": files, "labels": manifest.labels().tolist(), "flip": recipe.augment == "flip"}, handle
        )
        handle.flush()
        unfrozen = "head" if recipe.unfreeze == "head" else "block"
        output = subprocess.run(
            [python, str(script), handle.name, recipe.backbone, unfrozen],
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(output.stdout.strip().splitlines()[-1])["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--networks", default=",".join(CASES))
    parser.add_argument("--augmentations", default="none,flip,radiograph")
    parser.add_argument("--peers", default="", help="fastai,keras: also these, where their Python has them")
    parser.add_argument("--peer-python", default=sys.executable)
    arguments = parser.parse_args()
    peers = [peer for peer in arguments.peers.split(",") if peer]
    titles = [
        "network",
        "unfreeze",
        "augment",
        "store",
        "suffix",
        "ours, 10 epochs",
        "plain x10",
        "Lightning x10",
    ]
    titles += [f"{peer} x10" for peer in peers]
    titles += ["fastest peer / ours", "suffix, GFLOP/s", "loss of epoch 2: ours, plain"]
    print(f"A product of 2048 x 2048 matrices in float32 reaches {matrix_rate():.0f} GFLOP/s here.\n")
    print("| " + " | ".join(titles) + " |\n|" + " --- |" * len(titles))
    with tempfile.TemporaryDirectory() as folder:
        data = subset(arguments.data, Path(folder) / "data", arguments.images)
        for backbone in arguments.networks.split(","):
            for spec in CASES[backbone]:
                for policy in arguments.augmentations.split(","):
                    row(Path(folder), data, backbone, spec, policy, peers, arguments.peer_python)


def matrix_rate() -> float:
    """Return what the machine does at best, in GFLOP/s."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


def suffix_rate(recipe: Recipe, run: Path, seconds: float) -> float:
    """Return GFLOP/s of the suffix: a training step costs some three forward passes of two operations each."""
    manifest = Manifest.read(run / "manifest.parquet")
    network = zoo.build(recipe.backbone, len(manifest.classes), "none", announce=False)
    divided = cut.cut(network, unfreeze.resolve(recipe.unfreeze, network))
    images = len(manifest.subset("train")) * recipe.epochs
    return 6 * divided.suffix_multiply_adds * images / seconds / 1e9


def subset(source: Path, target: Path, count: int) -> Path:
    """Copy an even selection of the images, half of each class."""
    for label in ("NORMAL", "PNEUMONIA"):
        (target / label).mkdir(parents=True)
        files = sorted((source / "train" / label).iterdir())
        for path in files[:: len(files) // (count // 2)][: count // 2]:
            shutil.copy(path, target / label)
    return target


def row(
    folder: Path, data: Path, backbone: str, spec: object, policy: str, peers: list[str], python: str
) -> None:
    """Measure one case and print its row."""
    weights = "pretrained" if catalogue.describe(backbone).package else "none"
    recipe = Recipe.parse(
        {
            "data": str(data), "backbone": backbone, "unfreeze": spec, "augment": policy, "weights": weights,
            "views": AUGMENTATIONS[policy], "epochs": EPOCHS, "batch_size": BATCH, "schedule": "constant",
            "patience": None, "store": str(folder / "store"), "device": "cpu",
        }
    )  # fmt: skip
    run = folder / "run"
    seconds, losses = ours(recipe, run)
    plain, plain_loss = plain_loop(recipe, run)
    lit, _ = lightning_loop(recipe, run)
    others = [other_process(peer, recipe, run, python) for peer in peers]
    fastest = float(np.nanmin([plain, lit, *others])) * EPOCHS
    cells = [
        backbone, json.dumps(spec), policy, f"{seconds['store']:.1f}", f"{seconds['training']:.1f}",
        f"{seconds['total']:.1f}", *(f"{value * EPOCHS:.0f}" for value in (plain, lit, *others)),
        f"**{fastest / seconds['total']:.1f}**", f"{suffix_rate(recipe, run, seconds['training']):.0f}",
        f"{losses[PEER_EPOCHS - 1]:.5f}, {plain_loss:.5f}",
    ]  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)
    shutil.rmtree(run)
    shutil.rmtree(folder / "store")


if __name__ == "__main__":
    main()
