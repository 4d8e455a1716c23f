"""What trainings of a study share: every picture goes through the frozen part once, for all depths together."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from freezeframe import files
from freezeframe.backbones.several import run_several
from freezeframe.progress import progress, say, size
from freezeframe.recipe import Recipe
from freezeframe.stores.pack import Pack, writing
from freezeframe.study.cells import Cell
from freezeframe.training.activations import CHUNK, fits_on_disk, prefetch
from freezeframe.training.assembly import CHECKED_IMAGES, Assembly
from freezeframe.training.fitting import Fitting
from freezeframe.training.shared import Shared, network_key
from freezeframe.training.views import Place, Views

# Fields that say what lies behind the frozen part, and how many threads compute it.
BEHIND = ("unfreeze", "adapters", "hidden", "dropout", "threads")
# Fields that decide which views of which images a training reads, and at which cut.
WANTED_FIELDS = (
    "data", "split", "check_overlap", "augment", "views", "augment_seed", "epochs", "imbalance", "unfreeze",
    "activations",
)  # fmt: skip


@dataclass
class Wanted:
    """The activations at one cut that trainings need.

    Attributes
    ----------
    parts : Assembly
        A network divided there, with its executor.
    pack : Pack
        Where they are kept.
    places : dict
        Content key of each view -> the views it is one of, and its place among them.
    """

    parts: Assembly
    pack: Pack
    places: dict[str, tuple[Views, Place]] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return the keys of views whose activations are not in the store."""
        return self.pack.missing(list(self.places))


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Put trainings together that share a frozen network, each group in an order that keeps activations in memory."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(group_key(cell.recipe), []).append(cell)
    return [
        [cell for _, cell in sorted(enumerate(group), key=lambda item: (_reading(item[1].recipe), item[0]))]
        for group in found.values()
    ]


def group_key(recipe: Recipe) -> str:
    """Return the hash of what decides which frozen network a training begins with, and what it is shown."""
    return network_key(recipe, BEHIND)


def _reading(recipe: Recipe) -> str:
    """Return the hash of what decides which activations a training reads."""
    plain = recipe.to_dict()
    seeds = [recipe.seed if seed is None else seed for seed in (recipe.augment_seed, recipe.split.seed)]
    return files.sha256_json([seeds, {name: plain[name] for name in WANTED_FIELDS}])


def wanted(recipes: Sequence[Recipe], shared: Shared, prepare: bool = True) -> list[Wanted]:
    """Say which activations trainings of one group need from the store, at each cut.

    Trainings that read no stored activations (``activations: live``, or nothing frozen before the first trainable
    layer) need none.

    Parameters
    ----------
    recipes : sequence of Recipe
        Of one group.
    shared : Shared
        Of this process.
    prepare : bool
        Whether images that are not prepared yet are decoded on the way, and those that can't be read left out.
    """
    found: dict[str, Wanted] = {}
    seen: set[str] = set()
    for recipe in recipes:
        key = _reading(recipe)
        if key in seen or recipe.activations == "live":
            continue
        seen.add(key)
        manifest = shared.manifest(recipe)
        parts = shared.assemble(recipe, len(manifest.classes))
        if parts.executor is None:
            continue
        if prepare:
            manifest = shared.readable(parts, manifest)
        fitting = Fitting(recipe, parts, manifest, shared)
        pack = parts.pack()
        one = found.setdefault(str(pack.folder), Wanted(parts, pack))
        for place in (*fitting.training_places, *fitting.evaluation_places):
            one.places.setdefault(fitting.views.record_key(place), (fitting.views, place))
    return list(found.values())


def fill(recipes: Sequence[Recipe], shared: Shared) -> int:
    """Compute what trainings of one group need and the store lacks, each picture once for all cuts.

    Processes that fill the same packs wait for each other; what one has done, the next finds.

    Parameters
    ----------
    recipes : sequence of Recipe
        Of one group.
    shared : Shared
        Of this process.

    Returns
    -------
    int
        Number of pictures that went through the frozen part.
    """
    needs = [one for one in wanted(recipes, shared) if one.missing()]
    if not needs:
        return 0
    needs = _that_fit(needs)
    with ExitStack() as stack:
        # In one order everywhere, so that two processes never hold what the other waits for.
        for one in sorted(needs, key=lambda one: str(one.pack.folder)):
            stack.enter_context(
                one.pack.filling(lambda: say("Another process computes these activations; waiting for it."))
            )
            one.pack.sweep()
            one.pack.refresh()
        needs = [one for one in needs if one.missing()]
        return _compute(needs) if needs else 0


def _that_fit(needs: list[Wanted]) -> list[Wanted]:
    """Leave out the largest activations where the disk has no room for all; those trainings compute them live."""
    store = needs[0].parts.store
    kept = sorted(needs, key=lambda one: len(one.missing()) * one.pack.record_bytes)
    while kept and not fits_on_disk(store, _bytes(kept)):
        largest = kept.pop()
        say(
            f"The disk has no room for the activations at {', '.join(largest.parts.cut.nodes)} "
            f"({size(_bytes([largest]))}); trainings that need them compute them for each batch."
        )
    return kept


def _bytes(needs: Sequence[Wanted]) -> int:
    return sum(len(one.missing()) * one.pack.record_bytes for one in needs)


def _compute(needs: list[Wanted]) -> int:
    missing = [set(one.missing()) for one in needs]
    pictures = {key: one.places[key] for one in needs for key in one.missing()}
    # A batch is made by one `Views`, so pictures of the same views stand together.
    batches: list[tuple[Views, list[str]]] = []
    for views in {id(views): views for views, _ in pictures.values()}.values():
        keys = [key for key, (own, _) in pictures.items() if own is views]
        batches += [(views, keys[start : start + CHUNK]) for start in range(0, len(keys), CHUNK)]
    first_views, first_keys = batches[0]
    sample = first_views.batch([pictures[key][1] for key in first_keys[:CHECKED_IMAGES]])
    executors = [one.parts.executor.check(sample) for one in needs if one.parts.executor is not None]
    exact = [one.parts.executor is executor for one, executor in zip(needs, executors, strict=True)]
    if not all(exact):
        # The pack's name says what computed it; the training itself makes the pack of the slower executor.
        needs = [one for one, good in zip(needs, exact, strict=True) if good]
        return _compute(needs) if needs else 0
    run = run_several(executors, sample, cache=needs[0].parts.store / "onnx")

    def load(batch: tuple[Views, list[str]]) -> np.ndarray:
        views, keys = batch
        return views.batch([pictures[key][1] for key in keys])

    what = f"Frozen part of {needs[0].parts.recipe.backbone}"
    with ExitStack() as stack:
        writers = [stack.enter_context(writing(one.pack)) for one in needs]
        advance = stack.enter_context(progress(what, len(pictures), "views"))
        for (_, keys), inputs in prefetch(iter(batches), load):
            for rows, lacking, writer in zip(run(inputs), missing, writers, strict=True):
                for key, row in zip(keys, rows, strict=True):
                    if key in lacking:
                        writer.add(key, row)
            advance(len(keys))
    return len(pictures)
