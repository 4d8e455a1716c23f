"""A trained network as a graph that answers, and shows what it saw and where: logits, features and the last map."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freezeframe.backbones import layers, zoo
from freezeframe.backbones.onnx_export import export_module
from freezeframe.bundle.fixed_pooling import fix_pooling
from freezeframe.bundle.heat_graph import Heat, Missing, heat_of
from freezeframe.bundle.runtime.contents import FEATURES, INPUT, LOGITS, MAP
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.training.explain import target_layer

EXAMPLE_BATCH = 3


@dataclass(frozen=True)
class Graph:
    """A member of a bundle.

    Attributes
    ----------
    model : bytes
        ONNX: from ``images`` (N, 3, H, W) float32, normalised, to ``logits`` (N, C), ``features`` (N, F) and, where
        the network has a feature map, ``map`` (N, K, h, w).
    heat : bytes or None
        What weighs the channels of the map for each class (Grad-CAM): safetensors with ``weights`` (C, K), or an ONNX
        graph from ``map`` to ``weights`` (N, C, K). None where there is no map, or its weights can't be had.
    heat_is_graph : bool
        Which of the two.
    no_heat_because : str
        Why ``heat`` is None, see `freezeframe.bundle.heat_graph.Heat`; '' where it is not.
    """

    model: bytes
    heat: bytes | None
    heat_is_graph: bool
    no_heat_because: Missing = ""


def member_graph(
    recipe: Recipe,
    classes: Sequence[str],
    weights: Path,
    size: tuple[int, int],
    order: Sequence[str] | None = None,
) -> Graph:
    """Export the trained network of a run.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    classes : sequence of str
        In the order of the network's outputs.
    weights : Path
        ``checkpoints/best.safetensors`` of the run.
    size : (int, int)
        Height and width of the images.
    order : sequence of str, optional
        The same classes in the order in which the graph shall answer; as they are where left out.

    Raises
    ------
    UserError
        If the weights are of another network, or rest on pretrained ones that are not to be had.
    """
    network = zoo.restore(recipe, len(classes), weights)
    if order is not None and tuple(order) != tuple(classes):
        _reorder(network.module, network.head, [tuple(classes).index(name) for name in order])
    return graph_of(network.module, network.head, size)


def graph_of(module: nn.Module, head: str, size: tuple[int, int]) -> Graph:
    """Export any network with a head, such as one that was pruned.

    Parameters
    ----------
    module : nn.Module
        From (N, 3, H, W) float32 to logits (N, C).
    head : str
        Name of the head's module.
    size : (int, int)
        Height and width of the images.
    """
    module = copy.deepcopy(module).eval().cpu().requires_grad_(False)
    example = torch.randn(EXAMPLE_BATCH, 3, *size, generator=torch.Generator().manual_seed(0))
    fix_pooling(module, example[:1])
    found = target_layer(module, example[:1])
    last = None if found is module else found
    middle = _middle(module, head, size)
    seen = [part for part in (middle, last) if part is not None]
    if not seen:
        raise UserError(
            "The network has no layer with a feature map, and so nothing that tells a foreign image.",
            "a network of convolutions.",
            "Choose another backbone; `freezeframe backbones` lists the tested ones.",
        )
    answering = _Answering(module, tuple(dict.fromkeys(seen)), last)
    outputs = [LOGITS, FEATURES] if last is None else [LOGITS, FEATURES, MAP]
    model = export_module(answering, example, INPUT, outputs)
    heat = Heat(None, missing_because="no_map") if last is None else heat_of(module, last, example)
    return Graph(model, heat.content, heat.is_graph, heat.missing_because)


class _Answering(nn.Module):
    """A network whose inner outputs come out as well."""

    def __init__(self, network: nn.Module, seen: tuple[nn.Module, ...], last: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        names = {part: name for name, part in network.named_modules()}
        self.seen = [names[part] for part in seen]
        self.last = None if last is None else names[last]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}

        def note(name: str, tensor: Any) -> None:
            # A copy, since the network may go on in place.
            found[name] = tensor.clone()

        handles = []
        for name in {*self.seen, *([self.last] if self.last else [])}:
            part = self.network.get_submodule(name)
            handles.append(
                part.register_forward_hook(lambda _part, _in, output, name=name: note(name, output))
            )
        try:
            logits = self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        features = torch.cat([found[name].mean(dim=(2, 3)) for name in self.seen], dim=1)
        return (logits, features) if self.last is None else (logits, features, found[self.last])


def _middle(module: nn.Module, head: str, size: tuple[int, int]) -> nn.Module | None:
    """Find the module that gives the feature map of the block in the middle; None where there is none."""
    order = layers.execution_order(module, size)
    found = layers.blocks(module, head, layers.weighted_layers(module, head, order))
    block = found[(len(found) - 1) // 2]
    last = None
    # In the order in which they finish, so that a shortcut behind the last layer is included.
    for name, shape in layers.output_shapes(module, size).items():
        inside = any(layers.within(name, part) for part in block.modules)
        if inside and len(shape) == 3:
            last = module.get_submodule(name)
    return last


def _reorder(module: nn.Module, head: str, indices: list[int]) -> None:
    linear = module.get_submodule(head).linear
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(linear.weight[indices].clone())
        linear.bias.copy_(linear.bias[indices].clone())
