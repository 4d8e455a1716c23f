"""Deal patients to the parts of a data set: joined where they share images, stratified by class and size, seeded."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from freezeframe.data.manifest import Manifest
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError
from freezeframe.seeds import derive_seed, generator

EMPTY_FILE = hashlib.sha256(b"").hexdigest()  # two files without content say nothing of each other


def group_patients(manifest: Manifest) -> tuple[np.ndarray, list[str]]:
    """Return a group for each row: patients, joined where they share an identical image.

    Returns
    -------
    groups : (N,) object array of str
        The group's name: its first patient's.
    notes : list of str
        Who was joined.
    """
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
        if sha256 == EMPTY_FILE:
            continue
        first, second = find(holder.setdefault(sha256, patient)), find(patient)
        if first != second:
            joined |= {holder[sha256], patient}
            parent[max(first, second)] = min(first, second)  # so that the group's name depends on no order
    notes = []
    if joined:
        notes.append(
            f"{counted(len(joined), 'patient')} (or images without one) share identical images and are kept together: "
            f"{listed(sorted(joined))}."
        )
    return np.array([find(patient) for patient in patients], dtype=object), notes


def deal(
    labels: np.ndarray,
    groups: np.ndarray,
    parts: dict[str, float],
    classes: tuple[str, ...],
    seed: int,
    *,
    purpose: str,
    remedy: str,
) -> list[str]:
    """Deal groups to parts.

    Groups of mixed class come first, then large ones, then small ones, in an order that the seed shuffles within equal
    ones. Each goes to the part that lags furthest behind its share of the images of the group's classes: like
    systematic sampling over strata of class and size, so that large and small patients are found in every part in
    proportion (dealing by largest remaining need would leave the patients with many images all to the largest part, and
    StratifiedGroupKFold knows no shares but 1/k).

    Parameters
    ----------
    labels : (N,) int64 array
        Class of each image.
    groups : (N,) object array of str
        As `group_patients` returns them.
    parts : dict of str to float
        Each part's share; they sum to 1.
    classes : tuple of str
        Names of the classes.
    seed : int
        What the order depends on.
    purpose : str
        What the seed is used for, so that two divisions by one seed are independent.
    remedy : str
        What to do where there are too few patients, for the message.

    Returns
    -------
    list of str
        The part of each image.

    Raises
    ------
    UserError
        If a class has too few patients to be in every part.
    """
    names = tuple(parts)
    shares = np.array(list(parts.values()))
    sizes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes), dtype=np.int64))
    for group, label in zip(groups, labels, strict=True):
        sizes[group][label] += 1
    _check_enough(sizes.values(), names, classes, remedy)

    largest = np.array(list(sizes.values())).max(axis=0)
    # A random start lets the largest patient of a class fall into any part, as likely as the shares say, and not
    # always into the first; after that patient nothing is left of it.
    first = generator(seed, f"{purpose} start").choice(len(names), size=len(classes), p=shares)
    start = (np.eye(len(names))[first] - shares).T * largest
    dealt = np.zeros((len(names), len(classes)))
    seen = np.zeros(len(classes))
    order = sorted(
        sizes,
        key=lambda group: (
            -np.count_nonzero(sizes[group]),
            -sizes[group].sum(),
            tuple(-sizes[group]),
            derive_seed(seed, purpose, group),
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
    _fill_gaps(chosen, order, sizes, names, classes, remedy)
    return [names[chosen[group]] for group in groups]


def _check_enough(
    sizes: Iterable[np.ndarray], names: tuple[str, ...], classes: tuple[str, ...], remedy: str
) -> None:
    patients = sum((np.sign(size) for size in sizes), np.zeros(len(classes), dtype=np.int64))
    few = [
        f"'{label}' has {int(count)}"
        for label, count in zip(classes, patients, strict=True)
        if count < len(names)
    ]
    if few:
        raise UserError(
            f"Too few patients to be in {', '.join(names)}: class {', class '.join(few)}.",
            f"at least {len(names)} patients of each class, one for each of them.",
            f"{remedy} Or, where images are each a patient's own, say 'patient_pattern: none'.",
        )


def _fill_gaps(
    chosen: dict[str, int],
    order: list[str],
    sizes: dict[str, np.ndarray],
    names: tuple[str, ...],
    classes: tuple[str, ...],
    remedy: str,
) -> None:
    """See that each part has a patient of each class, by moving the smallest that the others can spare."""
    held = np.zeros((len(names), len(classes)), dtype=np.int64)
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
                f"The patients can't be divided so that {', '.join(names)} all have class '{classes[label]}'.",
                "enough patients with images of one class only.",
                remedy,
            )
        held[chosen[group]] -= np.sign(sizes[group])
        held[index] += np.sign(sizes[group])
        chosen[group] = int(index)
