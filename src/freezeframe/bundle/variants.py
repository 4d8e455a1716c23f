"""A bundle's int8 variant: the same folder with other graphs, and what that changes written into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe import files
from freezeframe.bundle import card, gate
from freezeframe.bundle.gate import Images, Side, Verdict
from freezeframe.bundle.quantise import calibrate
from freezeframe.bundle.runtime.contents import CONTENTS
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.preparing import Prepared, prepare
from freezeframe.bundle.runtime.seal import seal
from freezeframe.bundle.sensitivity import Chosen, choose
from freezeframe.bundle.staging import staged
from freezeframe.bundle.training_images import look_at
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.evaluation.assessment import Labelled
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.imaging.workers import map_images
from freezeframe.progress import progress, say
from freezeframe.seeds import generator

CALIBRATION, TRIED = 256, 128
"""Training images that the ranges come from, and others on which layers are tried."""
FEWEST = 16
AT_ONCE = 128
"""Prepared images in memory."""
SEED = 0
INT8 = "int8"
CARD, PARITY = "card.json", "parity.parquet"


@dataclass(frozen=True, eq=False)
class Asked:
    """Labelled images and a bundle's answers to them."""

    images: Images
    side: Side


def ask(bundle: Bundle, manifest: Manifest, positive: int, what: str) -> Asked:
    """Ask a bundle about the labelled images of a manifest, from their files.

    Images that can't be read are left out, and said.

    Parameters
    ----------
    bundle : Bundle
        Its classes are the manifest's, in any order.
    manifest : Manifest
        Of one split.
    positive : int
        Index of the positive class in the bundle's order.
    what : str
        What is being done, for the progress bar.
    """
    classes = bundle.contents.labels
    index = {label: number for number, label in enumerate(classes)}
    labels = np.array([index.get(label, -1) for label in manifest.table["label"]], dtype=np.int64)
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise UserError("No image has a label.", "labelled images, to compare variants on.")
    predictor = Predictor(bundle)
    answered: list[int] = []
    probabilities = []
    for part, prepared in _prepared(manifest, rows, predictor.preprocessings, what):
        answered += part
        probabilities.append(predictor.answer(prepared).probabilities)
    kept = np.array(answered)
    names = manifest.table["image"].to_numpy()[kept]
    points = {point.name: point.threshold() for point in bundle.contents.operating_points}
    return Asked(
        Images(names, labels[kept], manifest.patients()[kept], classes, positive),
        Side(np.concatenate(probabilities), points),
    )


def int8_bundle(
    source: Path,
    out: Path,
    manifest: Manifest,
    positive: int,
    limit: float = gate.LARGEST_LOSS,
) -> Verdict:
    """Write the int8 variant of a float32 bundle, and judge it on validation images.

    Ranges and layers are chosen on training images. What tells foreign images is fitted anew with the int8 graphs'
    features, the cards have what the variant was measured at, and a signature does not stay.

    Parameters
    ----------
    source : Path
        The float32 bundle.
    out : Path
        Folder of the variant, or ``NAME.ffb``; it is made whole or not at all.
    manifest : Manifest
        The images that the ensemble was trained on, with their splits.
    positive : int
        Index of the positive class.
    limit : float
        See `gate.Verdict`.

    Returns
    -------
    Verdict
        The variant is written also where it did not pass; its ``bundle.json`` says so.

    Raises
    ------
    UserError
        If there are too few images.
    """
    bundle = open_bundle(source)
    if any(member.kind != "float32" for member in bundle.contents.members):
        raise UserError(f"{source} is an int8 bundle.", "a float32 bundle.", "Give the one it was made from.")
    chosen = _quantise_members(bundle, manifest.subset("train"))
    validation = manifest.subset("validation")
    before = ask(bundle, validation, positive, "Asking the float32 bundle")
    with staged(out) as folder:
        _copy(bundle, folder, chosen)
        _fit_references(bundle, folder, chosen, manifest)
        _describe(bundle, folder, {})
        made = open_bundle(folder)
        after = ask(made, validation, positive, "Asking the int8 bundle")
        verdict = gate.judge(before.images, before.side, after.side, limit)
        left = {name: list(one.left) for name, one in chosen.items()}
        with files.atomic(folder / PARITY) as temporary:
            gate.side_by_side(before.images, before.side, after.side).to_parquet(temporary, index=False)
        _write_card(made, folder, manifest.subset("test"), positive, verdict)
        _describe(bundle, folder, verdict.to_dict() | {"layers_left_in_float32": left})
    return verdict


def _quantise_members(bundle: Bundle, training: Manifest) -> dict[str, Chosen]:
    chosen = {}
    rows = _stratified(training, CALIBRATION + TRIED)
    members = bundle.contents.members
    with progress("Quantising", len(members), "networks") as advance:
        for member in members:
            images = _normalised(training, rows, member.prepared_by())
            if len(images) < FEWEST:
                raise UserError(
                    f"{len(images)} training images can be read.",
                    f"{FEWEST} or more, to find the ranges of the activations.",
                    "Check that the images are still where they were at training.",
                )
            # At most as many of each, and two thirds for the ranges where there are fewer.
            split = min(CALIBRATION, 2 * len(images) // 3)
            calibrated = calibrate(bundle.read(member.graph), images[:split])
            chosen[member.name] = found = choose(calibrated, images[split:])
            say(
                f"{member.name}: {found.layers - len(found.left)} of {found.layers} layers in int8, logits off by "
                f"{100 * found.error:.1f} % of their spread."
            )
            advance(1)
    return chosen


def _stratified(manifest: Manifest, count: int) -> np.ndarray:
    """Draw rows so that any first part of them has the classes in the data set's proportions."""
    labels = manifest.labels()
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        order = generator(SEED, "calibration", int(label) + 1).permutation(len(own))
        place[own] = (order + 0.5) / len(own)
    return np.argsort(place, kind="stable")[:count]


def _prepared(
    manifest: Manifest, rows: np.ndarray, preprocessings: tuple[Preprocessing, ...], what: str
) -> Iterator[tuple[list[int], list[Prepared]]]:
    references = manifest.references()
    function = partial(prepare, preprocessings=preprocessings)
    part: list[int] = []
    prepared: list[Prepared] = []
    for place, result in map_images(function, [references[row] for row in rows], what):
        if isinstance(result, UnreadableImage):
            say(f"Left out: {result}")
            continue
        part.append(int(rows[place]))
        prepared.append(result)
        if len(part) == AT_ONCE:
            yield part, prepared
            part, prepared = [], []
    if part:
        yield part, prepared


def _normalised(manifest: Manifest, rows: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    found = [
        preprocessing.normalise(one.images[0][None])
        for _, prepared in _prepared(manifest, rows, (preprocessing,), "Preparing training images")
        for one in prepared
    ]
    return np.concatenate(found) if found else np.empty((0, 3, 1, 1), np.float32)


def _copy(bundle: Bundle, folder: Path, chosen: Mapping[str, Chosen]) -> None:
    graphs = {member.graph: chosen[member.name].model for member in bundle.contents.members}
    for name in bundle.checksums:
        if name not in (CONTENTS, PARITY):
            files.write_bytes(folder / name, graphs[name] if name in graphs else bundle.read(name))


def _fit_references(bundle: Bundle, folder: Path, chosen: Mapping[str, Chosen], manifest: Manifest) -> None:
    members = [member for member in bundle.contents.members if member.reference]
    if not members:
        return
    graphs = [chosen[member.name].model for member in members]
    found = look_at(manifest, graphs, [member.prepared_by() for member in members]).references
    for member, reference in zip(members, found, strict=True):
        # Where there are too few images now, the float32 graph's stays, whose features differ little.
        if reference is not None and member.reference is not None:
            files.write_bytes(folder / member.reference, reference)


def _describe(bundle: Bundle, folder: Path, int8: Mapping[str, Any]) -> None:
    contents = bundle.contents
    members = tuple(member.model_copy(update={"kind": "int8"}) for member in contents.members)
    described = contents.model_copy(
        update={"members": members, "parity": contents.parity | {"int8": dict(int8)}}
    )
    files.write_json(folder / CONTENTS, described.model_dump(mode="json"))
    seal(folder)


def _write_card(bundle: Bundle, folder: Path, test: Manifest, positive: int, verdict: Verdict) -> None:
    """Say in the cards what the variant does on test images; a bundle without cards gets none."""
    if not (folder / CARD).is_file():
        return
    measured = None
    if (test.labels() >= 0).any():
        asked = ask(bundle, test, positive, "Asking the int8 bundle about test images")
        images = asked.images
        labelled = Labelled(
            images.labels, images.patients, {INT8: asked.side.probabilities}, images.classes, images.positive
        )
        measured = {
            "split": "test",
            **card.measure(labelled, INT8, bundle.contents.operating_points, None),
        }
    described = files.read_json(folder / CARD)
    described["evaluation"] = measured
    described["parity"] = described["parity"] | {"int8": verdict.to_dict()}
    card.write_cards(folder, described)
