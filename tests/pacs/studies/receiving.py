"""Images that come at a time of the test's own."""

from pydicom.dataset import Dataset
from small_images import write
from sqlalchemy import select

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.studies.arrival import StudyHeader, arrived
from freezeframe.pacs.tables import Image, Job, Study


def receive(
    database: Database, configuration: NodeConfiguration, image: Dataset, at: float, source: str = "web"
) -> None:
    """Write an image and its row, as the keeper does."""
    place = f"images/{image.StudyInstanceUID}/{image.SOPInstanceUID}.dcm"
    path = write(configuration.folder / place, image)
    header = StudyHeader(
        image.StudyInstanceUID, image.Modality, image.get("PatientID", ""), str(image.get("PatientName", ""))
    )
    with database.transaction() as session:
        study_id = arrived(session, header, source, configuration.patience(source), at)
        session.add(
            Image(
                study_id=study_id,
                sop_instance_uid=image.SOPInstanceUID,
                sop_class_uid=image.SOPClassUID,
                series_uid=image.SeriesInstanceUID,
                transfer_syntax_uid=image.file_meta.TransferSyntaxUID,
                path=place,
                size=path.stat().st_size,
                sha256="0" * 64,
                source=source,
                received_at=at,
            )
        )


def the_study(database: Database) -> Study:
    """Return the only study."""
    with database.reading() as session:
        return session.scalars(select(Study)).one()


def the_jobs(database: Database) -> list[Job]:
    """Return all jobs in order."""
    with database.reading() as session:
        return list(session.scalars(select(Job).order_by(Job.version, Job.bundle)))
