"""A small data set of real radiographs, and a fast recipe on it."""

from pathlib import Path

import pytest

from freezeframe.recipe import Recipe


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
