"""From a recipe and a manifest to all parts of a training: pixels, network, cut, executor and views."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from freezeframe.backbones import cut as cutting
from freezeframe.backbones import executor as executors
from freezeframe.backbones import unfreeze, zoo
from freezeframe.backbones.catalogue import Backbone, describe
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.imaging import augment
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.progress import duration, say, size
from freezeframe.recipe import Recipe
from freezeframe.stores import default_store
from freezeframe.stores.pack import Pack
from freezeframe.stores.pixels import Pixels, Unreadable
from freezeframe.training import adapters
from freezeframe.training.activations import (
    CHUNK,
    MEMORY_SHARE,
    Activations,
    LiveActivations,
    StoredActivations,
    fits_on_disk,
)
from freezeframe.training.views import Place, Views

# Views where augmentation is asked for and their number is not: few views already give most of what many give.
DEFAULT_VIEWS = 4
CHECKED_IMAGES = 4


@dataclass(frozen=True)
class Assembly:
    """The parts of a training.

    Attributes
    ----------
    recipe : Recipe
        All of the training.
    network : zoo.Network
        The whole network.
    phases : list of (epoch, Unfrozen)
        What trains from which epoch on.
    cut : cutting.Cut
        For the last phase, in which the most trains.
    executor : executors.Executor or None
        Runs the prefix; None where nothing is frozen before the first trainable layer.
    preprocessing : Preprocessing
        From decoded image to input.
    pixels : Pixels
        The prepared images.
    store : Path
        The store's folder.
    device : str
        ``"cpu"`` or ``"cuda"``.
    """

    recipe: Recipe
    network: zoo.Network
    phases: list[tuple[int, unfreeze.Unfrozen]]
    cut: cutting.Cut
    executor: executors.Executor | None
    preprocessing: Preprocessing
    pixels: Pixels
    store: Path
    device: str

    def pack(self) -> Pack:
        """Open the activations' pack: everything that determines a record, besides image and view, is in its name."""
        assert self.executor is not None
        description = {
            "prefix": self.cut.prefix_key,
            "executor": self.executor.name,
            "preprocessing": self.preprocessing.key(),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "augment": augment.VERSION,
        }
        return Pack(self.store, "activations", description, (self.cut.size,), self.recipe.activation_dtype)

    @contextlib.contextmanager
    def training(self) -> Iterator["Assembly"]:
        """Give these parts, for a block, the form in which they train: with adapters, if the recipe has any."""
        wish, recipe = self.recipe.adapters, self.recipe
        if wish is None:
            yield self
            return
        with adapters.attached(wish, self.network, self.cut.suffix, self.phases, recipe.seed) as phases:
            yield replace(self, phases=phases)

    def put_back(self, learnt: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Give the network what trained, by its names in `training`; returns all that now differs from the beginning.

        What adapters have learnt is added to their layers' weights, so the network has its plain names again.
        """
        if self.recipe.adapters is not None:
            return adapters.merge(self.recipe.adapters, self.network, self.cut.suffix, self.phases, learnt)
        with torch.no_grad():
            state = self.network.module.state_dict()
            for name, tensor in learnt.items():
                state[name].copy_(tensor)
        return learnt

    def count_parameters(self) -> tuple[int, int]:
        """Count the numbers that train, and all numbers of the network in the form in which it trains."""
        with self.training() as form:
            sizes = {name: parameter.numel() for name, parameter in form.network.module.named_parameters()}
            return sum(sizes[name] for name in form.phases[-1][1].parameters), sum(sizes.values())


def choose_device(recipe: Recipe) -> str:
    """Return where to train: a GPU where there is one, unless the recipe says otherwise."""
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "The recipe says device: cuda, but torch sees no GPU.",
            "a GPU.",
            "Set device: auto, or run `freezeframe doctor`.",
        )
    return "cuda" if recipe.device != "cpu" and torch.cuda.is_available() else "cpu"


def views_of(recipe: Recipe, policy: augment.Policy) -> int:
    """Return the number of views of each image."""
    if policy.changes_nothing:
        return 1
    views = DEFAULT_VIEWS if recipe.views is None else recipe.views
    if views == 1:
        raise UserError(
            f"The recipe says augment: {recipe.augment} with views: 1, and view 0 is the image itself.",
            "at least two views.",
            "Set views: 4, or augment: none.",
        )
    return views


def preprocessing_of(recipe: Recipe, backbone: Backbone) -> Preprocessing:
    """Return the preparation of images that a recipe asks for."""
    mean, std = backbone.mean, backbone.std
    if recipe.normalise == "none":
        mean, std = (0.0,) * 3, (1.0,) * 3
    return Preprocessing.from_steps(recipe.preprocess, backbone.input_size, mean, std)


def assemble(recipe: Recipe, n_classes: int, trained: Path | None = None) -> Assembly:
    """Build network, cut and executor of a recipe.

    Parameters
    ----------
    recipe : Recipe
        All of the training.
    n_classes : int
        Number of classes.
    trained : Path, optional
        Weights of a finished run, which are loaded instead of pretrained ones.
    """
    device = choose_device(recipe)
    store = recipe.store or default_store()
    preprocessing = preprocessing_of(recipe, describe(recipe.backbone))
    network = zoo.of_recipe(recipe, n_classes) if trained is None else zoo.restore(recipe, n_classes, trained)
    phases = unfreeze.schedule(recipe.unfreeze, network)
    if recipe.adapters is not None:
        adapters.targets(network, phases[-1][1])  # so that none to adapt is found before anything is computed
    unfreeze.apply(network.module, phases[-1][1])
    cut = cutting.cut(network, phases[-1][1], (preprocessing.height, preprocessing.width))
    executor = None
    if cut.prefix is not None:
        executor = executors.make(
            cut, device, recipe.executor, batch=CHUNK, threads=recipe.threads, cache=store / "onnx"
        )
    return Assembly(
        recipe, network, phases, cut, executor, preprocessing, Pixels(store, preprocessing), store, device
    )


def describe_cut(parts: Assembly) -> str:
    """Say in one line what is frozen, what trains and where the cut lies."""
    training, total = parts.count_parameters()
    what = "parameters train" if parts.recipe.adapters is None else "parameters train, as adapters and head"
    shapes = " + ".join("x".join(map(str, shape)) for shape in parts.cut.shapes)
    whole = parts.cut.prefix_multiply_adds + parts.cut.suffix_multiply_adds
    return (
        f"{parts.recipe.backbone}: {training:,} of {total:,} {what}; the cut is at "
        f"{', '.join(parts.cut.nodes)} ({shapes}); {parts.cut.prefix_multiply_adds / max(1, whole):.0%} of the "
        "computation lies before it."
    )


def readable(manifest: Manifest, unreadable: list[Unreadable]) -> Manifest:
    """Leave out the images that can't be read, and note it."""
    if not unreadable:
        return manifest
    left_out = {entry.image for entry in unreadable}
    reasons = "; ".join(f"{entry.image}: {entry.reason}" for entry in unreadable[:5])
    note = f"{len(unreadable)} of {len(manifest)} images can't be read and are left out ({reasons})."
    say(note)
    table = manifest.table.loc[[name not in left_out for name in manifest.table["image"]]].reset_index(
        drop=True
    )
    if table.empty:
        raise UserError(f"None of the images can be read ({reasons}).", "at least some.", "Check the files.")
    return Manifest(table, manifest.root, manifest.classes, (*manifest.notes, note))


@dataclass(frozen=True)
class Choice:
    """Stored or live, and why.

    Attributes
    ----------
    mode : str
        ``"store"``, ``"live"`` or ``"input"`` (nothing is frozen).
    reason : str
        For the person who waits.
    store_bytes : int
        Size of the run's activations in the store.
    """

    mode: str
    reason: str
    store_bytes: int = 0


def checked(assembly: Assembly, views: Views, places: list[Place]) -> Assembly:
    """Hold the executor against eager torch on a few images; where it is off, a slower one takes its place."""
    if assembly.executor is None:
        return assembly
    return replace(assembly, executor=assembly.executor.check(views.batch(places[:CHECKED_IMAGES])))


def choose(
    assembly: Assembly,
    views: Views,
    training: list[Place],
    evaluation: list[Place],
    turns: int,
    memory_share: float = MEMORY_SHARE,
) -> tuple[Assembly, Activations, Choice]:
    """Choose between the store and live activations by an estimate of what each costs; print it; fill the store.

    Parameters
    ----------
    assembly : Assembly
        The parts.
    views : Views
        The images.
    training : list of Place
        Every view of the training images that will be used.
    evaluation : list of Place
        The validation and test images, once each.
    turns : int
        Passes over the training images.
    memory_share : float
        Of the free memory, what stored activations may take.

    Returns
    -------
    (Assembly, Activations, Choice)
        The parts with the executor that was found exact enough, what to train on, and why.
    """
    if assembly.executor is None:
        reason = "Nothing is frozen before the first trainable layer: the whole network trains on the images."
        say(reason)
        return assembly, LiveActivations(views, None), Choice("input", reason)
    places = [*training, *evaluation]
    wish = assembly.recipe.activations
    stored = stored_activations(assembly, views)
    missing = stored.missing(places)
    if wish != "live" and not missing:
        reason = f"The store holds the activations of all {len(training):,} views."
        return assembly, stored, _ready(stored, places, reason, memory_share)

    assembly = checked(assembly, views, training)
    stored = stored_activations(assembly, views)
    missing = stored.missing(places)
    assert assembly.executor is not None
    sample = views.batch((training or evaluation)[:CHUNK])
    start = time.monotonic()
    assembly.executor.run(sample)
    seconds_each = (time.monotonic() - start) / len(sample)
    images = len({index for index, _ in training})
    live_passes = turns * images + (turns + 1) * len(evaluation)
    needed = len(missing) * stored.record_bytes
    reason = (
        f"{len(training) // max(1, images)} views x {images:,} images and {len(evaluation):,} for evaluation: "
        f"{len(missing):,} different pictures through the frozen part once, "
        f"{duration(len(missing) * seconds_each)}, "
        f"{size(needed)} on disk; live: {duration(live_passes * seconds_each)}."
    )
    if wish == "auto":
        room = fits_on_disk(assembly.store, needed)
        wish = "store" if room and len(missing) < 0.9 * live_passes else "live"
        reason += (
            " Stored."
            if wish == "store"
            else " Live."
            if room
            else " Live, since the disk has no room for it."
        )
    say(reason)
    if wish == "live":
        return assembly, live(assembly, views), Choice("live", reason)
    stored.fill(places)
    return assembly, stored, _ready(stored, places, reason, memory_share)


def stored_activations(assembly: Assembly, views: Views) -> StoredActivations:
    """Return what the store holds, or is to hold, of a training's activations."""
    assert assembly.executor is not None
    return StoredActivations(views, assembly.executor.run, assembly.pack())


def _ready(stored: StoredActivations, places: list[Place], reason: str, memory_share: float) -> Choice:
    """Take a filled store into memory where it fits; say what it holds."""
    records = stored.load(places, memory_share)
    return Choice("store", reason, records * stored.record_bytes)


def live(assembly: Assembly, views: Views) -> LiveActivations:
    """Return activations that are computed for each batch, rounded as the store would round them."""
    executor, dtype = assembly.executor, assembly.recipe.activation_dtype
    if executor is None:
        return LiveActivations(views, None)
    return LiveActivations(
        views, lambda inputs: executor.run(inputs).astype(dtype, copy=False).astype(np.float32, copy=False)
    )


def plain(value: Any) -> Any:
    """Replace what JSON can't hold: NaN and infinities by null."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
