"""A really trained tiny ensemble, for the tests of what comes after training."""

from pathlib import Path

from factories import make_manifest
from freezeframe.recipe import Recipe
from freezeframe.training.fit import train
from freezeframe.verbs.ensemble import ensemble

BACKBONES = ("test_resnet", "test_efficientnet")
"""Of timm, with some hundred thousand parameters."""


def train_ensemble(folder: Path, images: int = 160) -> Path:
    """Train two networks with different preprocessing on made-up images, combine them and return the ensemble."""
    manifest = make_manifest(folder, images, images=True)
    table = manifest.table.drop(columns=["sha256", "frame"])
    table.to_csv(manifest.root / "labels.csv", index=False)
    runs = []
    for seed, backbone in enumerate(BACKBONES):
        recipe = Recipe.parse(
            {
                "data": {"path": str(manifest.root), "table": str(manifest.root / "labels.csv")},
                "split": {"minimum_images": 1},
                "backbone": backbone,
                "weights": "none",
                "hidden": 8 if seed else None,
                "unfreeze": "all" if seed else "head",
                "preprocess": [{"resize": {"size": 48 + 16 * seed}}],
                "epochs": 2,
                "learning_rate": 0.01,
                "batch_size": 16,
                "store": str(folder / "store"),
                "activation_dtype": "float16",
                "device": "cpu",
                "seed": seed,
            }
        )
        runs.append(folder / f"run{seed}")
        train(recipe, runs[-1])
    return ensemble(runs, folder / "ensemble")
