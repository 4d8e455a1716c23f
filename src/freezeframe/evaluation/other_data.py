"""Another data set: its classes must be the model's, and the model must not have seen its images."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from freezeframe.data.manifest import Manifest
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError


def match_classes(
    manifest: Manifest, classes: tuple[str, ...], names: Mapping[str, str] | None = None
) -> Manifest:
    """Give a data set the names and the order of a model's classes.

    Parameters
    ----------
    manifest : Manifest
        Of the other data set.
    classes : tuple of str
        Of the model. They are found whatever their case.
    names : mapping of str to str, optional
        From the data set's label to the model's class, where they differ.

    Returns
    -------
    Manifest
        Without the images that have no label; a note says how many.

    Raises
    ------
    UserError
        If a label is none of the model's classes, or no image has a label.
    """
    renamed = {label.casefold(): name for label, name in (names or {}).items()}
    own = {name.casefold(): name for name in classes}
    if len(own) < len(classes):
        own = {name: name for name in classes}
    found: dict[str, str] = {"": ""}
    for label in sorted(set(manifest.table["label"]) - {""}):
        wanted = str(renamed.get(label.casefold(), label))
        name = wanted if wanted in classes else own.get(wanted.casefold())
        if name is None:
            raise UserError(
                f"The data in {manifest.root} has the label '{label}', which is no class of the model.",
                f"one of {', '.join(classes)}, in any case.",
                f"Say which class it is with --map '{label}={classes[0]}', for example.",
            )
        found[label] = name
    table = manifest.table.assign(label=[found[label] for label in manifest.table["label"]])
    unlabelled = (table["label"] == "").to_numpy()
    notes = manifest.notes
    if unlabelled.all():
        raise UserError(
            f"No image in {manifest.root} has a label.",
            "class folders, or a table with labels.",
            "An evaluation compares answers with labels.",
        )
    if unlabelled.any():
        notes = (*notes, f"{counted(int(unlabelled.sum()), 'image')} without a label left out.")
    return replace(manifest, table=table[~unlabelled].reset_index(drop=True), classes=classes, notes=notes)


def leave_out_known(
    manifest: Manifest, training: Iterable[Manifest], patients_too: bool = False
) -> tuple[Manifest, list[str]]:
    """Leave out the images that a model was trained or chosen with, and warn of patients that it may know.

    Images are compared by content. A patient's name says less: two hospitals number their patients alike, so patients
    of an equal name are a warning, and left out only where that is asked for.

    Parameters
    ----------
    manifest : Manifest
        Of the other data set.
    training : iterable of Manifest
        Of the runs; their test images don't count.
    patients_too : bool
        Leave out the images of patients whose name is among the training or validation patients.

    Returns
    -------
    Manifest
        What is left.
    list of str
        Warnings, in plain sentences.

    Raises
    ------
    UserError
        If nothing is left.
    """
    keys: set[str] = set()
    names: set[str] = set()
    for known in training:
        used = (known.table["split"] != "test").to_numpy()
        keys.update(key for key, seen in zip(known.keys(), used, strict=True) if seen)
        names.update(known.table.loc[used, "patient"])
    names.discard("")
    warnings = []
    same_image = np.isin(manifest.keys(), list(keys))
    if same_image.any():
        shown = listed(manifest.table.loc[same_image, "image"].tolist())
        warnings.append(
            f"{counted(int(same_image.sum()), 'image')} left out, identical to training or validation images: {shown}."
        )
    same_patient = manifest.table["patient"].isin(list(names)).to_numpy() & ~same_image
    if same_patient.any():
        patients = sorted(set(manifest.table.loc[same_patient, "patient"]))
        what = f"{counted(int(same_patient.sum()), 'image')} of {counted(len(patients), 'patient')}"
        fate = "left out" if patients_too else "kept: leave them out if they are the same people"
        warnings.append(
            f"{what} {fate}; training or validation patients have the same name: {listed(patients)}."
        )
    kept = ~same_image & ~(same_patient & patients_too)
    if not kept.any():
        raise UserError(
            f"All {len(manifest.table):,} images in {manifest.root} were used for training or validation.",
            "images that the model has not seen.",
            "Take other data, or `--split test` without --data.",
        )
    return replace(manifest, table=manifest.table[kept].reset_index(drop=True)), warnings
