"""Divide a data set by patient, stratified by class, and refuse what leaks between the parts."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError
from freezeframe.recipe import Split
from freezeframe.seeds import derive_seed, generator

_EMPTY_FILE = hashlib.sha256(b"").hexdigest()  # two files without content say nothing of each other


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
        If labels are missing, there is only one class, or a class has too few patients to be in every split.
    """
    _check_labels(manifest)
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
    else:
        groups = _group(manifest, notes)
        pool = np.flatnonzero(given == "train")
        seed = seed if split.seed is None else split.seed
        given[pool] = _divide(labels[pool], groups[pool], wanted, manifest.classes, seed)
        made = (
            "by patient"
            if (manifest.table["patient"] != "").to_numpy().any()
            else "by image, as no patients are known"
        )
        notes.append(f"Divided {made}, stratified by class, with seed {seed}: {_sizes(given)}.")
        notes += _warn_of_small(labels, given, wanted, manifest.classes, split.minimum_images)
    _check_training(labels, given, manifest.classes)
    table = manifest.table.assign(split=given.astype(str)).astype({"split": "str"})
    return replace(manifest, table=table, notes=(*manifest.notes, *notes))


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
            if splits[row] and name != _EMPTY_FILE:
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


def _group(manifest: Manifest, notes: list[str]) -> np.ndarray:
    """Return a group for each row: patients, joined where they share an identical image."""
    patients = manifest.patients().tolist()
    parent = {patient: patient for patient in patients}

    def find(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = parent[parent[patient]]
            patient = parent[patient]
        return patient

    holder: dict[str, str] = {}
    joined: set[str] = set()
    for patient, sha256 in sorted(zip(patients, manifest.table["sha256"], strict=True)):
        if sha256 == _EMPTY_FILE:
            continue
        first, second = find(holder.setdefault(sha256, patient)), find(patient)
        if first != second:
            joined |= {holder[sha256], patient}
            parent[max(first, second)] = min(first, second)  # so that the group's name depends on no order
    if joined:
        notes.append(
            f"{counted(len(joined), 'patient')} (or images without one) share identical images and are kept together: "
            f"{listed(sorted(joined))}."
        )
    return np.array([find(patient) for patient in patients], dtype=object)


def _divide(
    labels: np.ndarray, groups: np.ndarray, wanted: dict[str, float], classes: tuple[str, ...], seed: int
) -> list[str]:
    """Deal groups to train and the wanted splits.

    Groups of mixed class come first, then large ones, then small ones, in an order that the seed shuffles within equal
    ones. Each goes to the split that lags furthest behind its share of the images of the group's classes: like
    systematic sampling over strata of class and size, so that large and small patients are found in every split in
    proportion (dealing by largest remaining need would leave the patients with many images all to train, and
    StratifiedGroupKFold knows no shares but 1/k).
    """
    splits = ("train", *wanted)
    shares = np.array([1 - sum(wanted.values()), *wanted.values()])
    sizes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes), dtype=np.int64))
    for group, label in zip(groups, labels, strict=True):
        sizes[group][label] += 1
    _check_enough(sizes.values(), splits, classes)

    largest = np.array(list(sizes.values())).max(axis=0)
    # A random start lets the largest patient of a class fall into any split, as likely as the shares say, and not
    # always into train; after that patient nothing is left of it.
    first = generator(seed, "split start").choice(len(splits), size=len(classes), p=shares)
    start = (np.eye(len(splits))[first] - shares).T * largest
    dealt = np.zeros((len(splits), len(classes)))
    seen = np.zeros(len(classes))
    order = sorted(
        sizes,
        key=lambda group: (
            -np.count_nonzero(sizes[group]),
            -sizes[group].sum(),
            tuple(-sizes[group]),
            derive_seed(seed, "split", group),
            group,
        ),
    )
    chosen: dict[str, int] = {}
    for group in order:
        lead = start * np.maximum(0, 1 - seen / largest)
        seen = seen + sizes[group]
        lag = (shares[:, None] * seen - dealt + lead) @ (sizes[group] / sizes[group].sum())
        chosen[group] = int(lag.argmax())
        dealt[chosen[group]] += sizes[group]
    _fill_gaps(chosen, order, sizes, splits, classes)
    return [splits[chosen[group]] for group in groups]


def _check_enough(sizes: Iterable[np.ndarray], splits: tuple[str, ...], classes: tuple[str, ...]) -> None:
    patients = sum((np.sign(size) for size in sizes), np.zeros(len(classes), dtype=np.int64))
    few = [
        f"'{label}' has {int(count)}"
        for label, count in zip(classes, patients, strict=True)
        if count < len(splits)
    ]
    if few:
        raise UserError(
            f"Too few patients to be in {', '.join(splits)}: class {', class '.join(few)}.",
            f"at least {len(splits)} patients of each class, one for each split.",
            "Add patients, leave a split out (split: {test: 0}), or, where images are each a patient's own, say "
            "'patient_pattern: none'.",
        )


def _fill_gaps(
    chosen: dict[str, int],
    order: list[str],
    sizes: dict[str, np.ndarray],
    splits: tuple[str, ...],
    classes: tuple[str, ...],
) -> None:
    """See that each split has a patient of each class, by moving the smallest that the others can spare."""
    held = np.zeros((len(splits), len(classes)), dtype=np.int64)
    for group, index in chosen.items():
        held[index] += np.sign(sizes[group])
    for index, label in zip(*np.nonzero(held == 0), strict=True):
        if held[index, label]:
            continue
        movable = (
            group
            for group in reversed(order)
            if sizes[group][label] and (held[chosen[group]][sizes[group] > 0] > 1).all()
        )
        group = next(movable, None)
        if group is None:
            raise UserError(
                f"The patients can't be divided so that {', '.join(splits)} all have class '{classes[label]}'.",
                "enough patients with images of one class only.",
                "Add patients, or leave a split out (split: {test: 0}).",
            )
        held[chosen[group]] -= np.sign(sizes[group])
        held[index] += np.sign(sizes[group])
        chosen[group] = int(index)


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
