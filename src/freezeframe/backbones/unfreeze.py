"""Which parameters train: from a recipe's word to names, and to the modes of the modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from freezeframe.backbones.layers import within
from freezeframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from freezeframe.backbones.zoo import Network

FORMS = "head, all, {blocks: n}, {layers: n}, {from: module} or {fraction: x}"


@dataclass(frozen=True)
class Unfrozen:
    """What trains.

    Attributes
    ----------
    parameters : tuple of str
        Names of the trainable parameters, in the network's own order.
    modules : tuple of str
        Names of the modules that are in training mode: those whose parameters all train, and the ones without
        parameters (dropout, stochastic depth) that run after a trainable layer.
    block_index : mapping of str to int
        For each trainable parameter its block, counted from the output back: 0 the head, 1 the last block, ...
    """

    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    block_index: Mapping[str, int]


def resolve(spec: str | Mapping[str, Any], network: Network) -> Unfrozen:
    """Find what trains.

    Parameters
    ----------
    spec : str or mapping
        ``"head"``, ``"all"``, ``{"blocks": n}`` (last n stages), ``{"layers": n}`` (last n weighted layers of the
        backbone as they run, with their norms), ``{"from": module}`` (everything that runs from that module on) or
        ``{"fraction": x}`` (the fewest last layers that hold at least that share of the backbone's parameters).
        The head always trains.
    network : Network
        From `zoo.build`.

    Raises
    ------
    UserError
        If the form is unknown, there are not so many blocks or layers, or there is no such module.
    """
    chosen = _backbone_parameters(spec, network)
    chosen |= {name for name, _ in network.module.named_parameters() if within(name, network.head)}
    parameters = tuple(name for name, _ in network.module.named_parameters() if name in chosen)
    from_output = {
        name: index
        for index, block in enumerate(reversed(network.blocks), start=1)
        for name in block.parameters
    }
    return Unfrozen(
        parameters,
        _training_modules(network, chosen),
        {name: from_output.get(name, 0) for name in parameters},
    )


def parse(text: str) -> str | dict[str, Any]:
    """Read what trains from a command line: ``head``, ``all``, ``blocks=1``, ``layers=4``, ``from=layer4``, ...

    Examples
    --------
    >>> parse("layers=4"), parse("fraction=0.3"), parse("head")
    ({'layers': 4}, {'fraction': 0.3}, 'head')
    """
    form, sign, value = text.partition("=")
    if not sign:
        return text
    return {form.strip(): value.strip() if form.strip() == "from" else yaml.safe_load(value)}


def schedule(
    spec: str | Mapping[str, Any] | Sequence[Mapping[str, Any]], network: Network
) -> list[tuple[int, Unfrozen]]:
    """Find what trains from which epoch on.

    Parameters
    ----------
    spec : str, mapping or sequence of mappings
        One form of `resolve`, or a list such as ``[{"blocks": 1}, {"epoch": 3, "blocks": 2}]``.

    Returns
    -------
    list of (int, Unfrozen)
        First epoch (from 0) and what trains from it on, in order; the first is epoch 0.

    Raises
    ------
    UserError
        As `resolve`; also if the epochs are not whole numbers that grow.
    """
    if isinstance(spec, str | Mapping):
        return [(0, resolve(spec, network))]
    if not spec:
        raise UserError(
            "unfreeze is an empty list.",
            f"steps such as [{{blocks: 1}}, {{epoch: 3, blocks: 2}}], each {FORMS}.",
        )
    steps: list[tuple[int, Unfrozen]] = []
    for position, step in enumerate(spec):
        if not isinstance(step, Mapping):
            raise UserError(f"unfreeze has the step {step!r}.", "a mapping such as {epoch: 3, blocks: 2}.")
        epoch = step.get("epoch", 0)
        if (
            type(epoch) is not int
            or (position == 0 and epoch != 0)
            or (position > 0 and epoch <= steps[-1][0])
        ):
            raise UserError(
                f"Step {position + 1} of unfreeze begins at epoch {epoch!r}.",
                "epoch 0 (or none said) in the first step, then whole numbers that grow.",
                "Write for example [{blocks: 1}, {epoch: 3, blocks: 2}].",
            )
        resolved = resolve({key: value for key, value in step.items() if key != "epoch"}, network)
        if steps and not set(steps[-1][1].parameters) <= set(resolved.parameters):
            raise UserError(
                f"Step {position + 1} of unfreeze freezes again what trained before it.",
                "steps that each train at least what the one before trains.",
                "Write for example [{blocks: 1}, {epoch: 3, blocks: 2}].",
            )
        steps.append((epoch, resolved))
    return steps


def _backbone_parameters(spec: str | Mapping[str, Any], network: Network) -> set[str]:
    backbone = {name for block in network.blocks for name in block.parameters}
    if spec == "head":
        return set()
    if spec == "all":
        return backbone
    if isinstance(spec, str) or len(spec) != 1:
        raise UserError(f"unfreeze is {spec!r}.", f"{FORMS}.")
    ((form, value),) = spec.items()
    if form in ("blocks", "layers"):
        parts = network.blocks if form == "blocks" else network.layers
        if type(value) is not int or not 0 <= value <= len(parts):
            raise UserError(
                f"unfreeze asks for {value!r} {form} of {network.backbone.name}.",
                f"a whole number from 0 to {len(parts)}: so many {form} it has.",
                f"See them with `freezeframe cut {network.backbone.name} all`.",
            )
        return {name for part in parts[len(parts) - value :] for name in part.parameters}
    if form == "from":
        return _from_module(str(value), network)
    if form == "fraction":
        return _fraction(value, network)
    raise UserError(
        f"unfreeze has the unknown form {form!r}, {did_you_mean(str(form), ['blocks', 'layers', 'from', 'fraction'])}",
        f"{FORMS}.",
    )


def _from_module(start: str, network: Network) -> set[str]:
    order = {name: position for position, name in enumerate(network.order)}
    # A container such as a list of layers is never called itself: it begins where the first of its parts begins.
    inside = [position for name, position in order.items() if start and within(name, start)]
    if not inside:
        known = [name for name in order if name]
        raise UserError(
            f"{network.backbone.name} has no module {start!r} that runs; {_suggest(start, known)}",
            "the name of a module.",
            f"See the names with `freezeframe cut {network.backbone.name} all`.",
        )
    first = min(inside)

    def position(parameter: str) -> int:
        owner = parameter.rpartition(".")[0]
        while owner not in order:
            owner = owner.rpartition(".")[0]
        return order[owner]

    return {name for block in network.blocks for name in block.parameters if position(name) >= first}


def _suggest(word: str, known: list[str]) -> str:
    # A list of hundreds of names helps nobody: name the nearest, else the outermost.
    nearest = did_you_mean(word, known)
    if nearest.startswith("did you mean"):
        return nearest
    return did_you_mean(word, list(dict.fromkeys(name.split(".")[0] for name in known)))


def _fraction(share: Any, network: Network) -> set[str]:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(
            f"unfreeze asks for the fraction {share!r} of the parameters.", "a number from 0 to 1."
        )
    sizes = {name: parameter.numel() for name, parameter in network.module.named_parameters()}
    total = sum(sizes[name] for layer in network.layers for name in layer.parameters)
    chosen: set[str] = set()
    held = 0
    for layer in reversed(network.layers):
        if held >= share * total:
            break
        chosen |= set(layer.parameters)
        held += sum(sizes[name] for name in layer.parameters)
    return chosen


def _training_modules(network: Network, chosen: set[str]) -> tuple[str, ...]:
    after_trainable = {
        module for layer in network.layers if set(layer.parameters) & chosen for module in layer.modules
    }
    names = []
    for name, part in network.module.named_modules():
        inside = {f"{name}.{parameter}".lstrip(".") for parameter, _ in part.named_parameters()}
        if (inside and inside <= chosen) or name in after_trainable or within(name, network.head):
            names.append(name)
    return tuple(names)


def apply(module: nn.Module, unfrozen: Unfrozen) -> None:
    """Set `requires_grad` of every parameter: true for those that train, false for the frozen.

    Parameters
    ----------
    module : nn.Module
        The whole network, or a cut's suffix.
    unfrozen : Unfrozen
        What trains.
    """
    trainable = set(unfrozen.parameters)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)


def set_training_mode(module: nn.Module, unfrozen: Unfrozen) -> None:
    """Put into training mode only what trains; all that is frozen stays in inference mode.

    A plain ``module.train()`` would let the statistics of frozen BatchNorm layers move and would switch on frozen
    dropout and stochastic depth. Call this after it.

    Parameters
    ----------
    module : nn.Module
        The whole network, or a cut's suffix.
    unfrozen : Unfrozen
        What trains.
    """
    training = set(unfrozen.modules)
    for name, part in module.named_modules():
        part.training = name in training
