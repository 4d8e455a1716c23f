"""Low-rank adapters (LoRA): an unfrozen layer keeps its pretrained weights and learns a small correction to them.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: beside a frozen weight W stands
(alpha / rank) B A with thin matrices A (random) and B (zero), so a training begins exactly at the pretrained network.
The layers are peft's. They are in the network only while it trains, and behind the cut only, so the frozen part and
its stored activations are those of a training without adapters; what a training leaves is an ordinary network with
the corrections added to its weights.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from freezeframe.backbones import unfreeze
from freezeframe.backbones.layers import within
from freezeframe.backbones.unfreeze import Unfrozen
from freezeframe.errors import UserError
from freezeframe.seeds import derive_seed

if TYPE_CHECKING:
    from freezeframe.backbones.zoo import Network
    from freezeframe.recipe import Adapters

Phases = list[tuple[int, Unfrozen]]

# Exactly these: a subclass may use its weights in another way, such as a convolution that standardises them first, to
# which no correction can be added.
ADAPTED = (nn.Conv2d, Conv2dSame, nn.Linear)
# How peft's layers call what they add: `<layer>.lora_A.default.weight`.
MARK = ".lora_"


def targets(network: Network, unfrozen: Unfrozen) -> tuple[str, ...]:
    """Find the layers of the backbone that get adapters.

    These are the unfrozen convolutions and linear layers. Depthwise and other grouped convolutions are left out, since
    peft can't merge them, and dilated or specially padded ones, since it would compute something else beside them; so
    are layers whose weights are used without calling them.

    Parameters
    ----------
    network : Network
        From `zoo.build`, without adapters.
    unfrozen : Unfrozen
        What trains, from `unfreeze.resolve`.

    Returns
    -------
    tuple of str
        Names of modules, in the network's own order.

    Raises
    ------
    UserError
        If there is no such layer.
    """
    trainable, called = set(unfrozen.parameters), set(network.order)
    found = tuple(
        name
        for name, part in network.module.named_modules()
        if f"{name}.weight" in trainable
        and name in called
        and not within(name, network.head)
        and _can_be_adapted(part)
    )
    if not found:
        raise UserError(
            f"The recipe asks for adapters, and in what it unfreezes of {network.backbone.name} no layer can have one.",
            "an unfrozen convolution (neither grouped nor dilated) or linear layer besides the head.",
            "Unfreeze more, such as unfreeze: {blocks: 1}, or leave adapters out.",
        )
    return found


def _can_be_adapted(part: nn.Module) -> bool:
    if isinstance(part, nn.Conv2d):
        plain = part.groups == 1 and set(part.dilation) == {1} and part.padding_mode == "zeros"
        return type(part) in ADAPTED and plain
    return type(part) in ADAPTED


@contextlib.contextmanager
def attached(
    adapters: Adapters, network: Network, suffix: nn.Module, phases: Phases, seed: int
) -> Iterator[Phases]:
    """Give a divided network adapters for a block, and take them off again.

    What they have learnt is lost with them, unless the block keeps it; see `merge`. Norms keep their pretrained
    parameters and statistics, as everywhere in the field where LoRA is used.

    Parameters
    ----------
    adapters : Adapters
        Rank, scale and dropout.
    network : Network
        The whole network, which is changed in place.
    suffix : nn.Module
        Of its cut, which shares the network's layers; it is changed alike.
    phases : list of (int, Unfrozen)
        From `unfreeze.schedule`.
    seed : int
        Of A; the same seed gives the same bits.

    Yields
    ------
    list of (int, Unfrozen)
        From which epoch on which adapters train, and the head with them. ``block_index`` is that of their layers.
    """
    # Brings transformers along and takes a second or two: nobody waits for it who wants no adapters.
    from peft import LoraConfig, inject_adapter_in_model

    module, names = network.module, targets(network, phases[-1][1])
    plain = {name: module.get_submodule(name) for name in names}
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,  # pyright: ignore[reportArgumentType] - any number will do
        lora_dropout=adapters.dropout,
        # A list of names would also match longer names that end like one of them.
        target_modules="|".join(re.escape(name) for name in names),
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "adapters"))
            inject_adapter_in_model(config, module)
        for name in names:
            suffix.set_submodule(name, module.get_submodule(name), strict=True)
        yield [(epoch, _trained(network, unfrozen)) for epoch, unfrozen in phases]
    finally:
        for name, layer in plain.items():
            module.set_submodule(name, layer, strict=True)
            suffix.set_submodule(name, layer, strict=True)
        if hasattr(module, "peft_config"):
            del module.peft_config
        unfreeze.apply(module, phases[-1][1])


def _trained(network: Network, unfrozen: Unfrozen) -> Unfrozen:
    """Say what trains in place of what is unfrozen: of its layers the adapters, and the head."""
    layers = {name.removesuffix(".weight") for name in unfrozen.parameters}
    block_index: dict[str, int] = {}
    for name, _ in network.module.named_parameters():
        layer, mark, _ = name.partition(MARK)
        if mark and layer in layers:
            block_index[name] = unfrozen.block_index[f"{layer}.weight"]
        elif within(name, network.head):
            block_index[name] = unfrozen.block_index[name]
    modules = []
    for name, part in network.module.named_modules():
        layer, mark, _ = name.partition(MARK)
        # Dropout and the like have no parameters and run on as they would without adapters; norms stay as they are.
        free = next(part.parameters(), None) is None or within(name, network.head)
        if layer in layers if mark else free and name in unfrozen.modules:
            modules.append(name)
    return Unfrozen(tuple(block_index), tuple(modules), block_index)


def adapter_sizes(
    adapters: Adapters, network: Network, suffix: nn.Module, unfrozen: Unfrozen
) -> dict[str, int]:
    """Count the numbers in each adapter, by the name of the weight that it corrects."""
    with attached(adapters, network, suffix, [(0, unfrozen)], seed=0):
        sizes: dict[str, int] = {}
        for name, parameter in network.module.named_parameters():
            layer, mark, _ = name.partition(MARK)
            if mark:
                sizes[f"{layer}.weight"] = sizes.get(f"{layer}.weight", 0) + parameter.numel()
    return sizes


def merge(
    adapters: Adapters, network: Network, suffix: nn.Module, phases: Phases, learnt: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Add what adapters have learnt to the weights of their layers, in place.

    Parameters
    ----------
    adapters : Adapters
        Rank and scale, as they were trained with.
    network : Network
        The whole network, with the weights that it began with.
    suffix : nn.Module
        Of its cut.
    phases : list of (int, Unfrozen)
        From `unfreeze.schedule`.
    learnt : mapping of str to Tensor
        The parameters that trained, by the names that they have while adapters are attached.

    Returns
    -------
    dict of str to Tensor
        All in which the network now differs from what it began with, by its plain names: the adapted layers' weights,
        and the head.
    """
    names = targets(network, phases[-1][1])
    with torch.no_grad(), attached(adapters, network, suffix, phases, seed=0):
        for name, tensor in learnt.items():
            network.module.get_parameter(name).copy_(tensor)
        for name in names:
            network.module.get_submodule(name).merge()  # pyright: ignore[reportCallIssue] - peft's layer
    changed = {f"{name}.weight" for name in names}
    return {
        name: parameter.detach()
        for name, parameter in network.module.named_parameters()
        if name in changed or within(name, network.head)
    }
