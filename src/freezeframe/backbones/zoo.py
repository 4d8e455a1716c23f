"""How a network is built: its weights, its new head, or the weights of a finished run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from freezeframe import files
from freezeframe.backbones import weights as weight_sources
from freezeframe.backbones.catalogue import Backbone, describe
from freezeframe.backbones.layers import Block, Layer, blocks, execution_order, weighted_layers, within
from freezeframe.errors import UserError
from freezeframe.progress import say
from freezeframe.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A whole network with a new head.

    Attributes
    ----------
    module : nn.Module
        Takes (N, 3, H, W) float32, normalised; gives logits (N, classes).
    backbone : Backbone
        What it was built from.
    head : str
        Name of the head's module, which is ``Sequential(dropout, linear)``.
    weights_source : str
        Where its weights came from, ``"none"`` for random ones.
    weights_sha256 : str
        Of that file, in hexadecimal; empty for none.
    """

    module: nn.Module
    backbone: Backbone
    head: str
    weights_source: str
    weights_sha256: str

    @cached_property
    def order(self) -> list[str]:
        """Names of the modules as they run."""
        return execution_order(self.module, self.backbone.input_size)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Weighted layers of the backbone as they run."""
        return weighted_layers(self.module, self.head, self.order)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of the backbone from input to output."""
        return blocks(self.module, self.head, self.layers)


def build(
    name: str,
    n_classes: int,
    weights: str | Path = "pretrained",
    dropout: float = 0.0,
    transfer: Mapping[str, int] | None = None,
    seed: int = 0,
    announce: bool = True,
) -> Network:
    """Build a network with a new head, and give it its weights.

    The same arguments give the same network to the bit, and no global random state is touched.

    Parameters
    ----------
    name : str
        See `describe`.
    n_classes : int
        Outputs of the new head.
    weights : str or Path
        ``"pretrained"``, ``"none"`` or a safetensors file of this network; a head in it is not used.
    dropout : float
        Probability, in [0, 1), that a feature before the head is dropped. The backbone itself is built without
        dropout and stochastic depth, so that a frozen part computes the same in training as in inference.
    transfer : mapping, optional
        ``{"first": n}``: pretrained weights for the first n weighted layers (with their norms) only; the rest starts
        anew.
    seed : int
        Of the random weights.
    announce : bool
        Say it where the weights are random. False where nobody means to train.

    Returns
    -------
    Network
        On the CPU, in training mode.

    Raises
    ------
    UserError
        If there is no such network, its weights are not to be had, or the file is of another network.
    """
    backbone = describe(name)
    module = _create(backbone, n_classes, seed)
    head = _replace_head(module, backbone, n_classes, dropout, seed)
    source, sha256 = "none", ""
    initial = {key: value.clone() for key, value in module.state_dict().items()} if transfer else {}
    if weights != "none":
        source, sha256 = _load(module, backbone, head, str(weights))
    elif announce:
        say(f"{name}: random weights, as asked for (weights: none); nothing pretrained is used.")
    network = Network(module, backbone, head, source, sha256)
    if transfer:
        _keep_first(network, transfer["first"], initial)
    return network


def restore(name: str, n_classes: int, path: Path, dropout: float = 0.0) -> Network:
    """Build a network with the weights, head included, that a training wrote.

    Parameters
    ----------
    name : str
        See `describe`.
    n_classes : int
        Outputs of the head.
    path : Path
        ``checkpoints/best.safetensors`` of a run.
    dropout : float
        As it was trained with.

    Raises
    ------
    UserError
        If the file is missing or holds the weights of another network.
    """
    backbone = describe(name)
    module = _create(backbone, n_classes, seed=0)
    head = _replace_head(module, backbone, n_classes, dropout, seed=0)
    state = weight_sources.read_state(path)
    own = module.state_dict()
    if set(state) != set(own) or any(state[key].shape != own[key].shape for key in own):
        raise UserError(
            f"{path} holds the weights of another network than {name} with {n_classes} classes.",
            "the file that the run itself wrote.",
            "Restore it from the mirror, or train again.",
        )
    module.load_state_dict(state)
    return Network(module, backbone, head, f"file {path}", files.sha256_file(path))


def _create(backbone: Backbone, n_classes: int, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "backbone"))
        if backbone.source == "torchvision":
            from torchvision import models

            return models.get_model(backbone.model, weights=None, dropout=0.0, num_classes=n_classes)
        import timm

        return timm.create_model(backbone.model, pretrained=False, num_classes=n_classes)


def _replace_head(module: nn.Module, backbone: Backbone, n_classes: int, dropout: float, seed: int) -> str:
    import torch
    from torch import nn

    head = (
        "classifier.6"
        if backbone.source == "torchvision"
        else getattr(module, "default_cfg", {}).get("classifier")
    )
    old = module.get_submodule(head) if isinstance(head, str) else None
    if not isinstance(head, str) or not isinstance(old, nn.Linear):
        raise UserError(
            f"The head of {backbone.name} is not one linear layer.",
            "a classification network with one.",
            "Choose another backbone; `freezeframe backbones` lists the tested ones.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        linear = nn.Linear(old.in_features, n_classes)
    # Dropout is a module of its own, so that whoever divides the network sees it.
    module.set_submodule(head, nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=linear)))
    return head


def _load(module: nn.Module, backbone: Backbone, head: str, weights: str) -> tuple[str, str]:
    if weights != "pretrained":
        path = Path(weights).expanduser()
        weight_sources.load(module, weight_sources.read_state(path), head, backbone.name, path)
        return f"file {path}", files.sha256_file(path)
    source = weight_sources.fetch(backbone)
    assert source.path is not None
    state = weight_sources.read_state(source.path, pickled=source.path.suffix == ".pth")
    if source.kind == "package":
        state = weight_sources.translate_lite(state, module)
    elif backbone.source == "timm":
        state = _as_timm_reads_it(backbone, state, source.path)
    weight_sources.load(module, state, head, backbone.name, source.path)
    return f"{source.kind} {source.name}", files.sha256_file(source.path)


def _as_timm_reads_it(backbone: Backbone, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    # Published files may have other names or an auxiliary head; each of timm's networks knows how to read its own.
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        try:
            donor = timm.create_model(
                backbone.model, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": state}
            )
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"{path} does not fit {backbone.name}: {str(error)[:300]}",
                "the published weights of that network.",
            ) from error
    return donor.state_dict()


def _keep_first(network: Network, first: int, initial: dict[str, Tensor]) -> None:
    if not 1 <= first <= len(network.layers):
        raise UserError(
            f"transfer asks for the first {first} layers of {network.backbone.name}.",
            f"a number from 1 to {len(network.layers)}: so many weighted layers it has.",
        )
    kept = {name.rpartition(".")[0] for layer in network.layers[:first] for name in layer.parameters}
    state = network.module.state_dict()
    renewed = {
        key: initial[key]
        for key in state
        if key.rpartition(".")[0] not in kept and not within(key, network.head)
    }
    network.module.load_state_dict(renewed, strict=False)
