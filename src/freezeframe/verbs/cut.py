"""Show a network as a table: what is frozen, what trains, and where the cut lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from freezeframe.backbones.layers import within

if TYPE_CHECKING:
    from freezeframe.backbones.cut import Cut
    from freezeframe.backbones.zoo import Network
    from freezeframe.recipe import Adapters


@dataclass(frozen=True)
class Row:
    """A block of the network, a weighted layer of a block that trains in part, or the head.

    Attributes
    ----------
    kind : str
        ``"block"``, ``"layer"`` or ``"head"``.
    name : str
        The modules.
    state : str
        ``"frozen"`` (in the prefix), ``"recomputed"`` (frozen, but after the cut, beside what trains), ``"trains"``,
        ``"adapters"`` (frozen, with adapters that train), or ``"in part"`` for a block whose layers follow.
    parameters, trainable : int
        Its own, and those that train, which are its adapters' where it has any.
    shape : tuple of int
        Of its output for one image.
    """

    kind: Literal["block", "layer", "head"]
    name: str
    state: str
    parameters: int
    trainable: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CutTable:
    """A network divided: rows from input to output, and where the cut lies.

    Attributes
    ----------
    backbone : str
        The network.
    rows : tuple of Row
        From input to output.
    cut_before : int
        Index of the row before which the cut lies.
    shapes : tuple of tuples of int
        Of the tensors at the cut, of one image.
    activation_bytes : int
        Of one image at the cut, in float32.
    prefix_multiply_adds, suffix_multiply_adds : int
        Of one image, before and after the cut.
    """

    backbone: str
    rows: tuple[Row, ...]
    cut_before: int
    shapes: tuple[tuple[int, ...], ...]
    activation_bytes: int
    prefix_multiply_adds: int
    suffix_multiply_adds: int


def cut(
    backbone: str,
    unfreeze: str | Mapping[str, Any] = "head",
    classes: int = 2,
    input_size: tuple[int, int] | None = None,
    adapters: Adapters | None = None,
) -> CutTable:
    """Divide a network and describe the result; no weights are needed.

    Parameters
    ----------
    backbone : str
        A plain name, or any of timm's.
    unfreeze : str or mapping
        What trains, as in a recipe, such as ``{"layers": 4}``.
    classes : int
        Outputs of the head.
    input_size : (int, int), optional
        Height and width of the images; the network's own where left out.
    adapters : Adapters, optional
        Of the recipe, where the unfrozen layers are to have some.

    Raises
    ------
    UserError
        If there is no such network, or it can't be divided so.
    """
    from freezeframe.backbones import cut as cutting
    from freezeframe.backbones import unfreeze as unfreezing
    from freezeframe.backbones import zoo
    from freezeframe.training.adapters import adapter_sizes

    network = zoo.build(backbone, classes, weights="none", announce=False)
    unfrozen = unfreezing.resolve(unfreeze, network)
    divided = cutting.cut(network, unfrozen, input_size)
    sizes = {name: parameter.numel() for name, parameter in network.module.named_parameters()}
    trainable = {name: sizes[name] for name in unfrozen.parameters}
    if adapters is not None:
        added = adapter_sizes(adapters, network, divided.suffix, unfrozen)
        trainable = {
            name: added.get(name, size)
            for name, size in trainable.items()
            if name in added or within(name, network.head)
        }
    rows = _rows(network, sizes, trainable, divided, adapters is not None)
    in_prefix = [index for index, row in enumerate(rows) if row.state == "frozen"]
    return CutTable(
        backbone,
        tuple(rows),
        in_prefix[-1] + 1 if in_prefix else 0,
        divided.shapes,
        4 * divided.size,
        divided.prefix_multiply_adds,
        divided.suffix_multiply_adds,
    )


def _rows(
    network: Network, sizes: Mapping[str, int], trainable: Mapping[str, int], divided: Cut, adapted: bool
) -> list[Row]:
    from freezeframe.backbones.layers import output_shapes

    shapes = output_shapes(network.module, divided.input_size)

    def row(
        kind: Literal["block", "layer", "head"], name: str, parameters: Sequence[str], layers: Sequence[str]
    ) -> Row:
        count = sum(sizes[parameter] for parameter in parameters)
        training = sum(trainable.get(parameter, 0) for parameter in parameters)
        computed = all(any(within(layer, module) for module in divided.prefix_modules) for layer in layers)
        state = "frozen" if computed else "recomputed"
        if training:
            state = "trains" if training == count else "in part"
            state = "adapters" if adapted and kind != "head" else state
        ran = [module for module in shapes if any(within(module, layer) for layer in layers)]
        return Row(kind, name, state, count, training, shapes[ran[-1]] if ran else ())

    rows = []
    for block in network.blocks:
        inside = [layer for layer in network.layers if set(layer.parameters) & set(block.parameters)]
        whole = row("block", block.name, block.parameters, block.modules)
        partly = whole.state != "trains" and any(
            row("layer", layer.name, layer.parameters, [layer.name]).state != "frozen" for layer in inside
        )
        rows.append(
            Row("block", whole.name, "in part", whole.parameters, whole.trainable, whole.shape)
            if partly
            else whole
        )
        if partly:
            own = set(block.parameters)
            rows += [
                row("layer", layer.name, [name for name in layer.parameters if name in own], [layer.name])
                for layer in inside
                if layer.name + ".weight" in own or own & set(layer.parameters)
            ]
    head = [name for name in sizes if within(name, network.head)]
    rows.append(row("head", network.head, head, [network.head]))
    return rows
