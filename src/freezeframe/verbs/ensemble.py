"""Combine runs into an ensemble."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe import files
from freezeframe.ensemble import rules
from freezeframe.ensemble.folder import ENSEMBLE, Ensemble, read_members, write_ensemble
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation import assessment, calibration, operating_points
from freezeframe.evaluation.assessment import Labelled
from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.progress import say

SHOWN_SCORES = (
    "roc_auc",
    "balanced_accuracy",
    "accuracy",
    "log_loss",
    "brier_score",
    "expected_calibration_error",
)


def ensemble(
    runs: Sequence[str | Path],
    out: str | Path,
    rule: rules.Rule = "mean",
    score: rules.Score = "roc_auc",
    positive: str | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> Path:
    """Combine finished runs; what is chosen, is chosen on validation images only.

    Parameters
    ----------
    runs : sequence of str or Path
        Folders of finished runs on the same images. They may differ in network, input size and preprocessing.
    out : str or Path
        The ensemble's folder; it is made.
    rule : str
        'mean' (of probabilities), 'mean-logits', 'weighted' or 'vote'.
    score : str
        That ``weighted`` makes the weights from: 'roc_auc', 'accuracy', 'balanced_accuracy', 'log_loss' or
        'optimal'.
    positive : str, optional
        The class that the operating point is about; the last of two, none of more, where left out.
    sensitivity, specificity : float, optional
        Least value at the operating point; Youden's index where both are left out.

    Returns
    -------
    Path
        The ensemble's folder, with ``ensemble.json`` and ``predictions/<split>.parquet``.

    Raises
    ------
    UserError
        If the runs do not belong together, or validation images that are needed are missing.
    """
    out = Path(out).absolute()
    if rule not in rules.RULES:
        raise UserError(f"'{rule}' is no rule;", action=did_you_mean(rule, rules.RULES))
    if not runs:
        raise UserError("No runs are given.", "one or more folders of runs.")
    if (out / "run.json").exists():
        raise UserError(f"{out} is the folder of a run.", "a folder of its own.", "Choose another --out.")
    members = read_members([Path(run) for run in runs])
    equal = {member.name: 1 / len(members) for member in members}
    made = Ensemble(out, members, members[0].classes, rule, equal)
    images, logits = validation_images(made, positive)
    if rule == "weighted":
        weights = rules.choose_weights(logits, images.labels, score)
        made = replace(made, weights=dict(zip(equal, map(float, weights), strict=True)))
        images, _ = validation_images(made, positive)
    combined = images.probabilities[ENSEMBLE]
    temperature = calibration.fit_temperature(images.labels, combined)
    point = choose_point(images, positive, sensitivity, specificity)
    made = replace(made, temperature=temperature, operating_point=point.to_dict() if point else None)
    write_ensemble(made, _validation_facts(made, images, temperature), score if rule == "weighted" else None)
    return out


def validation_images(made: Ensemble, positive: str | None) -> tuple[Labelled, np.ndarray]:
    """Read the members' answers to the labelled validation images, and combine them.

    Returns
    -------
    images : Labelled
        With the models 'ensemble' and each member's name.
    logits : ndarray (M, N, C)
        Of the members.
    """
    answers = made.answers("validation")
    labelled = answers.images["label"].isin(made.classes).to_numpy()
    if not labelled.any():
        raise UserError(
            f"The runs {', '.join(member.name for member in made.members)} have no labelled validation images.",
            "some, to choose weights and a threshold with.",
            "Train with a validation split.",
        )
    if answers.left_out:
        say(f"{answers.left_out:,} validation images are left out: not all members have an answer to them.")
    return label(made, answers.images[labelled], answers.logits[:, labelled], positive), answers.logits[
        :, labelled
    ]


def label(made: Ensemble, images: Any, logits: np.ndarray, positive: str | None) -> Labelled:
    """Join images (a table with ``image``, ``patient``, ``label``) to the probabilities of all models."""
    if positive is not None and positive not in made.classes:
        raise UserError(f"There is no class '{positive}';", action=did_you_mean(positive, made.classes))
    index = {name: number for number, name in enumerate(made.classes)}
    probabilities = {ENSEMBLE: made.probabilities(logits)}
    for member, own in zip(made.members, logits, strict=True):
        probabilities[member.name] = rules.combine(own[None], "mean")
    return Labelled(
        images["label"].map(index).to_numpy(dtype=np.int64),
        np.where(images["patient"] == "", images["image"], images["patient"]).astype(str),
        probabilities,
        made.classes,
        made.classes.index(positive) if positive else len(made.classes) - 1,
    )


def choose_point(
    images: Labelled, positive: str | None, sensitivity: float | None, specificity: float | None
) -> OperatingPoint | None:
    """Choose the ensemble's operating point on validation images.

    With more than two classes and none of them named positive there is none: the most probable class is
    taken. Nor is there where the validation images lack a class, unless one was asked for: that is an
    error.
    """
    if sensitivity is not None and specificity is not None:
        raise UserError("Both --sensitivity and --specificity are given.", "one of them.", "Leave one out.")
    target = sensitivity if sensitivity is not None else specificity
    if len(images.classes) > 2 and positive is None:
        if target is not None:
            raise UserError(
                f"A threshold needs a positive class, and there are {len(images.classes)} classes.",
                action=f"Name one with --positive: {', '.join(images.classes)}.",
            )
        return None
    present = images.labels == images.positive
    if target is None and (present.all() or not present.any()):
        return None
    rule = "youden" if target is None else "sensitivity" if sensitivity is not None else "specificity"
    scores = images.probabilities[ENSEMBLE][:, images.positive]
    return operating_points.choose(present, scores, images.classes[images.positive], rule, target)


def _validation_facts(made: Ensemble, images: Labelled, temperature: float) -> dict[str, Any]:
    combined = images.probabilities[ENSEMBLE]
    calibrated = replace(
        images, probabilities={ENSEMBLE: calibration.apply_temperature(combined, temperature)}
    )
    scores, at_temperature = (
        {
            model: {name: found[name] for name in SHOWN_SCORES}
            for model, found in assessment.values(which).items()
        }
        for which in (images, calibrated)
    )
    validation = made.members[0].manifest.subset("validation")
    return {
        "images": len(images.labels),
        "patients": len(np.unique(images.patients)),
        "images_sha256": files.sha256_json(sorted(validation.keys())),
        "scores": {
            "ensemble": scores.pop(ENSEMBLE),
            "ensemble_at_temperature": at_temperature[ENSEMBLE],
            "members": scores,
        },
    }
