"""Training on few images of one class: folds, shares, synthetic images and mixtures at the cut, end to end."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from freezeframe.data.manifest import Manifest
from freezeframe.recipe import Recipe
from freezeframe.training.fit import train


@pytest.fixture(scope="module")
def uneven(recipe, radiographs, tmp_path_factory) -> Recipe:
    """A fold of 40 images of one class and 12 of the other, to which four images from elsewhere are added."""
    folder = tmp_path_factory.mktemp("uneven")
    for label, number in (("NORMAL", 12), ("PNEUMONIA", 40)):
        (folder / "real" / label).mkdir(parents=True)
        for path in sorted((radiographs / label).iterdir())[:number]:
            shutil.copy(path, folder / "real" / label)
    (folder / "made" / "NORMAL").mkdir(parents=True)
    for path in sorted((radiographs / "NORMAL").iterdir())[12:16]:
        shutil.copy(path, folder / "made" / "NORMAL")
    return recipe.changed(
        data={"path": str(folder / "real"), "synthetic": [str(folder / "made")]},
        split={"folds": 4, "fold": 1, "train_share": 0.8, "draw": 2},
        imbalance="mixup",
        epochs=2,
    )


@pytest.fixture(scope="module")
def unbroken(uneven, tmp_path_factory) -> Path:
    return train(uneven, tmp_path_factory.mktemp("runs") / "unbroken")


def same_weights(run: Path, other: Path) -> bool:
    one, two = (load_file(folder / "checkpoints" / "best.safetensors") for folder in (run, other))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_run_s_manifest_has_the_share_and_the_synthetic_images_in_train_alone(unbroken):
    manifest = Manifest.read(unbroken / "manifest.parquet")
    assert manifest.table["split"].value_counts()["test"] == 13
    assert set(manifest.table["split"][manifest.added()]) == {"train"}
    assert manifest.added().sum() == 4
    assert len(manifest) < 52 + 4
    predicted = pd.read_parquet(unbroken / "predictions" / "test.parquet")
    assert predicted["image"].tolist() == manifest.subset("test").table["image"].tolist()


def test_mixtures_of_stored_and_of_live_activations_are_the_same(unbroken, uneven, tmp_path):
    live = train(uneven.changed(activations="live"), tmp_path / "live")
    assert same_weights(unbroken, live)


def test_a_mixed_training_that_was_interrupted_ends_with_the_same_bits(unbroken, uneven, tmp_path):
    def stop(epoch: int, row: object) -> None:
        if epoch == 0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(uneven, tmp_path / "run", watch=stop)
    assert same_weights(unbroken, train(uneven, tmp_path / "run"))


def test_mixing_is_not_just_oversampling(unbroken, uneven, tmp_path):
    assert not same_weights(unbroken, train(uneven.changed(imbalance="oversample"), tmp_path / "run"))
