"""The cut: prefix and suffix together are the network, and the frozen stays frozen."""

import pytest
import torch

from freezeframe.backbones import catalogue, unfreeze, zoo
from freezeframe.backbones.cut import cut

# As small as each network allows; VGG and AlexNet pool to a fixed size, Inception needs 75.
SIZES = {"inception-v3": (80, 80), "vgg16": (32, 32), "alexnet": (64, 64)}
SMALL = [
    "resnet18",
    "mobilenet",
    "mobilenet-v3",
    "efficientnet-lite0",
    "alexnet",
    "densenet121",
    "inception-v3",
]
LARGE = [name for name in catalogue.ZOO if name not in SMALL]


def assert_divided_equals_whole(name: str, specs: list) -> None:
    network = zoo.build(name, 3, "none", announce=False)
    size = SIZES.get(name, (64, 64))
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    network.module.eval()
    with torch.no_grad():
        expected = network.module(images)
        for spec in specs:
            divided = cut(network, unfreeze.resolve(spec, network), size)
            parts = (images,) if divided.prefix is None else divided.prefix(images)
            assert tuple(tuple(part.shape[1:]) for part in parts) == divided.shapes
            assert torch.equal(divided.suffix(*parts), expected), f"{name} {spec}"
            flat = torch.cat([part.flatten(1) for part in parts], 1)
            assert torch.equal(divided.suffix(*divided.split(flat)), expected), f"{name} {spec} from a store"


@pytest.mark.parametrize("name", SMALL)
def test_prefix_and_suffix_equal_the_whole_to_the_bit(name: str) -> None:
    specs = ["head", "all", {"blocks": 1}, {"blocks": 2}, {"layers": 1}, {"layers": 3}, {"fraction": 0.5}]
    assert_divided_equals_whole(name, specs)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.ZOO)
def test_prefix_and_suffix_equal_the_whole_at_every_depth(name: str) -> None:
    network = zoo.build(name, 3, "none", announce=False)
    step = 1 if len(network.layers) < 30 else 7
    depths = [{"layers": count} for count in range(0, len(network.layers) + 1, step)]
    assert_divided_equals_whole(
        name, depths + [{"blocks": count} for count in range(len(network.blocks) + 1)]
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tf_efficientnet_lite0", (192, 7, 7)),
        ("resnet18", (256, 14, 14)),
        ("densenet121", (512, 7, 7)),
        ("mobilenetv3_large_100", (112, 14, 14)),
    ],
)
def test_the_last_block_starts_at_the_known_tensor(name: str, shape: tuple[int, ...]) -> None:
    network = zoo.build(name, 2, "none", announce=False)
    assert cut(network, unfreeze.resolve({"blocks": 1}, network)).shapes == (shape,)


def test_pooling_before_the_head_is_in_the_prefix_and_dropout_is_not() -> None:
    network = zoo.build("resnet18", 2, "none", dropout=0.5, announce=False)
    divided = cut(network, unfreeze.resolve("head", network), (64, 64))
    assert divided.shapes == ((512,),)
    assert any(isinstance(part, torch.nn.Dropout) for part in divided.suffix.modules())
    assert divided.prefix is not None
    assert not any(isinstance(part, torch.nn.Dropout) for part in divided.prefix.modules())


def test_a_mixed_residual_block_hands_over_the_shortcut_and_the_inner_tensor() -> None:
    network = zoo.build("resnet18", 2, "none", announce=False)
    divided = cut(network, unfreeze.resolve({"layers": 1}, network))
    assert divided.shapes == ((512, 7, 7), (512, 7, 7))


def test_inside_a_dense_block_all_features_that_are_read_are_stored() -> None:
    network = zoo.build("densenet121", 2, "none", announce=False)
    divided = cut(network, unfreeze.resolve({"layers": 1}, network))
    assert sum(channels for channels, _, _ in divided.shapes) <= 3 * 512
    assert len(divided.shapes) > 1


def test_a_frontier_of_more_than_three_times_one_tensor_is_not_stored() -> None:
    network = zoo.build("efficientnet-lite0", 2, "none", announce=False)
    assert cut(network, unfreeze.resolve({"layers": 5}, network)).shapes == ((192, 7, 7),)


@pytest.mark.parametrize("spec", [{"layers": 1}, {"blocks": 1}])
def test_a_training_step_moves_what_trains_and_nothing_else(spec: dict) -> None:
    network = zoo.build("densenet121", 2, "none", dropout=0.3, announce=False)
    unfrozen = unfreeze.resolve(spec, network)
    divided = cut(network, unfrozen, (64, 64))
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    unfreeze.apply(network.module, unfrozen)
    assert divided.prefix is not None
    assert not any(part.training for part in divided.prefix.modules())
    divided.suffix.train()
    unfreeze.set_training_mode(divided.suffix, unfrozen)
    with torch.no_grad():
        parts = divided.prefix(torch.randn(4, 3, 64, 64))
    kept = [part.clone() for part in parts]
    optimiser = torch.optim.SGD([p for p in divided.suffix.parameters() if p.requires_grad], lr=0.1)
    torch.nn.functional.cross_entropy(divided.suffix(*parts), torch.tensor([0, 1, 0, 1])).backward()
    optimiser.step()
    moved = {
        name for name, value in network.module.state_dict().items() if not torch.equal(value, before[name])
    }
    owners = {name.rpartition(".")[0] for name in unfrozen.parameters}
    assert moved
    assert {name.rpartition(".")[0] for name in moved} <= owners
    assert {name for name in moved if name.endswith(("weight", "bias"))} <= set(unfrozen.parameters)
    assert any(name.endswith("running_mean") for name in moved)
    assert all(torch.equal(one, other) for one, other in zip(parts, kept, strict=True)), (
        "a stored activation changed"
    )


def test_prefix_and_suffix_share_the_parameters_of_the_network() -> None:
    network = zoo.build("resnet18", 2, "none", announce=False)
    divided = cut(network, unfreeze.resolve({"blocks": 1}, network), (64, 64))
    whole = {name: parameter.data_ptr() for name, parameter in network.module.named_parameters()}
    assert divided.prefix is not None
    for part in (divided.prefix, divided.suffix):
        assert all(whole[name] == parameter.data_ptr() for name, parameter in part.named_parameters())


def test_the_key_changes_with_weights_and_statistics_and_with_nothing_else() -> None:
    network = zoo.build("resnet18", 2, "none", announce=False)
    unfrozen = unfreeze.resolve({"blocks": 1}, network)
    key = cut(network, unfrozen, (64, 64)).prefix_key
    network.module.get_parameter("fc.linear.weight").data += 1
    assert cut(network, unfrozen, (64, 64)).prefix_key == key
    network.module.get_buffer("layer3.1.bn2.running_mean").data += 1
    assert cut(network, unfrozen, (64, 64)).prefix_key != key


def test_code_that_depends_on_training_mode_is_not_baked_in() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.nn.functional.dropout(self.first(x), 0.5, self.training))

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = torch.nn.Conv2d(3, 3, 1), Block()
            self.pool, self.fc = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.pool(self.block(self.stem(x))).flatten(1))

    module = Model()
    network = zoo.Network(module, catalogue.describe("resnet18"), "fc", "none", "")
    trainable = ("block.second.weight", "block.second.bias", "fc.weight", "fc.bias")
    divided = cut(network, unfreeze.Unfrozen(trainable, ("block", "fc"), {}), (8, 8))
    assert divided.nodes == ("stem",)
    divided.suffix.train()
    x = torch.randn(1, 3, 8, 8)
    assert not torch.equal(divided.suffix(x), divided.suffix(x))
