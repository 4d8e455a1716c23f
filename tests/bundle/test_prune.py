"""Pruning: what is left is a smaller, ordinary network and an ordinary run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from freezeframe.backbones import zoo
from freezeframe.bundle import prune as pruning
from freezeframe.bundle.prune import prune, size_of
from freezeframe.ensemble.folder import read_ensemble
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.training import assembly as assembling
from freezeframe.training.fit import train
from freezeframe.training.predict import predict_manifest


@pytest.fixture(scope="module")
def recipe(radiographs, tmp_path_factory) -> Recipe:
    return Recipe.parse(
        {
            "data": str(radiographs),
            "backbone": "test_resnet",
            "weights": "none",
            "unfreeze": {"blocks": 2},
            "preprocess": [{"resize": {"size": 64}}],
            "epochs": 2,
            "store": str(tmp_path_factory.mktemp("store")),
            "device": "cpu",
        }
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    return train(recipe, tmp_path_factory.mktemp("runs") / "large")


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    return prune(run, tmp_path_factory.mktemp("pruned") / "whole", keep=0.5, epochs=1)


@pytest.fixture(scope="module")
def suffix(run, tmp_path_factory) -> Path:
    return prune(run, tmp_path_factory.mktemp("pruned") / "suffix", keep=0.5, scope="suffix", epochs=2)


def restored(run: Path) -> zoo.Network:
    return zoo.restore(Recipe.read(run / "recipe.yaml"), 2, run / "checkpoints" / "best.safetensors")


def status(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_a_whole_network_is_pruned_to_the_share_of_multiply_adds_that_was_asked_for(run, whole):
    before, after = (size_of(restored(one).module, (64, 64)) for one in (run, whole))
    assert 0.4 < after.multiply_adds / before.multiply_adds <= 0.5
    assert status(whole)["pruned"]["multiply_adds"] == [before.multiply_adds, after.multiply_adds]


def test_pruned_channels_come_in_multiples_of_a_register(whole):
    channels = json.loads((whole / "pruned.json").read_text())["channels"]
    assert channels
    assert all(now % 8 == 0 for _, now in channels.values())


def test_a_pruned_run_is_read_evaluated_and_predicted_as_any_other(whole, run):
    answers = read_ensemble(whole).answers("test")
    manifest = read_ensemble(whole).members[0].manifest
    table, unreadable = predict_manifest(whole, manifest.subset("test"))
    assert not unreadable
    np.testing.assert_allclose(table.filter(like="logit_").to_numpy(), answers.logits[0], atol=1e-4)
    # The same images as the run that was pruned.
    other = pd.read_parquet(run / "predictions" / "test.parquet")
    assert list(answers.images["image"]) == list(other["image"])


def test_the_suffix_alone_is_pruned_to_its_share(run, suffix):
    parts = [
        assembling.assemble(
            Recipe.read(one / "recipe.yaml"), 2, trained=one / "checkpoints" / "best.safetensors"
        )
        for one in (run, suffix)
    ]
    before, after = (one.cut.suffix_multiply_adds for one in parts)
    assert 0.4 < after / before <= 0.5
    assert parts[0].cut.prefix_multiply_adds == parts[1].cut.prefix_multiply_adds


def test_pruning_the_suffix_keeps_the_frozen_part_and_its_stored_activations(run, suffix):
    one, two = restored(run).module.state_dict(), restored(suffix).module.state_dict()
    frozen = [name for name in one if name.startswith(("conv1", "bn1", "layer1", "layer2"))]
    assert len(frozen) > 10
    assert all(torch.equal(one[name], two[name]) for name in frozen)
    packs = {pack_of(folder) for folder in (run, suffix)}
    assert len(packs) == 1
    assert "The store holds the activations" in status(suffix)["activations"]["reason"]


def pack_of(run: Path) -> Path:
    return assembling.assemble(Recipe.read(run / "recipe.yaml"), 2).pack().folder


def test_the_recovery_learns_from_the_unpruned_run_with_its_own_images(run, whole):
    assert status(whole)["teacher"]["path"] == str(run)
    recipe = Recipe.read(whole / "recipe.yaml")
    assert recipe.unfreeze == "all"
    assert recipe.weights == str(whole / "pruned.safetensors")


def test_pruned_weights_begin_as_the_unpruned_network_without_the_channels(run, whole):
    large, small = restored(run).module.state_dict(), load_file(whole / "pruned.safetensors")
    name = "fc.linear.weight"
    columns = {tuple(column) for column in large[name].T.tolist()}
    assert all(tuple(column) in columns for column in small[name].T.tolist())
    assert small[name].shape[1] < large[name].shape[1]


def test_the_same_pruning_again_changes_nothing(run, whole):
    before = (whole / "checkpoints" / "best.safetensors").read_bytes()
    prune(run, whole, keep=0.5, epochs=1)
    assert (whole / "checkpoints" / "best.safetensors").read_bytes() == before


def test_a_pruning_that_was_stopped_before_its_training_goes_on_without_pruning_again(
    run, whole, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pruning, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            prune(run, tmp_path / "again", keep=0.5, epochs=1)
    monkeypatch.setattr(pruning, "_make", stop)
    again = prune(run, tmp_path / "again", keep=0.5, epochs=1)
    one, two = (load_file(each / "checkpoints" / "best.safetensors") for each in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_share_in_the_same_folder_is_refused_and_named(run, whole):
    with pytest.raises(UserError, match=r"pruned otherwise \(keep: 0\.5 there, 0\.3 now\)"):
        prune(run, whole, keep=0.3)


def test_the_folder_of_another_run_is_refused(run):
    with pytest.raises(UserError, match="holds another run"):
        prune(run, run, keep=0.5)


def test_so_little_that_it_can_not_be_kept_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"whatever is taken from it.* a share of at least 0\.\d\d"):
        prune(run, tmp_path / "tiny", keep=0.001)


def test_the_suffix_of_a_run_of_the_head_alone_can_not_be_pruned(recipe, tmp_path):
    run = train(recipe.changed(unfreeze="head", epochs=1), tmp_path / "head")
    with pytest.raises(UserError, match=r"the head alone was trained.*--scope whole"):
        prune(run, tmp_path / "pruned", scope="suffix")


def test_pruned_weights_with_other_classes_are_refused(whole):
    with pytest.raises(UserError, match="number of classes than 3"):
        zoo.build("test_resnet", 3, weights=whole / "pruned.safetensors")


def test_weights_of_other_shapes_that_do_not_say_that_they_are_pruned_are_refused(run, whole, tmp_path):
    from safetensors.torch import save_file

    save_file(load_file(whole / "pruned.safetensors"), tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="another network"):
        zoo.restore(Recipe.read(run / "recipe.yaml"), 2, tmp_path / "plain.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", ["efficientnet-lite0", "mobilenet-v3", "densenet121", "alexnet", "convnext_atto"]
)
def test_networks_of_every_kind_lose_channels_and_are_built_again_from_their_weights(recipe, backbone):
    plain = recipe.changed(backbone=backbone, unfreeze="all", preprocess=[{"resize": {"size": 96}}])
    parts = assembling.assemble(plain, 2)
    random = torch.Generator().manual_seed(0)
    for parameter in parts.network.module.eval().parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)
    smaller = pruning._without(parts, 0.4, None)
    before, after = (size_of(module, (96, 96)) for module in (parts.network.module, smaller))
    assert after.multiply_adds < 0.6 * before.multiply_adds
    state = {name: tensor.contiguous() for name, tensor in smaller.state_dict().items()}
    pruning._check_rebuilt(plain, 2, smaller, state, (96, 96))


def test_a_network_whose_channels_can_not_be_taken_out_is_refused(recipe):
    vit = recipe.changed(
        backbone="vit_tiny_patch16_224", preprocess=[{"resize": {"size": 224}}], unfreeze="all"
    )
    parts = assembling.assemble(vit, 2)
    for parameter in parts.network.module.eval().parameters():
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(UserError, match="can't be taken out"):
        pruning._smaller(parts, None, pruning.Size(0, 0), 0.5, "multiply-adds")
