"""The cut: a network divided into a frozen prefix, computed once, and a suffix that trains.

The network is traced only where trained and frozen parts are mixed; a module that is wholly one or the other stays
as it is. Prefix and suffix hold the very parameters of the network, and run one after the other they are it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.layers._fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.utils.flop_counter import FlopCounterMode

from freezeframe.backbones.layers import inference_mode_of
from freezeframe.errors import FreezeframeError, UserError

if TYPE_CHECKING:
    from freezeframe.backbones.unfreeze import Unfrozen
    from freezeframe.backbones.zoo import Network

# Storing all that the suffix reads spares it frozen layers; it may cost at most this many times the one tensor.
LARGEST_FRONTIER = 3
EXAMPLE_BATCH = 2


@dataclass(frozen=True)
class Cut:
    """A network divided in two.

    Attributes
    ----------
    prefix : fx.GraphModule or None
        Takes (N, 3, H, W); gives a tuple of float tensors, each (N, ...). Always in eval mode. None where nothing
        frozen lies before the first trainable layer: the cut is then the input itself.
    suffix : nn.Module
        Takes those tensors as arguments (the images where `prefix` is None); gives logits (N, classes). The names of
        its parameters are those of the network. It is the network itself where that can't be traced.
    shapes : tuple of tuples of int
        Of each tensor at the cut, of one image.
    nodes : tuple of str
        Where these tensors come from: module paths, or operations of the graph.
    prefix_multiply_adds, suffix_multiply_adds : int
        Of one image.
    prefix_modules : tuple of str
        Paths of the modules that run in the prefix.
    input_size : (int, int)
        Height and width of the images.
    model : str
        The network's name in its library.
    """

    prefix: fx.GraphModule | None
    suffix: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    nodes: tuple[str, ...]
    prefix_multiply_adds: int
    suffix_multiply_adds: int
    prefix_modules: tuple[str, ...]
    input_size: tuple[int, int]
    model: str

    @property
    def size(self) -> int:
        """Numbers an image at the cut."""
        return sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def prefix_key(self) -> str:
        """SHA-256 of all that determines what the prefix computes: weights, statistics, graph and layers."""
        digest = hashlib.sha256(f"{self.model} {timm.__version__} {self.nodes} {self.shapes}".encode())
        if self.prefix is not None:
            digest.update(self.prefix.code.encode())
            digest.update(repr(self.prefix).encode())  # kernel sizes, strides, epsilons, activations
            for name, tensor in sorted(self.prefix.state_dict().items()):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        r"""Give the suffix its arguments from stored activations.

        Parameters
        ----------
        flat : Tensor
            (N, size), as an executor writes them.

        Returns
        -------
        tuple of Tensor
            (N, \*shape) for each shape of the cut.
        """
        parts = flat.split([math.prod(shape) for shape in self.shapes], dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))


class _Tracer(fx.Tracer):
    """Traces into a module only if it mixes trained and frozen parameters and can be traced."""

    def __init__(self, trainable: set[str], opaque: set[str]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.trainable, self.opaque = trainable, opaque
        self.entered: list[str] = []

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        # Only the images vary; masks and the like keep their defaults, on which the code may branch.
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        return function, arguments[:2]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.opaque or isinstance(m, tuple(get_notrace_modules())):
            return True
        if type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential):
            return True
        if not list(m.children()) or isinstance(m, nn.modules.batchnorm._NormBase):
            return True
        flags = {f"{module_qualified_name}.{name}" in self.trainable for name, _ in m.named_parameters()}
        return len(flags) < 2

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        name = self.path_of_module(m)
        self.entered.append(name)
        result = super().call_module(m, forward, args, kwargs)
        self.entered.pop()  # not reached after an error, so that the last one entered is where it happened
        return result


def _trace(module: nn.Module, trainable: set[str]) -> fx.Graph:
    """Trace a network; a part that can't be traced, or that behaves differently in training, stays whole."""
    opaque: set[str] = set()
    while True:
        graphs = []
        for training in (False, True):
            tracer = _Tracer(trainable, opaque)
            modes = [(part, part.training) for part in module.modules()]
            module.train(training)
            try:
                graphs.append(tracer.trace(module))
            except Exception as error:  # tracing runs the network's own code, which may fail in any way
                if not tracer.entered:
                    raise _CannotTraceError from error
                opaque.add(tracer.entered[-1])
                break
            finally:
                for part, mode in modes:
                    part.training = mode
        if len(graphs) == 2:
            unequal = _first_difference(*graphs)
            if unequal is None:
                return graphs[0]
            if not unequal:
                raise _CannotTraceError
            opaque.add(unequal)


class _CannotTraceError(Exception):
    """The outermost forward can't be traced."""


def _first_difference(one: fx.Graph, other: fx.Graph) -> str | None:
    """Return the innermost module with code that depends on the mode; '' for the outermost, None for nowhere."""
    for left, right in zip(one.nodes, other.nodes, strict=False):
        if (left.op, str(left.target), str(left.args), str(left.kwargs)) != (
            right.op, str(right.target), str(right.args), str(right.kwargs),
        ):  # fmt: skip
            return max(_inside(left), _inside(right), key=len)
    return None if len(one.nodes) == len(other.nodes) else ""


def _inside(node: fx.Node) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return next((path for path in reversed(stack) if node.op != "call_module" or path != node.target), "")


def cut(network: Network, unfrozen: Unfrozen, input_size: tuple[int, int] | None = None) -> Cut:
    """Divide a network at the last place before which everything is frozen.

    What depends on nothing that trains belongs to the prefix, operations without parameters (activation, pooling)
    included. The cut is all tensors that the rest reads, if together they are at most three times as large as the last
    single tensor through which everything flows; else that tensor, and the suffix computes the few frozen layers
    beside the trained ones again.

    Parameters
    ----------
    network : Network
        From `zoo.build`.
    unfrozen : Unfrozen
        What trains, from `unfreeze.resolve`.
    input_size : (int, int), optional
        Height and width of the images; the network's own where left out.

    Returns
    -------
    Cut

    Raises
    ------
    UserError
        If the network can't take images of that size.
    FreezeframeError
        If prefix and suffix together are not bit-equal to the network on an example, which would be our fault.
    """
    module, size = network.module, input_size or network.backbone.input_size
    device = next(module.parameters()).device
    random = torch.Generator().manual_seed(0)
    example = torch.randn(EXAMPLE_BATCH, 3, *size, generator=random).to(device)
    with torch.no_grad(), inference_mode_of(module):
        with FlopCounterMode(display=False) as operations:
            expected = _run_whole(network, example)
        try:
            whole = fx.GraphModule(module, _trace(module, set(unfrozen.parameters)))
        except _CannotTraceError:
            multiply_adds = operations.get_total_flops() // 2 // EXAMPLE_BATCH
            return Cut(
                None, module, ((3, *size),), ("x",), 0, multiply_adds, (), size, network.backbone.model
            )
        ShapeProp(whole).propagate(example)
        frontier = _frontier(whole, unfrozen)
        prefix, suffix = _divide(whole, frontier)
        shapes = tuple(tuple(node.meta["tensor_meta"].shape[1:]) for node in frontier)
        nodes = tuple(
            str(node.target) if node.op in ("call_module", "placeholder") else node.name for node in frontier
        )
        with FlopCounterMode(display=False) as prefix_operations:
            inputs = (example,) if prefix is None else prefix(example)
        suffix = _protect_inputs(suffix, inputs)
        with FlopCounterMode(display=False) as suffix_operations:
            divided = suffix(*inputs)
        if not torch.equal(divided, expected):
            raise FreezeframeError(
                f"{network.backbone.name} divided at {', '.join(nodes)} does not compute what it computes whole. "
                "Please report this; recompute the frozen part with another `unfreeze` meanwhile."
            )
    if prefix is not None:
        prefix.eval()  # its layers are those of the network, which has just got back the mode that it had
    return Cut(
        prefix,
        suffix,
        shapes,
        nodes,
        prefix_operations.get_total_flops() // 2 // EXAMPLE_BATCH,
        suffix_operations.get_total_flops() // 2 // EXAMPLE_BATCH,
        tuple(str(node.target) for node in prefix.graph.nodes if node.op == "call_module") if prefix else (),
        size,
        network.backbone.model,
    )


def _run_whole(network: Network, example: Tensor) -> Tensor:
    try:
        return network.module(example)
    except (AssertionError, RuntimeError) as error:
        height, width = example.shape[2:]
        raise UserError(
            f"{network.backbone.name} can't take images of {height} x {width} pixels: {error}",
            "its own size, {} x {}.".format(*network.backbone.input_size),
            "Choose that size in `preprocess`, or another backbone.",
        ) from error


def _frontier(whole: fx.GraphModule, unfrozen: Unfrozen) -> list[fx.Node]:
    """Return the nodes whose tensors are handed from prefix to suffix, in the graph's order."""
    nodes = list(whole.graph.nodes)
    constant, frozen = _frozen_nodes(whole, unfrozen)
    # What can't be stored as one tensor an image (a size, a list, windows of all images) is left to the suffix.
    while True:
        read = {
            source for node in nodes if node not in frozen for source in node.all_input_nodes
        } & frozen - constant
        unfit = {node for node in read if not _is_storable(node)}
        if not unfit:
            break
        frozen -= unfit
    frontier = [node for node in nodes if node in read]
    dominators: dict[fx.Node, set[fx.Node]] = {}
    for node in nodes:
        if node not in constant:
            before = [dominators[source] for source in node.all_input_nodes if source not in constant]
            dominators[node] = {node} | (set.intersection(*before) if before else set())
    common = set.intersection(*(dominators[node] for node in frontier))
    single = [node for node in nodes if node in common & frozen and _is_storable(node)][-1]
    total = sum(_numbers(node) for node in frontier)
    return frontier if total <= LARGEST_FRONTIER * _numbers(single) else [single]


def _frozen_nodes(whole: fx.GraphModule, unfrozen: Unfrozen) -> tuple[set[fx.Node], set[fx.Node]]:
    """Return the nodes that depend on no image, and those that depend on nothing that trains (or is random)."""
    trainable, training = set(unfrozen.parameters), set(unfrozen.modules)
    constant: set[fx.Node] = set()
    frozen: set[fx.Node] = set()
    for node in whole.graph.nodes:
        target = str(node.target)
        if node.op == "output" or any(source not in frozen for source in node.all_input_nodes):
            continue
        if node.op == "get_attr" and target in trainable:
            continue
        if node.op == "call_module":
            part = whole.get_submodule(target)
            own = {f"{target}.{name}" for name, _ in part.named_parameters()}
            random = {
                f"{target}.{name}".rstrip(".") for name, inner in part.named_modules() if _is_random(inner)
            }
            if own & trainable or random & training:
                continue
        frozen.add(node)
        if node.op != "placeholder" and all(source in constant for source in node.all_input_nodes):
            constant.add(node)
    return constant, frozen


def _is_random(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    return bool(getattr(part, "drop_prob", 0))  # timm's stochastic depth


def _is_storable(node: fx.Node) -> bool:
    value = node.meta.get("tensor_meta")
    return (
        isinstance(value, TensorMetadata)
        and value.dtype.is_floating_point
        and len(value.shape) > 1
        and value.shape[0] == EXAMPLE_BATCH
    )


def _numbers(node: fx.Node) -> int:
    return math.prod(node.meta["tensor_meta"].shape[1:])


def _divide(whole: fx.GraphModule, frontier: list[fx.Node]) -> tuple[fx.GraphModule | None, fx.GraphModule]:
    inputs = [next(iter(whole.graph.nodes))]
    output = next(iter(reversed(whole.graph.nodes)))
    suffix = fx.GraphModule(whole, _between(whole.graph, frontier, output.args[0]), class_name="Suffix")
    if frontier == inputs:
        return None, suffix
    return fx.GraphModule(
        whole, _between(whole.graph, inputs, tuple(frontier)), class_name="Prefix"
    ).eval(), suffix


def _between(graph: fx.Graph, inputs: list[fx.Node], outputs: Any) -> fx.Graph:
    """Copy the part of a graph that computes `outputs` from `inputs`."""
    needed: set[fx.Node] = set()
    waiting = [outputs] if isinstance(outputs, fx.Node) else list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += [] if node in inputs else node.all_input_nodes
    part = fx.Graph()
    copies = {
        node: part.placeholder(f"x{index}" if len(inputs) > 1 else "x") for index, node in enumerate(inputs)
    }
    for node in graph.nodes:
        if node in needed and node not in copies:
            copies[node] = part.node_copy(node, lambda source: copies[source])
    part.output(fx.map_arg(outputs, lambda node: copies[node]))
    return part


def _protect_inputs(suffix: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """Copy those inputs that the suffix would overwrite (in-place activations, ``x += shortcut``).

    The caller may hold its activations in memory for the next epoch.
    """
    given = [tensor.clone() for tensor in inputs]
    versions = [tensor._version for tensor in given]
    suffix(*given)
    placeholders = [node for node in suffix.graph.nodes if node.op == "placeholder"]
    for node, tensor, version in zip(placeholders, given, versions, strict=True):
        if tensor._version != version:
            with suffix.graph.inserting_before(placeholders[-1].next):
                copy = suffix.graph.call_method("clone", (node,))
            node.replace_all_uses_with(copy, delete_user_cb=lambda user, copy=copy: user is not copy)
    suffix.recompile()
    return suffix
