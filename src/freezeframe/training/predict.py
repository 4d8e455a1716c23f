"""What a trained network says of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.progress import progress
from freezeframe.recipe import Recipe
from freezeframe.stores.pixels import Unreadable
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import Activations
from freezeframe.training.assembly import Assembly
from freezeframe.training.batches import EvaluationBatches
from freezeframe.training.module import run_suffix
from freezeframe.training.run import BEST, read_status
from freezeframe.training.views import Place, Views

EVALUATION_BATCH = 64


def predict_places(parts: Assembly, activations: Activations, places: list[Place]) -> np.ndarray:
    """Run the suffix in inference mode over some images.

    Returns
    -------
    (N, C) float32 array
        Logits.
    """
    parts.cut.suffix.to(device=parts.device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    batches = EvaluationBatches(
        activations, [index for index, _ in places], np.full(len(places), -1), EVALUATION_BATCH
    )
    logits = []
    with torch.inference_mode(), progress("Predicting", len(places)) as advance:
        for batch in batches:
            logits.append(run_suffix(parts.cut, batch.activations.to(parts.device)).float().cpu().numpy())
            advance(len(batch.activations))
    return np.concatenate(logits)


def prediction_table(manifest: Manifest, classes: Sequence[str], logits: np.ndarray) -> pd.DataFrame:
    """Join logits to what is known of each image: image, patient, label, site, logit_<class>."""
    known = manifest.table
    columns = {
        "image": known["image"].to_numpy(),
        "patient": manifest.patients(),
        "label": known["label"].to_numpy(),
        "site": known["site"].to_numpy(),
    }
    return pd.DataFrame(columns | {f"logit_{name}": logits[:, column] for column, name in enumerate(classes)})


def write_predictions(path: Path, manifest: Manifest, logits: np.ndarray) -> None:
    """Write a split's predictions as Parquet, atomically."""
    table = prediction_table(manifest, manifest.classes, logits)
    with files.atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def predict_manifest(
    run: Path, manifest: Manifest, exact: bool = False
) -> tuple[pd.DataFrame, list[Unreadable]]:
    """Predict all images of a manifest with a finished run.

    Parameters
    ----------
    run : Path
        The run's folder.
    manifest : Manifest
        Any images; labels and splits are not looked at.
    exact : bool
        All of it in float32 and in torch, on the processor, whatever the recipe says.

    Returns
    -------
    table : DataFrame
        As in ``predictions/<split>.parquet``, without the unreadable images.
    unreadable : list of Unreadable
        Which, and why.

    Raises
    ------
    UserError
        If the run is not finished.
    """
    status = read_status(run)
    if status.get("status") != "finished":
        raise UserError(
            f"{run} is no finished run.",
            "a folder that `freezeframe train` finished.",
            "Run it again to finish it.",
        )
    # A run that was trained on a GPU is evaluated on a laptop as well.
    recipe = Recipe.read(run / "recipe.yaml").changed(device="auto")
    if exact:
        recipe = recipe.changed(device="cpu", executor="torch", activation_dtype="float32")
    classes = tuple(status["classes"])
    parts = assembling.assemble(recipe, len(classes), trained=run / BEST)
    unreadable = parts.pixels.fill(manifest, recipe.max_unreadable)
    kept = assembling.readable(manifest, unreadable)
    views = Views(parts.pixels, parts.preprocessing, kept.keys())
    places = [(row, 0) for row in range(len(kept))]
    parts = assembling.checked(parts, views, places)
    logits = predict_places(parts, assembling.live(parts, views), places)
    return prediction_table(kept, classes, logits), unreadable
