"""One pass for several cuts gives the bits of a pass for each."""

import numpy as np
import onnx
import pytest

from freezeframe.backbones import cut as cutting
from freezeframe.backbones import executor as executors
from freezeframe.backbones import unfreeze, zoo
from freezeframe.backbones.several import merge, run_several


def made(name: str, depths: list, kind: str = "auto") -> list[executors.Executor]:
    found = []
    for depth in depths:
        network = zoo.build(name, 2, "none", announce=False)
        divided = cutting.cut(network, unfreeze.resolve(depth, network), (64, 64))
        found.append(executors.make(divided, kind=kind, batch=4, threads=1))
    return found


def images(count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(1)).standard_normal((count, 3, 64, 64), dtype=np.float32)


# A chain, branches of DenseNet that are read one by one, squeeze-and-excitation, parallel branches.
@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("resnet18", ["head", {"layers": 3}, {"blocks": 1}]),
        ("densenet121", ["head", {"layers": 5}, {"blocks": 1}]),
        ("mobilenet-v3", ["head", {"layers": 2}, {"layers": 6}]),
        ("efficientnet-lite0", ["head", {"layers": 2}, {"layers": 8}]),
    ],
)
def test_a_joint_pass_gives_the_bits_of_single_passes(name, depths):
    single = made(name, depths)
    run = run_several(single, images(4))
    several = images(7)  # not a whole number of batches
    for executor, rows in zip(single, run(several), strict=True):
        assert np.array_equal(executor.run(several), rows)


def test_a_merged_graph_computes_nothing_twice():
    models = [
        executors.exported(one.cut, None) for one in made("resnet18", ["head", {"layers": 3}, {"blocks": 1}])
    ]
    counts = [
        sum(node.op_type == "Conv" for node in onnx.load_from_string(model).graph.node) for model in models
    ]
    merged = onnx.load_from_string(merge(models))
    onnx.checker.check_model(merged)
    assert sum(node.op_type == "Conv" for node in merged.graph.node) == max(counts)
    assert len(merged.SerializeToString()) < 1.01 * max(map(len, models))
    assert len(merged.graph.output) == sum(len(onnx.load_from_string(model).graph.output) for model in models)


def test_graphs_of_different_weights_share_nothing_but_the_input():
    one, other = (
        executors.exported(cutting.cut(network, unfreeze.resolve("head", network), (64, 64)), None)
        for network in (zoo.build("resnet18", 2, "none", seed=seed, announce=False) for seed in (0, 1))
    )
    merged = onnx.load_from_string(merge([one, other]))
    convolutions = [node for node in merged.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2 * sum(
        node.op_type == "Conv" for node in onnx.load_from_string(one).graph.node
    )


def test_executors_of_torch_compute_one_after_another_with_their_own_bits():
    single = made("mobilenet-v3", ["head", {"layers": 2}], kind="torch")
    found = run_several(single, images(4))(images(6))
    assert all(np.array_equal(one.run(images(6)), rows) for one, rows in zip(single, found, strict=True))
