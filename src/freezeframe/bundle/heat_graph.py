"""What weighs the channels of the last feature map: Grad-CAM's weights without autograd at run time.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs channel k for class c by the spatial mean of d logit_c / d map_k. Where
only pooling and one linear layer follow the map, that is one number for all images; elsewhere it depends on the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor, nn

from freezeframe.bundle.runtime.contents import HEAT

# Of the largest weight, between two inputs. Rounding was measured at up to 2e-7, a hidden layer at 0.1 and more.
SAME = 1e-6


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
        Why there is none.
    """

    content: bytes | None
    is_graph: bool
    missing_because: str = ""


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
    weigh = _weigher(network, last, example[:1])
    found = weigh(_output_of(last, network, example)).detach()
    if (found - found[:1]).abs().max() <= SAME * found.abs().max():
        return Heat(save({HEAT: found[0].contiguous()}), False)
    return Heat(None, False, "its weights depend on the image")


def _output_of(part: nn.Module, network: nn.Module, inputs: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_hook(lambda _part, _in, output: kept.append(output.detach().clone()))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        handle.remove()
    return kept[-1]


def _weigher(network: nn.Module, last: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a map (N, K, h, w) to the weights of its channels (N, C, K)."""

    def logits_of(feature_map: Tensor) -> Tensor:
        # What comes before runs on any image, and its output is thrown away.
        handle = last.register_forward_hook(lambda *_: feature_map.clone())
        try:
            return network(image)
        finally:
            handle.remove()

    def weigh(feature_map: Tensor) -> Tensor:
        feature_map = feature_map.requires_grad_()
        logits = logits_of(feature_map)
        gradients = [
            torch.autograd.grad(logits[:, index].sum(), feature_map, retain_graph=True)[0]
            for index in range(logits.shape[1])
        ]
        return torch.stack([gradient.mean(dim=(2, 3)) for gradient in gradients], dim=1)

    return weigh
