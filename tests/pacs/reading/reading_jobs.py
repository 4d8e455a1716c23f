"""Studies and jobs in a database, for tests of what reads them."""

from pathlib import Path
from typing import Any

from films import make, radiograph, write

from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import JOB_WAITING, WAITING, Image, Job, Study

NOW = 1_000_000.0
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"


def add_study(
    database: Database,
    number: int,
    paths: tuple[str, ...] = (),
    bundles: tuple[str, ...] = ("default",),
    uids: tuple[str, ...] = (),
    now: float = NOW,
    **fields: Any,
) -> list[int]:
    """Add a complete study of some images and its jobs, and return these."""
    uid = f"1.2.3.{number}"
    paths = paths or (f"images/{uid}/{uid}.1.dcm",)
    with database.transaction() as session:
        study = Study(
            study_uid=uid,
            source="web",
            state=WAITING,
            version=1,
            images=len(paths),
            first_at=now,
            last_at=now,
            patient_name=f"PHANTOM^{number:04d}",
        )
        session.add(study)
        session.flush()
        uids = uids or tuple(f"{uid}.{place}" for place in range(1, len(paths) + 1))
        for path, image_uid in zip(paths, uids, strict=True):
            session.add(
                Image(
                    study_id=study.id,
                    sop_instance_uid=image_uid,
                    sop_class_uid=SOP_CLASS,
                    series_uid=f"{uid}.0",
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    path=path,
                    size=1,
                    sha256="ab" * 32,
                    source="web",
                    received_at=now,
                )
            )
        jobs = [add_job(session, study, bundle, uids, now, **fields) for bundle in bundles]
        return [job.id for job in jobs]


def add_job(session: Any, study: Study, bundle: str, uids: Any, now: float = NOW, **fields: Any) -> Job:
    """Add a job of a study's version."""
    job = Job(
        **{
            "study_id": study.id,
            "version": study.version,
            "bundle": bundle,
            "rule": "all",
            "image_uids": list(uids),
            "priority": 5,
            "state": JOB_WAITING,
            "attempts": 0,
            "not_before": now,
            "created_at": now,
        }
        | fields
    )
    session.add(job)
    session.flush()
    return job


def add_film(database: Database, folder: Path, number: int, films: int = 1, **fields: Any) -> list[int]:
    """Add a study of real files, with UIDs that are its own, and return its jobs."""
    paths, uids = [], []
    for place in range(1, films + 1):
        uid = f"1.2.3.{number}.{place}"
        image = make(
            radiograph(100 * number + place),
            place,
            StudyInstanceUID=f"1.2.3.{number}",
            SeriesInstanceUID=f"1.2.3.{number}.0",
            SOPInstanceUID=uid,
        )
        paths.append(f"images/1.2.3.{number}/{uid}.dcm")
        uids.append(uid)
        write(image, folder / paths[-1])
    return add_study(database, number, tuple(paths), uids=tuple(uids), **fields)


def get(database: Database, job_id: int) -> tuple[Job, Study]:
    """Return a job and its study as they are now."""
    with database.reading() as session:
        job = session.get_one(Job, job_id)
        return job, session.get_one(Study, job.study_id)
