"""Trained networks as graphs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from freezeframe.backbones import zoo
from freezeframe.bundle.graphs import graph_of, member_graph
from freezeframe.recipe import Recipe

CLASSES = ("blight", "healthy", "rust")
SIZES = {
    "resnet18": (64, 48),
    "densenet121": (64, 64),
    "mobilenet-v2": (64, 64),
    "efficientnet-lite0": (64, 64),
}
NETWORKS = [
    "resnet18",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("densenet121", "mobilenet-v2", "efficientnet-lite0")
    ),
]


def network(name: str, hidden: int | None = None) -> zoo.Network:
    made = zoo.build(name, len(CLASSES), "none", announce=False, hidden=hidden, seed=1)
    made.module.eval()
    return made


def run(model: bytes, images: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(None, {"images": images.numpy()})), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_logits_of_the_network_for_any_number_of_images(name):
    made = network(name)
    model = graph_of(made.module, made.head, SIZES[name]).model
    for count in (1, 3):
        images = torch.randn(count, 3, *SIZES[name])
        with torch.no_grad():
            expected = made.module(images).numpy()
        np.testing.assert_allclose(run(model, images)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_graph_gives_the_last_map_and_the_means_of_the_middle_and_of_the_last():
    made = network("resnet18")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        stages = made.module.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
    middle, last = (stages[index].numpy() for index in (2, 4))
    found = run(graph_of(made.module, made.head, (64, 64)).model, images)
    np.testing.assert_allclose(found["map"], last, rtol=1e-3, atol=1e-4)
    means = np.concatenate([middle.mean(axis=(2, 3)), last.mean(axis=(2, 3))], axis=1)
    np.testing.assert_allclose(found["features"], means, rtol=1e-3, atol=1e-4)


def test_a_network_without_a_map_of_more_than_one_pixel_answers_without_one():
    tiny = torch.nn.Sequential()
    tiny.add_module("convolution", torch.nn.Conv2d(3, 4, 8))
    tiny.add_module("flat", torch.nn.Flatten())
    tiny.add_module("head", zoo.new_head(4, 3, 0.0, None, 0))
    graph = graph_of(tiny, "head", (8, 8))
    found = run(graph.model, torch.randn(2, 3, 8, 8))
    assert set(found) == {"logits", "features"}
    assert found["features"].shape == (2, 4)
    assert graph.heat is None
    assert graph.no_heat_because == "no_map"


@pytest.mark.parametrize("name", NETWORKS)
def test_no_norm_is_left_behind_a_convolution(name):
    made = network(name)
    nodes = onnx.load_from_string(graph_of(made.module, made.head, SIZES[name]).model).graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    assert not [node.name for node in norms if made_by.get(node.input[0]) == "Conv"]
    if name != "densenet121":  # whose norms stand before the convolutions
        assert not norms


@pytest.fixture
def trained(tmp_path) -> tuple[Recipe, Path]:
    recipe = Recipe.parse({"data": "images", "backbone": "resnet18", "weights": "none", "hidden": 5})
    weights = tmp_path / "best.safetensors"
    save_file(network("resnet18", hidden=5).module.state_dict(), weights)
    return recipe, weights


def test_a_run_is_exported_with_its_trained_weights_and_hidden_head(trained):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network("resnet18", hidden=5).module(images).numpy()
    found = run(member_graph(trained[0], CLASSES, trained[1], (64, 64)).model, images)
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_member_answers_in_the_order_of_the_ensemble(trained):
    images = torch.randn(2, 3, 64, 64)
    own = run(member_graph(trained[0], CLASSES, trained[1], (64, 64)).model, images)["logits"]
    order = ("rust", "blight", "healthy")
    found = run(member_graph(trained[0], CLASSES, trained[1], (64, 64), order).model, images)["logits"]
    np.testing.assert_allclose(found, own[:, [2, 0, 1]], rtol=1e-6)
