"""A node with what a few weeks leave in its database and folder: synthetic films, results, feedback, deliveries."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from scipy.ndimage import gaussian_filter, label

from freezeframe.bundle.runtime.sentences import InputWarning
from freezeframe.data.phantom import encode, plan
from freezeframe.data.phantom_machine import Shot, render
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.reading.findings import ImageReading, Model, Outcome, Region, StudyReading
from freezeframe.pacs.security.passwords import add_user
from freezeframe.pacs.tables import (
    DELIVERY_DONE,
    DELIVERY_WAITING,
    DONE,
    JOB_DONE,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    Cursor,
    Delivery,
    Feedback,
    Image,
    Job,
    Result,
    ResultObject,
    Study,
)
from freezeframe.pacs.watching.drift_signals import Signal

PASSWORDS = {
    "viewer-1": "three lamps by a window",
    "reader-1": "seven kites over a hill",
    "admin-1": "nine boats on the river",
}
CLASSES = ("normal", "pneumonia", "other")
THRESHOLD = 0.42
MEMBERS = ("lite0", "lite1", "lite2")
SHA256 = "3f9a1c2b" * 8
DAY = 86400.0
ROOT = "1.2.826.0.1.3680043.10.1443.7"
CARD_ROWS, CARD_COLUMNS = 300, 400
CARD_BOX = (240, 90, 320, 150)
"""Left, top, right and bottom of what is white on the test card, and hot on its heat map, in pixels."""


@dataclass
class SeededNode:
    """What the tests of the page need to know of the node."""

    database: Database
    configuration: NodeConfiguration
    now: float
    uids: dict[str, str] = field(default_factory=dict)
    """Name in the tests -> UID of a study."""


def seed(folder: Path, now: float, history: int = 60, **fields: Any) -> SeededNode:
    """Make the node.

    Parameters
    ----------
    folder : Path
        Of the node.
    now : float
        Newest studies came some minutes before.
    history : int
        Reviewed studies of the weeks before, without films.
    **fields
        Of the configuration.
    """
    configuration = NodeConfiguration.parse(
        {"folder": str(folder), "bundles": [{"path": str(folder / "bundle")}], "rules": [{"name": "chest"}]}
        | fields,
        "node.yaml",
    )
    node = SeededNode(open_database(configuration), configuration, now)
    for name, password in PASSWORDS.items():
        add_user(node.database, name, name.split("-")[0], password)
    _films(node)
    _unread(node)
    _card(node)
    _history(node, history)
    with node.database.transaction() as session:
        session.add(Cursor(name="drift", value=DRIFT, at=now))
    return node


SIGNALS = (
    Signal("default", "positive rate (own)", "within", 0.31, 0.18, 0.44, 0.3, 0.31, 200, 200),
    Signal("default", "input mean (own)", "within", 0.52, 0.38, 0.62, 0.47, 0.48, 200, 200),
    Signal("default", "scores (training)", "outside", 0.21, 0.0, 0.17, 0.28, 0.41, 200, 200, 1.79e9, True),
    Signal("default", "disagreement (own)", "collecting", None, None, None, None, None, 120, 500),
)
DRIFT: dict[str, Any] = {
    "signals": [asdict(signal) for signal in SIGNALS],
    "alarms": [
        {"key": signal.key, "since": signal.since, "detail": signal.sentence(), "signal": asdict(signal)}
        for signal in SIGNALS
        if signal.alarm
    ],
}


def _films(node: SeededNode) -> None:
    ill = [shot for shot in plan(30, 1) if shot.opacities][:3]
    well = [shot for shot in plan(30, 1) if not shot.opacities][:3]
    asked = (
        # name, film, probability, minutes ago, warnings, what the reader said
        ("urgent", ill[0], 0.957, 4, (), ""),
        ("second", ill[1], 0.712, 11, (InputWarning("view", "LL"), InputWarning("border", "0.61")), ""),
        ("reviewed", ill[2], 0.884, 52, (), "agree"),
        ("negative", well[0], 0.031, 7, (), ""),
        ("doubtful", well[1], 0.385, 26, (InputWarning("unlike"),), ""),
        ("corrected", well[2], 0.556, 95, (), "correct"),
    )
    for at, (name, shot, probability, minutes, warnings, said) in enumerate(asked):
        data = dcmread(io.BytesIO(encode(shot)))
        study = f"{ROOT}.{at + 1}"
        data.StudyInstanceUID, data.SOPInstanceUID = study, f"{study}.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.PatientID, data.PatientName = f"P{at + 1:04d}", f"PHANTOM^{at + 1:04d}"
        heat = _heat(shot)
        add_study(
            node, name, [data], node.now - 60 * minutes, [probability], [heat], warnings, said,
            deliveries=name != "second", description="Chest PA, synthetic",
        )  # fmt: skip
    # An older study of the patient of the first.
    data = dcmread(io.BytesIO(encode(replace(ill[0], opacities=()))))
    study = f"{ROOT}.20"
    data.StudyInstanceUID, data.SOPInstanceUID = study, f"{study}.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PatientID, data.PatientName, data.StudyDate = "P0001", "PHANTOM^0001", "20251114"
    add_study(
        node,
        "before",
        [data],
        node.now - 9 * DAY,
        [0.113],
        [None],
        (),
        "agree",
        description="Chest PA, synthetic",
    )


def _heat(shot: Shot) -> np.ndarray | None:
    """Where the opacities are: what the film has more than the same film without them."""
    if not shot.opacities:
        return None
    with_them, _ = render(shot)
    without, _ = render(replace(shot, opacities=()))
    spread = gaussian_filter(np.abs(with_them - without).astype(np.float32), min(with_them.shape) / 22)
    return np.rint(255 * spread / spread.max()).astype(np.uint8)


def _card(node: SeededNode) -> None:
    """A film that is black but for a box, with a heat map that is hot in the same box: to see whether they fit."""
    left, top, right, bottom = CARD_BOX
    pixels = np.full((CARD_ROWS, CARD_COLUMNS), 100, "<u2")
    pixels[top:bottom, left:right] = 3000
    half = np.zeros((CARD_ROWS // 2, CARD_COLUMNS // 2), np.uint8)
    half[top // 2 : bottom // 2, left // 2 : right // 2] = 255
    study = f"{ROOT}.30"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID = study, f"{study}.1", f"{study}.1.1"
    data.PatientID, data.Modality, data.StudyDate = "P0030", "DX", "20260101"
    data.PatientName = "PHANTOM^<script>alert(1)</script><img src=x onerror=alert(1)>"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth = "1500", "3000"
    data.PixelData = pixels.tobytes()
    add_study(
        node, "card", [data], node.now - 2 * DAY, [0.61], [half], (), "", description="<b>Test card</b>"
    )


def _unread(node: SeededNode) -> None:
    states = (
        ("receiving", "receiving", ""),
        ("waiting", "waiting", ""),
        ("reading", "reading", ""),
        ("ignored", "ignored", "No rule wants modality US."),
        ("quarantined", "quarantined", "The worker was stopped: more than 120 s. 4 attempts."),
    )
    with node.database.transaction() as session:
        for at, (name, state, reason) in enumerate(states):
            study = _study(node, name, f"{ROOT}.{40 + at}", node.now - 30 - 50 * at, state=state, version=0)
            study.reason, study.patient_id, study.patient_name = (
                reason,
                f"P{40 + at:04d}",
                f"PHANTOM^{40 + at:04d}",
            )
            session.add(study)
            session.flush()
            if state in ("waiting", "reading", "quarantined"):
                is_out = state == QUARANTINED
                session.add(
                    Job(
                        study_id=study.id, version=1, bundle="default", rule="chest", image_uids=[], priority=5,
                        state=JOB_QUARANTINED if is_out else JOB_WAITING, attempts=4 if is_out else 0,
                        not_before=node.now, created_at=node.now - 60, reason=reason,
                    )
                )  # fmt: skip
    refused = _study(node, "refused", f"{ROOT}.50", node.now - 1500, state=DONE, version=1)
    refused.patient_id, refused.patient_name = "P0050", "PHANTOM^0050"
    reading = _reading(refused.study_uid, (), (("1.2.3", "The pixels are cut off."),))
    with node.database.transaction() as session:
        session.add(refused)
        session.flush()
        _result(session, refused, reading, node.now - 1490)


def _history(node: SeededNode, count: int) -> None:
    """Reviewed studies of the last weeks."""
    random = np.random.default_rng(5)
    with node.database.transaction() as session:
        for at in range(count):
            when = node.now - DAY * (1 + 80 * (1 - (at / count) ** 0.8))
            ill = random.random() < 0.35
            probability = float(np.clip(random.beta(6, 2.2) if ill else random.beta(1.4, 6), 0.001, 0.999))
            study = _study(node, f"history-{at}", f"{ROOT}.{1000 + at}", when, state=DONE, version=1)
            study.patient_id, study.patient_name = f"P{1000 + at}", f"PHANTOM^{1000 + at}"
            session.add(study)
            session.flush()
            image = _image_reading(f"{study.study_uid}.1.1", 600, 500, probability, None, ())
            result = _result(
                session, study, _reading(study.study_uid, (image,), ()), when + float(random.gamma(4, 6))
            )
            if random.random() < 0.8:
                right = ill == (probability >= THRESHOLD)
                right_class = "" if right else ("pneumonia" if ill else "normal")
                verdict = "agree" if right else "correct"
                session.add(
                    Feedback(
                        result_id=result.id,
                        user="reader-1",
                        verdict=verdict,
                        label=right_class,
                        at=when + 3600,
                    )
                )


def add_study(
    node: SeededNode,
    name: str,
    films: Sequence[Dataset],
    at: float,
    probabilities: Sequence[float],
    heats: Sequence[np.ndarray | None],
    warnings: tuple[InputWarning, ...],
    said: str,
    deliveries: bool = True,
    description: str = "",
) -> None:
    """Add a study with its films, a result and what follows from it."""
    uid = str(films[0].StudyInstanceUID)
    study = _study(node, name, uid, at, state=DONE, version=1)
    study.patient_id, study.patient_name = str(films[0].PatientID), str(films[0].PatientName)
    study.study_date, study.description, study.images = str(films[0].StudyDate), description, len(films)
    readings = []
    with node.database.transaction() as session:
        session.add(study)
        session.flush()
        for film, probability, heat in zip(films, probabilities, heats, strict=True):
            _keep(node, session, study, film, at)
            path = None
            if heat is not None:
                path = f"results/{uid}/1/{film.SOPInstanceUID}-0.png"
                target = node.configuration.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                Picture.fromarray(heat).save(target)
            reading = _image_reading(
                str(film.SOPInstanceUID), int(film.Rows), int(film.Columns), probability, path, warnings
            )
            readings.append(replace(reading, region=_region(heat, int(film.Rows), int(film.Columns))))
        result = _result(session, study, _reading(uid, tuple(readings), ()), at + 14)
        if said:
            right_class = "other" if said == "correct" else ""
            remark = "Atelectasis, no consolidation." if said == "correct" else ""
            session.add(
                Feedback(
                    result_id=result.id,
                    user="reader-1",
                    verdict=said,
                    label=right_class,
                    remark=remark,
                    at=at + 600,
                )
            )
        for kind in ("sr", "sc"):
            made = ResultObject(
                result_id=result.id, kind=kind, sop_instance_uid=f"{uid}.9.{1 + (kind == 'sc')}",
                path=f"results/{uid}/1/{kind}.dcm", sha256=SHA256,
            )  # fmt: skip
            session.add(made)
            session.flush()
            done = deliveries or kind == "sr"
            session.add(
                Delivery(
                    object_id=made.id, destination="pacs", priority=5, not_before=at,
                    state=DELIVERY_DONE if done else DELIVERY_WAITING, attempts=1 if done else 3,
                    done_at=at + 20 if done else None, reason="" if done else "The connection was refused.",
                )
            )  # fmt: skip


def _keep(node: SeededNode, session: Any, study: Study, film: Dataset, at: float) -> None:
    path = f"images/{study.study_uid}/{film.SOPInstanceUID}.dcm"
    target = node.configuration.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
    film.save_as(target, enforce_file_format=True)
    content = target.read_bytes()
    session.add(
        Image(
            study_id=study.id, sop_instance_uid=str(film.SOPInstanceUID), sop_class_uid=str(film.SOPClassUID),
            series_uid=str(film.SeriesInstanceUID), transfer_syntax_uid=str(film.file_meta.TransferSyntaxUID),
            path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest(), source="xray-room",
            calling_ae="XRAY1", received_at=at,
        )
    )  # fmt: skip


def _study(node: SeededNode, name: str, uid: str, at: float, state: str, version: int) -> Study:
    node.uids[name] = uid
    return Study(
        study_uid=uid, source="xray-room", state=state, version=version, images=1, first_at=at - 5, last_at=at,
        modalities="DX", study_date="20260101", study_time="101500", accession_number=f"SYN{uid.rsplit('.')[-1]:0>6}",
    )  # fmt: skip


def _image_reading(
    uid: str,
    rows: int,
    columns: int,
    probability: float,
    heat: str | None,
    warnings: tuple[InputWarning, ...],
) -> ImageReading:
    def shares(value: float) -> dict[str, float]:
        rest = 1 - value
        return {"normal": 0.8 * rest, "pneumonia": value, "other": 0.2 * rest}

    spreads = (0.93, 1.0, 1.04)
    members = {
        member: shares(min(0.999, probability * by)) for member, by in zip(MEMBERS, spreads, strict=True)
    }
    positive = probability >= THRESHOLD
    return ImageReading(
        sop_instance_uid=uid, sop_class_uid=DigitalXRayImageStorageForPresentation, series_uid=f"{uid}.0", frame=0,
        rows=rows, columns=columns, probabilities=shares(probability), calibrated=shares(probability),
        members=members, decision="pneumonia" if positive else "normal", positive=positive,
        spread=0.047 * probability, warnings=warnings, distance=0.8, heat_map=heat, region=None, inputs={},
    )  # fmt: skip


def _region(heat: np.ndarray | None, rows: int, columns: int) -> Region | None:
    """The box around the hottest spot."""
    if heat is None:
        return None
    height, width = heat.shape
    spots, _ = label(heat > 0.6 * heat.max())
    hottest = np.argwhere(spots == spots.flat[heat.argmax()])
    (top, left), (bottom, right) = hottest.min(axis=0), hottest.max(axis=0) + 1
    x, y = columns / width, rows / height
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return Region(tuple((float(column * x), float(row * y)) for column, row in corners))


def _reading(
    uid: str, images: tuple[ImageReading, ...], unreadable: tuple[tuple[str, str], ...]
) -> StudyReading:
    classes = tuple({"label": label, "code": None} for label in CLASSES)
    model = Model(
        "pneumonia-three",
        SHA256,
        "0.1.0",
        len(MEMBERS),
        classes,
        "pneumonia",
        "screening",
        THRESHOLD,
        0.94,
        0.89,
    )
    outcome: Outcome = "refused"
    if images:
        outcome = "positive" if any(image.positive for image in images) else "negative"
    probability = max((image.probabilities["pneumonia"] for image in images), default=None)
    return StudyReading(uid, 1, model, images, unreadable, outcome, probability)


def _result(session: Any, study: Study, reading: StudyReading, at: float) -> Result:
    job = Job(
        study_id=study.id, version=1, bundle="default", rule="chest",
        image_uids=[image.sop_instance_uid for image in reading.images], priority=5, state=JOB_DONE, attempts=1,
        not_before=at, created_at=at - 2, finished_at=at,
    )  # fmt: skip
    session.add(job)
    session.flush()
    result = Result(
        job_id=job.id, study_id=study.id, version=1, bundle="default", bundle_name=reading.model.name,
        bundle_sha256=SHA256, outcome=reading.outcome, probability=reading.probability, current=True,
        reading=reading.to_dict(), created_at=at, seconds=1.8,
    )  # fmt: skip
    session.add(result)
    session.flush()
    return result
