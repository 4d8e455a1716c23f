"""Results to a real PACS, by DIMSE and by DICOMweb, plain and with TLS."""

import threading
import time
from io import BytesIO

import pytest
from certificates import Authority
from delivering import deliver_due
from outgoing import NOW, deliveries, dicom, node_of, object_uid, read_study, states, study_state
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from freezeframe.pacs.database import open_database
from freezeframe.pacs.delivery.commitment import committed
from freezeframe.pacs.delivery.dicom_sender import COMMITMENT, read_report
from freezeframe.pacs.tables import DELIVERING, DONE
from freezeframe.pacs.trial.orthanc import ServerTls, orthanc

KINDS = ("sr", "sc", "gsps")


def data_set(content: bytes) -> bytes:
    """The bytes after the file meta information."""
    stream = BytesIO(content)
    meta = dcmread(stream, stop_before_pixels=True).file_meta
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return content[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


def assert_unchanged(pacs, node, study_uid):
    for kind in KINDS:
        made = (node.folder / "results" / study_uid / "1-default" / f"{kind}.dat").read_bytes()
        assert data_set(pacs.file(object_uid(study_uid, 1, kind))) == data_set(made)


@pytest.fixture
def database(tmp_path):
    opened = open_database(node_of(tmp_path / "node"))
    yield opened
    opened.close()


def test_by_dimse_the_data_sets_arrive_unchanged_and_the_study_is_done(tmp_path, database):
    with orthanc(tmp_path, {"FREEZEFRAME": 0}) as pacs:
        node = node_of(tmp_path / "node", [dicom("pacs", pacs.dicom_port)])
        study_uid = read_study(database, node, 1, kinds=KINDS)
        assert deliver_due(database, node, NOW) == 3
        assert states(database) == ["done"] * 3
        assert study_state(database, study_uid) == DONE
        assert_unchanged(pacs, node, study_uid)
        assert deliver_due(database, node, NOW + 1) == 0


def test_by_stow_rs_the_data_sets_arrive_unchanged(tmp_path, database):
    with orthanc(tmp_path) as pacs:
        (tmp_path / "password").write_text(f"{pacs.auth[1]}\n")
        web = {"kind": "dicomweb", "name": "web", "url": pacs.web_url, "user": pacs.auth[0]}
        node = node_of(tmp_path / "node", [web | {"password_file": str(tmp_path / "password")}])
        study_uid = read_study(database, node, 1, kinds=KINDS)
        assert deliver_due(database, node, NOW) == 3
        assert study_state(database, study_uid) == DONE
        assert_unchanged(pacs, node, study_uid)


def test_a_wrong_password_keeps_everything_waiting_until_it_is_mended(tmp_path, database):
    with orthanc(tmp_path) as pacs:
        (tmp_path / "password").write_text("wrong")
        web = {"kind": "dicomweb", "name": "web", "url": pacs.web_url, "user": pacs.auth[0]}
        node = node_of(tmp_path / "node", [web | {"password_file": str(tmp_path / "password")}])
        read_study(database, node, 1, kinds=KINDS)
        assert deliver_due(database, node, NOW) == 0
        assert {entry.reason for entry in deliveries(database)} == {"", "HTTP status 401"}
        (tmp_path / "password").write_text(pacs.auth[1])
        assert deliver_due(database, node, NOW + 11) == 3


def test_over_tls_with_client_certificates(tmp_path, database):
    authority = Authority(tmp_path / "certificates")
    server, client = authority.sign("pacs"), authority.sign("node")
    other = Authority(tmp_path / "others", "other").sign("stranger")
    tls = ServerTls(server.certificate, server.key, server.authority)
    with orthanc(tmp_path, {"FREEZEFRAME": 0}, tls=tls) as pacs:

        def node_with(certificate):
            files = {
                "certificate": certificate.certificate,
                "key": certificate.key,
                "authority": authority.path,
            }
            own = {name: str(path) for name, path in files.items()}
            return node_of(tmp_path / "node", [dicom("pacs", pacs.dicom_port, tls=own)])

        read_study(database, node_with(client), 1, kinds=KINDS)
        assert deliver_due(database, node_with(other), NOW) == 0
        assert deliver_due(database, node_with(client), NOW + 11) == 3
        assert len(pacs.instances()) == 3


def test_a_result_is_done_when_orthanc_has_committed_to_it(tmp_path, database):
    came = threading.Event()

    def take(event):
        committed(database, node, *read_report(event.event_information), NOW + 5)
        came.set()
        return 0x0000, None

    entity = AE(ae_title="FREEZEFRAME")
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        with orthanc(tmp_path, {"FREEZEFRAME": server.server_address[1]}) as pacs:
            node = node_of(tmp_path / "node", [dicom("pacs", pacs.dicom_port, commitment=True)])
            study_uid = read_study(database, node, 1)
            assert deliver_due(database, node, NOW) == 2
            assert came.wait(60)
            assert states(database) == ["done"] * 2
            assert study_state(database, study_uid) == DONE
    finally:
        server.shutdown()


def test_what_orthanc_has_lost_again_is_sent_again(tmp_path, database):
    reports = []

    def take(event):
        reports.append(read_report(event.event_information))
        return 0x0000, None

    entity = AE(ae_title="FREEZEFRAME")
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        with orthanc(tmp_path, {"FREEZEFRAME": server.server_address[1]}) as pacs:
            node = node_of(tmp_path / "node", [dicom("pacs", pacs.dicom_port, commitment=True)])
            study_uid = read_study(database, node, 1)
            deliver_due(database, node, NOW)
            assert wait_until(lambda: len(reports) == 1)
            for name in pacs.instances().values():
                pacs.rest(f"/instances/{name}", "DELETE")
            later = NOW + 400  # no result was noted in time: it is asked again
            deliver_due(database, node, later)
            assert wait_until(lambda: len(reports) == 2)
            committed(database, node, *reports[0], later)  # too late: that request was made again
            assert study_state(database, study_uid) == DELIVERING
            committed(database, node, *reports[1], later)
            assert states(database) == ["waiting"] * 2
            deliver_due(database, node, later + 1000)
            assert wait_until(lambda: len(reports) == 3)
            committed(database, node, *reports[2], later + 1000)
            assert study_state(database, study_uid) == DONE
            assert len(pacs.instances()) == 2
    finally:
        server.shutdown()


def test_a_pacs_that_was_down_gets_everything_once_when_it_is_back(tmp_path, database):
    with orthanc(tmp_path, {"FREEZEFRAME": 0}) as pacs:
        port = pacs.dicom_port
        node = node_of(tmp_path / "node", [dicom("pacs", port)])
        read_study(database, node, 1, kinds=KINDS)
        pacs.stop()
        assert deliver_due(database, node, NOW) == 0
        pacs.start()
        node = node_of(tmp_path / "node", [dicom("pacs", pacs.dicom_port)])
        assert deliver_due(database, node, NOW + 5) == 0  # it is left alone for ten seconds
        assert deliver_due(database, node, NOW + 11) == 3
        assert len(pacs.instances()) == 3


def wait_until(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
