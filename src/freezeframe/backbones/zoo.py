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
from freezeframe.backbones.shapes import PRUNED, take_shapes
from freezeframe.errors import UserError
from freezeframe.progress import say
from freezeframe.recipe import Recipe
from freezeframe.seeds import derive_seed

PRETRAINED = "pretrained_sha256"
"""Metadata of a file that holds only what trained: the pretrained weights that the rest comes from."""

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
        Name of the head's module, which is ``Sequential(dropout, linear)``, or with a hidden layer
        ``Sequential(dropout, hidden, activation, linear)``.
    weights_source : str
        Where its weights came from, ``"none"`` for random ones.
    weights_sha256 : str
        Of that file, in hexadecimal; empty for none.
    pruned : bool
        Whether it has fewer channels than its architecture. Its head is then that of the file as well.
    """

    module: nn.Module
    backbone: Backbone
    head: str
    weights_source: str
    weights_sha256: str
    pruned: bool = False

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
    hidden: int | None = None,
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
        ``"pretrained"``, ``"none"`` or a safetensors file of this network; a head in it is not used. A file that says
        of itself that it is pruned is taken as it is: its shapes, and its head.
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
    hidden : int, optional
        Neurons of a hidden layer in the head; one linear layer where left out.

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
    head = _replace_head(module, backbone, n_classes, dropout, hidden, seed)
    source, sha256, pruned = "none", "", False
    initial = {key: value.clone() for key, value in module.state_dict().items()} if transfer else {}
    if weights != "none":
        source, sha256, pruned = _load(module, backbone, head, n_classes, str(weights))
    elif announce:
        say(f"{name}: random weights, as asked for (weights: none); nothing pretrained is used.")
    network = Network(module, backbone, head, source, sha256, pruned)
    if transfer and pruned:
        raise UserError(
            f"transfer starts layers of {name} anew, and {weights} holds pruned ones.",
            "pruned weights as they are.",
            "Leave transfer out.",
        )
    if transfer:
        _keep_first(network, transfer["first"], initial)
    return network


def restore(recipe: Recipe, n_classes: int, path: Path) -> Network:
    """Build a network with the weights, head included, that a training wrote.

    Parameters
    ----------
    recipe : Recipe
        As it was trained with.
    n_classes : int
        Outputs of the head.
    path : Path
        ``checkpoints/best.safetensors`` of a run.

    Raises
    ------
    UserError
        If the file is missing or holds the weights of another network, or it holds only what trained and the
        pretrained weights that belong to it are not to be had.
    """
    backbone = describe(recipe.backbone)
    state = weight_sources.read_state(path)
    metadata = weight_sources.read_metadata(path)
    pretrained, pruned = metadata.get(PRETRAINED), PRUNED in metadata
    if pretrained is None:
        module = _create(backbone, n_classes, seed=0)
        head = _replace_head(module, backbone, n_classes, recipe.dropout, recipe.hidden, seed=0)
        if pruned:
            _take_pruned(module, state, head, n_classes, path)
    else:
        base = of_recipe(recipe, n_classes)
        if base.weights_sha256 != pretrained:
            raise UserError(
                f"{path} holds what trained on top of other pretrained weights than those here "
                f"({base.weights_source}).",
                f"the weights with SHA-256 {pretrained[:12]}...",
                "Fetch that file of weights, or train again with keep_weights: whole.",
            )
        module, head, pruned = base.module, base.head, base.pruned
    own = module.state_dict()
    fits = set(state) <= set(own) if pretrained is not None else set(state) == set(own)
    if not fits or any(state[key].shape != own[key].shape for key in state):
        raise UserError(
            f"{path} holds the weights of another network than {backbone.name} with {n_classes} classes.",
            "the file that the run itself wrote.",
            "Restore it from the mirror, or train again.",
        )
    module.load_state_dict(state, strict=pretrained is None)
    return Network(module, backbone, head, f"file {path}", files.sha256_file(path), pruned)


def of_recipe(recipe: Recipe, n_classes: int) -> Network:
    """Build the network that a recipe asks for, as `build` does."""
    transfer = None if recipe.transfer is None else recipe.transfer.model_dump()
    return build(
        recipe.backbone,
        n_classes,
        recipe.weights,
        recipe.dropout,
        transfer,
        recipe.seed,
        hidden=recipe.hidden,
    )


def new_head(features: int, n_classes: int, dropout: float, hidden: int | None, seed: int) -> nn.Sequential:
    """Make a head with weights that depend on the seed alone."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        if hidden is None:
            layers = OrderedDict[str, nn.Module](linear=nn.Linear(features, n_classes))
        else:
            layers = OrderedDict[str, nn.Module](
                hidden=nn.Linear(features, hidden), activation=nn.ReLU(), linear=nn.Linear(hidden, n_classes)
            )
    # Dropout is a module of its own, so that whoever divides the network sees it.
    return nn.Sequential(OrderedDict[str, nn.Module](dropout=nn.Dropout(dropout), **layers))


def _create(backbone: Backbone, n_classes: int, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "backbone"))
        if backbone.source == "torchvision":
            from torchvision import models

            return models.get_model(backbone.model, weights=None, dropout=0.0, num_classes=n_classes)
        import timm

        return timm.create_model(backbone.model, pretrained=False, num_classes=n_classes)


def _replace_head(
    module: nn.Module, backbone: Backbone, n_classes: int, dropout: float, hidden: int | None, seed: int
) -> str:
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
    module.set_submodule(head, new_head(old.in_features, n_classes, dropout, hidden, seed))
    return head


def _load(
    module: nn.Module, backbone: Backbone, head: str, n_classes: int, weights: str
) -> tuple[str, str, bool]:
    if weights != "pretrained":
        path = Path(weights).expanduser()
        state = weight_sources.read_state(path)
        pruned = PRUNED in weight_sources.read_metadata(path)
        if pruned:
            _take_pruned(module, state, head, n_classes, path)
            module.load_state_dict(state)
        else:
            weight_sources.load(module, state, head, backbone.name, path)
        return f"file {path}", files.sha256_file(path), pruned
    source = weight_sources.fetch(backbone)
    assert source.path is not None
    state = weight_sources.read_state(source.path, pickled=source.path.suffix == ".pth")
    if source.kind == "package":
        state = weight_sources.translate_lite(state, module)
    elif backbone.source == "timm":
        state = _as_timm_reads_it(backbone, state, source.path)
    weight_sources.load(module, state, head, backbone.name, source.path)
    return f"{source.kind} {source.name}", files.sha256_file(source.path), False


def _take_pruned(module: nn.Module, state: dict[str, Tensor], head: str, n_classes: int, path: Path) -> None:
    """Give a network the shapes of pruned weights, if they are its own."""
    last = state.get(f"{head}.linear.weight")
    if set(state) != set(module.state_dict()) or last is None or len(last) != n_classes:
        raise UserError(
            f"{path} holds pruned weights of another network, head or number of classes than {n_classes}.",
            "the network, the head and the classes that it was pruned with.",
            "Take its recipe as it is.",
        )
    take_shapes(module, state)


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
