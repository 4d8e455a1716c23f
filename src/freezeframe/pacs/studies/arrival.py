"""An image that came: its study is made or brought up to date, and its clock set."""

from dataclasses import dataclass, fields

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from freezeframe.pacs.configuration import Patience
from freezeframe.pacs.tables import RECEIVING, Study


@dataclass(frozen=True)
class StudyHeader:
    """What one image says of its study. The texts are cut to what the table holds.

    Attributes
    ----------
    study_uid : str
        Validated.
    modality : str
        Of this image, (0008,0060).
    """

    study_uid: str
    modality: str = ""
    patient_id: str = ""
    patient_name: str = ""
    patient_sex: str = ""
    patient_birth_date: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    description: str = ""


_DESCRIPTIVE = tuple(
    entry.name for entry in fields(StudyHeader) if entry.name not in ("study_uid", "modality")
)
_LENGTHS: dict[str, int] = {
    column.name: column.type.length  # type: ignore[attr-defined]
    for column in Study.__table__.c
    if column.name in (*_DESCRIPTIVE, "modalities")
}


def arrived(session: Session, header: StudyHeader, source: str, patience: Patience, now: float) -> int:
    """Note in the caller's transaction that a new image of a study came.

    The study is complete `patience.quiet_seconds` after its last image, and at the latest `patience.at_most_seconds`
    after the first of this version; an image after that opens it again for its next version. Two images that say
    different things of the study: the newer one that says anything counts. Call it once for each new image, not for
    one that was known.

    Parameters
    ----------
    session : Session
        Of the transaction that also writes the image's row.
    header : StudyHeader
        What the image says of its study.
    source : str
        Peer or source that it came from.
    patience : Patience
        Of that source.
    now : float
        Seconds since 1970.

    Returns
    -------
    int
        ``Study.id``.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    # The first images of a study may come at the same time in several transactions; one of them makes the row.
    session.execute(
        insert(Study)
        .values(
            study_uid=header.study_uid,
            source=source,
            state=RECEIVING,
            first_at=now,
            last_at=now,
            deadline=now,
        )
        .on_conflict_do_nothing(index_elements=["study_uid"])
    )
    # Read anew although the session may know the row: another transaction may have changed it before the lock.
    study = session.scalars(
        select(Study)
        .where(Study.study_uid == header.study_uid)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    newest = True
    if study.deadline is None:  # a new version begins
        study.first_at = study.last_at = now
    else:  # clocks of several machines may differ: an image that seems older than the last one sets nothing back
        newest = now >= study.last_at
        study.first_at, study.last_at = min(study.first_at, now), max(study.last_at, now)
    latest = study.first_at + patience.at_most_seconds
    if newest:
        study.source, study.deadline = source, min(study.last_at + patience.quiet_seconds, latest)
    elif study.deadline is not None:
        study.deadline = min(study.deadline, latest)
    _describe(study, header, newest)
    study.images += 1
    study.state, study.reason = RECEIVING, ""
    session.flush()
    return study.id


def _describe(study: Study, header: StudyHeader, newest: bool) -> None:
    for name in _DESCRIPTIVE:
        # PostgreSQL takes no NUL in a text, and no text longer than its column.
        value = getattr(header, name).replace("\0", "")[: _LENGTHS[name]]
        if value and (newest or not getattr(study, name)):
            setattr(study, name, value)
    known = set(filter(None, study.modalities.split("\\")))
    modality = header.modality.replace("\0", "")[:16]
    modalities = "\\".join(sorted(known | ({modality} if modality else set())))
    if len(modalities) <= _LENGTHS["modalities"]:
        study.modalities = modalities
