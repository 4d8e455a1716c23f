"""From a reading to its result: objects made and written, then everything stored in one transaction.

A kill before the transaction leaves files that nothing refers to; the next attempt makes the same ones. What a file is
called depends on its content, so a worker that was taken for dead can't change the files of the one that came after.
"""

import hashlib
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from freezeframe import files
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.outbox import enqueue
from freezeframe.pacs.reading import queue
from freezeframe.pacs.reading.findings import ImageReading, Model, StudyReading
from freezeframe.pacs.reading.queue import Claim
from freezeframe.pacs.reading.study_reader import results_folder
from freezeframe.pacs.results.making import make_objects
from freezeframe.pacs.tables import Result, ResultObject

SAME = 1e-3
"""How far probabilities of one image may lie apart on two machines, or in two encodings, and count as the same."""
_SUFFIXES = {"hl7": ".hl7", "fhir": ".json"}

_log = logging.getLogger(__name__)


def finish_reading(
    database: Database,
    configuration: NodeConfiguration,
    claim: Claim,
    reading: StudyReading,
    seconds: float,
    now: float,
) -> int | None:
    """Store what was read, and have it delivered.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Of the node.
    claim : Claim
        That the reading was made for.
    reading : StudyReading
        What was said.
    seconds : float
        That the reading took.
    now : float
        Seconds since 1970.

    Returns
    -------
    int or None
        The result. None where nothing new is stored: the claim was lost, a later version has come, or the study was
        read again and the bundle said the same.
    """
    with database.reading() as session:
        repeats = _says_the_same_as_before(session, claim, reading)
    objects = [] if repeats else _write_objects(configuration, claim, reading)
    with database.transaction() as session:
        if not queue.finish(session, claim, now):
            _log.info(
                "A reading was dropped: its claim was lost, or a later version has come.",
                extra={"study_uid": claim.study_uid, "job": claim.job_id},
            )
            return None
        if repeats:
            _log.info(
                "A study was read again, and the answer is the same.",
                extra={"study_uid": claim.study_uid, "job": claim.job_id},
            )
            return None
        result = _store(session, claim, reading, objects, seconds, now)
        enqueue(session, result, objects, configuration, now)
        return result.id


def _store(
    session: Session,
    claim: Claim,
    reading: StudyReading,
    objects: list[ResultObject],
    seconds: float,
    now: float,
) -> Result:
    # A later version with the same answer has a job, but no result of its own; so results, not jobs, are compared.
    session.execute(
        update(Result)
        .where(Result.study_id == claim.study_id, Result.bundle == claim.bundle)
        .values(current=False)
    )
    result = Result(
        job_id=claim.job_id,
        study_id=claim.study_id,
        version=claim.version,
        bundle=claim.bundle,
        bundle_name=reading.model.name,
        bundle_sha256=reading.model.sha256,
        outcome=reading.outcome,
        probability=reading.probability,
        current=True,
        reading=reading.to_dict(),
        created_at=now,
        seconds=seconds,
    )
    session.add(result)
    session.flush()
    for entry in objects:
        entry.result_id = result.id
    session.add_all(objects)
    session.flush()
    return result


def _write_objects(
    configuration: NodeConfiguration, claim: Claim, reading: StudyReading
) -> list[ResultObject]:
    folder = configuration.folder
    sources = {
        image.sop_instance_uid: folder / image.path
        for image in claim.images
        if image.path is not None and (folder / image.path).is_file()
    }
    heat_maps: dict[str, Path] = {}
    for image in reading.images:  # of an image's frames the one with the largest probability comes first
        if image.heat_map is not None:
            heat_maps.setdefault(image.sop_instance_uid, folder / image.heat_map)
    # The order's time, not the attempt's: each attempt makes the same bytes under the same UIDs.
    made = make_objects(reading, sources, heat_maps, configuration, claim.created_at)
    rows = []
    for one in made:
        digest = hashlib.sha256(one.content).hexdigest()
        path = results_folder(claim) / f"{one.kind}-{digest[:16]}{_SUFFIXES.get(one.kind, '.dcm')}"
        files.write_bytes(folder / path, one.content)
        rows.append(
            ResultObject(
                kind=one.kind,
                sop_class_uid=one.sop_class_uid,
                sop_instance_uid=one.sop_instance_uid,
                path=path.as_posix(),
                sha256=digest,
            )
        )
    return rows


def _says_the_same_as_before(session: Session, claim: Claim, reading: StudyReading) -> bool:
    """Tell whether the current result is an earlier version's of the same bundle and images, with the same answer."""
    before = session.scalar(
        select(Result).where(
            Result.study_id == claim.study_id,
            Result.bundle == claim.bundle,
            Result.current,
            Result.version < claim.version,
        )
    )
    if before is None or before.bundle_sha256 != reading.model.sha256:
        return False
    return _same(StudyReading.from_dict(before.reading), reading)


def _same(one: StudyReading, other: StudyReading) -> bool:
    return (
        _without_name(one.model) == _without_name(other.model)
        and one.outcome == other.outcome
        and sorted(one.unreadable) == sorted(other.unreadable)
        and len(one.images) == len(other.images)
        and all(map(_same_image, _in_order(one), _in_order(other)))
    )


def _without_name(model: Model) -> dict[str, Any]:
    # Results are compared with those of the same configured bundle; a reading of an earlier release does not name it.
    return {**asdict(model), "configured_as": ""}


def _in_order(reading: StudyReading) -> list[ImageReading]:
    return sorted(reading.images, key=lambda image: (image.sop_instance_uid, image.frame))


def _same_image(one: ImageReading, other: ImageReading) -> bool:
    return (
        (one.sop_instance_uid, one.frame, one.decision)
        == (other.sop_instance_uid, other.frame, other.decision)
        and {warning.key for warning in one.warnings} == {warning.key for warning in other.warnings}
        and all(
            math.isclose(one.probabilities[label], other.probabilities[label], rel_tol=0, abs_tol=SAME)
            for label in one.probabilities
        )
    )
