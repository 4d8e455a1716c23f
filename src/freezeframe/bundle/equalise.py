"""Channels of very different range, made alike without changing what the network computes.

One scale serves all channels of an activation in int8, so a channel that reaches 0.1 beside one that reaches 6 is
left with four levels of 255. A depthwise convolution treats each channel by itself, so nothing averages that out.
But a convolution's output channel and its bias can be multiplied, and the depthwise kernel that reads the channel
divided, since a rectifier lets positive factors through (cross-layer equalisation: Nagel et al., Data-Free
Quantization Through Weight Equalization and Bias Correction, ICCV 2019). The kernel's own scale takes that up.
"""

from __future__ import annotations

import numpy as np
import onnx

from freezeframe.bundle.layers_of_graph import Graph, Layer, observe, reduced

STRONGEST = 256.0
"""Largest factor: a channel that is almost always zero would need one without bound."""

HEADROOM = 1.25
"""How far above what it reached a channel may go on other images before a rectifier that ends at 6 cuts it."""


def equalise(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Make the channels between a convolution, its rectifier and a depthwise convolution reach equally far.

    On these images the answers stay as they are. On others, a rectifier that ends at 6 cuts a multiplied channel at
    `HEADROOM` times what it reached on these.

    Parameters
    ----------
    model : ModelProto
        As `layers_of_graph.simplify` returns it.
    images : ndarray of float32 (N, 3, H, W)
        Prepared and normalised.
    """
    graph = Graph(model)
    layers = {layer.target: layer for layer in graph.layers()}
    pairs: dict[str, tuple[Layer, list[Layer]]] = {}
    for rectified in [node.output[0] for node in graph.model.graph.node if node.op_type in ("Relu", "Clip")]:
        maker = _maker(graph, rectified, layers)
        readers = _readers(graph, rectified, layers)
        if maker is not None and readers:
            pairs[rectified] = maker, readers
    greatest = _greatest(model, list(pairs), images)
    for rectified, (maker, readers) in pairs.items():
        factors = _factors(greatest[rectified])
        _multiply(graph, maker, factors)
        for reader in readers:
            graph.replace(reader.weight, graph.value(reader.weight) / factors.reshape(-1, 1, 1, 1))
    return graph.model


def _maker(graph: Graph, rectified: str, layers: dict[str, Layer]) -> Layer | None:
    node = graph.makers[rectified]
    layer = layers.get(node.input[0])
    if layer is None or len(graph.readers[layer.target]) > 1 or layer.target in graph.outputs:
        return None
    if len(graph.readers[layer.weight]) > 1 or (layer.bias and len(graph.readers[layer.bias]) > 1):
        return None
    lowest = [graph.value(name) for name in node.input[1:2] if name in graph.constants]
    from_zero = node.op_type == "Relu" or (len(lowest) == 1 and float(lowest[0]) == 0)
    return layer if from_zero and graph.value(layer.weight).ndim == 4 else None


def _readers(graph: Graph, rectified: str, layers: dict[str, Layer]) -> list[Layer]:
    """Return the depthwise convolutions that read a tensor; none where anything else reads it, too."""
    if rectified in graph.outputs:
        return []
    found = []
    for node in graph.readers.get(rectified, []):
        layer = layers.get(node.output[0])
        if layer is None or not layer.depthwise or len(graph.readers[layer.weight]) > 1:
            return []
        found.append(layer)
    return found


def _greatest(model: onnx.ModelProto, names: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
    wider = reduced(model, "ReduceMax", dict.fromkeys(names, (0, 2, 3)))
    found = observe(wider, [f"{name}_ReduceMax" for name in names], images)
    return {name: np.max(found[f"{name}_ReduceMax"], axis=0) for name in names}


def _factors(greatest: np.ndarray) -> np.ndarray:
    reached = greatest > 0
    ratio = np.where(reached, greatest.max() / (HEADROOM * np.where(reached, greatest, 1)), 1)
    return np.clip(ratio, 1, STRONGEST).astype(np.float32)


def _multiply(graph: Graph, layer: Layer, factors: np.ndarray) -> None:
    graph.replace(layer.weight, graph.value(layer.weight) * factors.reshape(-1, 1, 1, 1))
    if layer.bias:
        graph.replace(layer.bias, graph.value(layer.bias) * factors)
