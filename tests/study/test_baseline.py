"""Baselines: scikit-learn's own models on the frozen network's answers, chosen on validation, done once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from factories import make_manifest
from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.imaging.augment import Policy
from freezeframe.recipe import Recipe
from freezeframe.seeds import derive_seed, generator
from freezeframe.study import baseline as baselines
from freezeframe.study import sharing
from freezeframe.study.baseline import (
    METHODS,
    Features,
    baseline,
    distinct,
    fit,
    names,
    read_features,
    recipe_of,
)
from freezeframe.training.shared import Shared


@pytest.fixture(scope="module")
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="module")
def recipe(base) -> Recipe:
    return Recipe.parse({**base, "unfreeze": {"layers": 2}, "augment": "flip", "imbalance": "oversample"})


@pytest.fixture(scope="module")
def features(recipe, shared, tmp_path_factory) -> Features:
    return read_features(recipe_of(recipe), tmp_path_factory.mktemp("features"), shared)


def made_up(counts: dict[str, int], classes: int, dimensions: int = 40, seed: int = 0) -> Features:
    random = generator(seed, "features")
    centres = random.normal(0, 0.6, (classes, dimensions))
    labels = {split: np.arange(count) % classes for split, count in counts.items()}
    values = {
        split: (centres[own] + random.normal(0, 1, (len(own), dimensions))).astype(np.float32)
        for split, own in labels.items()
    }
    names = tuple(f"class {index}" for index in range(classes))
    manifest = make_manifest(Path("made-up"), 12 * classes, names)
    return Features(manifest, values, labels)


def scikit_learn(method: str, c: float, components: int | None):
    steps: list = [StandardScaler()]
    if method != "linear probe":
        steps.append(PCA(components, random_state=derive_seed(0, "components") % 2**32))
    return make_pipeline(*steps, LogisticRegression(C=c, max_iter=baselines.ITERATIONS))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learns_own_pipeline(method, classes):
    data = made_up({"train": 240, "validation": 90, "test": 60}, classes)
    fitted = fit(method, data, 0)
    own = scikit_learn(method, fitted.c, fitted.components).fit(data.values["train"], data.labels["train"])
    answers = fitted.log_probabilities(data.values["test"], classes)
    np.testing.assert_allclose(
        softmax(answers.astype(np.float64), axis=1), own.predict_proba(data.values["test"]), atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_is_chosen_has_the_least_validation_loss_of_all_that_could_be(method):
    data = made_up({"train": 120, "validation": 200}, 2)
    fitted = fit(method, data, 0)
    counts = [None] if method == "linear probe" else [2, 4, 8, 16, 32]
    losses = {
        (c, count): log_loss(
            data.labels["validation"],
            scikit_learn(method, c, count)
            .fit(data.values["train"], data.labels["train"])
            .predict_proba(data.values["validation"]),
        )
        for c in baselines.STRENGTHS
        for count in counts
    }
    assert fitted.validation_loss == pytest.approx(min(losses.values()), abs=1e-3)
    assert fitted.validation_loss == pytest.approx(losses[fitted.c, fitted.components], abs=1e-6)


def test_a_class_without_training_images_gets_no_probability_and_every_logit_is_finite():
    data = made_up({"train": 100, "validation": 60}, 3)
    keep = data.labels["train"] != 1
    data.values["train"], data.labels["train"] = data.values["train"][keep], data.labels["train"][keep]
    answers = fit("linear probe", data, 0).log_probabilities(data.values["validation"], 3)
    assert answers.shape == (60, 3)
    assert np.isfinite(answers).all()
    assert softmax(answers.astype(np.float64), axis=1)[:, 1].max() < 1e-30


def test_training_images_of_one_class_are_refused():
    data = made_up({"train": 20, "validation": 20}, 2)
    data.labels["train"][:] = 0
    with pytest.raises(UserError, match="all of one class"):
        fit("linear probe", data, 0)


def test_five_images_are_enough_for_both_methods():
    data = made_up({"train": 5, "validation": 6}, 2)
    for method in METHODS:
        fitted = fit(method, data, 0)
        assert fitted.components is None or fitted.components <= 4
        assert np.isfinite(fitted.validation_loss)


def test_features_are_the_networks_pooled_answers_to_the_images_as_they_are(recipe, features, shared):
    parts = shared.assemble(recipe_of(recipe), 2)
    assert parts.cut.prefix is not None
    manifest = shared.readable(parts, shared.manifest(recipe))
    test = manifest.subset("test")
    inputs = shared.views(parts, test.keys(), test.keys(), Policy.named("none"), 0).batch(
        [(index, 0) for index in range(4)]
    )
    with torch.inference_mode():
        expected = parts.cut.prefix(torch.from_numpy(inputs))[0].numpy()
    np.testing.assert_allclose(features.values["test"][:4], expected.reshape(4, -1), rtol=1e-3, atol=1e-3)


def test_maps_are_averaged_over_their_area():
    maps = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    vector = np.array([[7.0], [8.0]], dtype=np.float32)
    flat = np.concatenate([maps.reshape(2, -1), vector], axis=1)
    expected = np.concatenate([maps.mean(axis=(2, 3)), vector], axis=1)
    np.testing.assert_array_equal(baselines._pooled(flat, ((3, 2, 2), (1,))), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_baseline_writes_what_a_run_writes_and_is_not_done_twice(recipe, shared, tmp_path, method):
    out = baseline(recipe, tmp_path / "baseline", method, shared)
    status = files.read_json(out / "run.json")
    assert status["status"] == "finished"
    assert status["method"] == method
    assert (status["components"] is None) == (method == "linear probe")
    assert status["parameters"]["trainable"] == (status["components"] or 1280) + 1
    assert set(status["seconds"]) == {"store", "training", "total"}
    manifest = Manifest.read(out / "manifest.parquet")
    for split in ("validation", "test"):
        table = pd.read_parquet(out / "predictions" / f"{split}.parquet")
        assert list(table) == ["image", "patient", "label", "site", "logit_NORMAL", "logit_PNEUMONIA"]
        assert table["image"].tolist() == manifest.subset(split).table["image"].tolist()
        probabilities = softmax(table[["logit_NORMAL", "logit_PNEUMONIA"]].to_numpy(np.float64), axis=1)
        right = (probabilities[:, 1] > 0.5) == (table["label"] == "PNEUMONIA")
        assert right.mean() > 0.6
    before = (out / "run.json").stat().st_mtime_ns
    baseline(recipe, out, method, shared)
    assert (out / "run.json").stat().st_mtime_ns == before


def test_one_pass_for_a_training_and_its_baseline_computes_each_picture_once(base, tmp_path):
    recipe = Recipe.parse({**base, "store": str(tmp_path / "store"), "unfreeze": {"layers": 2}})
    shared = Shared()
    images = len(shared.manifest(recipe))
    assert sharing.fill([recipe, recipe_of(recipe)], shared) == images
    assert sharing.fill([recipe_of(recipe)], shared) == 0


def test_trainings_share_a_baseline_unless_network_images_or_fold_differ(base):
    def changed(**fields) -> Recipe:
        return Recipe.parse({**base, "split": {"seed": 0}, **fields})

    same = [
        changed(),
        changed(unfreeze={"layers": 4}, learning_rate=0.1, augment="flip", seed=3, hidden=8, epochs=7),
    ]
    other = [
        changed(preprocess=[{"resize": {"size": 80}}]),
        changed(split={"seed": 0, "train_share": 0.5}),
        *(changed(split={"seed": 0, "folds": 2, "fold": fold}) for fold in (0, 1)),
    ]
    assert names(same[0]) == names(same[1])
    assert len(distinct([*same, *other])) == 5
    assert len({name for recipe in (*same, *other) for name in names(recipe)}) == 10
    assert any("fold1" in name for name in names(other[-1]))
