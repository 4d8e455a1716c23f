"""The parity gate: real validation images through the training model and through the bundle, from their files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from freezeframe.bundle.runtime.predictor import Answers, Predictor
from freezeframe.bundle.runtime.preparing import Prepared, prepare
from freezeframe.data.manifest import Manifest
from freezeframe.data.wording import counted
from freezeframe.ensemble.folder import Ensemble, join
from freezeframe.errors import FreezeframeError
from freezeframe.evaluation.operating_points import decide
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.workers import map_images
from freezeframe.progress import say
from freezeframe.seeds import generator

TOLERANCE = 1e-4
"""Largest difference of a probability; torch and ONNX Runtime in float32 were measured at 1e-7 to 1e-5."""
MOST_IMAGES = 512
BATCH = 32
_SHOWN = 10
MOST_PROBABLE = "most-probable"
"""Stands for the operating point where there is none."""


@dataclass(frozen=True, eq=False)
class Parity:
    """What both sides said.

    Attributes
    ----------
    table : DataFrame
        One row an image: ``image``, ``label``, ``training_<class>`` and ``bundle_<class>`` (probabilities, combined),
        ``difference`` (largest of the row, of the combined and of the members' probabilities),
        ``training_decision_<point>``, ``bundle_decision_<point>``, ``same``.
    largest_difference : float
        Of all probabilities, the members' own included.
    decisions_changed : dict of str to int
        Images with another decision, for each operating point.
    """

    table: pd.DataFrame
    largest_difference: float
    decisions_changed: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the bundle's description."""
        return {
            "images": len(self.table),
            "split": "validation",
            "tolerance": TOLERANCE,
            "largest_difference": self.largest_difference,
            "decisions_changed": self.decisions_changed,
        }


def choose_images(manifest: Manifest, most: int = MOST_IMAGES) -> Manifest:
    """Choose images for the check: all, or so many with the shares of the classes kept.

    Parameters
    ----------
    manifest : Manifest
        Validation images.
    most : int
        Number of images, or a little more, since each class has at least one.
    """
    if len(manifest) <= most:
        return manifest
    random = generator(0, "parity")
    labels = manifest.table["label"].to_numpy()
    chosen: list[int] = []
    for label in sorted(set(labels)):
        rows = np.flatnonzero(labels == label)
        count = max(1, round(most * len(rows) / len(labels)))
        chosen += random.permutation(rows)[:count].tolist()
    return replace(manifest, table=manifest.table.iloc[sorted(chosen)].reset_index(drop=True))


def check_parity(ensemble: Ensemble, predictor: Predictor, manifest: Manifest) -> Parity:
    """Hold a bundle against the training model.

    On the training side each run prepares its images as in training and runs in torch; on the other the bundle decodes
    the files, prepares them and runs in ONNX Runtime.

    Parameters
    ----------
    ensemble : Ensemble
        What was exported.
    predictor : Predictor
        Of the opened bundle.
    manifest : Manifest
        The images, at least one.

    Raises
    ------
    FreezeframeError
        If a probability differs by more than `TOLERANCE`, or a decision at any operating point does, with the images.
    UserError
        If the images are not to be had.
    """
    names, logits = _of_the_training(ensemble, manifest)
    kept = manifest.table.set_index("image", drop=False).loc[names].reset_index(drop=True)
    parity = compare(
        ensemble, predictor, kept, logits, *_of_the_bundle(predictor, replace(manifest, table=kept))
    )
    wrong = parity.table.loc[~parity.table["same"]]
    if len(wrong):
        raise FreezeframeError(_explain(wrong, ensemble.classes, len(parity.table)))
    say(
        f"Parity: {counted(len(kept), 'validation image')}, largest difference of a probability "
        f"{parity.largest_difference:.1e}, no decision changed."
    )
    return parity


def compare(
    ensemble: Ensemble,
    predictor: Predictor,
    images: pd.DataFrame,
    training: np.ndarray,
    bundle: np.ndarray,
    combined: np.ndarray,
) -> Parity:
    """Compare what both sides say of N images (``image``, ``label``).

    Parameters
    ----------
    ensemble, predictor
        As of `check_parity`.
    images : DataFrame
        ``image`` and ``label``.
    training, bundle : ndarray of float (M, N, C)
        The members' logits.
    combined : ndarray of float (N, C)
        The bundle's probabilities.
    """
    sides = {"training": ensemble.probabilities(training), "bundle": combined}
    members = np.abs(_softmax(training) - _softmax(bundle)).max(axis=(0, 2))
    difference = np.maximum(np.abs(sides["training"] - sides["bundle"]).max(axis=1), members)
    # Not a number is no small difference.
    difference = np.where(np.isfinite(difference), difference, np.inf)
    columns: dict[str, Any] = {"image": images["image"].to_numpy(), "label": images["label"].to_numpy()}
    for side, probabilities in sides.items():
        for index, name in enumerate(ensemble.classes):
            columns[f"{side}_{name}"] = probabilities[:, index]
    columns["difference"] = difference
    same = difference <= TOLERANCE
    points = {point.name: point.threshold() for point in predictor.bundle.contents.operating_points}
    changed = {}
    named = np.array(ensemble.classes, dtype=object)
    for name, point in (points or {MOST_PROBABLE: None}).items():
        decided = {side: decide(values, ensemble.classes, point) for side, values in sides.items()}
        columns |= {f"{side}_decision_{name}": named[indices] for side, indices in decided.items()}
        differs = decided["training"] != decided["bundle"]
        changed[name] = int(differs.sum())
        same &= ~differs
    columns["same"] = same
    return Parity(pd.DataFrame(columns), float(difference.max()), changed)


def _of_the_training(ensemble: Ensemble, manifest: Manifest) -> tuple[list[str], np.ndarray]:
    # Inference in torch; whoever only compares does not need it.
    from freezeframe.training.predict import predict_manifest

    tables = []
    for number, member in enumerate(ensemble.members, start=1):
        say(f"Parity: {member.name} in torch ({number} of {len(ensemble.members)})")
        tables.append(predict_manifest(member.folder, manifest, exact=True)[0])
    answers = join(tables, ensemble.members, ensemble.classes)
    return answers.images["image"].tolist(), answers.logits


def _of_the_bundle(predictor: Predictor, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    references = manifest.references()
    function = partial(prepare, preprocessings=predictor.preprocessings)
    answers: list[Answers] = []
    waiting: list[Prepared] = []
    for index, outcome in map_images(function, references, "Parity: the bundle"):
        if isinstance(outcome, UnreadableImage):
            raise FreezeframeError(
                f"Parity: the training read {manifest.table['image'].iloc[index]}, and the bundle can't: {outcome}"
            )
        waiting.append(outcome)
        if len(waiting) == BATCH or index == len(references) - 1:
            answers.append(predictor.answer(waiting))
            waiting = []
    return (
        np.concatenate([answer.logits for answer in answers], axis=1),
        np.concatenate([answer.probabilities for answer in answers]),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    return softmax(np.asarray(logits, np.float64), axis=2)


def _explain(wrong: pd.DataFrame, classes: Sequence[str], checked: int) -> str:
    lines = []
    for row in wrong.head(_SHOWN).to_dict("records"):
        sides = " against ".join(
            ", ".join(f"{name} {row[f'{side}_{name}']:.6f}" for name in classes)
            for side in ("training", "bundle")
        )
        lines.append(f"  {row['image']}: {sides} (difference {row['difference']:.1e})")
    more = f"\n  and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
    only_decisions = bool(np.all(wrong["difference"].to_numpy() <= TOLERANCE))
    action = (
        "The probabilities agree, but a threshold lies between those of these images: choose another operating point."
        if only_decisions
        else "Nothing was exported. Check that runs and images are as they were in training; else please report this."
    )
    return (
        f"The bundle does not answer as the training model does, for {len(wrong):,} of {checked:,} validation images "
        f"(training against bundle; a probability may differ by {TOLERANCE:.0e}, no decision may):\n"
        + "\n".join(lines)
        + more
        + f"\n{action}"
    )
