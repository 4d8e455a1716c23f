"""A small data set of real radiographs, and a fast recipe on it."""

import shutil
from pathlib import Path

import pytest

from freezeframe.recipe import Recipe


@pytest.fixture(scope="session")
def radiographs(shared_data, tmp_path_factory) -> Path:
    """Class folders with 40 patients each, from the real images."""
    root = tmp_path_factory.mktemp("radiographs")
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir()
        files = sorted((shared_data / "kermany/compact_224/train" / label).iterdir())
        for path in files[:: len(files) // 40][:40]:
            shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A store that the session's tests share, as the runs of one machine do."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def recipe(radiographs, store) -> Recipe:
    """A recipe that trains in seconds: small images, the last block."""
    return Recipe.parse(
        {
            "data": str(radiographs),
            "backbone": "efficientnet-lite0",
            "unfreeze": {"blocks": 1},
            "preprocess": [{"resize": {"size": 96}}],
            "augment": "flip-brightness",
            "views": 2,
            "epochs": 3,
            "batch_size": 8,
            "dropout": 0.2,
            "store": str(store),
            "device": "cpu",
        }
    )
