"""What an ensemble says of labelled images: thresholds that are still to be chosen, and how good it is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.bundle import card
from freezeframe.bundle.options import Options
from freezeframe.bundle.runtime.contents import Point
from freezeframe.data.wording import counted
from freezeframe.ensemble.folder import ENSEMBLE, Ensemble
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation import calibration, operating_points
from freezeframe.evaluation.assessment import Labelled
from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.progress import say


def labelled(ensemble: Ensemble, split: str, positive: str | None) -> Labelled | None:
    """Read what the ensemble says of the labelled images of a split, from the members' stored predictions.

    None where there are none.
    """
    if not all((member.folder / "predictions" / f"{split}.parquet").is_file() for member in ensemble.members):
        return None
    answers = ensemble.answers(split)
    known = answers.images["label"].isin(ensemble.classes).to_numpy()
    if not known.any():
        return None
    return _joined(
        ensemble, answers.images.loc[known], ensemble.probabilities(answers.logits[:, known]), positive
    )


def _joined(
    ensemble: Ensemble, images: pd.DataFrame, probabilities: np.ndarray, positive: str | None
) -> Labelled:
    if positive is not None and positive not in ensemble.classes:
        raise UserError(f"There is no class '{positive}';", action=did_you_mean(positive, ensemble.classes))
    index = {label: number for number, label in enumerate(ensemble.classes)}
    return Labelled(
        np.array([index[label] for label in images["label"]], dtype=np.int64),
        np.where(images["patient"] == "", images["image"], images["patient"]).astype(str),
        {ENSEMBLE: probabilities},
        ensemble.classes,
        ensemble.classes.index(positive) if positive else len(ensemble.classes) - 1,
    )


def settle(ensemble: Ensemble, validation: Labelled, options: Options) -> tuple[Ensemble, tuple[Point, ...]]:
    """Choose on validation images what is still open: a single run's threshold and temperature, and added points.

    Parameters
    ----------
    ensemble : Ensemble
        Of several runs, or of one, which has neither yet.
    validation : Labelled
        From `labelled`.
    options : Options
        The positive class and the points that are asked for.

    Returns
    -------
    ensemble : Ensemble
        With a temperature.
    points : tuple of Point
        The first is ``default``, where there is a positive class; then ``sensitivity-0.95`` and the like.

    Raises
    ------
    UserError
        If there are several classes and none is named positive, or a point can't be chosen.
    """
    if ensemble.temperature is None:
        temperature = calibration.fit_temperature(validation.labels, validation.probabilities[ENSEMBLE])
        ensemble = replace(ensemble, temperature=temperature)
    own = ensemble.operating_point
    positive = options.positive or (OperatingPoint.from_dict(own).positive_class if own else None)
    asked = [("sensitivity", value) for value in options.sensitivities]
    asked += [("specificity", value) for value in options.specificities]
    if positive is None and len(ensemble.classes) > 2:
        if asked:
            raise UserError(
                f"A threshold needs a positive class, and there are {len(ensemble.classes)} classes.",
                action=f"Name one with --positive: {', '.join(ensemble.classes)}.",
            )
        return ensemble, ()
    positive = positive or ensemble.classes[validation.positive]
    column = ensemble.classes.index(positive)
    present, scores = validation.labels == column, validation.probabilities[ENSEMBLE][:, column]
    points = []
    if own is not None and OperatingPoint.from_dict(own).positive_class == positive:
        points.append(Point(name="default", point=own))
    elif present.any() and not present.all():
        chosen = operating_points.choose(present, scores, positive)
        points.append(Point(name="default", point=chosen.to_dict()))
    for rule, target in asked:
        chosen = operating_points.choose(present, scores, positive, rule, target)  # pyright: ignore[reportArgumentType]
        points.append(Point(name=f"{rule}-{target:g}", point=chosen.to_dict()))
    return ensemble, tuple({point.name: point for point in points}.values())


def measure(ensemble: Ensemble, points: Sequence[Point], options: Options) -> dict[str, Any] | None:
    """Measure the ensemble on its test images, or take over what an evaluation measured; None without test images.

    Raises
    ------
    UserError
        If the evaluation is of something else.
    """
    positive = points[0].threshold().positive_class if points else None
    if options.evaluation is not None:
        return _from_evaluation(ensemble, points, options.evaluation, positive)
    images = labelled(ensemble, "test", positive)
    if images is None:
        say("There are no labelled test images: the card can't say how good the model is.")
        return None
    say(f"Measuring on {counted(len(images.labels), 'test image')}")
    return {"split": "test", **card.measure(images, ENSEMBLE, points, None)}


def _from_evaluation(
    ensemble: Ensemble, points: Sequence[Point], folder: Path, positive: str | None
) -> dict[str, Any]:
    folder = Path(folder).absolute()
    metrics = files.read_json(folder / "metrics.json")
    model = (folder / files.read_json(folder / "evaluation.json")["model"]).resolve()
    if model != ensemble.folder.resolve():
        raise UserError(
            f"{folder} is the evaluation of {model}.",
            f"one of {ensemble.folder}.",
            f"Make it with freezeframe evaluate {ensemble.folder} --out {folder}.",
        )
    table = pd.read_parquet(folder / "predictions.parquet")
    probabilities = table[[f"probability_{label}" for label in ensemble.classes]].to_numpy()
    images = _joined(ensemble, table, probabilities, positive)
    return {"split": metrics["split"], **card.measure(images, ENSEMBLE, points, metrics[ENSEMBLE])}
