"""A share of the training patients, as a learning curve needs them: nested, stratified, in several draws."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from freezeframe.data.dealing import group_patients
from freezeframe.data.manifest import Manifest
from freezeframe.data.wording import counted
from freezeframe.seeds import derive_seed


def keep_share(manifest: Manifest, share: float, draw: int, seed: int) -> Manifest:
    """Keep a share of the training patients; validation and test are left as they are.

    Patients who share an identical image count as one. At least one patient of each class is kept. In one draw the
    patients of a smaller share are among those of a larger one; each draw has an order of its own. It depends on the
    patients' names, not on the order of the rows.

    Parameters
    ----------
    manifest : Manifest
        With a split and a label in every row.
    share : float
        Of the training patients, in (0, 1].
    draw : int
        Which draw.
    seed : int
        Of the division.

    Returns
    -------
    Manifest
        Without the training images of the other patients; a note says how many there were.
    """
    training = np.flatnonzero((manifest.table["split"] == "train").to_numpy())
    subset = replace(manifest, table=manifest.table.iloc[training])
    groups, _ = group_patients(subset)
    core, order = _rank(groups, subset.labels(), derive_seed(seed, "share", draw))
    number = max(len(core), round(share * len(order)))
    used = set(order[:number])
    kept = np.ones(len(manifest), dtype=bool)
    kept[training] = [group in used for group in groups]
    note = (
        f"Training uses {number:,} of {counted(len(order), 'patient')} (train_share {share:g}, draw {draw}): "
        f"{int(kept[training].sum()):,} of {counted(len(training), 'image')}; the others are left out."
    )
    return replace(manifest, table=manifest.table[kept].reset_index(drop=True), notes=(*manifest.notes, note))


def _rank(groups: np.ndarray, labels: np.ndarray, seed: int) -> tuple[list[str], list[str]]:
    """Order the groups so that each beginning of the list has the classes in proportion.

    Within a class (or a mixture of classes) the order is random, and the classes are interleaved evenly, as a
    systematic sample takes them. The first groups, returned on their own too, have all classes between them.
    """
    classes_of: dict[str, set[int]] = defaultdict(set)
    for group, label in zip(groups.tolist(), labels.tolist(), strict=True):
        classes_of[group].add(label)
    strata: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for group, classes in classes_of.items():
        strata[tuple(sorted(classes))].append(group)
    places: dict[str, tuple[float, int, str]] = {}
    for members in strata.values():
        shuffled = sorted((derive_seed(seed, "order", group), group) for group in members)
        for rank, (chance, group) in enumerate(shuffled):
            places[group] = ((rank + 0.5) / len(shuffled), chance, group)
    order = sorted(places, key=places.__getitem__)
    core, covered = [], set()
    for group in order:
        if classes_of[group] - covered:
            core.append(group)
            covered |= classes_of[group]
    first = set(core)
    return core, core + [group for group in order if group not in first]
