import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from freezeframe.training.explain import gradients, target_layer

NETWORKS = {
    "resnet18": lambda: timm.create_model("resnet18", num_classes=8),
    "densenet121": lambda: timm.create_model("densenet121", num_classes=8),
    "efficientnet-lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=8),
    "mobilenet-v3": lambda: timm.create_model("mobilenetv3_large_100", num_classes=8),
    "alexnet": lambda: models.alexnet(num_classes=8),
    "vgg11": lambda: models.vgg11(num_classes=8),
}


class Detector(nn.Module):
    """Class 1 is 'there is something bright': its evidence can only come from the bright place."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 8, stride=8, bias=False)
        self.head = nn.Linear(1, 2, bias=False)
        nn.init.ones_(self.convolution.weight)
        self.head.weight.data = torch.tensor([[-1.0], [1.0]])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.convolution(inputs).mean(dim=(2, 3)))


@pytest.fixture
def bright_corner() -> torch.Tensor:
    image = torch.zeros(1, 3, 64, 64)
    image[..., 8:16, 40:56] = 1
    return image


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_of_networks_gives_a_map_of_the_input_size_in_0_to_1(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    size = 96 if name != "alexnet" else 128
    heat = gradients(network, torch.randn(1, 3, size, size).expand(8, -1, -1, -1), torch.arange(8))
    assert heat.shape == (8, size, size)
    assert heat.dtype == torch.float32
    assert heat.min() >= 0
    assert heat.max() <= 1
    # Of eight random classes some have evidence somewhere.
    assert (heat.amax(dim=(1, 2)) > 0.99).any()


def test_the_evidence_lies_where_the_bright_place_is(bright_corner):
    heat = gradients(Detector(), bright_corner, torch.tensor([1]))[0].numpy()
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 4 <= row < 20
    assert 36 <= column < 60
    assert heat[32:, :32].max() == 0


def test_nothing_speaks_for_the_other_class(bright_corner):
    assert gradients(Detector(), bright_corner, torch.tensor([0])).max() == 0


def test_the_last_feature_map_is_that_of_the_last_stage_with_its_shortcut():
    network = timm.create_model("resnet18", num_classes=2).eval()
    assert target_layer(network, torch.zeros(1, 3, 96, 96)) is network.layer4


def test_more_images_than_a_batch_give_the_same_maps_as_one_by_one():
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3).eval()
    inputs, classes = torch.randn(10, 3, 64, 64), torch.arange(10) % 3
    together = gradients(network, inputs, classes)
    alone = torch.cat([gradients(network, inputs[i : i + 1], classes[i : i + 1]) for i in (0, 9)])
    torch.testing.assert_close(together[[0, 9]], alone, rtol=1e-3, atol=1e-4)
