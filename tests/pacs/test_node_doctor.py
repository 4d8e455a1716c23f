import http.server
import socket
import string
import sys
import threading
import time
from pathlib import Path

import pytest
from certificates import Authority
from node_rows import configuration
from pynetdicom import AE, evt

from freezeframe.pacs.database import open_database
from freezeframe.pacs.doctor import Finding, examine
from freezeframe.pacs.doctor_words import WORDS
from freezeframe.pacs.tables import User

sys.path.append(str(Path(__file__).parent.parent / "bundle"))
from making import make_bundle

PEER = {"name": "pacs", "ae_titles": ["PACS"]}
PLACES = {"kind": "dicom", "name": "archive", "ae_title": "ARCHIVE", "address": "127.0.0.1"}


def found(folder, **more) -> dict[str, Finding]:
    return {finding.key: finding for finding in examine(configuration(folder, **more))}


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_servers_on_loopback_are_fine(tmp_path):
    findings = found(tmp_path)
    assert findings["listens"].level == "ok"
    assert "listens-plain" not in findings


@pytest.mark.parametrize("server", ["dicom", "web"])
def test_a_server_beyond_loopback_without_tls_is_a_problem(tmp_path, server):
    finding = found(tmp_path, **{server: {"address": "0.0.0.0"}})["listens-plain"]
    assert finding.level == "problem"
    assert "0.0.0.0" in finding.sentence


def test_a_page_beyond_loopback_behind_a_proxy_is_a_warning_and_the_dicom_port_still_a_problem(tmp_path):
    server = {"address": "0.0.0.0"}
    findings = found(tmp_path, web={**server, "https": True}, dicom=server)
    assert findings["listens-behind-proxy"].level == "warning"
    assert "Web" in findings["listens-behind-proxy"].sentence
    assert "DICOM" in findings["listens-plain"].sentence


def test_nobody_may_associate_where_there_are_no_peers(tmp_path):
    assert found(tmp_path)["no-peers"].level == "warning"
    assert "no-peers" not in found(tmp_path, peers=[PEER])


@pytest.mark.parametrize(
    ("network", "key"),
    [("0.0.0.0/0", "peer-everywhere"), ("10.0.0.0/8", "peer-wide"), ("10.1.2.3", "peer-without-certificate")],
)
def test_peers_of_wide_networks_and_without_certificates_are_said(tmp_path, network, key):
    assert key in found(tmp_path, peers=[{**PEER, "networks": [network]}])


def test_a_peer_of_one_address_with_a_certificate_is_fine(tmp_path):
    peer = {**PEER, "networks": ["10.1.2.3"], "certificates": ["ab" * 32]}
    assert found(tmp_path, peers=[peer])["peer"].level == "ok"


def test_a_proxy_of_a_whole_network_is_said(tmp_path):
    assert found(tmp_path, web={"proxy": {"networks": ["0.0.0.0/0"]}})["proxy-wide"].level == "problem"
    assert "proxy-wide" not in found(tmp_path, web={"proxy": {"networks": ["127.0.0.1"]}})


def test_a_folder_that_others_may_read_is_a_problem(tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node").chmod(0o755)  # whatever the umask is
    assert found(tmp_path)["folder-open"].level == "problem"
    (tmp_path / "node").chmod(0o700)
    assert found(tmp_path)["folder"].level == "ok"


def test_keys_and_passwords_that_others_may_read_are_a_problem(tmp_path, closed_port):
    secret = tmp_path / "password"
    secret.write_text("phantom")
    secret.chmod(0o644)
    web = {
        "kind": "dicomweb", "name": "web", "url": f"http://127.0.0.1:{closed_port}", "user": "u",
        "password_file": str(secret),
    }  # fmt: skip
    assert found(tmp_path, destinations=[web])["secret-open"].level == "problem"
    secret.chmod(0o600)
    assert "secret-open" not in found(tmp_path, destinations=[web])
    secret.unlink()
    assert found(tmp_path, destinations=[web])["secret-missing"].level == "problem"


def test_a_bundle_that_opens_and_one_that_does_not(tmp_path):
    assert found(tmp_path)["bundle-broken"].level == "problem"
    make_bundle(tmp_path / "bundle")
    findings = found(tmp_path)
    assert findings["bundle"].level == "ok"
    assert findings["bundle-unsigned"].level == "warning"


def test_an_operating_point_that_the_bundle_has_not_is_a_problem(tmp_path):
    make_bundle(tmp_path / "bundle")
    bundle = {"path": str(tmp_path / "bundle"), "operating_point": "strict"}
    assert "youden" in found(tmp_path, bundles=[bundle])["operating-point"].action


def test_what_keeps_results_in_is_said(tmp_path):
    findings = found(tmp_path, shadow=True, retention={"image_days": None})
    assert {"shadow", "no-destinations", "retention-off"} <= set(findings)


def test_a_full_disk_is_a_problem(tmp_path):
    assert found(tmp_path, retention={"least_free_gigabytes": 1e9})["disk-little"].level == "problem"


def test_a_page_without_users_is_said(tmp_path):
    database = open_database(configuration(tmp_path))
    assert found(tmp_path)["no-users"].level == "warning"
    with database.transaction() as session:
        session.add(User(name="ana", role="reader", password_hash="x", created_at=0))
    assert found(tmp_path)["no-admin"].level == "warning"
    with database.transaction() as session:
        session.add(User(name="eva", role="admin", password_hash="x", created_at=0))
    database.close()
    assert found(tmp_path)["users"].level == "ok"


def test_a_database_that_does_not_answer_is_a_problem(tmp_path, closed_port):
    address = f"postgresql+pg8000://node@127.0.0.1:{closed_port}/node"
    assert found(tmp_path, database=address)["database-broken"].level == "problem"


def test_a_real_postgresql_answers(tmp_path, postgresql_port):
    address = f"postgresql+pg8000://node@127.0.0.1:{postgresql_port}/postgres"
    findings = found(tmp_path, database=address)
    assert findings["database"].level == "ok"
    assert "clock" not in findings


def test_a_destination_that_answers_c_echo_is_reachable(tmp_path):
    entity = AE("ARCHIVE")
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.require_called_aet = True
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0)]
    )
    try:
        place = {**PLACES, "port": server.server_address[1]}
        assert found(tmp_path, destinations=[place])["reachable"].level == "ok"
        wrong = found(tmp_path, destinations=[{**place, "ae_title": "OTHER"}])["unreachable"]
        assert "refused" in wrong.sentence
    finally:
        server.shutdown()


def test_destinations_that_are_down_are_a_problem_each(tmp_path, closed_port):
    destinations = [
        {**PLACES, "port": closed_port},
        {"kind": "hl7", "name": "ris", "address": "127.0.0.1", "port": closed_port},
        {"kind": "fhir", "name": "fhir", "url": f"http://127.0.0.1:{closed_port}/fhir"},
    ]
    findings = examine(configuration(tmp_path, destinations=destinations))
    down = [finding.sentence.split()[0] for finding in findings if finding.key == "unreachable"]
    assert down == ["archive", "ris", "fhir"]


def test_a_server_that_takes_and_says_nothing_does_not_hold_the_doctor_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        findings = found(tmp_path, destinations=[{**PLACES, "port": silent.getsockname()[1]}])
    assert findings["unreachable"].level == "problem"
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(("status", "key"), [(200, "reachable"), (401, "unreachable"), (503, "unreachable")])
def test_a_web_destination_is_asked_with_its_login(tmp_path, status, key):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    token = tmp_path / "token"
    token.write_text("secret\n")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        web = {"kind": "dicomweb", "name": "web", "url": url, "token_file": str(token)}
        findings = found(tmp_path, destinations=[web])
        server.shutdown()
        thread.join()
    assert key in findings
    assert asked == ["Bearer secret"]


def test_what_leaves_this_machine_unencrypted_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "freezeframe.pacs.doctor.ask_all", lambda _: []
    )  # nothing outside is called in a test
    far = [
        {**PLACES, "address": "192.0.2.1", "port": 104},
        {"kind": "fhir", "name": "fhir", "url": "http://192.0.2.2:8080/fhir"},
        {"kind": "fhir", "name": "safe", "url": "https://192.0.2.2/fhir"},
        {"kind": "fhir", "name": "near", "url": "http://localhost:1/fhir"},
    ]
    findings = examine(configuration(tmp_path, destinations=far))
    assert len([finding for finding in findings if finding.key == "sends-plain"]) == 2


def test_the_end_of_a_certificate_is_said_in_time(tmp_path):
    signed = Authority(tmp_path / "pem").sign("node")
    tls = {"certificate": str(signed.certificate), "key": str(signed.key), "authority": str(signed.authority)}
    made = configuration(tmp_path, dicom={"tls": tls})

    def keys(days: float) -> set[str]:
        return {finding.key for finding in examine(made, now=time.time() + days * 86400)}

    assert "certificate-ends" in keys(0)
    assert "certificate-ended" in keys(3)
    assert "certificate" in keys(-300)
    signed.certificate.write_text("no certificate")
    assert "certificate-broken" in keys(0)


def test_more_workers_than_memory_are_said(tmp_path):
    assert "memory" in found(tmp_path, limits={"workers": 1000, "memory_gigabytes": 64})


def test_problems_come_first(tmp_path):
    levels = [finding.level for finding in examine(configuration(tmp_path, dicom={"address": "0.0.0.0"}))]
    assert levels == sorted(levels, key=["problem", "warning", "ok"].index)


def test_the_doctor_speaks_spanish(tmp_path):
    findings = examine(configuration(tmp_path, results={"language": "es"}))
    assert any("escucha en 127.0.0.1" in finding.sentence for finding in findings)


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_have_the_same_values(key):
    def values(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, spanish = WORDS[key]["en"], WORDS[key]["es"]
    assert values(" ".join(english)) == values(" ".join(spanish))
