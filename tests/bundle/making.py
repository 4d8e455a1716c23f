"""Small bundles with real graphs that compute something, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from freezeframe.bundle.runtime.contents import FEATURES, HEAT, INPUT, LOGITS, MAP
from freezeframe.bundle.runtime.seal import seal
from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.imaging.preprocess import Preprocessing

CHANNELS = 4
CLASSES = ("NORMAL", "PNEUMONIA")


def make_graph(classes: int = 2, size: int = 32, seed: int = 0) -> bytes:
    """A convolution, the mean over places and a linear layer: logits, features (N, 4) and map (N, 4, h, w)."""
    return onnx_model(classes, size, seed).SerializeToString()


def onnx_model(classes: int = 2, size: int = 32, seed: int = 0) -> onnx.ModelProto:
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32)
    weight = head_weights(classes, seed)
    nodes = [
        helper.make_node("Conv", [INPUT, "kernel"], ["raw"], pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Relu", ["raw"], [MAP]),
        helper.make_node("GlobalAveragePool", [MAP], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [FEATURES], axis=1),
        helper.make_node("Gemm", [FEATURES, "weight", "bias"], [LOGITS], transB=1),
    ]
    outputs = {LOGITS: ["N", classes], FEATURES: ["N", CHANNELS], MAP: ["N", CHANNELS, size // 4, size // 4]}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.zeros(classes, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def head_weights(classes: int, seed: int = 0) -> np.ndarray:
    """Weights of the linear layer (C, 4), which are also what weighs the channels of the map."""
    return np.random.default_rng([seed, 1]).normal(size=(classes, CHANNELS)).astype(np.float32)


def make_contents(
    classes: tuple[str, ...] = CLASSES, members: int = 2, size: int = 32, name: str = "small"
) -> dict[str, Any]:
    """What ``bundle.json`` holds, as plain data."""
    preprocessing = Preprocessing.from_steps(
        [{"resize": {"size": size}}], (size, size), (0.5,) * 3, (0.25,) * 3
    )
    point = OperatingPoint("youden", None, classes[-1], 0.5, 0.9, 0.8, 10, 10)
    return {
        "schema_version": 1,
        "name": name,
        "made": "2026-01-01T00:00:00+00:00",
        "versions": {"freezeframe": "0.1.0"},
        "classes": [{"label": label, "code": None} for label in classes],
        "members": [
            {
                "name": f"member{index}",
                "backbone": "small",
                "weight": 1.0,
                "graph": f"members/member{index}.onnx",
                "preprocessing": preprocessing.to_dict(),
                "heat": f"members/member{index}.heat.safetensors",
            }
            for index in range(members)
        ],
        "rule": "mean",
        "temperature": 1.5,
        "operating_points": [{"name": "youden", "point": point.to_dict()}],
        "licence": "CC0-1.0",
    }  # fmt: skip


def make_bundle(
    folder: Path,
    classes: tuple[str, ...] = CLASSES,
    members: int = 2,
    size: int = 32,
    changes: dict[str, Any] | None = None,
    more: dict[str, bytes] | None = None,
) -> Path:
    """Write a sealed bundle.

    Parameters
    ----------
    folder : Path
        Where.
    changes : dict, optional
        Fields of ``bundle.json`` that are otherwise, such as ``{"rule": "vote"}``.
    more : dict of str to bytes, optional
        Further files, or files instead of others, by name.
    """
    contents = make_contents(classes, members, size) | (changes or {})
    contained = {"bundle.json": json.dumps(contents, indent=2).encode(), "card.md": b"# small\n"}
    for index in range(members):
        contained[f"members/member{index}.onnx"] = make_graph(len(classes), size, seed=index)
        contained[f"members/member{index}.heat.safetensors"] = save({HEAT: head_weights(len(classes), index)})
    for name, content in (contained | (more or {})).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    seal(folder)
    return folder
