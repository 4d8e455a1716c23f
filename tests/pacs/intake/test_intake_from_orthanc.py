"""A real Orthanc as the peer that sends, and that reports storage commitment."""

from dicom_files import write_image
from pydicom.dataset import Dataset
from pydicom.uid import UID, ComputedRadiographyImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel
from services import serving
from sqlalchemy import select
from waiting import eventually

from freezeframe.pacs.configuration import DicomDestination, Peer
from freezeframe.pacs.intake.header import read_header
from freezeframe.pacs.tables import Image
from freezeframe.pacs.trial.orthanc import orthanc


def test_orthanc_sends_images_and_reports_what_it_keeps(database, configuration, tmp_path):
    destination = DicomDestination(
        kind="dicom", name="archive", ae_title="ORTHANC", address="127.0.0.1", port=1, commitment=True
    )
    settings = {"peers": (Peer(name="orthanc", ae_titles=("ORTHANC",)),), "destinations": (destination,)}
    reports: list[tuple] = []
    with (
        serving(
            database,
            configuration.model_copy(update=settings),
            on_commitment=lambda *report: reports.append(report),
        ) as service,
        orthanc(tmp_path / "orthanc", {"FREEZEFRAME": service.port}) as pacs,
    ):
        films = [write_image(tmp_path / f"{number}.dcm", number, side=200) for number in (1, 2)]
        for film in films:
            pacs.rest("/instances", "POST", film.read_bytes())
        assert pacs.rest("/modalities/FREEZEFRAME/echo", "POST", {}) == {}
        sent = pacs.rest("/modalities/FREEZEFRAME/store", "POST", list(pacs.instances().values()))
        assert sent["FailedInstancesCount"] == 0
        with database.reading() as session:
            rows = {row.sop_instance_uid: row for row in session.scalars(select(Image))}
        assert set(rows) == {"2.25.4000.1", "2.25.4000.2"}
        for film in films:
            row = rows[read_header(film).sop_instance_uid]
            kept = configuration.folder / row.path
            assert (
                kept.read_bytes()[read_header(kept).start :] == film.read_bytes()[read_header(film).start :]
            )

        ae = AE("FREEZEFRAME")
        ae.add_requested_context(StorageCommitmentPushModel)
        association = ae.associate("127.0.0.1", pacs.dicom_port, ae_title="ORTHANC")
        request, known, unknown = Dataset(), Dataset(), Dataset()
        request.TransactionUID = "2.25.5000"
        for item, uid in ((known, "2.25.4000.1"), (unknown, "2.25.4000.99")):
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
                ComputedRadiographyImageStorage,
                UID(uid),
            )
        request.ReferencedSOPSequence = [known, unknown]
        instance = UID("1.2.840.10008.1.20.1.1")
        status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, instance)
        association.release()
        assert status.Status == 0
        eventually(lambda: reports)
    assert reports == [("2.25.5000", ["2.25.4000.1"], [("2.25.4000.99", 0x0112)])]
