"""Float32 graphs as int8: the same answers, smaller and faster, on every processor alike.

Why a plain conversion ruins networks of depthwise convolutions, and what each remedy is worth, is in docs/optimise.md.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from freezeframe.bundle.equalise import equalise
from freezeframe.bundle.layers_of_graph import BATCH, Graph, Layer, observe, reduced, simplify
from freezeframe.bundle.runtime.contents import INPUT

LARGEST_WEIGHT = 127
"""In int8. The two largest of one sign in a channel add up to at most this and one for rounding: processors without
VNNI (AVX2's vpmaddubsw) add two products of a byte and a weight in 16 bits, and 255 x 128 = 32,640 still fits."""


@dataclass(frozen=True)
class Calibrated:
    """A float32 graph, ready to be quantised in part or as a whole.

    Attributes
    ----------
    model : ModelProto
        Simplified and equalised; computes what the original does.
    layers : tuple of Layer
        That can be quantised, from input to output.
    scales : dict of str to ndarray
        For each layer, the step of each output channel's weights.
    shifts : dict of str to ndarray
        For each layer, how much rounding its weights moves each output channel on average.
    ranges : bytes
        ONNX Runtime's record of the activations' ranges.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    scales: dict[str, np.ndarray]
    shifts: dict[str, np.ndarray]
    ranges: bytes


def calibrate(model: bytes, images: np.ndarray) -> Calibrated:
    """Measure on images all that quantising needs.

    Parameters
    ----------
    model : bytes
        ONNX of a member, see `graphs.member_graph`.
    images : ndarray of float32 (N, 3, H, W)
        Training images, prepared and normalised; 200 to 500, of all classes.
    """
    even = equalise(simplify(model), images)
    graph = Graph(even)
    layers = tuple(layer for layer in graph.layers() if not layer.last)
    scales = {layer.name: _scales(graph.value(layer.weight), layer.depthwise) for layer in layers}
    shifts = _shifts(graph, layers, scales, images)
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder) / "ranges.json"
        _quantise(even, layers, scales, Path(folder), ranges, images)
        return Calibrated(even, layers, scales, shifts, ranges.read_bytes())


def quantise(calibrated: Calibrated, left: Collection[str] = ()) -> bytes:
    """Write the int8 graph (QDQ, static, weights by channel).

    Parameters
    ----------
    calibrated : Calibrated
        From `calibrate`.
    left : collection of str
        Names of layers that stay in float32. The layer that gives the logits always does.
    """
    layers = tuple(layer for layer in calibrated.layers if layer.name not in left)
    if not layers:
        return calibrated.model.SerializeToString()
    graph = Graph(calibrated.model)
    for layer in layers:
        _move_bias(graph, layer, -calibrated.shifts[layer.name])
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder) / "ranges.json"
        ranges.write_bytes(calibrated.ranges)
        return _quantise(graph.model, layers, calibrated.scales, Path(folder), ranges, None)


def _scales(weight: np.ndarray, depthwise: bool) -> np.ndarray:
    rows = weight.reshape(len(weight), -1)
    greatest = np.abs(rows).max(axis=1)
    if not depthwise and rows.shape[1] > 1:
        # Which two weights meet in one 16-bit sum depends on the kernel; so any two of the same sign must fit.
        pairs = [np.sort(np.maximum(sign * rows, 0), axis=1)[:, -2:].sum(axis=1) for sign in (1, -1)]
        greatest = np.maximum(*pairs)
    tiny = np.finfo(np.float32).tiny * LARGEST_WEIGHT
    return (np.maximum(greatest, tiny) / LARGEST_WEIGHT).astype(np.float32)


def _rounded(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    along = scales.reshape(-1, *[1] * (weight.ndim - 1))
    return (np.round(weight / along) * along).astype(np.float32)


def _shifts(
    graph: Graph, layers: tuple[Layer, ...], scales: dict[str, np.ndarray], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Run each layer's rounding error as a layer of its own on what the layer sees, and average what comes out."""
    wider = Graph(graph.model)
    nodes = {node.name: node for node in graph.model.graph.node}
    axes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        weight = graph.value(layer.weight)
        error = numpy_helper.from_array(
            _rounded(weight, scales[layer.name]) - weight, f"{layer.name}_rounding"
        )
        wider.model.graph.initializer.append(error)
        node = onnx.NodeProto()
        node.CopyFrom(nodes[layer.name])
        node.name, node.output[0] = f"{layer.name}_rounding", f"{layer.target}_rounding"
        node.input[1] = error.name
        del node.input[2:]
        wider.model.graph.node.append(node)
        axes[node.output[0]] = (0, 2, 3) if weight.ndim == 4 else (0,)
    names = {layer.name: f"{layer.target}_rounding_ReduceMean" for layer in layers}
    found = observe(reduced(wider.model, "ReduceMean", axes), list(names.values()), images)
    # The last batch may be smaller.
    counts = [min(BATCH, len(images) - start) for start in range(0, len(images), BATCH)]
    return {layer: np.average(found[name], axis=0, weights=counts) for layer, name in names.items()}


def _move_bias(graph: Graph, layer: Layer, by: np.ndarray) -> None:
    if layer.bias:
        graph.replace(layer.bias, graph.value(layer.bias) + by.astype(np.float32))
        return
    node = next(node for node in graph.model.graph.node if node.name == layer.name)
    name = f"{layer.name}_bias"
    graph.model.graph.initializer.append(numpy_helper.from_array(by.astype(np.float32), name))
    node.input.append(name)


class _Images(CalibrationDataReader):
    """Hands images to ONNX Runtime in batches."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = (
            images[start : start + BATCH] for start in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, Any]:
        batch = next(self.batches, None)
        return {} if batch is None else {INPUT: batch}


def _quantise(
    model: onnx.ModelProto,
    layers: tuple[Layer, ...],
    scales: dict[str, np.ndarray],
    folder: Path,
    ranges: Path,
    images: np.ndarray | None,
) -> bytes:
    chosen = {layer.name for layer in layers}
    # It is given a copy, since it moves the constants of what it is given to a file.
    given = onnx.ModelProto()
    given.CopyFrom(model)
    with _quiet():
        quantize_static(
            given,
            folder / "int8.onnx",
            None if images is None else _Images(images),
            calibration_cache_path=ranges,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[
                node.name
                for node in model.graph.node
                if node.op_type in ("Conv", "Gemm") and node.name not in chosen
            ],
            extra_options={
                "TensorQuantOverrides": {
                    layer.weight: [
                        {"axis": 0, "scale": scale, "zero_point": np.array(0, np.int8)}
                        for scale in scales[layer.name]
                    ]
                    for layer in layers
                },
            },
        )
    return (folder / "int8.onnx").read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # It warns that the graph was not prepared, which `simplify` did.
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
