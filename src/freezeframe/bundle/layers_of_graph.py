"""The layers of an exported network as they stand in its ONNX graph: found, simplified, observed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from freezeframe.bundle.runtime.contents import INPUT, LOGITS
from freezeframe.errors import FreezeframeError

BATCH = 16
QUIET = 3
"""ONNX Runtime's level at which only errors are said."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer.

    Attributes
    ----------
    name : str
        Of its node.
    source, target : str
        Its input's and its output's name.
    weight, bias : str
        Names of the initialisers; ``bias`` is '' where it has none. The weight's first axis is the output channel.
    depthwise : bool
        Whether each channel has a kernel of its own.
    last : bool
        Whether it gives the logits.
    """

    name: str
    source: str
    target: str
    weight: str
    bias: str
    depthwise: bool
    last: bool


class Graph:
    """An ONNX model that is changed step by step: its nodes, constants, and who makes and reads each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.makers = {name: node for node in self.model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in self.model.graph.output}

    def value(self, name: str) -> np.ndarray:
        """Return a constant's values."""
        return numpy_helper.to_array(self.constants[name])

    def replace(self, name: str, values: np.ndarray) -> None:
        """Give a constant other values."""
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def layers(self) -> tuple[Layer, ...]:
        """List convolutions and linear layers with constant weights, from input to output."""
        found = []
        for node in self.model.graph.node:
            kind = node.op_type
            if kind not in ("Conv", "Gemm") or len(node.input) < 2 or node.input[1] not in self.constants:
                continue
            facts = {fact.name: onnx.helper.get_attribute_value(fact) for fact in node.attribute}
            weight = self.constants[node.input[1]]
            # torch writes linear layers transposed, with factors of 1; others have their channels on another axis.
            if kind == "Gemm" and (facts.get("transB", 0), facts.get("transA", 0)) != (1, 0):
                continue
            group = facts.get("group", 1)
            found.append(
                Layer(
                    node.name,
                    node.input[0],
                    node.output[0],
                    node.input[1],
                    node.input[2] if len(node.input) > 2 else "",
                    depthwise=group > 1 and group == weight.dims[0] and weight.dims[1] == 1,
                    last=node.output[0] == LOGITS,
                )
            )
        return tuple(found)


def simplify(model: bytes) -> onnx.ModelProto:
    """Fold what does not depend on the images, and name every node.

    Paddings become part of the convolutions. Only the standard's own operations are used.

    Parameters
    ----------
    model : bytes
        ONNX with the input ``images`` (N, 3, H, W), of which only N may be unknown.
    """
    whole = onnx.load_from_string(model)
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        # The basic level is for any machine; higher ones write layouts and operations of the one it runs on.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        path = Path(folder) / "simple.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        simple = onnx.load(path)
    strange = sorted({node.domain for node in simple.graph.node} - {"", "ai.onnx"})
    if strange:
        raise FreezeframeError(
            f"ONNX Runtime wrote operations of {', '.join(strange)} into a simplified graph."
        )
    del simple.opset_import[:]
    simple.opset_import.extend(one for one in whole.opset_import if one.domain in ("", "ai.onnx"))
    for number, node in enumerate(simple.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return simple


def observe(
    model: onnx.ModelProto, names: Sequence[str], images: np.ndarray, threads: int | None = None
) -> dict[str, list[np.ndarray]]:
    """Run a model and return inner tensors too, for each name one array a batch of `BATCH` images."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    known = {output.name for output in wider.graph.output}
    wider.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(
        wider.SerializeToString(), _options(threads), providers=["CPUExecutionProvider"]
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    if not names:  # asked for nothing, ONNX Runtime gives everything
        return found
    for start in range(0, len(images), BATCH):
        for name, values in zip(
            names, session.run(list(names), {INPUT: images[start : start + BATCH]}), strict=True
        ):
            found[name].append(np.asarray(values))
    return found


def logits(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Compute the logits (N, C) of images (N, 3, H, W)."""
    return np.concatenate(observe(model, [LOGITS], images)[LOGITS])


def reduced(model: onnx.ModelProto, kind: str, tensors: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Append a reduction (``ReduceMax``, ``ReduceMean``) of inner tensors over axes; it gives ``<name>_<kind>``."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    wider.graph.node.extend(
        onnx.helper.make_node(kind, [name], [f"{name}_{kind}"], axes=list(axes), keepdims=0)
        for name, axes in tensors.items()
    )
    return wider


def _options(threads: int | None = None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    if threads is not None:
        options.intra_op_num_threads = threads
    return options
