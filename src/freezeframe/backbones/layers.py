"""The network in order: its weighted layers as they run, and its blocks as the field names them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Layer:
    """A weighted layer (convolution, linear) with what belongs to it.

    Attributes
    ----------
    name : str
        The weighted module.
    parameters : tuple of str
        Its parameters, and those of the norms that run between it and the next weighted layer.
    modules : tuple of str
        The modules without parameters of their own (activation, pooling, dropout) that run after it.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A stage of the network.

    Attributes
    ----------
    name : str
        The modules that it is made of, such as ``"blocks.6, conv_head, bn2"``.
    modules : tuple of str
        The same, one by one: the largest modules that lie wholly in the block (or single parameters).
    parameters : tuple of str
        Names of its parameters.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def within(name: str, module: str) -> bool:
    """Tell whether a parameter or module is the module or inside it."""
    return not module or name == module or name.startswith(module + ".")


@contextlib.contextmanager
def inference_mode_of(module: nn.Module) -> Iterator[None]:
    """Hold a module in eval mode for a block, then give each part the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def execution_order(module: nn.Module, input_size: tuple[int, int]) -> list[str]:
    """Return the names of the modules in the order in which they first run, by one pass of a blank image."""
    order: dict[str, None] = {}
    hooks = [
        part.register_forward_pre_hook(lambda _part, _inputs, name=name: order.setdefault(name))
        for name, part in module.named_modules()
    ]
    _pass_blank_image(module, input_size, hooks)
    return list(order)


def output_shapes(module: nn.Module, input_size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each module's output for one image, in the order in which the modules finish."""
    import torch

    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            shapes[name] = tuple(output.shape[1:])

    hooks = [
        part.register_forward_hook(lambda _part, _inputs, output, name=name: note(name, output))
        for name, part in module.named_modules()
    ]
    _pass_blank_image(module, input_size, hooks)
    return shapes


def _pass_blank_image(module: nn.Module, input_size: tuple[int, int], hooks: list[RemovableHandle]) -> None:
    """Run a module once in inference mode, and take its hooks off again."""
    import torch

    device = next(module.parameters()).device
    try:
        with torch.no_grad(), inference_mode_of(module):
            module(torch.zeros(1, 3, *input_size, device=device))
    finally:
        for hook in hooks:
            hook.remove()


def weighted_layers(module: nn.Module, head: str, order: Sequence[str]) -> tuple[Layer, ...]:
    """Divide the backbone into its weighted layers, in the order in which they run.

    Parameters
    ----------
    module : nn.Module
        The whole network.
    head : str
        Name of its head, which is left out.
    order : sequence of str
        From `execution_order`.

    Returns
    -------
    tuple of Layer
        Every parameter of the backbone is in exactly one of them. What runs before the first weighted layer,
        and parameters of the root such as position embeddings, belong to the first.
    """
    parts = dict(module.named_modules())
    own = {name: list(dict(part.named_parameters(recurse=False))) for name, part in parts.items()}
    names: list[str] = []
    contents: list[tuple[list[str], list[str]]] = [([], [])]
    current_at: dict[str, int] = {}

    def add_parameters(name: str, index: int) -> None:
        contents[index][0].extend(f"{name}.{parameter}".lstrip(".") for parameter in own[name])

    for name in order:
        if within(name, head):
            continue
        if _is_weighted(parts[name]):
            names.append(name)
            if len(names) > 1:
                contents.append(([], []))
        index = current_at[name] = max(len(names) - 1, 0)
        add_parameters(name, index)
        if not own[name] and next(parts[name].parameters(), None) is None:
            contents[index][1].append(name)
    for (
        name
    ) in parts:  # modules whose weights are used without calling them, such as those of fused attention
        if own[name] and name not in current_at and not within(name, head):
            ancestor = name
            while ancestor not in current_at:
                ancestor = ancestor.rpartition(".")[0]
            add_parameters(name, current_at[ancestor])
    return tuple(
        Layer(name, tuple(parameters), tuple(modules))
        for name, (parameters, modules) in zip(names, contents, strict=True)
    )


def _is_weighted(part: nn.Module) -> bool:
    # Norms have vectors, convolutions, linear layers, embeddings and attention have matrices.
    return any(
        name.endswith("weight") and parameter.ndim >= 2
        for name, parameter in part.named_parameters(recurse=False)
    )


def blocks(module: nn.Module, head: str, layers: Sequence[Layer]) -> tuple[Block, ...]:
    """Divide the backbone into blocks, in the order from input to output.

    A block is a stage in the field's sense: as timm groups a network's parameters coarsely, and for torchvision's
    VGG and AlexNet the convolutions between two poolings and then each fully connected layer. What follows the
    last stage (a last convolution or norm) belongs to it, also where it is a stage of its own of one convolution.
    """
    weighted = {layer.name for layer in layers}
    grouped: dict[int, list[str]] = {}
    for name, index in _group_indices(module, head).items():
        if not within(name, head):
            grouped.setdefault(index, []).append(name)
    groups = [grouped[index] for index in sorted(grouped)]
    if hasattr(module, "group_matcher"):
        sizes = [len({name.rpartition(".")[0] for name in group} & weighted) for group in groups]
        last = max((index for index, size in enumerate(sizes) if size > 1), default=len(groups) - 1)
        groups = [*groups[:last], [name for group in groups[last:] for name in group]]
    return tuple(_block(module, group) for group in groups)


def _group_indices(module: nn.Module, head: str) -> dict[str, int]:
    from torch import nn

    if not hasattr(module, "group_matcher"):
        return _sequential_indices(module)
    from timm.models._manipulate import group_parameters

    # Some of timm's matchers expect the head to be the one layer that it was.
    ours = module.get_submodule(head)
    module.set_submodule(head, nn.Linear(1, 1))
    try:
        return group_parameters(module, module.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
    finally:
        module.set_submodule(head, ours)


def _sequential_indices(module: nn.Module) -> dict[str, int]:
    from torch import nn

    indices: dict[str, int] = {}
    index = 0
    for name, part in module.named_modules():
        if name.startswith("classifier") and next(part.parameters(recurse=False), None) is not None:
            index += 1
        indices |= {f"{name}.{parameter}": index for parameter, _ in part.named_parameters(recurse=False)}
        if isinstance(part, nn.MaxPool2d):
            index += 1
    return indices


def _block(module: nn.Module, parameters: list[str]) -> Block:
    inside = set(parameters)
    largest: list[str] = []
    for name, part in module.named_modules():
        own = {f"{name}.{parameter}".lstrip(".") for parameter, _ in part.named_parameters()}
        if own and own <= inside and not any(within(name, outer) for outer in largest):
            largest.append(name)
    largest += [name for name in parameters if not any(within(name, outer) for outer in largest)]
    return Block(_shorten(largest), tuple(largest), tuple(parameters))


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} ... {names[-1]}"
