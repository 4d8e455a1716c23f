"""Trainings that share parts in one process end with the bits of trainings that do not."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from freezeframe.backbones import zoo
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.training.fit import train
from freezeframe.training.predict import predict_manifest
from freezeframe.training.run import read_status
from freezeframe.training.shared import TRAINING_FIELDS, Shared, network_key


def alike(run, other) -> bool:
    one, two = (load_file(path / "checkpoints" / "best.safetensors") for path in (run, other))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_after_others_in_one_process_ends_with_the_same_bits(recipe, tmp_path):
    recipe = recipe.changed(epochs=2)
    alone = train(recipe, tmp_path / "alone")
    shared = Shared()
    train(recipe.changed(seed=1, learning_rate=0.01), tmp_path / "first", shared)
    train(recipe.changed(unfreeze={"layers": 2}), tmp_path / "second", shared)
    after = train(recipe, tmp_path / "after", shared)
    assert alike(alone, after)
    assert not alike(alone, tmp_path / "first")


def test_another_seed_gets_another_head_from_a_network_that_is_used_again(recipe):
    shared = Shared()
    heads = []
    for seed in (0, 1, 0):
        network = shared.assemble(recipe.changed(seed=seed), 2).network
        heads.append({name: value.clone() for name, value in network.module.state_dict().items()})
    fresh = zoo.of_recipe(recipe.changed(seed=1), 2).module.state_dict()
    assert all(torch.equal(heads[1][name], fresh[name]) for name in fresh)
    assert all(torch.equal(heads[0][name], heads[2][name]) for name in fresh)
    assert not torch.equal(heads[0]["classifier.linear.weight"], heads[1]["classifier.linear.weight"])


def test_random_layers_depend_on_the_seed_also_in_a_shared_process(recipe):
    shared = Shared()
    first, second = (
        shared.assemble(recipe.changed(weights="none", seed=seed), 2).network.module.state_dict()[
            "conv_stem.weight"
        ]
        for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_the_next_training_of_a_kind_costs_little(recipe, tmp_path):
    shared = Shared()
    seconds = []
    for seed in range(3):
        start = time.monotonic()
        train(
            recipe.changed(unfreeze="head", seed=seed, augment_seed=0, epochs=1), tmp_path / str(seed), shared
        )
        seconds.append(time.monotonic() - start)
    assert min(seconds[1:]) < seconds[0]


def test_a_hidden_layer_in_the_head_trains_and_is_read_back(recipe, tmp_path):
    run = train(recipe.changed(unfreeze="head", hidden=8, epochs=2), tmp_path / "hidden")
    weights = load_file(run / "checkpoints" / "best.safetensors")
    assert weights["classifier.hidden.weight"].shape == (8, 1280)
    manifest = Shared().manifest(recipe).subset("test")
    table, _ = predict_manifest(run, manifest)
    stored = pd.read_parquet(run / "predictions" / "test.parquet")
    assert np.allclose(table["logit_PNEUMONIA"], stored["logit_PNEUMONIA"], atol=1e-4)


def test_weights_of_what_trained_are_small_and_predict_the_same(recipe, tmp_path):
    recipe = recipe.changed(unfreeze={"layers": 2}, epochs=2)
    whole = train(recipe, tmp_path / "whole")
    small = train(recipe.changed(keep_weights="trained"), tmp_path / "small")
    sizes = [(run / "checkpoints" / "best.safetensors").stat().st_size for run in (whole, small)]
    assert sizes[1] < 0.4 * sizes[0]
    assert not (small / "checkpoints" / "last.safetensors").exists()
    manifest = Shared().manifest(recipe).subset("test")
    one, two = (predict_manifest(run, manifest)[0] for run in (whole, small))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert read_status(small)["status"] == "finished"


def test_weights_of_what_trained_refuse_other_pretrained_weights(recipe, tmp_path):
    recipe = recipe.changed(unfreeze="head", epochs=1, keep_weights="trained")
    run = train(recipe, tmp_path / "small")
    other = Recipe.parse({**recipe.to_dict(), "weights": "none"})
    with pytest.raises(UserError, match="on top of other pretrained weights"):
        zoo.restore(other, 2, run / "checkpoints" / "best.safetensors")


def test_a_network_is_used_again_only_where_nothing_that_decides_it_differs(recipe):
    key = network_key(recipe)
    assert network_key(recipe.changed(learning_rate=0.5, seed=9, epochs=1, imbalance="focal")) == key
    for field, value in {
        "backbone": "efficientnet-lite1",
        "weights": "none",
        "dropout": 0.5,
        "hidden": 4,
        "preprocess": ["grey"],
        "normalise": "none",
        "unfreeze": "head",
        "executor": "torch",
        "activation_dtype": "float16",
    }.items():
        assert network_key(recipe.changed(**{field: value})) != key, field
    random = recipe.changed(weights="none")
    assert network_key(random) != network_key(random.changed(seed=3))


def test_every_field_that_is_said_to_decide_nothing_is_a_field():
    assert set(Recipe.model_fields) >= TRAINING_FIELDS
