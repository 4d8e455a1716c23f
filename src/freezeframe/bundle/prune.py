"""Structured pruning: a trained network with fewer channels, and a short training that recovers what that cost.

torch-pruning finds which channels hang together (DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900) and
takes them out of all layers at once, so that what is left is an ordinary, smaller network.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch_pruning
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from freezeframe import files
from freezeframe.backbones import zoo
from freezeframe.backbones.layers import inference_mode_of
from freezeframe.backbones.shapes import PRUNED, take_shapes
from freezeframe.data.manifest import Manifest
from freezeframe.ensemble.folder import Run, read_run
from freezeframe.ensemble.rules import combine, validation_score
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import progress, say
from freezeframe.recipe import Recipe
from freezeframe.seeds import generator
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import CHUNK
from freezeframe.training.assembly import Assembly
from freezeframe.training.cpu_kernels import faster_gradients
from freezeframe.training.fit import run_manifest, train
from freezeframe.training.run import BEST, read_status, write_status
from freezeframe.training.shared import Shared
from freezeframe.training.views import Views

Scope = Literal["whole", "suffix"]
Measure = Literal["multiply-adds", "parameters"]

SCHEMA_VERSION = 1
WEIGHTS, DESCRIPTION = "pruned.safetensors", "pruned.json"
EPOCHS = 10
# A layer loses so many parts of its channels, one layer after the other, so that the whole shrinks in small steps.
NOTCHES = 16
# Trials that find how much to take; the last ones differ by a notch of one layer among some sixty.
HALVINGS = 10
# A layer keeps at least this share of its channels.
LEAST_KEPT = 1 / 8
# Registers of a processor hold eight float32 (AVX2), and ONNX Runtime computes convolutions in blocks of so many.
MULTIPLE = 8
WEIGHED_IMAGES = 128


@dataclass(frozen=True)
class Size:
    """What a network, or its part that may be pruned, takes.

    Attributes
    ----------
    multiply_adds : int
        Of one image.
    parameters : int
        Numbers.
    """

    multiply_adds: int
    parameters: int

    def of(self, measure: Measure) -> int:
        """Return one of the two."""
        return self.multiply_adds if measure == "multiply-adds" else self.parameters


def prune(
    run: Path,
    out: Path,
    keep: float = 0.5,
    scope: Scope = "whole",
    measure: Measure = "multiply-adds",
    epochs: int = EPOCHS,
    teacher: Path | None = None,
    changes: Sequence[str] = (),
) -> Path:
    """Prune a finished run's network and train what is left for a while; the same call again resumes.

    Parameters
    ----------
    run : Path
        The folder of a finished run.
    out : Path
        Folder of the run that comes of it; it is made.
    keep : float
        Share in (0, 1) of what is in scope that is kept.
    scope : str
        ``"whole"``: all layers may lose channels, and all train afterwards. ``"suffix"``: only those that the run
        trained; its frozen part stays as it is, and so do the stored activations.
    measure : str
        What `keep` is a share of: ``"multiply-adds"`` or ``"parameters"``.
    epochs : int
        Of the recovery.
    teacher : Path, optional
        Ensemble or run that it learns from besides the labels; the unpruned run where left out.
    changes : sequence of str
        ``field=value`` pairs that change the recovery's recipe, as for ``freezeframe train --set``.

    Returns
    -------
    Path
        `out`: an ordinary run, with ``pruned.json`` (what was taken) and ``pruned.safetensors`` (before recovery).

    Raises
    ------
    UserError
        If the run is not finished, there is nothing to prune, so little can't be kept, or the folder holds another
        run.
    """
    if not 0 < keep < 1:
        raise UserError(f"keep is {keep}.", "a share between 0 and 1, such as 0.5.")
    out = Path(out).absolute()
    source = read_run(Path(run))
    recipe = Recipe.read(source.folder / "recipe.yaml").changed(device="auto")
    request = {"weights_sha256": source.weights_sha256, "keep": keep, "scope": scope, "measure": measure}
    if not _is_begun(out, request):
        _make(source, recipe, out, request, keep, scope, measure)
    description = files.read_json(out / DESCRIPTION)
    recovery = Recipe.parse(
        {
            **recipe.to_dict(),
            "weights": str(out / WEIGHTS),
            "transfer": None,
            "adapters": None,
            "keep_weights": "whole",
            "unfreeze": description["unfreeze"],
            # A layer that lost channels has as much to learn again as the head.
            "backbone_learning_rate": recipe.learning_rate
            if scope == "whole"
            else recipe.backbone_learning_rate,
            "epochs": epochs,
            "teacher": str(Path(teacher or source.folder).absolute()),
        },
        list(changes),
    )
    train(recovery, out)
    best = read_status(out)["best_validation"]
    write_status(out, pruned={**description, "after_recovery": best})
    return out


def _is_begun(out: Path, request: dict[str, Any]) -> bool:
    """Tell whether the folder holds what was asked for; refuse one that holds anything else."""
    if not (out / DESCRIPTION).exists():
        if (out / "recipe.yaml").exists():
            raise UserError(f"{out} holds another run.", "a folder of its own.", "Choose another --out.")
        return False
    before = files.read_json(out / DESCRIPTION)["request"]
    differing = [f"{name}: {before.get(name)} there, {value} now" for name, value in request.items()
                 if before.get(name) != value]  # fmt: skip
    if differing:
        raise UserError(
            f"{out} was pruned otherwise ({'; '.join(differing)}).", "the same.", "Choose another --out."
        )
    return True


def _make(
    source: Run,
    recipe: Recipe,
    out: Path,
    request: dict[str, Any],
    keep: float,
    scope: Scope,
    measure: Measure,
) -> None:
    """Write the pruned weights and what was taken; the description comes last and makes the folder begun."""
    n_classes = len(source.classes)
    parts = assembling.assemble(recipe, n_classes, trained=source.folder / BEST)
    module, name = parts.network.module, parts.network.backbone.name
    module.eval().cpu()
    manifest = run_manifest(recipe, source.folder, Shared())
    trained = frozenset(parts.phases[-1][1].parameters) if scope == "suffix" else None
    unfreeze = "all" if trained is None else _unfreeze(parts, trained)
    fixed = Size(0, 0) if trained is None else _fixed(parts, trained)
    size = parts.cut.input_size
    _weigh(parts, manifest)
    pruned = _smaller(parts, trained, fixed, keep, measure)
    state = {key: tensor.detach().contiguous() for key, tensor in pruned.state_dict().items()}
    _check_rebuilt(recipe, n_classes, pruned, state, size)
    before, after = size_of(module, size), size_of(pruned, size)
    channels, now = _channels(module), _channels(pruned)
    description = {
        "schema_version": SCHEMA_VERSION,
        "request": request,
        "run": str(source.folder),
        "unfreeze": unfreeze,
        "multiply_adds": [before.multiply_adds, after.multiply_adds],
        "parameters": [before.parameters, after.parameters],
        "channels": {layer: [count, now[layer]] for layer, count in channels.items() if now[layer] != count},
        "validation_roc_auc": [_validation_score(parts, each, manifest) for each in (module, pruned)],
    }
    say(
        f"{name}: {after.multiply_adds / before.multiply_adds:.0%} of the multiply-adds and "
        f"{after.parameters / before.parameters:.0%} of the parameters are kept."
    )
    manifest.write(out / "manifest.parquet")
    files.write_bytes(out / WEIGHTS, save(state, {PRUNED: "true"}))
    files.write_json(out / DESCRIPTION, assembling.plain(description))


def _unfreeze(parts: Assembly, trained: frozenset[str]) -> Any:
    """Say what the run trained in words that mean the same layers after pruning."""
    layers = [layer for layer in parts.network.layers if set(layer.parameters) & trained]
    if not layers:
        raise UserError(
            f"Of {parts.network.backbone.name} the head alone was trained: there is nothing to prune in the suffix.",
            "a run that trained more.",
            "Take --scope whole.",
        )
    spec = parts.recipe.unfreeze
    if isinstance(spec, list):
        spec = {form: value for form, value in spec[-1].items() if form != "epoch"}
    # A share of the parameters is another one of fewer.
    return {"layers": len(layers)} if isinstance(spec, dict) and "fraction" in spec else spec


def size_of(module: nn.Module, input_size: tuple[int, int]) -> Size:
    """Count what a network takes at an input size (height, width)."""
    with torch.no_grad(), inference_mode_of(module), FlopCounterMode(display=False) as operations:
        module(torch.zeros(1, 3, *input_size))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Size(operations.get_total_flops() // 2, parameters)


def _fixed(parts: Assembly, trained: frozenset[str]) -> Size:
    frozen = sum(
        parameter.numel()
        for name, parameter in parts.network.module.named_parameters()
        if name not in trained
    )
    return Size(parts.cut.prefix_multiply_adds, frozen)


def _channels(module: nn.Module) -> dict[str, int]:
    return {
        name: len(cast(torch.Tensor, part.weight))
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    }


def _smaller(
    parts: Assembly, scope: frozenset[str] | None, fixed: Size, keep: float, measure: Measure
) -> nn.Module:
    """Return a copy of the network with the fewest channels gone that leave `keep`, by halving their share."""
    size, most = parts.cut.input_size, 1 - LEAST_KEPT
    base = size_of(parts.network.module, size).of(measure) - fixed.of(measure)

    def left(module: nn.Module) -> float:
        return (size_of(module, size).of(measure) - fixed.of(measure)) / base

    try:
        found = _without(parts, most, scope)
        least = left(found)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The channels of {parts.network.backbone.name} can't be taken out ({error}).",
            "a convolutional network.",
            "Train a smaller one with this one as its teacher instead (see `docs/distillation.md`).",
        ) from error
    if least > keep:
        raise UserError(
            f"{parts.network.backbone.name} has {least:.0%} of its {measure} left, whatever is taken from it.",
            f"a share of at least {least + 0.005:.2f}.",
            "Raise --keep, or take a smaller backbone.",
        )
    low, high = 0.0, most
    with progress("Pruning", HALVINGS, "trials") as advance:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            trial = _without(parts, middle, scope)
            if left(trial) <= keep:
                found, high = trial, middle
            else:
                low = middle
            advance(1)
    return found


def _without(parts: Assembly, share: float, scope: frozenset[str] | None) -> nn.Module:
    """Return a copy of the network without the least important share of each layer's channels."""
    original = parts.network.module
    module = copy.deepcopy(original)
    for own, other in zip(module.parameters(), original.parameters(), strict=True):
        own.grad = None if other.grad is None else other.grad.clone()  # which a copy lacks
    kept: list[Any] = [module.get_submodule(parts.network.head)[-1]]  # pyright: ignore[reportIndexIssue]
    if scope is not None:
        kept += [
            part
            for prefix, part in module.named_modules()
            if any(f"{prefix}.{name}" not in scope for name, _ in part.named_parameters(recurse=False))
        ]
    with warnings.catch_warnings():
        # It says how it prunes parameters outside of layers (ConvNeXt's scales), which is right.
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=torch.zeros(1, 3, *parts.cut.input_size)
        )
    importance = torch_pruning.importance.GroupTaylorImportance()
    chosen = []
    groups = list(graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]))
    for position, group in enumerate(groups):
        weights = importance(group)
        if weights is None or any(_is_grouped(member.dep.target.module) for member in group):
            continue
        own_share = math.floor(share * NOTCHES + position / len(groups)) / NOTCHES
        fewest = math.ceil((1 - own_share) * len(weights) / MULTIPLE) * MULTIPLE
        taken = torch.argsort(weights)[: max(0, len(weights) - fewest)].tolist()
        chosen.append((group[0].dep, taken))
    # All are weighed before the first is taken.
    for root, taken in chosen:
        if taken:
            graph.get_pruning_group(root.target.module, root.handler, taken).prune()
    module.zero_grad(set_to_none=True)
    return module


def _is_grouped(part: nn.Module) -> bool:
    """Tell whether channels hang together in groups, of which each would have to lose as many."""
    return isinstance(part, nn.GroupNorm) or (
        isinstance(part, nn.Conv2d) and part.groups not in (1, part.in_channels)
    )


def _weigh(parts: Assembly, manifest: Manifest) -> None:
    """Leave in the network the gradient of the loss over some training images."""
    module = parts.network.module
    module.requires_grad_(True).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    random = generator(parts.recipe.seed, "pruning")
    images = manifest.subset("train")
    rows = np.sort(random.permutation(len(images))[:WEIGHED_IMAGES])
    labels = torch.from_numpy(images.labels())
    for row, batch in _batches(parts, images, rows):
        with faster_gradients(batch):
            logits = module(batch)
        (F.cross_entropy(logits, labels[row], reduction="sum") / len(rows)).backward()


def _batches(
    parts: Assembly, images: Manifest, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    parts.pixels.fill(images)
    views = Views(parts.pixels, parts.preprocessing, images.keys())
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        batch = torch.from_numpy(views.batch([(int(row), 0) for row in chunk]))
        yield chunk, batch.contiguous(memory_format=torch.channels_last)


def _validation_score(parts: Assembly, module: nn.Module, manifest: Manifest) -> float:
    images = manifest.subset("validation")
    rows = np.arange(len(images))
    with torch.inference_mode(), inference_mode_of(module):
        logits = [module(batch).numpy() for _, batch in _batches(parts, images, rows)]
    return validation_score(images.labels(), combine(np.concatenate(logits)[None], "mean"), "roc_auc")


def _check_rebuilt(
    recipe: Recipe,
    n_classes: int,
    module: nn.Module,
    state: dict[str, torch.Tensor],
    input_size: tuple[int, int],
) -> None:
    """Make sure that the weights alone are enough to build the pruned network again."""
    plain = recipe.changed(weights="none", transfer=None)
    rebuilt = zoo.build(
        plain.backbone, n_classes, "none", plain.dropout, hidden=plain.hidden, announce=False
    ).module.eval()
    example = torch.randn(2, 3, *input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), inference_mode_of(module):
        take_shapes(rebuilt, state)
        rebuilt.load_state_dict(state)
        expected, found = module(example), rebuilt(example)
    # Not to the bit: the one has its weights in another memory layout.
    if not torch.allclose(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item()):
        raise FreezeframeError(
            f"{plain.backbone} computes otherwise when it is built again from its pruned weights. Please report this."
        )
