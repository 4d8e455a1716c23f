"""The study of a learning curve: growing shares of the training patients, each in several draws.

The shares of one draw are nested and grouped by patient (`freezeframe.data.subsets`); each repeat is a draw and a seed
of its own. Validation and test images are always the same.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from freezeframe.data.dealing import group_patients
from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import make_splits
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation.learning_curve import FEWEST_SIZES
from freezeframe.evaluation.metrics import LOWER_IS_BETTER
from freezeframe.recipe import Recipe
from freezeframe.study.spec import Study

AXIS = "split.train_share"
FEWEST_PATIENTS = 5
"""Of each class in the smallest training set: with fewer, a training tells of chance alone."""

_MOST_SHARES = 5


def study_of(
    recipe: Recipe,
    name: str = "learning-curve",
    shares: Sequence[float] | None = None,
    draws: int = 3,
    metric: str = "roc_auc",
) -> Study:
    """Make the study of a learning curve from a recipe; the images are listed for it.

    Parameters
    ----------
    recipe : Recipe
        Of the trainings; its ``split.train_share`` and ``split.draw`` are not used.
    name : str
        Of the study.
    shares : sequence of float, optional
        Of the training patients, in (0, 1]; three or more. Where left out, halves of halves of all, at most five sizes,
        as long as five patients of the rarest class are left.
    draws : int
        Trainings for each share. With all patients they differ in their seeds alone.
    metric : str
        What is forecast: one of a study's metrics that is better when larger.

    Raises
    ------
    UserError
        If there are too few patients, no test images, or a share, the number of draws or the metric won't do.
    """
    metrics = [one for one in get_args(Study.model_fields["metric"].annotation) if one not in LOWER_IS_BETTER]
    if metric not in metrics:
        raise UserError(f"There is no forecast of '{metric}';", action=did_you_mean(metric, metrics))
    if draws < 1:
        raise UserError(f"{draws} draws are none.", "One or more.", "Take three, the default.")
    seed = recipe.seed if recipe.split.seed is None else recipe.split.seed
    whole = recipe.split.model_copy(update={"train_share": 1.0})
    rarest, patients = _rarest(make_splits(read_manifest(recipe.data), whole, seed))
    chosen = _usual_shares(rarest, patients) if shares is None else _checked(shares, rarest, patients)
    # Without what is left at its default, so that a recipe that says every field is the same study as a short one.
    fields = recipe.model_dump(mode="json", exclude_defaults=True)
    split = {
        key: value for key, value in fields.get("split", {}).items() if key not in ("train_share", "draw")
    }
    return Study.parse(
        {
            "name": name,
            "recipe": {**fields, "split": split},
            "axes": {AXIS: [1 if share == 1 else share for share in chosen]},
            "seeds": [recipe.seed + index for index in range(draws)],
            "metric": metric,
            "baseline": False,
        }
    )


def real_training(manifest: Manifest) -> Manifest:
    """Keep the training images, without synthetic ones that were added."""
    kept = np.flatnonzero((manifest.table["split"] == "train").to_numpy() & ~manifest.added())
    return replace(manifest, table=manifest.table.iloc[kept].reset_index(drop=True))


def _rarest(manifest: Manifest) -> tuple[str, int]:
    """Return the class with the fewest training patients, and how many these are."""
    for split in ("validation", "test"):
        if not len(manifest.subset(split)):
            raise UserError(
                f"There are no {split} images.",
                "a validation and a test split.",
                f"Set split.{split}, such as 0.15.",
            )
    training = real_training(manifest)
    groups, labels = group_patients(training)[0], training.labels()
    counts = {name: len(set(groups[labels == index])) for index, name in enumerate(training.classes)}
    return min(counts.items(), key=lambda item: item[1])


def _usual_shares(rarest: str, patients: int) -> list[float]:
    shares = [0.5**power for power in range(_MOST_SHARES) if patients * 0.5**power >= FEWEST_PATIENTS]
    if len(shares) < FEWEST_SIZES:
        fewest = FEWEST_PATIENTS * 2 ** (FEWEST_SIZES - 1)
        raise UserError(
            f"The class '{rarest}' has {patients} training patients (images, where no patients are known).",
            f"{fewest} or more of each class, so that a quarter of them has {FEWEST_PATIENTS}.",
            "Add patients; so few do not tell what more would bring.",
        )
    return shares[::-1]


def _checked(shares: Sequence[float], rarest: str, patients: int) -> list[float]:
    chosen = sorted(set(shares))
    if len(chosen) < FEWEST_SIZES or not all(0 < share <= 1 for share in chosen):
        raise UserError(
            f"The shares are {', '.join(f'{share:g}' for share in shares) or 'none'}.",
            f"{FEWEST_SIZES} or more different ones, above 0 and at most 1.",
            "Take 1/8, 1/4, 1/2 and 1, or leave them out.",
        )
    if patients * chosen[0] < FEWEST_PATIENTS:
        raise UserError(
            f"A share of {chosen[0]:g} leaves about {patients * chosen[0]:.1f} training patients of '{rarest}'.",
            f"{FEWEST_PATIENTS} or more of each class.",
            f"Begin with a share of {math.ceil(1000 * FEWEST_PATIENTS / patients) / 1000:g} or more.",
        )
    return chosen
