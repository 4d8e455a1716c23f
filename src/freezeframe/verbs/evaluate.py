"""Evaluate an ensemble or a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freezeframe import files
from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.wording import counted
from freezeframe.ensemble.folder import ENSEMBLE, Answers, Ensemble, join, place, read_ensemble
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation import assessment, comparison, other_data
from freezeframe.evaluation.assessment import Labelled
from freezeframe.evaluation.intervals import LEVEL
from freezeframe.evaluation.operating_points import OperatingPoint, decide
from freezeframe.progress import say
from freezeframe.recipe import DataSource
from freezeframe.verbs.ensemble import choose_point, label, validation_images

SCHEMA_VERSION = 1
SEED = 0
FEW_PATIENTS = 30


@dataclass(frozen=True, eq=False)
class _Subject:
    """The images that are evaluated, and what the members say of them."""

    answers: Answers
    manifest: Manifest
    split: str
    notes: list[str]


def evaluate(
    model: str | Path,
    out: str | Path,
    data: str | Path | DataSource | None = None,
    split: str | None = None,
    positive: str | None = None,
    threshold: str | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
    bootstrap: int = 2000,
    names: Mapping[str, str] | None = None,
    exclude_known_patients: bool = False,
) -> Path:
    """Compute every metric with its interval, for an ensemble, its members and their difference.

    Parameters
    ----------
    model : str or Path
        Folder of an ensemble or of a run.
    out : str or Path
        The evaluation's folder; it is made.
    data : str, Path or DataSource, optional
        Another data set, all of which is evaluated; the runs' own where left out.
    split : str, optional
        'test' where left out; of another data set all images.
    positive : str, optional
        Positive class; the last of two where left out.
    threshold : str, optional
        'youden': choose the operating point anew by Youden's index. The ensemble's own where nothing is said.
    sensitivity, specificity : float, optional
        Choose it anew by the least sensitivity or specificity on validation images.
    bootstrap : int
        Number of bootstrap samples.
    names : mapping of str to str, optional
        From the other data set's labels to the model's classes, where they differ by more than case.
    exclude_known_patients : bool
        Leave out images of the other data set whose patient has the name of a training or validation patient.

    Returns
    -------
    Path
        The evaluation's folder, with ``metrics.json``, ``predictions.parquet``, ``evaluation.json`` and
        ``manifest.parquet``; see docs/evaluation.md.

    Raises
    ------
    UserError
        If the folder is no model, the split or class is unknown, or no labelled image is left.
    """
    out = Path(out).absolute()
    _check_choices(threshold, sensitivity, specificity, bootstrap, split)
    made = read_ensemble(Path(model))
    if out == made.folder or (out / "run.json").exists() or (out / "ensemble.json").exists():
        raise UserError(f"{out} is the folder of a model.", "a folder of its own.", "Choose another --out.")
    validation, _ = validation_images(made, positive)
    point = _operating_point(made, validation, positive, threshold, sensitivity, specificity)
    if positive is None and point is not None:
        positive = point.positive_class
        validation = replace(validation, positive=made.classes.index(positive))
    if data is None:
        subject = _stored(made, split or "test")
    else:
        source = data if isinstance(data, DataSource) else DataSource(path=Path(data))
        subject = _other(made, source, split, names, exclude_known_patients)
    for note in subject.notes:
        say(f"Note: {note}")
    images = label(made, subject.answers.images, subject.answers.logits, positive)

    on_validation = assessment.values(validation)
    chosen_by = "roc_auc" if on_validation[ENSEMBLE]["roc_auc"] is not None else "log_loss"
    members = [member.name for member in made.members]
    best = comparison.best_member(
        {name: on_validation[name][chosen_by] or np.nan for name in members}, chosen_by
    )
    pair = (ENSEMBLE, best) if len(members) > 1 else None
    models, difference = assessment.assess(images, pair, bootstrap, SEED)

    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        ENSEMBLE: models[ENSEMBLE],
        "members": {name: models[name] for name in members},
        "difference": difference,
        "best_member": {"name": best, "chosen_by": chosen_by, "chosen_on": "validation"} if pair else None,
        "operating_point": None,
        "n_images": len(images.labels),
        "n_patients": len(np.unique(images.patients)),
        "classes": list(made.classes),
        "positive_class": made.classes[images.positive] if point or len(made.classes) == 2 else None,
        "split": subject.split,
        "summary": assessment.in_words(models, difference, best if pair else None),
        "intervals": {"level": LEVEL, "bootstrap": bootstrap, "seed": SEED},
    }
    if point is not None:
        found = assessment.at_operating_point(images, ENSEMBLE, point, bootstrap, SEED)
        metrics["operating_point"] = point.to_dict() | found
    table = _table(made, subject, images, point)
    with files.atomic(out / "predictions.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    subject.manifest.write(out / "manifest.parquet")
    files.write_json(out / "evaluation.json", _details(out, made, subject, on_validation))
    # The figures come last: where they are, the evaluation is whole.
    files.write_json(out / "metrics.json", metrics)
    return out


def _check_choices(
    threshold: str | None,
    sensitivity: float | None,
    specificity: float | None,
    bootstrap: int,
    split: str | None,
) -> None:
    if threshold not in (None, "youden"):
        raise UserError(
            f"--threshold is {threshold!r}.",
            "'youden'.",
            "For a fixed sensitivity or specificity take --sensitivity 0.95 or --specificity 0.95.",
        )
    if sum(choice is not None for choice in (threshold, sensitivity, specificity)) > 1:
        raise UserError(
            "More than one of --threshold, --sensitivity and --specificity are given.",
            "one rule.",
            "Take one.",
        )
    if bootstrap < 100:
        raise UserError(f"--bootstrap is {bootstrap}.", "100 or more; 2,000 is usual.")
    if split is not None and split not in SPLITS:
        raise UserError(f"'{split}' is no split;", action=did_you_mean(split, SPLITS))


def _operating_point(
    made: Ensemble,
    validation: Labelled,
    positive: str | None,
    threshold: str | None,
    sensitivity: float | None,
    specificity: float | None,
) -> OperatingPoint | None:
    anew = any(choice is not None for choice in (threshold, sensitivity, specificity))
    if made.operating_point is not None and not anew:
        point = OperatingPoint.from_dict(made.operating_point)
        if positive in (None, point.positive_class):
            return point
    return choose_point(validation, positive, sensitivity, specificity)


def _stored(made: Ensemble, split: str) -> _Subject:
    answers = made.answers(split)
    manifest = made.members[0].manifest
    notes = list(manifest.notes)
    if split != "test":
        use = (
            "trained with"
            if split == "train"
            else "used to choose the best epoch, the rule and the threshold"
        )
        notes.append(f"The {split} images were {use}: these figures are too good; take the test images'.")
    if answers.left_out:
        notes.append(
            f"{counted(answers.left_out, 'image')} left out: not all members have an answer to them."
        )
    labelled = answers.images["label"].isin(made.classes).to_numpy()
    if not labelled.any():
        raise UserError(
            f"The split '{split}' of {made.folder} has no labelled image.",
            "some.",
            "Take another --split, or --data.",
        )
    if not labelled.all():
        notes.append(f"{counted(int((~labelled).sum()), 'image')} left out: they have no label.")
    answers = Answers(answers.images.loc[labelled].reset_index(drop=True), answers.logits[:, labelled])
    return _Subject(
        answers, _rows(manifest, answers.images["image"].tolist()), split, _few(answers.images, notes)
    )


def _other(
    made: Ensemble,
    source: DataSource,
    split: str | None,
    names: Mapping[str, str] | None,
    exclude_known_patients: bool,
) -> _Subject:
    # Inference needs torch; an evaluation of stored predictions does not.
    from freezeframe.training.predict import predict_manifest

    manifest = read_manifest(source)
    if split is not None:
        manifest = manifest.subset(split)
        if not len(manifest.table):
            raise UserError(f"The data in {source.path} has no split '{split}'.", action="Leave --split out.")
    manifest = other_data.match_classes(manifest, made.classes, names)
    manifest, warnings = other_data.leave_out_known(
        manifest, [member.manifest for member in made.members], exclude_known_patients
    )
    notes = [*manifest.notes, *warnings]
    tables, unreadable = [], {}
    for member in made.members:
        say(f"{member.name} ({made.members.index(member) + 1} of {len(made.members)})")
        table, failed = predict_manifest(member.folder, manifest)
        tables.append(table)
        unreadable |= {failure.image: failure.reason for failure in failed}
    if unreadable:
        shown = "; ".join(f"{image} ({reason})" for image, reason in list(unreadable.items())[:5])
        notes.append(f"{counted(len(unreadable), 'image')} left out, which can't be read: {shown}.")
    answers = join(tables, made.members, made.classes)
    if answers.images.empty:
        raise UserError(
            f"No image in {source.path} can be read.", "readable images.", "See the reasons above."
        )
    return _Subject(
        answers,
        _rows(manifest, answers.images["image"].tolist()),
        split or "all",
        _few(answers.images, notes),
    )


def _rows(manifest: Manifest, images: list[str]) -> Manifest:
    table = manifest.table.set_index("image", drop=False).loc[images].reset_index(drop=True)
    return replace(manifest, table=table)


def _few(images: pd.DataFrame, notes: list[str]) -> list[str]:
    people = images.assign(person=images["patient"].where(images["patient"] != "", images["image"]))
    for name in sorted(set(people["label"])):
        count = people.loc[people["label"] == name, "person"].nunique()
        if count < FEW_PATIENTS:
            notes.append(
                f"Only {counted(count, 'patient')} of class '{name}': the intervals are wide, and rough."
            )
    return notes


def _table(made: Ensemble, subject: _Subject, images: Labelled, point: OperatingPoint | None) -> pd.DataFrame:
    table = subject.answers.images.copy()
    table["split"] = subject.manifest.table["split"].to_numpy()
    combined = images.probabilities[ENSEMBLE]
    named = np.array(made.classes, dtype=object)
    columns = {f"probability_{name}": combined[:, index] for index, name in enumerate(made.classes)}
    columns["predicted"] = named[combined.argmax(axis=1)]
    columns["predicted_at_operating_point"] = named[decide(combined, made.classes, point)]
    for member in made.members:
        own = images.probabilities[member.name]
        columns |= {
            f"{member.name}_probability_{name}": own[:, index] for index, name in enumerate(made.classes)
        }
    return table.assign(**columns)


def _details(
    out: Path, made: Ensemble, subject: _Subject, on_validation: dict[str, dict[str, float | None]]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "model": place(made.folder, out),
        "rule": made.rule if len(made.members) > 1 else None,
        "weights": made.weights,
        "runs": {member.name: place(member.folder, out) for member in made.members},
        "root": str(subject.manifest.root),
        "validation": on_validation,
        "notes": subject.notes,
    }
