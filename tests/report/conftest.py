"""A small evaluation, made by the real verbs from runs with made-up logits."""

from pathlib import Path

import pytest

from factories import make_run
from freezeframe.verbs.ensemble import ensemble
from freezeframe.verbs.evaluate import evaluate


def make_evaluation(
    folder: Path,
    classes: tuple[str, ...] = ("normal", "pneumonia"),
    n: int = 160,
    members: int = 2,
    **options,
) -> Path:
    runs = [
        make_run(folder / "runs", f"lite{seed}", seed, n, classes, skill=1.0, images=True, **options)
        for seed in range(members)
    ]
    if members == 1:
        return evaluate(runs[0], folder / "evaluation", bootstrap=100)
    ensemble(runs, folder / "runs" / "all", "weighted")
    return evaluate(folder / "runs" / "all", folder / "evaluation", bootstrap=100)


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory) -> Path:
    names = ("angular_leaf_spot", "bean_rust", "healthy")
    return make_evaluation(tmp_path_factory.mktemp("three"), names, images_per_patient=2)
