"""Measures on this machine what the trainings of a study will cost, without training: the numbers behind `plan`.

Started by `freezeframe.study.plan` as ``python -m freezeframe.study.probe FOLDER NUMBER``, in as many processes
as will work at the study, so that each step is timed beside the others, as it will run.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from freezeframe import files, machine, progress
from freezeframe.backbones.several import run_several
from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import prepare_image
from freezeframe.recipe import Recipe
from freezeframe.study import sharing
from freezeframe.study.folder import StudyFolder
from freezeframe.study.worker import end_with_parent, hear, teller
from freezeframe.training.activations import CHUNK
from freezeframe.training.assembly import Assembly
from freezeframe.training.cpu_kernels import faster_gradients
from freezeframe.training.losses import make_loss
from freezeframe.training.module import SuffixTraining
from freezeframe.training.shared import Shared

# The first calls choose algorithms and touch memory; then so many are timed, or as many as fit into the seconds.
WARM_UP, TIMED, MOST_SECONDS = 2, 8, 4.0
DECODED = 32
# Fields that decide how long one step takes.
STEP_FIELDS = (
    "backbone", "hidden", "unfreeze", "adapters", "preprocess", "batch_size", "optimiser", "threads"
)  # fmt: skip


def step_key(recipe: Recipe) -> str:
    """Return the hash of what decides how long a training's step takes."""
    plain = recipe.to_dict()
    return files.sha256_json({name: plain[name] for name in STEP_FIELDS})


def steps(recipe: Recipe, parts: Assembly, n_classes: int) -> dict[str, float]:
    """Time the suffix: seconds of a training step, and of an image in inference mode."""
    with parts.training() as form:
        return _steps(recipe, form, n_classes)


def _steps(recipe: Recipe, parts: Assembly, n_classes: int) -> dict[str, float]:
    labels = np.arange(recipe.batch_size) % n_classes
    # What a teacher says is read from the store, and is a few numbers an image: it takes no time.
    loss = make_loss(recipe.model_copy(update={"teacher": None}), labels, n_classes)
    module = SuffixTraining(recipe, parts.network, parts.cut, parts.phases, loss, 1)
    module.begin_epoch()
    optimiser = module.configure_optimizers()
    activations = torch.rand(recipe.batch_size, parts.cut.size)
    targets = torch.from_numpy(labels)

    def step() -> None:
        optimiser.zero_grad()
        with faster_gradients(activations):
            logits = module(activations)
        module.loss(logits, targets).backward()
        optimiser.step()

    train = timed(step)
    module.eval()
    with torch.inference_mode():
        infer = timed(lambda: module(activations)) / recipe.batch_size
    return {"step": train, "infer": infer}


def eager(parts: Assembly) -> float:
    """Time the frozen part as a plain loop runs it: seconds an image in torch."""
    if parts.cut.prefix is None:
        return 0.0
    images = torch.rand(CHUNK, 3, *parts.cut.input_size)
    prefix = parts.cut.prefix
    with torch.inference_mode():
        return timed(lambda: prefix(images)) / CHUNK


def timed(call: Callable[[], Any]) -> float:
    """Return the median seconds of a call."""
    for _ in range(WARM_UP):
        call()
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < TIMED and (len(seconds) < 3 or time.perf_counter() - begun < MOST_SECONDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def probe(folder: StudyFolder, first: bool) -> dict[str, Any]:
    """Measure and count what a study needs.

    Parameters
    ----------
    folder : StudyFolder
        Of the study.
    first : bool
        Whether this process also measures what will run alone: the joint pass, and a plain loop's.

    Returns
    -------
    dict
        ``steps``: for each `step_key` the seconds of `steps`. From the first process also ``groups``, ``keys`` and
        ``images`` (for each training its `step_key`, and the sizes of its splits), and ``plain`` (as ``steps``, with
        all cores, and ``prefix``, the seconds in which a plain loop computes the frozen part of an image).
    """
    shared = Shared()
    cells = folder.read().cells()
    found: dict[str, Any] = {"steps": {}, "plain": {}, "groups": [], "images": {}, "keys": {}}
    representative: dict[str, Recipe] = {}
    for cell in cells:
        representative.setdefault(step_key(cell.recipe), cell.recipe)
    torch.set_num_threads(next(iter(representative.values())).threads or machine.available_cores())
    for key, recipe in representative.items():
        n_classes = len(shared.manifest(recipe).classes)
        found["steps"][key] = steps(recipe, shared.assemble(recipe, n_classes), n_classes)
    if not first:
        return found
    found["groups"] = [_group([cell.recipe for cell in group], shared) for group in sharing.groups(cells)]
    for cell in cells:
        splits = shared.manifest(cell.recipe).table["split"].tolist()
        found["keys"][cell.name] = step_key(cell.recipe)
        found["images"][cell.name] = [splits.count(name) for name in SPLITS]
    torch.set_num_threads(machine.available_cores())
    for key, recipe in representative.items():
        n_classes = len(shared.manifest(recipe).classes)
        parts = shared.assemble(recipe, n_classes)
        found["plain"][key] = {**steps(recipe, parts, n_classes), "prefix": eager(parts)}
    return found


def _group(recipes: list[Recipe], shared: Shared) -> dict[str, Any]:
    """Count and time one group's pass through the frozen part."""
    needs = sharing.wanted(recipes, shared, prepare=False)
    lacking = [one for one in needs if one.missing()]
    pictures = {key for one in lacking for key in one.missing()}
    manifest = shared.manifest(recipes[0])
    seconds = 0.0
    decoding = 0.0
    parts = needs[0].parts if needs else shared.assemble(recipes[0], len(manifest.classes))
    unprepared = parts.pixels.missing(manifest.keys())
    if unprepared:
        decoding = _decode(parts, manifest, len(unprepared))
    if lacking:
        executors = [one.parts.executor for one in lacking if one.parts.executor is not None]
        random = np.random.Generator(np.random.Philox(0))
        sample = random.standard_normal((CHUNK, 3, *parts.cut.input_size), dtype=np.float32)
        run = run_several(executors, sample, cache=parts.store / "onnx")
        seconds = timed(lambda: run(sample)) / CHUNK * len(pictures)
    return {
        "backbone": recipes[0].backbone,
        "trainings": len(recipes),
        "cuts": [list(one.parts.cut.nodes) for one in needs],
        "pictures": len(pictures),
        "bytes": sum(len(one.missing()) * one.pack.record_bytes for one in lacking),
        "seconds": seconds,
        "decoding_seconds": decoding,
        "images_to_decode": len(unprepared),
    }


def _decode(parts: Assembly, manifest: Manifest, count: int) -> float:
    """Estimate the seconds that decoding takes, by some images in this process, divided among the cores."""
    references = manifest.references()[:: max(1, len(manifest) // DECODED)][:DECODED]
    start = time.perf_counter()
    for reference in references:
        try:
            prepare_image(reference, preprocessing=parts.preprocessing)
        except UnreadableImage:
            continue
    return (time.perf_counter() - start) / len(references) * count / machine.available_cores()


def main(arguments: list[str]) -> None:
    """Run a probing process."""
    tell = teller()
    tell(event="ready")
    end_with_parent()
    with progress.heard_by(hear(tell)):
        tell(event="probed", **probe(StudyFolder(Path(arguments[0])), first=arguments[1] == "0"))


if __name__ == "__main__":
    main(sys.argv[1:])
