"""Adapters: small corrections that train behind an unchanged cut, and an ordinary network at the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from freezeframe.backbones import unfreeze, zoo
from freezeframe.backbones.cut import Cut, cut
from freezeframe.backbones.zoo import Network
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.recipe import Adapters, Recipe
from freezeframe.training.adapters import attached, merge, targets
from freezeframe.training.assembly import assemble, describe_cut
from freezeframe.training.fit import train
from freezeframe.training.predict import predict_manifest
from freezeframe.training.schedule import parameter_groups
from freezeframe.training.shared import Shared

RANK = Adapters(rank=4)
NETWORKS = [
    ("efficientnet-lite0", {"blocks": 1}, 64),
    ("resnet18", {"blocks": 2}, 64),
    ("mobilenet-v3", {"layers": 5}, 64),
    ("densenet121", {"layers": 3}, 64),
    ("alexnet", {"layers": 2}, 64),
    ("vit_tiny_patch16_224", {"blocks": 1}, 224),
]


def divided(name: str, spec: dict, size: int) -> tuple[Network, unfreeze.Unfrozen, Cut]:
    network = zoo.build(name, 3, "none", announce=False)
    network.module.eval()
    unfrozen = unfreeze.resolve(spec, network)
    return network, unfrozen, cut(network, unfrozen, (size, size))


def images(size: int) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@contextlib.contextmanager
def learnt(network: Network, suffix: nn.Module, unfrozen: unfreeze.Unfrozen):
    """Adapters that have learnt something, large beside what a training teaches them."""
    random = torch.Generator().manual_seed(2)
    with torch.no_grad(), attached(RANK, network, suffix, [(0, unfrozen)], seed=0) as phases:
        values = {name: network.module.get_parameter(name) for name in phases[0][1].parameters}
        for name, parameter in values.items():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=random))
        network.module.eval()
        suffix.eval()
        yield {name: parameter.clone() for name, parameter in values.items()}


@pytest.mark.parametrize(("name", "spec", "size"), NETWORKS)
def test_merged_weights_say_what_the_adapters_said(name, spec, size):
    network, unfrozen, parts = divided(name, spec, size)
    pictures = images(size)
    with torch.no_grad():
        before = network.module(pictures)
        assert parts.prefix is not None
        activations = parts.prefix(pictures)
        with learnt(network, parts.suffix, unfrozen) as values:
            adapted = network.module(pictures)
            torch.testing.assert_close(parts.suffix(*activations), adapted, rtol=0, atol=1e-6)
        assert torch.equal(network.module(pictures), before)
        merge(RANK, network, parts.suffix, [(0, unfrozen)], values)
        network.module.eval()
        merged = network.module(pictures)
        assert torch.equal(parts.suffix(*activations), merged)
    assert (adapted - before).abs().max() > 1e-4
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "spec", "size"), NETWORKS)
def test_new_adapters_change_nothing_and_leave_no_trace(name, spec, size):
    network, unfrozen, parts = divided(name, spec, size)
    pictures, plain = images(size), dict(network.module.named_modules())
    state = {key: value.clone() for key, value in network.module.state_dict().items()}
    with torch.no_grad():
        before = network.module(pictures)
        with attached(RANK, network, parts.suffix, [(0, unfrozen)], seed=0):
            network.module.eval()
            assert torch.equal(network.module(pictures), before)
    assert dict(network.module.named_modules()) == plain
    after = network.module.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert not hasattr(network.module, "peft_config")


@pytest.mark.parametrize(("name", "spec", "size"), NETWORKS)
def test_all_that_trains_gets_a_gradient_and_nothing_else_does(name, spec, size):
    network, unfrozen, parts = divided(name, spec, size)
    with attached(RANK, network, parts.suffix, [(0, unfrozen)], seed=0) as phases:
        unfreeze.apply(network.module, phases[0][1])
        assert parts.prefix is not None
        parts.suffix(*parts.prefix(images(size))).sum().backward()
        moved = {name for name, one in network.module.named_parameters() if one.grad is not None}
    assert moved == set(phases[0][1].parameters)


def test_layers_that_can_not_be_merged_get_no_adapter():
    network, unfrozen, _ = divided("efficientnet-lite0", {"blocks": 2}, 64)
    found = targets(network, unfrozen)
    assert "blocks.6.0.conv_pw" in found
    assert not any(name.endswith("conv_dw") or name.startswith("classifier") for name in found)
    dilated, reflecting = (
        network.module.get_submodule(name) for name in ("conv_head", "blocks.6.0.conv_pwl")
    )
    assert isinstance(dilated, nn.Conv2d)
    assert isinstance(reflecting, nn.Conv2d)
    dilated.dilation, reflecting.padding_mode = (2, 2), "reflect"
    assert set(found) - set(targets(network, unfrozen)) == {"conv_head", "blocks.6.0.conv_pwl"}


def test_convolutions_that_standardise_their_weights_get_no_adapter():
    network = zoo.build("nf_resnet26", 2, "none", announce=False)
    with pytest.raises(UserError, match="no layer can have one"):
        targets(network, unfreeze.resolve({"blocks": 1}, network))


def test_norms_stay_frozen_and_in_inference_mode():
    network, unfrozen, parts = divided("resnet18", {"blocks": 1}, 64)
    assert "layer4.1.bn2" in unfrozen.modules
    with attached(RANK, network, parts.suffix, [(0, unfrozen)], seed=0) as phases:
        form = phases[0][1]
        unfreeze.set_training_mode(network.module, form)
        training = {name for name, part in network.module.named_modules() if part.training}
    assert not any("bn" in name.split(".")[-1] for name in training)
    assert "layer4.1.conv2.lora_A.default" in training
    assert not any("bn" in name for name in form.parameters)


def test_the_same_seed_gives_the_same_adapters_whatever_was_drawn_before():
    network, unfrozen, parts = divided("efficientnet-lite0", {"blocks": 1}, 64)
    found = []
    for seed in (3, 3, 4):
        torch.rand(5)
        state = torch.get_rng_state()
        with attached(RANK, network, parts.suffix, [(0, unfrozen)], seed):
            found.append(network.module.get_parameter("conv_head.lora_A.default.weight").clone())
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_an_error_in_a_training_leaves_a_plain_network():
    network, unfrozen, parts = divided("efficientnet-lite0", {"blocks": 1}, 64)
    names = set(network.module.state_dict())
    with pytest.raises(KeyboardInterrupt), attached(RANK, network, parts.suffix, [(0, unfrozen)], seed=0):
        raise KeyboardInterrupt
    assert set(network.module.state_dict()) == names


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unfreeze": "head", "adapters": {"rank": 4}}, "set unfreeze: {blocks: 1}"),
        ({"transfer": {"first": 3}, "adapters": {}}, "leave one of the two out"),
        ({"adapters": {"rang": 4}}, "did you mean 'rank'"),
    ],
)
def test_what_makes_no_sense_with_adapters_is_refused_with_advice(recipe, fields, message):
    with pytest.raises(UserError, match=message):
        recipe.changed(**fields)


def test_a_part_without_a_layer_to_adapt_is_refused_before_anything_is_computed(recipe):
    with pytest.raises(UserError, match="Unfreeze more"):
        assemble(recipe.changed(unfreeze={"blocks": 0}, adapters={"rank": 4}), 2)


def test_adapters_learn_at_the_rate_of_the_head_if_no_other_is_said(recipe):
    network, unfrozen, parts = divided("efficientnet-lite0", {"blocks": 1}, 64)
    recipe = recipe.changed(adapters={"rank": 4}, learning_rate=0.01)
    with attached(RANK, network, parts.suffix, [(0, unfrozen)], seed=0) as phases:
        own = parameter_groups(network.module, phases[0][1], recipe)
        said = parameter_groups(network.module, phases[0][1], recipe.changed(backbone_learning_rate=0.002))
    assert {group["lr"] for group in own} == {0.01}
    assert {group["lr"] for group in said} == {0.01, 0.002}


def test_the_cut_is_described_with_what_trains(recipe):
    text = describe_cut(assemble(recipe.changed(adapters={"rank": 4}), 2))
    # 4 x (192 + 1152) + 4 x (1152 + 320) + 4 x (320 + 1280), and a head of 1280 x 2 + 2.
    assert text.startswith("efficientnet-lite0: 20,226 of ")
    assert "as adapters and head" in text


CURVES = ["train_loss", "validation_loss", "validation_roc_auc", "learning_rate"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "best.safetensors")


def assert_same_bits(run: Path, other: Path) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    here, there = (pd.DataFrame(pd.read_csv(folder / "metrics.csv")[CURVES]) for folder in (run, other))
    pd.testing.assert_frame_equal(here, there, check_exact=True)


@pytest.fixture(scope="module")
def adapted(recipe) -> Recipe:
    return recipe.changed(adapters={"rank": 4, "dropout": 0.1}, learning_rate=0.003)


@pytest.fixture(scope="module")
def shared() -> Shared:
    """Of one process, so that trainings after the first cost little."""
    return Shared()


@pytest.fixture(scope="module")
def unbroken(adapted, shared, tmp_path_factory) -> Path:
    return train(adapted, tmp_path_factory.mktemp("runs") / "unbroken", shared)


def test_what_a_training_leaves_is_an_ordinary_network(unbroken, adapted):
    before = zoo.of_recipe(adapted, 2).module.state_dict()
    after = weights(unbroken)
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {"blocks.6.0.conv_pw", "blocks.6.0.conv_pwl", "conv_head"}
    assert moved == {f"{name}.weight" for name in layers} | {
        "classifier.linear.weight",
        "classifier.linear.bias",
    }
    for name in layers:
        correction = (after[f"{name}.weight"] - before[f"{name}.weight"]).flatten(1)
        assert torch.linalg.matrix_rank(correction, rtol=1e-3) <= 4
    assert json.loads((unbroken / "run.json").read_text())["parameters"]["trainable"] == 20_226


def test_a_finished_run_predicts_with_the_merged_weights_what_it_predicted(unbroken, adapted):
    table, _ = predict_manifest(unbroken, Manifest.read(unbroken / "manifest.parquet").subset("test"))
    said = pd.read_parquet(unbroken / "predictions" / "test.parquet")
    columns = ["logit_NORMAL", "logit_PNEUMONIA"]
    np.testing.assert_allclose(table[columns], said[columns], rtol=1e-4, atol=1e-5)


def test_trainings_with_and_without_adapters_read_the_same_stored_activations(
    unbroken, recipe, adapted, tmp_path
):
    status = json.loads((train(recipe, tmp_path / "plain") / "run.json").read_text())
    assert status["activations"]["reason"].startswith("The store holds the activations")
    plain, other = (assemble(one, 2) for one in (recipe, adapted))
    assert plain.cut.prefix_key == other.cut.prefix_key
    assert plain.pack().folder == other.pack().folder


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(unbroken, adapted, shared, tmp_path):
    def stop(epoch: int, _row: dict[str, float]) -> None:
        if epoch == 1:
            raise RuntimeError("stopped")

    eager = adapted.changed(checkpoint_seconds=1e-3)
    with pytest.raises(RuntimeError, match="stopped"):
        train(eager, tmp_path / "run", shared, stop)
    assert_same_bits(unbroken, train(eager, tmp_path / "run", shared))


def test_a_training_after_others_in_one_process_ends_with_the_same_bits(
    unbroken, recipe, adapted, shared, tmp_path
):
    train(recipe.changed(epochs=1), tmp_path / "plain", shared)
    train(adapted.changed(seed=5, epochs=1), tmp_path / "other", shared)
    assert_same_bits(unbroken, train(adapted, tmp_path / "again", shared))


def test_live_training_is_the_same(unbroken, adapted, shared, tmp_path):
    assert_same_bits(unbroken, train(adapted.changed(activations="live"), tmp_path / "live", shared))


def test_a_finished_run_is_extended_from_its_adapters(adapted, shared, tmp_path):
    constant = adapted.changed(schedule="constant")
    short = train(constant.changed(epochs=1), tmp_path / "run", shared)
    extended = train(constant.changed(epochs=2), short, shared)
    assert_same_bits(extended, train(constant.changed(epochs=2), tmp_path / "long", shared))


def test_weights_of_what_trained_hold_the_merged_layers_and_predict_the_same(
    unbroken, adapted, shared, tmp_path
):
    run = train(adapted.changed(keep_weights="trained"), tmp_path / "small", shared)
    kept, whole = weights(run), weights(unbroken)
    assert {name.rpartition(".")[0] for name in kept} == {
        "blocks.6.0.conv_pw", "blocks.6.0.conv_pwl", "conv_head", "classifier.linear"
    }  # fmt: skip
    restored = zoo.restore(adapted, 2, run / "checkpoints" / "best.safetensors").module.state_dict()
    assert restored.keys() == whole.keys()
    assert all(torch.equal(restored[name], whole[name]) for name in whole)


def test_adapters_of_a_deeper_block_wait_for_their_epoch(adapted, shared, tmp_path):
    recipe = adapted.changed(unfreeze=[{"blocks": 1}, {"epoch": 1, "blocks": 2}], epochs=1)
    before = zoo.of_recipe(recipe, 2).module.state_dict()
    first = weights(train(recipe, tmp_path / "first", shared))
    assert torch.equal(first["blocks.5.0.conv_pw.weight"], before["blocks.5.0.conv_pw.weight"])
    assert not torch.equal(first["blocks.6.0.conv_pw.weight"], before["blocks.6.0.conv_pw.weight"])
    both = weights(train(recipe.changed(epochs=2, patience=None), tmp_path / "both", shared))
    assert both.keys() == before.keys()


@pytest.mark.slow
def test_nothing_imports_peft_before_adapters_are_asked_for():
    code = "import sys, freezeframe.training.fit; sys.exit('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_bits(unbroken, adapted, tmp_path):
    adapted.changed(checkpoint_seconds=0.05).write(tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "freezeframe", "train", str(tmp_path / "recipe.yaml"), "--out", str(run)]
    last = run / "checkpoints" / "last.safetensors"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert_same_bits(unbroken, run)
