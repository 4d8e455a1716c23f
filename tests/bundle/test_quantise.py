"""Tests of int8 graphs: close to float32, the same on every processor, and sensitive layers left out."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from freezeframe.bundle.equalise import HEADROOM, equalise
from freezeframe.bundle.layers_of_graph import (
    Graph,
    logits,
    observe,
    simplify,
)
from freezeframe.bundle.quantise import Calibrated, calibrate, quantise
from freezeframe.bundle.runtime.contents import FEATURES, INPUT, LOGITS, MAP
from freezeframe.bundle.runtime.sessions import open_session
from freezeframe.bundle.sensitivity import choose, relative_error

NETWORKS = ("resnet18", "efficientnet-lite0", pytest.param("mobilenet-v3", marks=pytest.mark.slow))
SIZE = 64


@cache
def member(name: str) -> bytes:
    from freezeframe.backbones import zoo
    from freezeframe.bundle.graphs import graph_of

    # Random depthwise networks give noise; the packaged weights answer as trained ones do.
    weights = "pretrained" if _are_packaged(name) else "none"
    network = zoo.build(name, 2, weights, announce=False)
    return graph_of(network.module, network.head, (SIZE, SIZE)).model


def _are_packaged(name: str) -> bool:
    from freezeframe.backbones.catalogue import describe
    from freezeframe.backbones.weights import locate

    source = locate(describe(name))
    return source is not None and source.kind == "package"


@cache
def pictures(count: int, seed: int) -> np.ndarray:
    # Smooth, and of different contrast, as photographs are.
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 3, 8, 8)) * random.uniform(0.3, 1.5, (count, 1, 1, 1))
    return np.kron(coarse, np.ones((1, 1, 8, 8))).astype(np.float32)


@cache
def calibrated(name: str) -> Calibrated:
    return calibrate(member(name), pictures(32, 0))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_int8_graph_answers_as_the_float32_graph_does(name: str) -> None:
    expected = open_session(member(name)).run(pictures(24, 1), (LOGITS,))[LOGITS]
    session = open_session(quantise(calibrated(name)))
    found = session.run(pictures(24, 1), session.outputs)
    assert relative_error(found[LOGITS], expected) < 0.35
    assert {FEATURES, MAP} <= set(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_preparing_a_graph_changes_no_answer(name: str) -> None:
    images = pictures(32, 0)
    expected = open_session(member(name)).run(images, (LOGITS,))[LOGITS]
    np.testing.assert_allclose(logits(calibrated(name).model, images), expected, rtol=1e-3, atol=1e-4)


def test_a_graph_in_int8_is_a_quarter_as_large() -> None:
    assert len(quantise(calibrated("resnet18"))) < 0.28 * len(member("resnet18"))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_two_weights_of_a_sum_can_overflow_sixteen_bits(name: str) -> None:
    graph = Graph(onnx.load_from_string(quantise(calibrated(name))))
    checked = 0
    for layer in calibrated(name).layers:
        weight = graph.value(f"{layer.weight}_quantized").astype(int)
        assert weight.min() >= -127
        if not layer.depthwise:
            rows = np.sort(weight.reshape(len(weight), -1), axis=1)
            assert 255 * rows[:, -2:].clip(0).sum(axis=1).max() <= 2**15 - 1
            assert 255 * rows[:, :2].clip(max=0).sum(axis=1).min() >= -(2**15)
            checked += 1
    assert checked > 10


def test_simplified_graphs_are_of_the_standard_alone() -> None:
    for name in ("resnet18", "efficientnet-lite0"):
        model = simplify(member(name))
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        onnx.checker.check_model(model)


def test_a_depthwise_convolution_sees_channels_that_reach_equally_far() -> None:
    spread = _depthwise(np.array([1.0, 5.0, 100.0, 10.0], np.float32))
    images = pictures(8, 2)
    even = equalise(simplify(spread), images)
    reached = _reached(even, images)
    assert reached.max() / reached.min() == pytest.approx(HEADROOM, rel=1e-3)
    np.testing.assert_allclose(logits(even, images), logits(simplify(spread), images), rtol=1e-4)


def test_equal_channels_are_worth_precision_in_int8() -> None:
    spread = _depthwise(np.array([1.0, 5.0, 100.0, 10.0], np.float32))
    images = pictures(16, 2)
    expected = logits(simplify(spread), images)
    found = logits(onnx.load_from_string(quantise(calibrate(spread, images))), images)
    assert relative_error(found, expected) < 0.05


def test_a_layer_with_an_outlier_channel_stays_in_float32_and_harmless_ones_do_not() -> None:
    model, images = _with_outlier(), pictures(48, 3)
    ready = calibrate(model, images[:32])
    naive = logits(onnx.load_from_string(quantise(ready)), images[32:])
    expected = logits(ready.model, images[32:])
    assert relative_error(naive, expected) > 0.1
    found = choose(ready, images[32:])
    assert found.error <= 0.1
    assert "reads-outlier" in found.left
    assert "harmless" not in found.left
    again = logits(onnx.load_from_string(found.model), images[32:])
    assert relative_error(again, expected) == pytest.approx(found.error)


def test_where_no_error_is_small_enough_all_layers_stay_in_float32() -> None:
    ready = calibrate(_with_outlier(), pictures(32, 3))
    found = choose(ready, pictures(16, 4), largest_error=0.0)
    assert set(found.left) == {layer.name for layer in ready.layers}
    assert found.error == 0


def test_rounding_weights_shifts_no_layer_on_average() -> None:
    # Images of one kind look alike, so an error that is always the same would pass for a difference between kinds.
    kernel = np.random.default_rng(5).normal(size=(4, 3, 1, 1)).astype(np.float32)
    kernel[:, 0] = 50  # coarse steps for the others
    model = _finish([helper.make_node("Conv", [INPUT, "kernel"], [MAP], name="only")], {"kernel": kernel}, 4)
    images = pictures(32, 0) + 2
    ready = calibrate(model, images)
    unmoved = replace(ready, shifts={name: np.zeros_like(by) for name, by in ready.shifts.items()})
    expected, corrected, uncorrected = (
        np.concatenate(observe(onnx.load_from_string(graph), [FEATURES], images)[FEATURES]).mean(axis=0)
        for graph in (model, quantise(ready), quantise(unmoved))
    )
    assert np.abs(uncorrected - expected).max() > 0.1
    assert np.abs(corrected - expected).max() < 0.03


def _depthwise(factors: np.ndarray) -> bytes:
    """1x1 convolution whose channels reach as far as `factors` say, rectifier, depthwise convolution, head."""
    random = np.random.default_rng(0)
    first = random.uniform(0.5, 1.5, (4, 3, 1, 1)).astype(np.float32) * factors.reshape(-1, 1, 1, 1)
    kernel = random.normal(size=(4, 1, 3, 3)).astype(np.float32) / factors.reshape(-1, 1, 1, 1)
    nodes = [
        helper.make_node("Conv", [INPUT, "first"], ["raw"], name="first"),
        helper.make_node("Relu", ["raw"], ["rectified"], name="relu"),
        helper.make_node(
            "Conv", ["rectified", "kernel"], [MAP], name="depthwise", group=4, pads=[1, 1, 1, 1]
        ),
    ]
    return _finish(nodes, {"first": first, "kernel": kernel}, 4)


def _reached(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    (rectified,) = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    return np.concatenate(observe(model, [rectified], images)[rectified]).max(axis=(0, 2, 3))


def _with_outlier() -> bytes:
    """One channel reaches 2,000 times as far as the others, and the layer behind listens to it as much less."""
    random = np.random.default_rng(0)
    factors = np.array([2000.0, 1, 1, 1], np.float32).reshape(-1, 1, 1, 1)
    constants = {
        "outlier": random.uniform(0.1, 1.0, (4, 3, 1, 1)).astype(np.float32) * factors,
        "reader": np.abs(random.normal(size=(4, 4, 1, 1)).astype(np.float32)),
        "plain": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
    }
    constants["reader"][:, 0] = 1e-5
    nodes = [
        helper.make_node("Conv", [INPUT, "outlier"], ["a"], name="makes-outlier"),
        helper.make_node("Relu", ["a"], ["b"], name="relu-1"),
        helper.make_node("Conv", ["b", "reader"], ["c"], name="reads-outlier"),
        helper.make_node("Relu", ["c"], ["d"], name="relu-2"),
        helper.make_node("Conv", ["d", "plain"], [MAP], name="harmless"),
    ]
    return _finish(nodes, constants, 4)


def _finish(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], channels: int) -> bytes:
    head = np.random.default_rng(1).normal(size=(2, channels)).astype(np.float32)
    nodes = [
        *nodes,
        helper.make_node("GlobalAveragePool", [MAP], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], [FEATURES], name="flatten", axis=1),
        helper.make_node("Gemm", [FEATURES, "head"], [LOGITS], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", channels]),
            helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["N", channels, SIZE, SIZE]),
        ],
        [numpy_helper.from_array(values, name) for name, values in (constants | {"head": head}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
