"""Divide a data set by patient, stratified by class, and refuse what leaks between the parts."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from freezeframe.data.dealing import EMPTY_FILE, deal, group_patients
from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.data.subsets import keep_share
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError
from freezeframe.recipe import Split

_FEWER_SPLITS = "Add patients, or leave a split out (split: {test: 0})."
_FEWER_FOLDS = "Add patients, or take fewer folds (split: {folds: 2})."
_OTHER_FOLDS = "Add patients, or take another number of folds."


@dataclass(frozen=True)
class Overlap:
    """A patient, or one image's content, in more than one split.

    Attributes
    ----------
    kind : str
        ``patient`` or ``image``.
    name : str
        The patient, or the first of the identical images.
    splits : tuple of str
        Where it is found.
    images : tuple of str
        All images concerned, in every split.
    """

    kind: str
    name: str
    splits: tuple[str, ...]
    images: tuple[str, ...]


def make_splits(manifest: Manifest, split: Split, seed: int) -> Manifest:
    """Give every image a split: the data set's own where it is usable, else one by patient.

    A missing validation or test split, and one with fewer than ``split.minimum_images`` images of any class, is
    made from patients of the training split: its share is of the patients that are not in a split that is kept. The
    images of a validation split that is too small go to training; those of a test split that is too small stay in
    it. Patients who share an identical image are kept together. The result depends on the seed and on the patients'
    names, not on the order of the rows.

    With ``split.folds``, all patients are dealt to so many folds, whatever splits are given. The one that
    ``split.fold`` names is the test split; ``split.validation`` is a share of the patients of the others. The folds of
    one seed are the same for each of them, so their test splits cover the data set without overlap.

    With ``split.train_share``, only that share of the training patients stays in the manifest (see
    `freezeframe.data.subsets.keep_share`). Synthetic images that were added are training images, and are never dealt
    or counted.

    Parameters
    ----------
    manifest : Manifest
        With a label in every row.
    split : Split
        The wished shares.
    seed : int
        The recipe's seed, used where the split has none of its own.

    Returns
    -------
    Manifest
        With a split in every row; its notes tell what was done.

    Raises
    ------
    UserError
        If labels are missing, there is only one class, or a class has too few patients to be in every split or fold.
    """
    seed = seed if split.seed is None else split.seed
    added = manifest.added()
    real = replace(manifest, table=manifest.table[~added].reset_index(drop=True)) if added.any() else manifest
    _check_labels(real)
    if split.folds is None:
        given, notes = _complete(real, split, seed)
    else:
        given, notes = _cross_validate(real, split, split.folds, seed)
    _check_training(real.labels(), given, manifest.classes)
    table = real.table.assign(split=given.astype(str)).astype({"split": "str"})
    divided = replace(real, table=table, notes=(*manifest.notes, *notes))
    if split.train_share < 1:
        divided = keep_share(divided, split.train_share, split.draw, seed)
    if not added.any():
        return divided
    synthetic = manifest.table[added].assign(split="train").astype({"split": "str"})
    return replace(divided, table=pd.concat([divided.table, synthetic], ignore_index=True))


def _complete(manifest: Manifest, split: Split, seed: int) -> tuple[np.ndarray, list[str]]:
    """Keep the data set's own splits where they are usable, and make the others."""
    labels = manifest.labels()
    given = np.array(manifest.table["split"].tolist(), dtype=object)
    notes: list[str] = []
    own = bool((given != "").any())
    given = _adopt_rest(given, notes) if own else np.full(len(given), "train", dtype=object)
    wanted: dict[str, float] = {}
    for name, share in (("validation", split.validation), ("test", split.test)):
        if share == 0:
            continue
        counts = np.bincount(labels[given == name], minlength=len(manifest.classes))
        if counts.min() >= split.minimum_images:
            continue
        wanted[name] = share
        if own:
            notes.append(_explain_remedy(name, counts, manifest.classes, split.minimum_images))
        if name == "validation":
            given[given == name] = "train"
    if not wanted:
        notes.append(
            ("The data set's own splits are kept: " if own else "No split was asked for: ")
            + f"{_sizes(given)}."
        )
        return given, notes
    groups, joined = group_patients(manifest)
    pool = np.flatnonzero(given == "train")
    parts = {"train": 1 - sum(wanted.values()), **wanted}
    given[pool] = deal(
        labels[pool], groups[pool], parts, manifest.classes, seed, purpose="split", remedy=_FEWER_SPLITS
    )
    made = "by patient" if _patients_known(manifest) else "by image, as no patients are known"
    notes += joined
    notes.append(f"Divided {made}, stratified by class, with seed {seed}: {_sizes(given)}.")
    return given, notes + _warn_of_small(labels, given, wanted, manifest.classes, split.minimum_images)


def _cross_validate(manifest: Manifest, split: Split, folds: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Make one fold the test split, and divide the others into training and validation."""
    labels, classes = manifest.labels(), manifest.classes
    groups, notes = group_patients(manifest)
    parts = {f"fold {number}": 1 / folds for number in range(folds)}
    fold_of = np.array(deal(labels, groups, parts, classes, seed, purpose="fold", remedy=_FEWER_FOLDS))
    given = np.full(len(labels), "train", dtype=object)
    given[fold_of == f"fold {split.fold}"] = "test"
    if split.validation:
        rest = np.flatnonzero(given == "train")
        parts = {"train": 1 - split.validation, "validation": split.validation}
        given[rest] = deal(
            labels[rest], groups[rest], parts, classes, seed, purpose="split", remedy=_OTHER_FOLDS
        )
    number = int((manifest.table["split"] != "").to_numpy().sum())
    if number:
        notes.append(f"The data set's own splits are not used (folds): {counted(number, 'image')} had one.")
    made = "by patient" if _patients_known(manifest) else "by image, as no patients are known"
    notes.append(
        f"Fold {split.fold} of {folds}, counted from 0, is the test split; divided {made}, stratified by class, "
        f"with seed {seed}: {_sizes(given)}."
    )
    wanted = [name for name in ("validation", "test") if name == "test" or split.validation]
    return given, notes + _warn_of_small(labels, given, wanted, classes, split.minimum_images)


def _patients_known(manifest: Manifest) -> bool:
    return bool((manifest.table["patient"] != "").to_numpy().any())


def find_overlap(manifest: Manifest) -> list[Overlap]:
    """List patients and identical images (by SHA-256) that are in more than one split; patients first, by name."""
    images = manifest.table["image"].tolist()
    splits = manifest.table["split"].tolist()
    found = []
    for kind, names in (
        ("patient", manifest.patients().tolist()),
        ("image", manifest.table["sha256"].tolist()),
    ):
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            if splits[row] and name != EMPTY_FILE:
                rows[name].append(row)
        for name in sorted(rows):
            present = {splits[row] for row in rows[name]}
            if len(present) > 1:
                concerned = tuple(sorted(images[row] for row in rows[name]))
                shown = name if kind == "patient" else concerned[0]
                found.append(
                    Overlap(kind, shown, tuple(part for part in SPLITS if part in present), concerned)
                )
    return found


def check_overlap(manifest: Manifest) -> None:
    """Refuse a manifest in which a patient or an identical image is in two splits.

    Raises
    ------
    UserError
        With the names of up to ten of each, and how many there are.
    """
    found = find_overlap(manifest)
    if not found:
        return
    parts = []
    for kind, said in (("patient", "patient"), ("image", "identical image")):
        those = [overlap for overlap in found if overlap.kind == kind]
        if those:
            shown = "; ".join(f"{overlap.name} ({', '.join(overlap.splits)})" for overlap in those[:10])
            more = f"; and {len(those) - 10:,} more" if len(those) > 10 else ""
            parts.append(f"{counted(len(those), said)} in more than one split: {shown}{more}.")
    raise UserError(
        " ".join(parts),
        "each patient and each image in one split only; otherwise the evaluation is too good to be true.",
        "Correct the data set's splits, let them be made anew (data: {path: ..., split_column: none}), or, knowing "
        "what it means, say 'check_overlap: false'.",
    )


def _check_labels(manifest: Manifest) -> None:
    labels = manifest.labels()
    missing = [image for image, label in zip(manifest.table["image"], labels, strict=True) if label < 0]
    if missing:
        raise UserError(
            f"{counted(len(missing), 'image')} of {len(labels):,} have no label: {listed(missing)}.",
            "a label for every image.",
            "Sort the images into a folder for each class, or give a table of labels.",
        )
    present = [manifest.classes[index] for index in np.unique(labels)]
    if len(present) < 2:
        raise UserError(
            f"{manifest.root} holds {f'one class only, {listed(present)}' if present else 'no images'}.",
            "images of two classes or more.",
            "Add a folder (or rows) for each class.",
        )


def _adopt_rest(given: np.ndarray, notes: list[str]) -> np.ndarray:
    """Give images without a split to training, where others have one."""
    given = given.copy()
    rest = given == ""
    if rest.any():
        notes.append(
            f"{counted(int(rest.sum()), 'image')} without a split beside others with one: put into train."
        )
        given[rest] = "train"
    if not (given == "train").any():
        raise UserError(
            f"The data set has only the split {listed(sorted(set(given)))}.",
            "images to train on.",
            "Add a train split, or say 'split_column: none' to divide what there is.",
        )
    return given


def _explain_remedy(name: str, counts: np.ndarray, classes: tuple[str, ...], minimum: int) -> str:
    total = int(counts.sum())
    if total == 0:
        return f"There is no {name} split: patients are taken from train for it."
    sizes = ", ".join(f"{count:,} {label}" for label, count in zip(classes, counts, strict=True))
    fate = "its images were put into train" if name == "validation" else "its images stay in it"
    return (
        f"The given {name} split is too small: {counted(total, 'image')} ({sizes}), fewer than {minimum} of a class; "
        f"{fate} and patients are taken from train for it."
    )


def _warn_of_small(
    labels: np.ndarray, given: np.ndarray, wanted: Iterable[str], classes: tuple[str, ...], minimum: int
) -> list[str]:
    notes = []
    for name in wanted:
        counts = np.bincount(labels[given == name], minlength=len(classes))
        small = [f"{count} {label}" for label, count in zip(classes, counts, strict=True) if count < minimum]
        if small:
            notes.append(f"The {name} split has only {', '.join(small)}: figures from it are very uncertain.")
    return notes


def _check_training(labels: np.ndarray, given: np.ndarray, classes: tuple[str, ...]) -> None:
    counts = np.bincount(labels[given == "train"], minlength=len(classes))
    missing = [label for label, count in zip(classes, counts, strict=True) if count == 0]
    if missing:
        raise UserError(
            f"The train split has no image of class {listed(missing)}.",
            "images of every class to train on.",
            "Correct the splits or 'classes', or say 'split_column: none' to have them made.",
        )


def _sizes(given: np.ndarray) -> str:
    counts = Counter(given.tolist())
    return ", ".join(f"{name} {counted(counts[name], 'image')}" for name in SPLITS if counts[name])
