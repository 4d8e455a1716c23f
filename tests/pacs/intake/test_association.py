"""The DICOM service with real peers: dcmtk and pynetdicom."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from certificates import Authority
from dicom_files import make_image, write_image
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    DigitalXRayImageStorageForPresentation,
    StorageCommitmentPushModel,
    Verification,
)
from services import dcmtk, finished, serving
from sqlalchemy import select
from waiting import eventually

from freezeframe.pacs import database as database_module
from freezeframe.pacs.configuration import DicomDestination, Tls
from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake.header import read_header
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID
from freezeframe.pacs.tables import AuditEntry, Image, Refused
from freezeframe.pacs.watching.counters import REGISTRY
from freezeframe.pacs.watching.log import PatientFilter


@pytest.fixture
def service(database, configuration):
    with serving(database, configuration) as started:
        yield started


def stored(database) -> dict[str, Image]:
    with database.reading() as session:
        return {row.sop_instance_uid: row for row in session.scalars(select(Image))}


def associate(
    service, *classes, calling="PACS", called="FREEZEFRAME", syntax=ExplicitVRLittleEndian, **options
):
    ae = AE(calling)
    for entry in classes or (ComputedRadiographyImageStorage, Verification):
        ae.add_requested_context(entry, syntax)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    return ae.associate("127.0.0.1", service.port, ae_title=called, **options)


def store(association, data: Dataset) -> int:
    status = association.send_c_store(data)
    return status.Status


def sendable(number=1, **attributes) -> Dataset:
    data = make_image(number, **attributes)
    data.ensure_file_meta()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def rejection(service, calling="PACS", called="FREEZEFRAME") -> str:
    """Return what dcmtk says of a refused association (pynetdicom takes a quick refusal for an abort at times)."""
    code, output = finished(dcmtk("echoscu", service.port, calling=calling, called=called))
    assert code != 0
    return output


def send_folders(service, folders) -> list[tuple[int, str]]:
    return [finished(one) for one in [dcmtk("storescu", service.port, "+sd", folder) for folder in folders]]


def test_echo_is_answered(service):
    assert finished(dcmtk("echoscu", service.port))[0] == 0


@pytest.mark.parametrize("associations", [1, 4, 20])
def test_all_images_of_many_associations_are_kept_byte_for_byte(
    service, database, configuration, tmp_path, associations
):
    folders = [tmp_path / f"sender{index}" for index in range(associations)]
    films = {}
    for number in range(1, 41):
        path = write_image(folders[number % associations] / f"{number}.dcm", number, side=100)
        films[f"2.25.4000.{number}"] = path
    for code, output in send_folders(service, folders):
        assert code == 0, output
    rows = stored(database)
    assert rows.keys() == films.keys()
    for uid, path in films.items():
        kept = configuration.folder / rows[uid].path
        assert kept.read_bytes()[read_header(kept).start :] == path.read_bytes()[read_header(path).start :]
    assert not list((configuration.folder / "incoming").iterdir())


def test_what_was_received_stands_in_the_audit_trail_and_the_log_has_no_patient_data(
    service, database, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG, "freezeframe")
    write_image(tmp_path / "out" / "1.dcm", 1)
    send_folders(service, [tmp_path / "out"])
    service.stop()
    with database.reading() as session:
        [entry] = session.scalars(select(AuditEntry))
    assert (entry.who, entry.what, entry.target) == ("peer:pacs", "images received", "2.25.2000.1")
    logged = "\n".join(
        str(record.__dict__) for record in caplog.records if record.name.startswith("freezeframe")
    )
    assert "2.25.4000.1" in logged
    for secret in ("PHANTOM", "19700101", "A1", "P1"):
        assert f"'{secret}" not in logged


def test_the_same_image_is_acknowledged_and_other_bytes_are_refused_for_good(
    service, database, configuration
):
    association = associate(service)
    assert [store(association, sendable()) for _ in range(2)] == [0x0000, 0x0000]
    status = association.send_c_store(sendable(PatientID="ANOTHER"))
    assert (status.Status, status.ErrorComment) == (0xC111, "This SOP instance UID is known with other bytes")
    assert store(association, sendable(2)) == 0x0000
    association.release()
    assert set(stored(database)) == {"2.25.4000.1", "2.25.4000.2"}
    with database.reading() as session:
        assert [row.sop_instance_uid for row in session.scalars(select(Refused))] == ["2.25.4000.1"]


def test_compressed_images_stay_compressed_and_unreadable_compressions_are_not_accepted(
    service, database, tmp_path
):
    data = sendable(side=64)
    data.compress(JPEGLSLossless, generate_instance_uid=False)
    association = associate(service, syntax=JPEGLSLossless)
    assert store(association, data) == 0x0000
    association.release()
    assert stored(database)["2.25.4000.1"].transfer_syntax_uid == JPEGLSLossless
    association = associate(service, ComputedRadiographyImageStorage, syntax=MPEG2MPML)
    assert [context.abstract_syntax for context in association.rejected_contexts] == [
        ComputedRadiographyImageStorage
    ]
    assert not association.accepted_contexts


def test_implicit_representation_is_taken(service, database):
    association = associate(service, syntax=ImplicitVRLittleEndian)
    data = sendable()
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert store(association, data) == 0x0000
    association.release()
    assert stored(database)["2.25.4000.1"].transfer_syntax_uid == ImplicitVRLittleEndian


def test_reports_are_not_accepted_and_images_beside_them_are(service):
    association = associate(
        service, BasicTextSRStorage, CTImageStorage, DigitalXRayImageStorageForPresentation
    )
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    assert accepted == {CTImageStorage, DigitalXRayImageStorageForPresentation}
    assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert association.acceptor.maximum_length == 131072
    association.release()


def test_a_data_set_that_contradicts_its_command_is_refused(service, database):
    ae = AE("PACS")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", service.port, ae_title="FREEZEFRAME")

    # pynetdicom takes the command's UIDs from the data set, so it is changed while it is sent.
    def other_instance(event):
        event.message.command_set.AffectedSOPInstanceUID = "1.2.3"

    association.bind(evt.EVT_DIMSE_SENT, other_instance)
    assert store(association, sendable()) == 0xA900
    association.unbind(evt.EVT_DIMSE_SENT, other_instance)

    def other_class(event):
        event.message.command_set.AffectedSOPClassUID = CTImageStorage

    association.bind(evt.EVT_DIMSE_SENT, other_class)
    assert store(association, sendable()) == 0x0122
    association.unbind(evt.EVT_DIMSE_SENT, other_class)
    assert store(association, sendable()) == 0x0000
    association.release()
    assert set(stored(database)) == {"2.25.4000.1"}


def test_who_is_not_listed_is_refused_and_the_log_and_the_audit_trail_say_why(service, database, caplog):
    for _ in range(3):
        said = rejection(service, calling="STRANGER")
        assert "Rejected Permanent" in said
        assert "Calling AE Title Not Recognized" in said
    service.stop()
    record = next(entry for entry in caplog.records if entry.getMessage() == "association refused")
    assert record.__dict__["calling_ae"] == "STRANGER"
    PatientFilter().filter(record)  # as of the node's log
    assert record.__dict__["caller"] == "127.0.0.1"
    assert "add to peers" in record.__dict__["action"]
    with database.reading() as session:
        lines = [(line.who, line.what, line.outcome) for line in session.scalars(select(AuditEntry))]
    assert lines == [("ae:STRANGER", "association refused", "failure")]  # once, however often it tries


def test_another_called_title_is_refused(service):
    assert "Called AE Title Not Recognized" in rejection(service, called="SOMEBODY")


def test_a_peer_at_another_address_is_refused(database, configuration):
    elsewhere = configuration.peers[0].model_copy(update={"networks": ("10.0.0.0/8",)})
    with serving(database, configuration.model_copy(update={"peers": (elsewhere,)})) as service:
        assert "Calling AE Title Not Recognized" in rejection(service)


def test_who_may_only_echo_has_nothing_stored(service, database):
    association = associate(service, calling="PINGER")
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    assert association.send_c_echo().Status == 0
    association.release()
    assert stored(database) == {}


def test_more_associations_than_allowed_are_refused_for_the_time_being(database, configuration):
    with serving(database, configuration, maximum_associations=2) as service:
        held = [associate(service) for _ in range(2)]
        said = rejection(service)
        assert "Rejected Transient" in said
        assert "Local Limit Exceeded" in said
        held[0].release()
        eventually(lambda: finished(dcmtk("echoscu", service.port))[0] == 0)
        held[1].release()


def test_a_silent_association_is_ended(database, configuration):
    with serving(database, configuration, network_timeout=0.5) as service:
        association = associate(service)
        eventually(lambda: not association.is_established)


def test_a_sender_that_is_killed_in_the_middle_of_an_image_leaves_nothing_and_can_send_it_again(
    service, database, configuration, tmp_path
):
    write_image(tmp_path / "out" / "1.dcm", 1, side=3000)  # 18 MB
    sender = dcmtk("storescu", service.port, "+sd", tmp_path / "out")
    incoming = configuration.folder / "incoming"
    # Or it was too quick for us, and all of it came.
    eventually(lambda: list(incoming.iterdir()) or sender.poll() is not None)
    sender.kill()
    sender.communicate()
    eventually(lambda: not list(incoming.iterdir()))
    assert send_folders(service, [tmp_path / "out"])[0][0] == 0
    assert (configuration.folder / stored(database)["2.25.4000.1"].path).stat().st_size > 18_000_000


def test_a_locked_database_is_out_of_resources_and_a_retry_succeeds(monkeypatch, configuration):
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 0.3)
    database = open_database(configuration)
    with serving(database, configuration) as service:
        association = associate(service)
        with database.transaction() as session:
            session.connection()  # from here on it holds the only right to write
            assert store(association, sendable()) == 0xA700
        assert store(association, sendable()) == 0x0000
        association.release()
    database.close()


def test_too_little_free_space_is_out_of_resources(database, configuration):
    retention = configuration.retention.model_copy(update={"least_free_gigabytes": 1e9})
    with serving(database, configuration.model_copy(update={"retention": retention})) as service:
        association = associate(service)
        status = association.send_c_store(sendable())
        assert status.Status == 0xA700
        assert association.send_c_echo().Status == 0
        association.release()


def test_tls_with_client_certificates_lets_in_who_is_listed(database, configuration, tmp_path):
    authority = Authority(tmp_path / "authority")
    server, client, other = (authority.sign(name) for name in ("server", "client", "other"))
    stranger = Authority(tmp_path / "stranger", "stranger").sign("mallory")
    peer = configuration.peers[0].model_copy(update={"certificates": (client.sha256,)})
    tls = {"certificate": server.certificate, "key": server.key, "authority": server.authority}
    with serving(database, configuration.model_copy(update={"peers": (peer,)}), tls=Tls(**tls)) as service:
        write_image(tmp_path / "out" / "1.dcm", 1, side=400)

        def send(signed):
            options = ("+tls", signed.key, signed.certificate, "+cf", authority.path, "+sd", tmp_path / "out")
            return finished(dcmtk("storescu", service.port, *options))

        code, output = send(stranger)
        assert code != 0, output
        code, output = send(other)  # of the right authority, but not listed
        assert code != 0
        assert "Calling AE Title Not Recognized" in output
        assert finished(dcmtk("storescu", service.port, "+sd", tmp_path / "out"))[0] != 0  # without TLS
        assert stored(database) == {}
        code, output = send(client)
        assert code == 0, output
        assert set(stored(database)) == {"2.25.4000.1"}


def test_a_storage_commitment_report_of_a_destination_is_handed_on(database, configuration):
    destination = DicomDestination(
        kind="dicom", name="archive", ae_title="PACS", address="127.0.0.1", port=1, commitment=True
    )
    reports = []
    with serving(
        database,
        configuration.model_copy(update={"destinations": (destination,)}),
        on_commitment=lambda *report: reports.append(report),
    ) as service:
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        association = associate(service, StorageCommitmentPushModel, ext_neg=[role])
        report = Dataset()
        report.TransactionUID = "2.25.99"
        done, failed = Dataset(), Dataset()
        done.ReferencedSOPClassUID = failed.ReferencedSOPClassUID = CTImageStorage
        done.ReferencedSOPInstanceUID, failed.ReferencedSOPInstanceUID = "2.25.1", "2.25.2"
        failed.FailureReason = 0x0110
        report.ReferencedSOPSequence, report.FailedSOPSequence = [done], [failed]
        instance = "1.2.840.10008.1.20.1.1"
        status, _ = association.send_n_event_report(report, 2, StorageCommitmentPushModel, instance)
        assert status.Status == 0
        association.release()
        # Of a peer that is no such destination it is not even negotiated.
        other = associate(service, StorageCommitmentPushModel, Verification, calling="PINGER", ext_neg=[role])
        assert [context.abstract_syntax for context in other.accepted_contexts] == [Verification]
        other.release()
    assert reports == [("2.25.99", ["2.25.1"], [("2.25.2", 0x0110)])]


SERVICE = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from services import serving

configuration = NodeConfiguration.model_validate_json(Path(sys.argv[1]).read_text())
with serving(open_database(configuration), configuration) as service:
    print(service.port, flush=True)
    threading.Event().wait()
"""


def test_nothing_that_was_acknowledged_is_lost_when_the_service_is_killed(configuration, tmp_path):
    films = [write_image(tmp_path / "out" / f"{number}.dcm", number, side=200) for number in range(1, 31)]
    settings = tmp_path / "node.json"
    settings.write_text(configuration.model_dump_json())
    acknowledged: set[str] = set()
    for kill_after in (5, 12, None):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, settings, str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            sender = dcmtk("storescu", port, *films)
            assert sender.stdout is not None
            current, count = "", 0
            for line in sender.stdout:
                if "Sending file:" in line:
                    current = Path(line.rpartition(" ")[2].strip()).stem
                elif "Received Store Response (Success)" in line:
                    acknowledged.add(f"2.25.4000.{current}")
                    count += 1
                    if count == kill_after:
                        os.kill(process.pid, signal.SIGKILL)
            sender.wait(60)
        finally:
            process.kill()
            process.communicate()
        database = open_database(configuration)
        rows = stored(database)
        database.close()
        assert acknowledged <= rows.keys()
        for row in rows.values():
            path = configuration.folder / row.path
            assert path.stat().st_size == row.size
            assert read_header(path).sop_instance_uid == row.sop_instance_uid
    assert len(acknowledged) == 30


def test_stopping_ends_open_associations_and_the_port_is_free_again(database, configuration):
    with serving(database, configuration) as service:
        association = associate(service)
        port = service.port
        started = time.monotonic()
        service.stop()
        assert time.monotonic() - started < 20
        assert not any(thread.name == "dicom-association" for thread in threading.enumerate())
    association.abort()
    with serving(database, configuration, port=port) as again:
        assert finished(dcmtk("echoscu", again.port))[0] == 0


def test_dcmsend_which_negotiates_what_the_files_are_is_served(service, database, tmp_path):
    data = sendable(side=64)
    data.compress(JPEGLSLossless, generate_instance_uid=False)
    (tmp_path / "out").mkdir()
    data.save_as(tmp_path / "out" / "1.dcm", enforce_file_format=True)
    write_image(tmp_path / "out" / "2.dcm", 2, ImplicitVRLittleEndian)
    code, output = finished(dcmtk("dcmsend", service.port, "--decompress-never", "+sd", tmp_path / "out"))
    assert code == 0, output
    syntaxes = {uid: row.transfer_syntax_uid for uid, row in stored(database).items()}
    assert syntaxes == {"2.25.4000.1": JPEGLSLossless, "2.25.4000.2": ExplicitVRLittleEndian}


def test_what_happens_on_the_wire_is_counted(database, configuration, tmp_path):
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    names = (
        ("freezeframe_associations_total", {"peer": "pacs"}),
        ("freezeframe_refusals_total", {"where": "dicom", "reason": "association"}),
        ("freezeframe_store_seconds_count", {}),
    )
    before = [count(name, **labels) for name, labels in names]
    film = write_image(tmp_path / "film.dcm")
    with serving(database, configuration) as service:
        assert finished(dcmtk("storescu", service.port, film))[0] == 0
        assert finished(dcmtk("echoscu", service.port, calling="STRANGER"))[0] != 0
    after = [count(name, **labels) for name, labels in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
