"""The tests' own PACS: reached from here, reaches us, and nobody else reaches it."""

import socket
import ssl

import httpx
import pytest
from certificates import Authority
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from freezeframe.pacs.trial.orthanc import DICOM_PORT, HTTP_PORT, ServerTls, orthanc


def echo(port: int, calling: str, called: str = "ORTHANC", context: ssl.SSLContext | None = None) -> bool:
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification)
    association = entity.associate(
        "127.0.0.1", port, ae_title=called, tls_args=(context, "127.0.0.1") if context else None
    )
    if not association.is_established:
        return False
    try:
        return association.send_c_echo().Status == 0
    finally:
        association.release()


@pytest.fixture
def echo_server():
    entity = AE(ae_title="NODE")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    yield server.server_address[1]
    server.shutdown()


def test_known_peers_reach_it_and_it_reaches_them_also_after_a_restart(tmp_path, echo_server):
    with orthanc(tmp_path, {"NODE": echo_server}) as pacs:
        assert echo(pacs.dicom_port, "NODE")
        assert not echo(pacs.dicom_port, "OTHER")
        assert not echo(pacs.dicom_port, "NODE", called="WRONG")
        pacs.rest("/modalities/NODE/echo", "POST", {})
        pacs.stop()
        assert not echo(pacs.dicom_port, "NODE")
        pacs.start()
        assert echo(pacs.dicom_port, "NODE")
        pacs.rest("/modalities/NODE/echo", "POST", {})


def test_its_own_ports_are_not_open_on_this_machine(tmp_path):
    with orthanc(tmp_path) as pacs:
        taken = {pacs.dicom_port, int(pacs.http_url.rpartition(":")[2])}
        for port in {DICOM_PORT, HTTP_PORT} - taken:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
        assert httpx.get(f"{pacs.http_url}/system", trust_env=False).status_code == 401


def test_over_tls_it_asks_for_a_certificate(tmp_path):
    authority = Authority(tmp_path / "certificates")
    server, client = authority.sign("pacs"), authority.sign("node")
    context = ssl.create_default_context(cafile=authority.path)
    stranger = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(client.certificate, client.key)
    tls = ServerTls(server.certificate, server.key, server.authority)
    with orthanc(tmp_path, {"NODE": 0}, tls=tls) as pacs:
        assert echo(pacs.dicom_port, "NODE", context=context)
        assert not echo(pacs.dicom_port, "NODE", context=stranger)
