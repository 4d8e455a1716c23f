"""Adaptive pooling at sizes that ONNX does not have."""

import numpy as np
import pytest
import torch
from torch import nn

from freezeframe.bundle.fixed_pooling import FixedPooling, fix_pooling
from freezeframe.bundle.runtime.sessions import open_session


@pytest.mark.parametrize(("inputs", "outputs"), [((2, 3), (7, 7)), ((9, 8), (7, 6)), ((7, 5), (3, 1))])
def test_it_is_torchs_adaptive_pooling(inputs, outputs):
    images = torch.randn(2, 4, *inputs)
    torch.testing.assert_close(FixedPooling(inputs, outputs)(images), nn.AdaptiveAvgPool2d(outputs)(images))


def test_only_what_onnx_lacks_is_replaced():
    network = nn.Sequential(nn.AdaptiveAvgPool2d((7, 7)), nn.AdaptiveAvgPool2d((None, 1)))
    fix_pooling(network, torch.zeros(1, 3, 9, 9))
    assert isinstance(network[0], FixedPooling)
    assert isinstance(network[1], nn.AdaptiveAvgPool2d)


@pytest.mark.slow
def test_an_alexnet_of_small_images_is_exported():
    from freezeframe.backbones import zoo
    from freezeframe.bundle.graphs import graph_of

    made = zoo.build("alexnet", 2, "none", announce=False)
    model = graph_of(made.module, made.head, (96, 96)).model
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = made.module.eval()(images).numpy()
    found = open_session(model, "onnxruntime", 1).run(images.numpy(), ("logits",))["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
