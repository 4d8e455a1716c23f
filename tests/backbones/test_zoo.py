"""Networks by name."""

import subprocess
import sys

import pytest
import torch

from freezeframe.backbones import catalogue, zoo
from freezeframe.backbones.cut import cut
from freezeframe.backbones.unfreeze import resolve
from freezeframe.errors import UserError


@pytest.mark.parametrize("name", ["resnet18", "mobilenet-v3", "efficientnet-lite1", "alexnet", "densenet121"])
def test_the_listed_figures_are_those_of_the_network(name: str) -> None:
    check_figures(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.ZOO)
def test_the_listed_figures_are_those_of_every_network(name: str) -> None:
    check_figures(name)


def check_figures(name: str) -> None:
    network = zoo.build(name, 1, "none", announce=False)
    sizes = {key: parameter.numel() for key, parameter in network.module.named_parameters()}
    head = network.module.get_submodule(network.head).linear.in_features
    divided = cut(network, resolve("head", network))
    assert network.backbone.parameters == sum(sizes.values()) - head - 1
    assert network.backbone.multiply_adds == divided.prefix_multiply_adds
    assert network.backbone.blocks == len(network.blocks)


@pytest.mark.parametrize(
    "name", [name for name, backbone in catalogue.ZOO.items() if backbone.source == "timm"]
)
def test_the_table_agrees_with_timm(name: str) -> None:
    import timm

    ours = catalogue.ZOO[name]
    theirs = timm.get_pretrained_cfg(ours.model)
    assert theirs is not None
    assert (ours.input_size, ours.mean, ours.std) == (theirs.input_size[1:], theirs.mean, theirs.std)
    assert ours.hub == theirs.hf_hub_id
    assert ours.url is None or ours.url == theirs.url


def test_the_table_agrees_with_torchvision() -> None:
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    assert catalogue.ZOO["vgg16"].url == VGG16_Weights.DEFAULT.url
    assert catalogue.ZOO["alexnet"].url == AlexNet_Weights.DEFAULT.url


def test_any_timm_name_is_described() -> None:
    backbone = catalogue.describe("convnext_atto")
    assert (backbone.hub, backbone.input_size) == ("timm/convnext_atto.d2_in1k", (224, 224))


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        catalogue.describe("resnett18")


def test_names_are_listed_without_torch() -> None:
    code = "import sys; from freezeframe.verbs.backbones import backbones; backbones(); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, same, other = (zoo.build("mobilenet-v3", 2, "none", seed=seed, announce=False) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    states = [network.module.state_dict() for network in (one, same, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["classifier.linear.weight"], states[2]["classifier.linear.weight"])


def test_random_weights_are_said_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    network = zoo.build("mobilenet-v3", 2, "none")
    assert "random weights" in capsys.readouterr().err
    assert (network.weights_source, network.weights_sha256) == ("none", "")


def test_transfer_takes_the_first_layers_and_renews_the_rest() -> None:
    pretrained = zoo.build("efficientnet-lite0", 2).module.state_dict()
    random = zoo.build("efficientnet-lite0", 2, "none", announce=False).module.state_dict()
    mixed = zoo.build("efficientnet-lite0", 2, transfer={"first": 2}).module.state_dict()
    first = ("conv_stem.", "bn1.", "blocks.0.0.conv_dw.", "blocks.0.0.bn1.")
    for key, value in mixed.items():
        source = pretrained if key.startswith(first) else random
        assert torch.equal(value, source[key]), key


def test_transfer_of_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="a number from 1 to 49"):
        zoo.build("efficientnet-lite0", 2, transfer={"first": 50})
