"""From a recipe's word to what trains."""

import pytest
import torch

from freezeframe.backbones import unfreeze, zoo
from freezeframe.errors import UserError


@pytest.fixture(scope="module")
def resnet() -> zoo.Network:
    return zoo.build("resnet18", 2, "none", announce=False)


def owners(unfrozen: unfreeze.Unfrozen) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in unfrozen.parameters))


def test_head_trains_the_head_alone(resnet: zoo.Network) -> None:
    assert unfreeze.resolve("head", resnet).parameters == ("fc.linear.weight", "fc.linear.bias")


def test_all_trains_everything(resnet: zoo.Network) -> None:
    assert len(unfreeze.resolve("all", resnet).parameters) == len(list(resnet.module.parameters()))


def test_layers_are_counted_as_they_run_with_their_norms(resnet: zoo.Network) -> None:
    assert owners(unfreeze.resolve({"layers": 1}, resnet)) == ["layer4.1.conv2", "layer4.1.bn2", "fc.linear"]


def test_blocks_are_counted_from_the_output(resnet: zoo.Network) -> None:
    assert {name.split(".")[0] for name in unfreeze.resolve({"blocks": 2}, resnet).parameters} == {
        "layer3", "layer4", "fc",
    }  # fmt: skip


def test_all_blocks_and_all_layers_are_everything(resnet: zoo.Network) -> None:
    everything = unfreeze.resolve("all", resnet).parameters
    assert unfreeze.resolve({"blocks": len(resnet.blocks)}, resnet).parameters == everything
    assert unfreeze.resolve({"layers": len(resnet.layers)}, resnet).parameters == everything
    assert unfreeze.resolve({"fraction": 1.0}, resnet).parameters == everything


def test_from_a_module_is_everything_that_runs_from_it_on(resnet: zoo.Network) -> None:
    assert unfreeze.resolve({"from": "layer4"}, resnet) == unfreeze.resolve({"blocks": 1}, resnet)


def test_fraction_is_the_fewest_layers_that_hold_it(resnet: zoo.Network) -> None:
    sizes = {name: parameter.numel() for name, parameter in resnet.module.named_parameters()}
    total = sum(sizes.values()) - 1026
    for share in (0.1, 0.3, 0.7):
        chosen = unfreeze.resolve({"fraction": share}, resnet)
        count = next(n for n in range(21) if unfreeze.resolve({"layers": n}, resnet) == chosen)
        held = [
            sum(sizes[name] for layer in resnet.layers[20 - n :] for name in layer.parameters)
            for n in (count, count - 1)
        ]
        assert held[0] >= share * total > held[1]


def test_blocks_have_an_index_from_the_output_back(resnet: zoo.Network) -> None:
    index = unfreeze.resolve("all", resnet).block_index
    names = ("fc.linear.weight", "layer4.0.conv1.weight", "layer1.0.bn1.bias", "conv1.weight")
    assert [index[name] for name in names] == [0, 1, 4, 5]


def test_a_schedule_says_what_trains_from_which_epoch(resnet: zoo.Network) -> None:
    steps = unfreeze.schedule([{"blocks": 1}, {"epoch": 3, "blocks": 2}], resnet)
    assert [epoch for epoch, _ in steps] == [0, 3]
    assert steps[1][1] == unfreeze.resolve({"blocks": 2}, resnet)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"blocks": 6}, "a whole number from 0 to 5"),
        ({"layers": -1}, "a whole number from 0 to 20"),
        ({"layers": True}, "a whole number"),
        ({"layer": 1}, "did you mean 'layers'?"),
        ({"from": "layr4"}, "did you mean 'layer4'?"),
        ({"from": ""}, "no module ''"),
        ({"fraction": 1.5}, "a number from 0 to 1"),
        ("hed", "head, all"),
        ({"blocks": 1, "layers": 2}, "head, all"),
        ([{"blocks": 1}, {"epoch": 0, "blocks": 2}], "whole numbers that grow"),
        ([{"epoch": 2, "blocks": 2}], "epoch 0"),
        ([], "empty list"),
    ],
)
def test_a_wrong_word_is_explained(resnet: zoo.Network, spec: object, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        unfreeze.schedule(spec, resnet)  # type: ignore[arg-type]


def test_frozen_norms_keep_their_statistics_in_training(resnet: zoo.Network) -> None:
    unfrozen = unfreeze.resolve({"blocks": 1}, resnet)
    before = {name: value.clone() for name, value in resnet.module.state_dict().items()}
    resnet.module.train()
    unfreeze.set_training_mode(resnet.module, unfrozen)
    resnet.module(torch.randn(2, 3, 64, 64))
    moved = {
        name for name, value in resnet.module.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved
    assert all(name.startswith("layer4") for name in moved)


def test_gradients_are_wanted_of_what_trains_only(resnet: zoo.Network) -> None:
    unfrozen = unfreeze.resolve({"layers": 2}, resnet)
    unfreeze.apply(resnet.module, unfrozen)
    assert tuple(n for n, p in resnet.module.named_parameters() if p.requires_grad) == unfrozen.parameters
