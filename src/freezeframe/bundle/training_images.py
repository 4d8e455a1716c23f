"""What the training images are like: their features in each member, their look, and what their headers say."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from freezeframe.bundle.reference import fit_reference
from freezeframe.bundle.runtime.contents import FEATURES, Intended
from freezeframe.bundle.runtime.header_checks import age_in_years
from freezeframe.bundle.runtime.pixel_facts import thumbnail
from freezeframe.bundle.runtime.preparing import Prepared, distinct, prepare
from freezeframe.bundle.runtime.sessions import open_session
from freezeframe.data.manifest import Manifest
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.imaging.workers import map_images
from freezeframe.seeds import generator

MOST_IMAGES = 2048
"""Of a split; the distribution of more is known no better."""
BATCH = 32
# A value that fewer images have, and ages beyond these quantiles, are rather mistakes of typing.
LEAST_SHARE = 0.01
AGE_QUANTILES = (0.005, 0.995)


@dataclass(frozen=True, eq=False)
class Seen:
    """What was found in the training images.

    Attributes
    ----------
    references : tuple of bytes or None
        For each member, see `freezeframe.bundle.reference.fit_reference`.
    intended : Intended
        From the headers of DICOM images; empty where there are none.
    with_header : int
        Number of training images with a DICOM header.
    """

    references: tuple[bytes | None, ...]
    intended: Intended
    with_header: int


def look_at(manifest: Manifest, graphs: Sequence[bytes], preprocessings: Sequence[Preprocessing]) -> Seen:
    """Run training and validation images through the exported graphs.

    Parameters
    ----------
    manifest : Manifest
        With its splits; images that were added for training alone are left out, and of more than `MOST_IMAGES` of a
        split a random part is taken.
    graphs : sequence of bytes
        Each member's ONNX model.
    preprocessings : sequence of Preprocessing
        Of each member.
    """
    sessions = [open_session(model, "onnxruntime", None) for model in graphs]
    kinds = distinct(preprocessings)
    places = [[kind.key() for kind in kinds].index(own.key()) for own in preprocessings]
    headers: list[Mapping[str, Any]] = []
    features: dict[str, list[list[np.ndarray]]] = {}
    looks: list[list[np.ndarray]] = [[] for _ in graphs]

    def take(split: str, batch: list[Prepared]) -> None:
        for member, (session, own, place) in enumerate(zip(sessions, preprocessings, places, strict=True)):
            inputs = np.concatenate([own.normalise(one.images[place][None]) for one in batch])
            features[split][member].append(session.run(inputs, (FEATURES,))[FEATURES])
            if split == "train":
                looks[member] += [thumbnail(one.images[place]) for one in batch]
        if split == "train":
            headers.extend(one.attributes for one in batch)

    for split in ("train", "validation"):
        features[split] = [[] for _ in graphs]
        references = _some(manifest, split).references()
        waiting: list[Prepared] = []
        function = partial(prepare, preprocessings=kinds)
        for _, outcome in map_images(function, references, f"Looking at {split} images"):
            if not isinstance(outcome, UnreadableImage):
                waiting.append(outcome)
            if len(waiting) == BATCH:
                take(split, waiting)
                waiting = []
        if waiting:
            take(split, waiting)
    found = []
    for member in range(len(graphs)):
        train, validation = (features[split][member] for split in ("train", "validation"))
        enough = train and validation
        found.append(
            fit_reference(np.concatenate(train), np.concatenate(validation), np.stack(looks[member]))
            if enough
            else None
        )
    return Seen(tuple(found), intended_from(headers), sum(1 for header in headers if header.get("Modality")))


def _some(manifest: Manifest, split: str) -> Manifest:
    kept = replace(manifest, table=manifest.table.loc[~manifest.added()].reset_index(drop=True)).subset(split)
    if len(kept) <= MOST_IMAGES:
        return kept
    rows = np.sort(generator(0, f"reference {split}").permutation(len(kept))[:MOST_IMAGES])
    return replace(kept, table=kept.table.iloc[rows].reset_index(drop=True))


def intended_from(headers: Sequence[Mapping[str, Any]]) -> Intended:
    """Read from DICOM headers what a model was trained on.

    Parameters
    ----------
    headers : sequence of mapping
        ``attributes`` of decoded images: DICOM keywords to text.

    Returns
    -------
    Intended
        Values that at least 1 % of the images that say one have, and the ages in whole years, without the outermost
        0.5 % on either side.

    Examples
    --------
    >>> intended_from([{"Modality": "DX", "PatientAge": "031Y"}, {"Modality": "DX", "PatientAge": "077Y"}, {}])
    Intended(modalities=('DX',), body_parts=(), views=(), ages=(31.0, 77.0))
    """
    values = {
        field: _common([str(header.get(keyword) or "").strip() for header in headers])
        for field, keyword in (
            ("modalities", "Modality"),
            ("body_parts", "BodyPartExamined"),
            ("views", "ViewPosition"),
        )
    }
    known = [age_in_years(str(header.get("PatientAge") or "")) for header in headers]
    years = [age[0] for age in known if age is not None]
    ages = None
    if years:
        youngest, oldest = np.quantile(years, AGE_QUANTILES)
        ages = (float(math.floor(youngest)), float(math.ceil(oldest)))
    return Intended(**values, ages=ages)


def _common(values: list[str]) -> tuple[str, ...]:
    counts = Counter(value.upper() for value in values if value)
    return tuple(sorted(value for value, count in counts.items() if count >= LEAST_SHARE * counts.total()))
