"""From a recipe to a run: the training itself, resumable at any instant."""

import contextlib
import gc
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save

from freezeframe import files, machine
from freezeframe.backbones import zoo
from freezeframe.backbones.shapes import PRUNED
from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import check_unchanged
from freezeframe.errors import UserError
from freezeframe.progress import duration, say
from freezeframe.recipe import Recipe
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import Activations
from freezeframe.training.assembly import Assembly, Choice
from freezeframe.training.callbacks import (
    LAST,
    METRICS,
    Keeper,
    Watch,
    write_metrics,
)
from freezeframe.training.checkpoints import Checkpoint, Mirror, restore_from_mirror
from freezeframe.training.devices import Team
from freezeframe.training.fitting import Fitting
from freezeframe.training.predict import predict_places, write_predictions
from freezeframe.training.run import BEST, check_same, environment, read_status, write_status
from freezeframe.training.shared import Shared
from freezeframe.training.teacher import read_teacher


def train(recipe: Recipe, out: Path, shared: Shared | None = None, watch: Watch | None = None) -> Path:
    """Train one network; the same call again resumes, or extends a finished run if there are more epochs.

    Parameters
    ----------
    recipe : Recipe
        All of the training.
    out : Path
        The run's folder.
    shared : Shared, optional
        What earlier trainings in this process have left; a training on its own has none.
    watch : callable, optional
        Called after each epoch with its number, from 0, and its row of `metrics.csv`. What it raises ends the
        training, and comes out of this function.

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    UserError
        If the data, the recipe or the folder won't do; what was done before is kept.
    """
    out = Path(out).absolute()
    # Members share a recipe, so each run has a folder of its own in the mirror.
    mirror = None if recipe.mirror is None else recipe.mirror / out.name
    with Team(recipe, out) as team, _alone(out, team):
        if team.share.first and restore_from_mirror(out, mirror):
            say(f"Restored {out} from its mirror {mirror}.")
        if (out / "recipe.yaml").exists():
            check_same(out, recipe)
            status = read_status(out)
            finished = status.get("status") == "finished" and status["recipe_epochs"] >= recipe.epochs
            if finished and (out / BEST).exists():
                more = 2 * status["recipe_epochs"]
                say(f"{out} is finished. To go on, ask for more epochs: --set epochs={more}.")
                return out
        if team.share.first:
            recipe.write(out / "recipe.yaml")
        _quiet()
        try:
            with _deterministic(recipe.deterministic), _threads(recipe.threads):
                return _train(recipe, out, mirror, shared or Shared(), watch, team)
        finally:
            # Lightning's trainer is a cycle that holds activations and sessions; the next member needs the room.
            gc.collect()


def _alone(out: Path, team: Team) -> contextlib.AbstractContextManager[None]:
    """Hold the run's folder; the first of several processes does it for all."""
    if not team.share.first:
        return contextlib.nullcontext()
    return files.exclusive(out / ".lock", on_wait=lambda: _refuse_second(out))


def _refuse_second(out: Path) -> None:
    raise UserError(
        f"Another process is training into {out}.",
        "one process for each run.",
        "Wait for it, or choose another --out.",
    )


def _train(
    recipe: Recipe, out: Path, mirror_folder: Path | None, shared: Shared, watch: Watch | None, team: Team
) -> Path:
    begun = time.monotonic()
    machine.forget_peak_memory()
    manifest = run_manifest(recipe, out, shared)
    mirror = Mirror(out, mirror_folder if team.share.first else None)
    try:
        parts = shared.assemble(recipe, len(manifest.classes))
        weights = _check_weights(out, parts)
        manifest = shared.readable(parts, manifest)
        _check_splits(manifest)
        teacher = None if recipe.teacher is None else read_teacher(recipe.teacher, manifest, out)
        if team.share.first:
            files.write_json(out / "environment.json", environment())
            manifest.write(out / "manifest.parquet")
            write_status(
                out,
                status="running",
                name=out.name,
                recipe_epochs=recipe.epochs,
                weights=weights,
                teacher=None if teacher is None else teacher.identity,
            )
            mirror.copy("recipe.yaml", "manifest.parquet", "environment.json", "run.json")

        fitting = Fitting(recipe, parts, manifest, shared)
        lessons = None if teacher is None else fitting.ask(teacher)
        activations, choice, store_seconds = fitting.activations()
        with parts.training() as form:
            keeper = fitting.fit(form.phases, out, activations, mirror, team, watch, lessons)
        if not team.share.first:
            return out
        predicting = time.monotonic()
        _finish(out, fitting, keeper, activations)
        done = time.monotonic()
        _report_status(out, fitting, keeper, choice, store_seconds, done - predicting, done - begun)
        if recipe.keep_weights == "trained":
            (out / LAST).unlink()
        made = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
        mirror.copy(*(str(path.relative_to(out)) for path in made))
    finally:
        mirror.finish()
    say(
        f"{out}: best epoch {keeper.best_epoch + 1}, validation loss {keeper.best_loss:.4f}, {duration(done - begun)}."
    )
    return out


def _check_weights(out: Path, parts: Assembly) -> dict[str, str]:
    """Refuse to go on with other pretrained weights than the run began with."""
    weights = {"source": parts.network.weights_source, "sha256": parts.network.weights_sha256}
    before = read_status(out).get("weights", weights)
    if before["sha256"] != weights["sha256"]:
        raise UserError(
            f"{out} was begun with other pretrained weights ({before['source']}; here: {weights['source']}).",
            "the same file of weights.",
            "Fetch that file, or choose another --out.",
        )
    return weights


def _check_splits(manifest: Manifest) -> None:
    for split in ("train", "validation"):
        if not len(manifest.subset(split)):
            raise UserError(
                f"The {split} split has no readable image.",
                "some of each class: training learns from one split and chooses its best epoch by the other.",
                "Give split: {validation: ...} a share above 0, or check the images.",
            )


def run_manifest(recipe: Recipe, out: Path, shared: Shared) -> Manifest:
    """Return the run's manifest with its splits: the one it began with, or a new one."""
    path = out / "manifest.parquet"
    if not path.exists():
        return shared.manifest(recipe)
    manifest = Manifest.read(path)
    if not manifest.root.is_dir():
        source = recipe.data.path.absolute()
        manifest = Manifest.read(path, root=source if source.is_dir() else source.parent)
    check_unchanged(manifest)
    return manifest


def _finish(out: Path, fitting: Fitting, keeper: Keeper, activations: Activations) -> None:
    """Write the best weights of the whole network and the predictions."""
    parts = fitting.parts
    changed = parts.put_back(keeper.best)
    trained_only = fitting.recipe.keep_weights == "trained"
    kept = changed if trained_only else parts.network.module.state_dict()
    metadata = {zoo.PRETRAINED: parts.network.weights_sha256} if trained_only else {}
    if parts.network.pruned:
        metadata[PRUNED] = "true"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    files.write_bytes(out / BEST, save(tensors, metadata or None))
    for split, subset in fitting.evaluation_sets.items():
        if len(subset):
            logits = predict_places(parts, activations, fitting.places(split))
            write_predictions(out / "predictions" / f"{split}.parquet", subset, logits)


def _report_status(
    out: Path,
    fitting: Fitting,
    keeper: Keeper,
    choice: Choice,
    store_seconds: float,
    prediction_seconds: float,
    total_seconds: float,
) -> None:
    recipe, parts = fitting.recipe, fitting.parts
    history = Checkpoint.read(out / LAST).state["history"]
    write_metrics(out / METRICS, history)
    trainable, total = parts.count_parameters()
    before = read_status(out).get("seconds", {})
    seconds = {
        "store": before.get("store", 0.0) + store_seconds,
        "training": keeper.training_seconds,
        "prediction": prediction_seconds,
    }
    # What a killed start took besides these stages is not known.
    seconds["total"] = max(before.get("total", 0.0) + total_seconds, sum(seconds.values()))
    write_status(
        out,
        status="finished",
        recipe_epochs=recipe.epochs,
        backbone=recipe.backbone,
        unfreeze=recipe.unfreeze,
        classes=list(fitting.manifest.classes),
        parameters={"total": total, "trainable": trainable},
        seconds={stage: round(value, 2) for stage, value in seconds.items()},
        peak_memory_bytes=machine.peak_memory(),
        store_bytes=choice.store_bytes,
        epochs=len(history),
        best_epoch=keeper.best_epoch,
        best_validation_loss=keeper.best_loss,
        best_validation=assembling.plain(history[keeper.best_epoch]),
        preprocessing=parts.preprocessing.to_dict(),
        activations={"mode": choice.mode, "dtype": recipe.activation_dtype, "reason": choice.reason}
        | ({"executor": parts.executor.name} if parts.executor else {}),
        weights_sha256=files.sha256_file(out / BEST),
        notes=list(fitting.manifest.notes),
    )


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quiet() -> None:
    """Keep from the user what Lightning says to its developers."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
