"""A network with fewer channels than its architecture has: its shapes are those of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

PRUNED = "pruned"
"""Metadata of a file of weights whose shapes are smaller than the architecture's."""


def take_shapes(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network's layers the shapes of some weights; their values are for the caller to load.

    The numbers of channels all follow from the weights: those of a depthwise convolution are its groups, of any other
    its groups stay what they were.

    Parameters
    ----------
    module : nn.Module
        The network; changed in place.
    state : mapping of str to Tensor
        Weights by name. Names that only one of the two has are left alone.
    """
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    for prefix, part in module.named_modules():
        named = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        wanted = {name: state.get(f"{prefix}.{name}".lstrip("."), own).shape for name, own in named}
        for name, own in named:
            if own.shape != wanted[name]:
                empty = torch.empty(wanted[name], dtype=own.dtype)
                setattr(part, name, nn.Parameter(empty) if isinstance(own, nn.Parameter) else empty)
        if isinstance(part, nn.Conv2d):
            outputs, inputs = wanted["weight"][:2]
            if part.groups == part.in_channels:
                part.groups = outputs // (part.out_channels // part.in_channels)
            part.out_channels, part.in_channels = outputs, inputs * part.groups
        elif isinstance(part, nn.Linear):
            part.out_features, part.in_features = wanted["weight"]
        elif isinstance(part, _BatchNorm) and wanted:
            part.num_features = next(iter(wanted.values()))[0]
        elif isinstance(part, nn.LayerNorm) and wanted:
            part.normalized_shape = tuple(next(iter(wanted.values())))
