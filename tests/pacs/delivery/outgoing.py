"""Studies with results that wait to be delivered, as reading leaves them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select

from freezeframe.pacs import uids
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.outbox import enqueue
from freezeframe.pacs.tables import DELIVERING, JOB_DONE, Delivery, Image, Job, Result, ResultObject, Study

NOW = 1_800_000_000.0
CLASSES = {
    "sr": "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "sc": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image
    "gsps": "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
}


def dicom(name: str, port: int, ae_title: str = "ORTHANC", **more: Any) -> dict[str, Any]:
    return {
        "kind": "dicom",
        "name": name,
        "ae_title": ae_title,
        "address": "127.0.0.1",
        "port": port,
        **more,
    }


def node_of(folder: Path, destinations: Sequence[dict[str, Any]] = (), **more: Any) -> NodeConfiguration:
    plain = {
        "folder": str(folder),
        "bundles": [{"path": str(folder)}],
        "rules": [{"name": "all"}],
        "destinations": list(destinations),
        "limits": {"first_wait": 10, "longest_wait": 1000},
        **more,
    }
    return NodeConfiguration.parse(plain, "test")


def read_study(
    database: Database,
    configuration: NodeConfiguration,
    number: int,
    outcome: str = "positive",
    kinds: Sequence[str] = ("sr", "sc"),
    version: int = 1,
    now: float = NOW,
    state: str = DELIVERING,
    padding: int = 0,
) -> str:
    """Store a study (or a further version of it) with its result's objects in the outbox; return its UID."""
    study_uid = f"1.2.826.0.1.3680043.10.{number}"
    files = [_file(configuration.folder, study_uid, version, kind, padding) for kind in kinds]
    with database.transaction() as session:
        study = session.scalar(select(Study).where(Study.study_uid == study_uid))
        if study is None:
            study = Study(
                study_uid=study_uid, patient_id=f"P{number:04d}", patient_name=f"PHANTOM^{number:04d}", source="web",
                state=state, version=version, images=1, first_at=now, last_at=now,
            )  # fmt: skip
            session.add(study)
            session.flush()
            path = f"images/{study_uid}/{study_uid}.1.dcm"
            session.add(
                Image(
                    study_id=study.id, sop_instance_uid=f"{study_uid}.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                    series_uid=f"{study_uid}.0", transfer_syntax_uid="1.2.840.10008.1.2.1", path=path, size=5,
                    sha256="ab" * 32, source="web", received_at=now,
                )
            )  # fmt: skip
            image = configuration.folder / path
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"image")
        study.state, study.version = state, version
        job = Job(
            study_id=study.id, version=version, bundle="default", rule="all", image_uids=[f"{study_uid}.1"],
            priority=5, state=JOB_DONE, not_before=now, created_at=now, finished_at=now,
        )  # fmt: skip
        session.add(job)
        for older in session.scalars(select(Result).where(Result.study_id == study.id)):
            older.current = False
        session.flush()
        result = Result(
            job_id=job.id, study_id=study.id, version=version, bundle="default", bundle_name="small",
            bundle_sha256="cd" * 32, outcome=outcome, probability=0.9, current=True, reading={}, created_at=now,
            seconds=1.0,
        )  # fmt: skip
        session.add(result)
        session.flush()
        objects = [
            ResultObject(
                result_id=result.id,
                kind=kind,
                sop_class_uid=CLASSES.get(kind, ""),
                sop_instance_uid=object_uid(study_uid, version, kind) if kind in CLASSES else "",
                path=str(path.relative_to(configuration.folder)),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for kind, path in zip(kinds, files, strict=True)
        ]
        session.add_all(objects)
        enqueue(session, result, objects, configuration, now)
    return study_uid


def object_uid(study_uid: str, version: int, kind: str) -> str:
    return uids.derived("2.25", study_uid, version, kind)


def deliveries(database: Database) -> list[Delivery]:
    with database.reading() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def states(database: Database) -> list[str]:
    return [delivery.state for delivery in deliveries(database)]


def study_state(database: Database, study_uid: str) -> str:
    with database.reading() as session:
        return session.scalars(select(Study.state).where(Study.study_uid == study_uid)).one()


def _file(root: Path, study_uid: str, version: int, kind: str, padding: int) -> Path:
    path = root / "results" / study_uid / f"{version}-default" / f"{kind}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in CLASSES:
        _write_dicom(path, study_uid, version, kind, padding)
    elif kind == "hl7":
        segments = [
            f"MSH|^~\\&|FREEZEFRAME||||20260101000000||ORU^R01^ORU_R01|{control_id(study_uid, version)}|P|2.5.1",
            "PID|1||P0001||PHANTOM^0001",
            "OBX|1|NM|||0.9||||||P",
        ]
        path.write_bytes("".join(f"{segment}\r" for segment in segments).encode())
    else:
        path.write_text(f'{{"resourceType": "Bundle", "type": "transaction", "id": "{study_uid}-{version}"}}')
    return path


def control_id(study_uid: str, version: int) -> str:
    return hashlib.sha256(f"{study_uid} {version}".encode()).hexdigest()[:20]


def _write_dicom(path: Path, study_uid: str, version: int, kind: str, padding: int) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CLASSES[kind]
    meta.MediaStorageSOPInstanceUID = object_uid(study_uid, version, kind)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = study_uid, f"{meta.MediaStorageSOPInstanceUID[:50]}.9"
    made.PatientName, made.PatientID = "PHANTÔME^Übung", "P0001"
    made.StudyDate = made.StudyTime = made.AccessionNumber = made.StudyID = ""
    made.PatientBirthDate = made.PatientSex = made.ReferringPhysicianName = ""
    made.Modality = {"sr": "SR", "sc": "OT", "gsps": "PR"}[kind]
    made.SeriesNumber, made.InstanceNumber = 901, version
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99FREEZEFRAME", "phantom"
    made.ConceptNameCodeSequence = [item]
    inner, outer = Dataset(), Dataset()
    inner.ValueType, inner.TextValue, inner.ConceptNameCodeSequence = "TEXT", "Übung " * 300, [item]
    outer.ValueType, outer.ContentSequence = "CONTAINER", [inner, inner]
    made.ContentSequence = [outer]
    made.private_block(0x0099, "FREEZEFRAME", create=True).add_new(1, "FD", [0.1, 0.9])
    if kind == "sc":
        pixels = np.random.default_rng(version).integers(0, 256, (64, 48, 3), dtype=np.uint8)
        made.Rows, made.Columns, made.SamplesPerPixel, made.PlanarConfiguration = 64, 48, 3, 0
        made.PhotometricInterpretation = "RGB"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation, made.ConversionType = 7, 0, "SYN"
        made.PixelData = pixels.tobytes()
    if padding:
        made.add_new(0xFFFCFFFC, "OB", b"\0" * padding)  # Data Set Trailing Padding
    dcmwrite(path, made, enforce_file_format=True)
