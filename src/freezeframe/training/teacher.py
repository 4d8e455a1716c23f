"""What an ensemble says of a student's training images: computed once for each view, kept, learned from.

The teacher sees the very view that the student sees, at its own members' size and preprocessing: "consistent teaching"
of Beyer et al. 2022 (https://arxiv.org/abs/2106.05237). There it costs a pass of the teacher for each step; here views
are a pure function of (seed, image, view), so the answers are computed once and read from the store ever after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from freezeframe import files
from freezeframe.backbones.catalogue import describe
from freezeframe.data.manifest import Manifest
from freezeframe.ensemble.folder import Ensemble, Run, check_splits, read_ensemble
from freezeframe.errors import UserError
from freezeframe.imaging import augment
from freezeframe.progress import progress, say
from freezeframe.recipe import Recipe
from freezeframe.stores import default_store
from freezeframe.stores.pack import Pack, writing
from freezeframe.stores.pixels import Pixels
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import CHUNK, prefetch
from freezeframe.training.assembly import Assembly
from freezeframe.training.module import run_suffix
from freezeframe.training.run import BEST, read_status
from freezeframe.training.views import Place, Views

# What computes an answer, besides the weights.
COMPUTED_BY = ("torch", "timm", "onnxruntime")


@dataclass(frozen=True, eq=False)
class Teacher:
    """An ensemble, or a single run, that a student may learn from.

    Attributes
    ----------
    ensemble : Ensemble
        Its members and their rule.
    identity : dict
        What a student's run records: ``path``, ``rule``, the members' hashes, and ``sha256`` of all that decides its
        answers.
    """

    ensemble: Ensemble
    identity: dict[str, Any]


def read_teacher(folder: Path, manifest: Manifest, run: Path) -> Teacher:
    """Read a teacher and check that it may teach.

    Parameters
    ----------
    folder : Path
        Of an ensemble or a run.
    manifest : Manifest
        The student's images with their splits.
    run : Path
        The student's run, which may have begun already.

    Raises
    ------
    UserError
        If it is no finished ensemble or run, has other classes than the student, was trained or chosen with images or
        patients that the student is judged on, or answers otherwise than the teacher that the run began with.
    """
    ensemble = read_ensemble(folder)
    if set(ensemble.classes) != set(manifest.classes):
        raise UserError(
            f"The teacher {folder} knows the classes {', '.join(ensemble.classes)}.",
            f"those of the student: {', '.join(manifest.classes)}.",
            "Choose another teacher, or the same `classes`.",
        )
    for member in ensemble.members:
        check_splits(f"the teacher {member.name}", member.manifest, "the student", manifest)
    decides: dict[str, Any] = {
        "rule": ensemble.rule,
        "members": {member.name: member.weights_sha256 for member in ensemble.members},
    }
    if ensemble.rule == "weighted":
        decides["weights"] = ensemble.weights
    named = [decides["rule"], decides.get("weights"), decides["members"]]
    teacher = Teacher(ensemble, {"path": str(folder), "sha256": files.sha256_json(named), **decides})
    before = read_status(run).get("teacher")
    if before and before["sha256"] != teacher.identity["sha256"]:
        raise UserError(
            f"{run} was begun with another teacher: {folder} has changed since (members then: {_members(before)}; "
            f"now: {_members(teacher.identity)}).",
            f"the teacher with SHA-256 {before['sha256'][:12]}...",
            "Restore that teacher, or choose another --out.",
        )
    return teacher


def _members(identity: dict[str, Any]) -> str:
    return ", ".join(f"{name} {sha256[:8]}" for name, sha256 in identity["members"].items())


class Lessons:
    """A teacher's answers to the views of a student's training images.

    Parameters
    ----------
    views : Views
        The student's.
    rows : dict of str to int
        Row of each view, by its record key.
    probabilities : (R, C) float32 array
        At the recipe's temperature, in the student's order of classes.
    """

    def __init__(self, views: Views, rows: dict[str, int], probabilities: np.ndarray) -> None:
        self._views, self._rows, self._probabilities = views, rows, probabilities

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Return the softened probabilities (N, C), float32, of some views."""
        return self._probabilities[[self._rows[self._views.record_key(place)] for place in places]]


def ask(teacher: Teacher, recipe: Recipe, images: Manifest, views: Views, places: list[Place]) -> Lessons:
    """Ask a teacher about views, where the store does not hold its answers yet.

    Parameters
    ----------
    teacher : Teacher
        From `read_teacher`.
    recipe : Recipe
        The student's.
    images : Manifest
        The student's training images, which come first in `views`.
    views : Views
        The student's.
    places : list of Place
        Every view that the student will learn from.

    Raises
    ------
    UserError
        If the disk is full, or an image that the student can read is not readable as a member prepares it.
    """
    ensemble = teacher.ensemble
    asked = {views.record_key(place): place for place in places}
    logits = [
        _answers(member, recipe, images, views, asked)[
            :, [member.classes.index(label) for label in ensemble.classes]
        ]
        for member in ensemble.members
    ]
    probabilities = ensemble.probabilities(np.stack(logits))
    order = [ensemble.classes.index(label) for label in images.classes]
    softened = soften(probabilities[:, order], recipe.teacher_temperature)
    return Lessons(views, {key: row for row, key in enumerate(asked)}, softened)


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (N, C) at a temperature, float32: proportional to p^(1 / T).

    For a single network this is the softmax of its logits divided by T (Hinton et al. 2015, equation 1).

    Examples
    --------
    >>> soften(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    smallest = np.finfo(np.float64).tiny
    return softmax(np.log(np.maximum(probabilities, smallest)) / temperature, axis=1).astype(np.float32)


def _answers(
    member: Run, recipe: Recipe, images: Manifest, views: Views, asked: dict[str, Place]
) -> np.ndarray:
    """Return a member's logits (R, C), in its own order of classes, from the store; what is missing is computed."""
    store = recipe.store or default_store()
    # Where it runs is the student's affair, what it computes is its own.
    own = Recipe.read(member.folder / "recipe.yaml").changed(
        device=recipe.device,
        threads=recipe.threads,
        store=None if recipe.store is None else str(recipe.store),
    )
    preprocessing = assembling.preprocessing_of(own, describe(own.backbone))
    description = {
        "weights": member.weights_sha256,
        "recipe": {
            name: own.to_dict()[name] for name in ("backbone", "unfreeze", "executor", "activation_dtype")
        },
        "device": assembling.choose_device(recipe),
        "computed_by": {package: metadata.version(package) for package in COMPUTED_BY},
        "preprocessing": preprocessing.key(),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "augment": augment.VERSION,
    }
    pack = Pack(store, "answers", description, (len(member.classes),), np.float32)
    if pack.missing(list(asked)):
        with pack.filling(lambda: say("Another process asks this teacher; waiting for it.")):
            pack.sweep()
            pack.refresh()
            missing = pack.missing(list(asked))
            if missing:
                _ask(member, own, images, views, {key: asked[key] for key in missing}, pack)
    return pack.read(list(asked))


def _ask(
    member: Run, own: Recipe, images: Manifest, views: Views, asked: dict[str, Place], pack: Pack
) -> None:
    parts = assembling.assemble(own, len(member.classes), trained=member.folder / BEST)
    if parts.executor is None:
        # All of it trained. Nothing trains here, so all but the head runs in the faster executor.
        parts = assembling.assemble(
            own.changed(unfreeze="head", adapters=None), len(member.classes), trained=member.folder / BEST
        )
    seen = _as_seen_by(parts, images, views)
    places = list(asked.values())
    parts = assembling.checked(parts, seen, places)
    stored = assembling.stored_activations(parts, seen)
    absent = set(stored.missing(places))
    present = [place for place in places if place not in absent]
    live = assembling.live(parts, seen)
    keys = {place: key for key, place in asked.items()}
    parts.cut.suffix.to(device=parts.device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    with (
        writing(pack) as writer,
        progress(f"Asking the teacher {member.name}", len(places), "views") as advance,
    ):
        for source, which in ((stored, present), (live, sorted(absent))):
            chunks = (which[start : start + CHUNK] for start in range(0, len(which), CHUNK))
            for chunk, activations in prefetch(chunks, source.batch, threads=1):
                for place, logits in zip(chunk, _run(parts, activations), strict=True):
                    writer.add(keys[place], logits)
                advance(len(chunk))


def _as_seen_by(parts: Assembly, images: Manifest, views: Views) -> Views:
    """Return the student's views as a member sees them: drawn alike, at its own size."""
    pixels = Pixels(parts.store, parts.preprocessing)
    unreadable = pixels.fill(images)
    if unreadable:
        raise UserError(
            f"{len(unreadable)} training images can't be prepared for the teacher {parts.recipe.backbone}, such as "
            f"{unreadable[0].image}: {unreadable[0].reason}.",
            "images that student and teacher can read.",
            "Leave them out, or choose another teacher.",
        )
    return Views(pixels, parts.preprocessing, views.keys, views.partners, views.policy, views.seed)


def _run(parts: Assembly, activations: np.ndarray) -> np.ndarray:
    """Run the suffix, always over batches of one size: torch chooses its algorithms by it, and so the last bits."""
    count = len(activations)
    whole = np.zeros((CHUNK, activations.shape[1]), np.float32)
    whole[:count] = activations
    with torch.inference_mode():
        logits = run_suffix(parts.cut, torch.from_numpy(whole).to(parts.device))
    return logits.float().cpu().numpy()[:count]
