"""Grad-CAM's weights as numbers or as a graph, against captum's gradients."""

import numpy as np
import pytest
import torch

from freezeframe.backbones import zoo
from freezeframe.bundle.graphs import graph_of
from freezeframe.bundle.runtime.heat import Heat, heat_maps
from freezeframe.bundle.runtime.sessions import open_session
from freezeframe.training.explain import gradients


@pytest.mark.parametrize(
    ("name", "hidden", "size", "depends"),
    [
        ("resnet18", None, (96, 64), False),
        pytest.param("densenet121", None, (64, 64), False, marks=pytest.mark.slow),
        ("resnet18", 8, (64, 64), True),
        pytest.param("mobilenet-v3", None, (64, 64), True, marks=pytest.mark.slow),
        pytest.param("alexnet", None, (128, 128), True, marks=pytest.mark.slow),
    ],
)
def test_the_maps_of_the_graph_are_those_of_captum(name, hidden, size, depends):
    made = zoo.build(name, 3, "none", announce=False, hidden=hidden, seed=2)
    graph = graph_of(made.module, made.head, size)
    assert graph.heat is not None
    assert graph.heat_is_graph == depends
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(5))
    classes = np.array([0, 2, 1, 2])
    maps = open_session(graph.model, "onnxruntime", 1).run(images.numpy(), ("map",))["map"]
    weights = Heat(graph.heat, graph.heat_is_graph, threads=1).weights(maps, classes)
    found = heat_maps(maps, weights, size)
    expected = gradients(made.module.eval(), images, torch.as_tensor(classes)).numpy()
    assert expected.max() > 0.99
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_hidden_layer_that_is_active_alike_for_all_images_of_noise_is_still_seen_to_depend_on_the_image():
    made = zoo.build("test_efficientnet", 2, "none", announce=False, hidden=8, seed=1)
    assert graph_of(made.module, made.head, (64, 64)).heat_is_graph


class NormedTail(torch.nn.Module):
    """A norm over the channels behind the pooling, whose gradient ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 6, 4, stride=4)
        self.norm = torch.nn.GroupNorm(2, 6)
        self.head = zoo.new_head(6, 3, 0.0, None, 0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.convolution(images).mean(dim=(2, 3), keepdim=True)
        return self.head(self.norm(pooled).flatten(1))


def test_a_tail_whose_gradient_cannot_be_exported_has_no_heat_map_but_answers():
    network = NormedTail()
    graph = graph_of(network, "head", (32, 32))
    assert graph.heat is None
    assert graph.no_heat_because == "no_gradient"
    images = torch.randn(2, 3, 32, 32)
    found = open_session(graph.model, "onnxruntime", 1).run(images.numpy(), ("logits",))["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(found, network.eval()(images).numpy(), atol=1e-5)


class Shortcut(torch.nn.Module):
    """The last map of more than one pixel is in one of two branches, as in a last stage of very small images."""

    def __init__(self, joined: str) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 4, stride=4)
        self.branch = torch.nn.Conv2d(4, 4, 1)
        self.joined = joined
        self.head = zoo.new_head(8 if joined == "cat" else 4, 3, 0.0, 6, 0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = self.stem(images)
        one, other = (part.mean(dim=(2, 3)) for part in (stem, self.branch(stem)))
        return self.head(torch.cat([one, other], 1) if self.joined == "cat" else one + other)


@pytest.mark.parametrize("joined", ["cat", "sum"])
def test_a_map_that_is_one_of_two_branches_gives_no_heat_map(joined):
    graph = graph_of(Shortcut(joined), "head", (32, 32))
    assert graph.heat is None
    assert graph.no_heat_because == "branch"
