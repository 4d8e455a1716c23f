"""What weighs the channels of the last feature map: Grad-CAM's weights without autograd at run time.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs channel k for class c by the spatial mean of d logit_c / d map_k. Where
only pooling and one linear layer follow the map, that is one number for all images. Elsewhere it depends on the image:
the gradient itself, an ordinary computation on the map, is traced and exported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from freezeframe.backbones.onnx_export import export_module
from freezeframe.bundle.runtime.contents import HEAT, MAP

# Of the largest weight, between two inputs. Rounding was measured at up to 2e-7, a hidden layer at 0.1 and more.
SAME = 1e-6
# Of the largest weight, between torch and ONNX Runtime.
TOLERANCE = 1e-4

FAR = 8  # maps; with 16 hidden neurons all but surely some of them are active in one and not in another

Missing = Literal["", "no_map", "branch", "no_gradient"]
_aten = torch.ops.aten


@dataclass(frozen=True)
class Heat:
    """What weighs the channels of a map.

    Attributes
    ----------
    content : bytes or None
        safetensors or ONNX, see `freezeframe.bundle.graphs.Graph`.
    is_graph : bool
        Which of the two.
    missing_because : str
        Why there is none: ``no_map``; ``branch``, where the last map is one of several that the logits come from (of
        images so small that the last stages have one pixel); ``no_gradient``, whose operations ONNX does not have.
    """

    content: bytes | None
    is_graph: bool = False
    missing_because: Missing = ""


def heat_of(network: nn.Module, last: nn.Module, example: Tensor) -> Heat:
    """Find what weighs the channels of the output of `last`.

    Whether the weights depend on the image is measured, not read from the layers' names.

    Parameters
    ----------
    network : nn.Module
        In inference mode, from (N, 3, H, W) to logits (N, C).
    last : nn.Module
        Of the network; its output is the last feature map (N, K, h, w).
    example : Tensor (N, 3, H, W)
        Inputs of the right size that differ, at least two.
    """
    feature_map = _output_of(last, network, example)
    logits_of = _tail(network, last, example[:1])
    if not _is_all(network, logits_of, feature_map, example):
        return Heat(None, missing_because="branch")
    weigh = _weigher(logits_of, feature_map)
    feature_map = _with_far_ones(feature_map)
    with torch.no_grad():
        expected = weigh(feature_map)
    if (expected - expected[:1]).abs().max() <= SAME * expected.abs().max():
        return Heat(save({HEAT: expected[0].contiguous()}))
    try:
        content = _export_gradient(weigh, feature_map[:-1])
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = np.asarray(session.run([HEAT], {MAP: feature_map.numpy()})[0])
    except Exception:  # the tracer, the exporter and the reader raise many kinds
        return Heat(None, missing_because="no_gradient")
    if not np.abs(found - expected.numpy()).max() <= TOLERANCE * expected.abs().max():
        return Heat(None, missing_because="no_gradient")
    return Heat(content, is_graph=True)


def _with_far_ones(feature_map: Tensor) -> Tensor:
    """Add maps that are far from these and from each other.

    Images of noise give maps that are much alike, and a hidden layer may then have the same neurons active for all.
    """
    random = torch.Generator().manual_seed(1)
    each = torch.randn(FAR, feature_map.shape[1], 1, 1, generator=random) * feature_map.abs().amax()
    return torch.cat([feature_map, each.expand(-1, -1, *feature_map.shape[2:])])


def _output_of(part: nn.Module, network: nn.Module, inputs: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_hook(lambda _part, _in, output: kept.append(output.detach().clone()))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        handle.remove()
    return kept[-1]


def _tail(network: nn.Module, last: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a map (N, K, h, w) to the logits (N, C)."""

    def logits_of(feature_map: Tensor) -> Tensor:
        # What comes before runs on any image, and its output is thrown away.
        handle = last.register_forward_hook(lambda *_: feature_map.clone())
        try:
            return network(image)
        finally:
            handle.remove()

    return logits_of


def _is_all(
    network: nn.Module, logits_of: Callable[[Tensor], Tensor], feature_map: Tensor, example: Tensor
) -> bool:
    """Tell whether the logits come from the map alone, and from no other path around it."""
    with torch.no_grad():
        expected = network(example)
        try:
            found = logits_of(feature_map)
        except RuntimeError:  # one image on the other path, several on this one
            return False
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _weigher(logits_of: Callable[[Tensor], Tensor], feature_map: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a map (N, K, h, w) to the weights of its channels (N, C, K)."""
    with torch.no_grad():
        every_class = torch.eye(logits_of(feature_map).shape[1])

    def weigh(feature_map: Tensor) -> Tensor:
        logits, gradient_of = torch.func.vjp(logits_of, feature_map)[:2]
        # Each row is spread over the images without naming how many there are.
        gradients = [gradient_of(logits.detach() * 0 + row)[0] for row in every_class]
        return torch.stack([gradient.mean(dim=(2, 3)) for gradient in gradients], dim=1)

    return weigh


def _export_gradient(weigh: Callable[[Tensor], Tensor], example: Tensor) -> bytes:
    traced = make_fx(torch.func.functionalize(weigh), decomposition_table=_decompositions())(example)
    graph = traced.graph
    output = next(iter(reversed(graph.nodes)))
    needed: set[fx.Node] = set()
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    # Not eliminate_dead_code, which keeps what changes a tensor in place: the whole network before the map.
    for node in reversed(list(graph.nodes)):
        if node not in needed and node.op != "placeholder":
            graph.erase_node(node)
    for node in graph.nodes:
        # The number of images that was traced with becomes any; heat_of checks with another.
        if node.target in (_aten.view.default, _aten._unsafe_view.default, _aten.expand.default):
            shape = node.args[1]
            if shape[0] == len(example):
                node.args = (node.args[0], [-1, *shape[1:]], *node.args[2:])
    return export_module(fx.GraphModule(traced, graph), example, MAP, [HEAT])


def _decompositions() -> dict:
    """Gradients that ONNX does not have, in operations that it has."""
    activations = [
        _aten.hardswish_backward,
        _aten.hardtanh_backward,
        _aten.silu_backward,
        _aten.gelu_backward,
    ]
    return get_decompositions(activations) | {
        _aten.threshold_backward.default: lambda gradient, value, threshold: gradient * (value > threshold),
        _aten.convolution_backward.default: _convolution_backward,
    }


def _convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    _bias_sizes: object,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    _transposed: bool,
    _output_padding: list[int],
    groups: int,
    _output_mask: list[bool],
) -> tuple[Tensor, None, None]:
    # Of the input alone, since no weight is trained here: the transposed convolution.
    left_over = [
        size - ((reduced - 1) * step - 2 * pad + spread * (kernel - 1) + 1)
        for size, reduced, step, pad, spread, kernel in zip(
            inputs.shape[2:], gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    return (
        _aten.convolution(gradient, weight, None, stride, padding, dilation, True, left_over, groups),
        None,
        None,
    )
