import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from freezeframe.bundle.runtime.contents import HEAT, MAP
from freezeframe.bundle.runtime.heat import Heat, heat_maps

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(3, 5, 7, 6)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(4, 5)).astype(np.float32)


def test_maps_are_relu_of_the_weighed_sum_enlarged_as_torch_does():
    torch = pytest.importorskip("torch")
    evidence = torch.einsum("nk,nkhw->nhw", torch.tensor(WEIGHTS[[0, 1, 2]]), torch.tensor(MAPS)).relu()
    grown = torch.nn.functional.interpolate(
        evidence[:, None], (224, 180), mode="bilinear", align_corners=False
    )[:, 0]
    expected = (grown / grown.amax(dim=(1, 2), keepdim=True)).numpy()
    assert np.abs(heat_maps(MAPS, WEIGHTS[[0, 1, 2]], (224, 180)) - expected).max() < 1e-5


def test_where_nothing_speaks_for_the_class_there_is_no_heat():
    assert heat_maps(np.ones((1, 5, 7, 6), np.float32), -np.ones((1, 5), np.float32), (28, 24)).max() == 0


def test_weights_of_a_file_are_those_of_each_image_s_class():
    heat = Heat(save({HEAT: WEIGHTS}), is_graph=False)
    assert np.array_equal(heat.weights(MAPS, np.array([3, 0, 3])), WEIGHTS[[3, 0, 3]])


def test_weights_of_a_graph_depend_on_the_image():
    # weights[n, c, k] = (mean of the map's channel k) * factor[c]
    nodes = [
        helper.make_node("GlobalAveragePool", [MAP], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["wide"]),
        helper.make_node("Mul", ["wide", "factor"], [HEAT]),
    ]
    factor = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1)
    graph = helper.make_graph(
        nodes,
        "heat",
        [helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["N", 5, 7, 6])],
        [helper.make_tensor_value_info(HEAT, TensorProto.FLOAT, ["N", 4, 5])],
        [numpy_helper.from_array(np.array([1]), "axis"), numpy_helper.from_array(factor, "factor")],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    weights = Heat(model.SerializeToString(), is_graph=True).weights(MAPS, np.array([0, 1, 3]))
    expected = MAPS.mean(axis=(2, 3)) * np.array([[1], [2], [4]])
    assert np.allclose(weights, expected, atol=1e-5)
