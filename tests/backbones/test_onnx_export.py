"""Modules as ONNX: the same answers, and nothing computed that is known beforehand."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from freezeframe.backbones import zoo
from freezeframe.backbones.onnx_export import export_module

SIZE = 96


@pytest.fixture(scope="module")
def lite0():
    return zoo.build("efficientnet-lite0", 2, "none", announce=False).module.eval()


def pictures(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def test_paddings_that_a_network_computes_become_constants(lite0):
    # Their arithmetic takes time, and a quantiser would take it for activations and pad by wrong amounts.
    graph = onnx.load_from_string(export_module(lite0, pictures(2), "images", ["logits"])).graph
    made = {name for node in graph.node for name in node.output}
    paddings = [node for node in graph.node if node.op_type == "Pad"]
    assert paddings
    assert not [node for node in paddings if node.input[1] in made]
    assert not {node.op_type for node in graph.node} & {"Shape", "Gather", "Cast"}


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images_is_answered_as_torch_does(lite0, count):
    session = onnxruntime.InferenceSession(export_module(lite0, pictures(2), "images", ["logits"]))
    (found,) = session.run(None, {"images": pictures(count).numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(np.asarray(found), lite0(pictures(count)), atol=1e-5)
