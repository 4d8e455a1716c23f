"""Small studies on real radiographs."""

from pathlib import Path

import pytest

from freezeframe.study.spec import Study


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A store that the session's studies share."""
    return tmp_path_factory.mktemp("study-store")


@pytest.fixture(scope="session")
def base(radiographs, store) -> dict:
    """A base recipe that trains in a second."""
    return {
        "data": str(radiographs),
        "backbone": "efficientnet-lite0",
        "preprocess": [{"resize": {"size": 64}}],
        "views": 2,
        "epochs": 2,
        "batch_size": 16,
        "store": str(store),
        "device": "cpu",
    }


@pytest.fixture(scope="session")
def grid(base) -> Study:
    """Six trainings: two depths, two policies, one of them with two seeds' worth of exclusions left out."""
    return Study.parse(
        {
            "name": "grid",
            "recipe": base,
            "axes": {"unfreeze": ["head", {"layers": 2}, {"layers": 4}], "augment": ["none", "flip"]},
            "baseline": False,
        }
    )
