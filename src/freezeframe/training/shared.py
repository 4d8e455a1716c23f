"""What trainings in one process have in common, so that a small one costs little beside its own steps.

A study runs many trainings that differ in little. The manifest is read and hashed once, a network is built, given its
weights and divided once for each depth, views are drawn once, and activations that are in memory stay there. None of
it changes a result: a network that is used again gets back the weights that it began with.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from freezeframe import files
from freezeframe.backbones import zoo
from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import check_overlap, make_splits
from freezeframe.imaging import augment
from freezeframe.progress import say
from freezeframe.recipe import Recipe
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import MEMORY_SHARE, Activations
from freezeframe.training.assembly import Assembly, Choice
from freezeframe.training.views import Place, Views

Value = TypeVar("Value")

# The fields of a recipe that decide nothing about what network is built, where it is divided and what it is shown.
# A field that is not here makes networks different, so that one which is forgotten costs time and no correctness.
TRAINING_FIELDS = frozenset({
    "data", "split", "check_overlap", "max_unreadable", "augment", "views", "augment_seed", "epochs", "batch_size",
    "accumulate", "optimiser", "learning_rate", "backbone_learning_rate", "learning_rate_decay", "weight_decay",
    "momentum", "schedule", "warmup_epochs", "clip_gradient", "imbalance", "label_smoothing", "focal_gamma",
    "patience", "precision", "deterministic", "activations", "keep_weights", "mirror", "checkpoint_seconds", "seed",
    "teacher", "teacher_weight", "teacher_temperature",
})  # fmt: skip
NETWORKS = 6
MANIFESTS = 24
VIEWS = 8


class Shared:
    """Parts of trainings that are kept from one to the next.

    Parameters
    ----------
    memory_share : float
        Of the free memory, what stored activations may take; processes that work side by side divide it.
    """

    def __init__(self, memory_share: float = MEMORY_SHARE) -> None:
        self.memory_share = memory_share
        self._sources: OrderedDict[Hashable, Manifest] = OrderedDict()
        self._manifests: OrderedDict[Hashable, Manifest] = OrderedDict()
        self._readable: OrderedDict[Hashable, tuple[Manifest, Manifest]] = OrderedDict()
        self._networks: OrderedDict[Hashable, tuple[Assembly, dict[str, torch.Tensor]]] = OrderedDict()
        self._views: OrderedDict[Hashable, Views] = OrderedDict()
        self._chosen: tuple[Hashable, tuple[Assembly, Activations, Choice]] | None = None

    def manifest(self, recipe: Recipe) -> Manifest:
        """Read a recipe's images and divide them; what was noted is said the first time."""
        seed = recipe.seed if recipe.split.seed is None else recipe.split.seed
        source = _key(recipe, "data")
        key = (source, _key(recipe, "split", "check_overlap"), seed)

        def divide() -> Manifest:
            read = _kept(self._sources, source, lambda: read_manifest(recipe.data), MANIFESTS)
            manifest = make_splits(read, recipe.split, seed)
            if recipe.check_overlap:
                check_overlap(manifest)
            for note in manifest.notes:
                say(f"Note: {note}")
            counts = manifest.table["split"].value_counts()
            said = (f"{split}: {counts.get(split, 0):,} images" for split in ("train", "validation", "test"))
            say(", ".join(said))
            return manifest

        return _kept(self._manifests, key, divide, MANIFESTS)

    def readable(self, parts: Assembly, manifest: Manifest) -> Manifest:
        """Prepare the images that are not in the store yet; leave out those that can't be read."""
        key = (str(parts.store), parts.preprocessing.key(), id(manifest))

        def prepare() -> tuple[Manifest, Manifest]:
            unreadable = parts.pixels.fill(manifest, parts.recipe.max_unreadable)
            return manifest, assembling.readable(manifest, unreadable)

        # The manifest that was asked about is kept too, so that its identity is not given to another one.
        return _kept(self._readable, key, prepare, MANIFESTS)[1]

    def assemble(self, recipe: Recipe, n_classes: int) -> Assembly:
        """Build network, cut and executor of a recipe, or give a network of an earlier training its first weights."""
        key = (network_key(recipe), n_classes)

        def build() -> tuple[Assembly, dict[str, torch.Tensor]]:
            parts = assembling.assemble(recipe, n_classes)
            state = parts.network.module.state_dict()
            say(assembling.describe_cut(parts))
            return parts, {name: tensor.detach().clone() for name, tensor in state.items()}

        known = key in self._networks
        parts, initial = _kept(self._networks, key, build, NETWORKS)
        network = parts.network.module
        if known:
            network.load_state_dict(initial)
        if known and not parts.network.pruned:  # whose head is not a new one
            head = network.get_submodule(parts.network.head)
            first = next(module for module in head.modules() if isinstance(module, torch.nn.Linear))
            fresh = zoo.new_head(first.in_features, n_classes, recipe.dropout, recipe.hidden, recipe.seed)
            head.load_state_dict(fresh.state_dict())
        return replace(parts, recipe=recipe)

    def views(
        self, parts: Assembly, keys: Sequence[str], partners: Sequence[str], policy: augment.Policy, seed: int
    ) -> Views:
        """Make the views of a data set; those of an earlier training, drawn already, where they are the same."""
        partners = partners if policy.mix != "none" else ()
        seen = (str(parts.store), parts.preprocessing.model_dump_json(), policy.model_dump_json(), seed)
        key = (*seen, files.sha256_json([list(keys), sorted(partners)]))
        return _kept(
            self._views,
            key,
            lambda: Views(parts.pixels, parts.preprocessing, keys, partners, policy, seed),
            VIEWS,
        )

    def choose(
        self, parts: Assembly, views: Views, training: list[Place], evaluation: list[Place]
    ) -> tuple[Assembly, Activations, Choice]:
        """Choose what to train on as `assembly.choose` does; the activations of the training before are kept."""
        epochs = parts.recipe.epochs
        if parts.executor is None:
            return assembling.choose(parts, views, training, evaluation, epochs, self.memory_share)
        key = (parts.cut.prefix_key, parts.executor.name, id(views), _key(parts.recipe, "activations", "store",
               "activation_dtype"), hash((tuple(training), tuple(evaluation))))  # fmt: skip
        if self._chosen is None or self._chosen[0] != key:
            self._chosen = None  # before the next ones are read: memory for one set, not two
            found = assembling.choose(parts, views, training, evaluation, epochs, self.memory_share)
            if found[2].mode != "store":
                return found
            self._chosen = (key, found)
        checked, activations, choice = self._chosen[1]
        return replace(parts, executor=checked.executor), activations, choice


def network_key(recipe: Recipe, besides: Collection[str] = ()) -> str:
    """Return the hash of what decides which network a training begins with, and what it is shown.

    Parameters
    ----------
    recipe : Recipe
        Of the training.
    besides : collection of str
        Fields that are not to count either.
    """
    # Layers that do not come from a file depend on the seed.
    seed = recipe.seed if recipe.weights == "none" or recipe.transfer is not None else None
    fields = [name for name in Recipe.model_fields if name not in TRAINING_FIELDS and name not in besides]
    return files.sha256_json([seed, _key(recipe, *fields)])


def _key(recipe: Recipe, *fields: str) -> str:
    plain = recipe.to_dict()
    return files.sha256_json({field: plain[field] for field in fields})


def _kept(known: OrderedDict[Hashable, Value], key: Hashable, make: Callable[[], Value], most: int) -> Value:
    """Return what is known under a key, or make it; the least recently used one gives way."""
    if key not in known:
        while len(known) >= most:
            known.popitem(last=False)
        known[key] = make()
    known.move_to_end(key)
    return known[key]
