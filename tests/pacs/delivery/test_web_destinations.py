"""STOW-RS and FHIR to servers that answer in all ways. (Orthanc's STOW-RS is in test_delivery_to_orthanc.)"""

import json
import re
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from certificates import Authority
from delivering import deliver_due
from outgoing import CLASSES, NOW, deliveries, node_of, object_uid, read_study, states
from pydicom import dcmread


class Server(ThreadingHTTPServer):
    """Keeps requests, and answers with what `answer(uids)` returns: status, content."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answer = lambda uids: (200, listed(uids))
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}/base"

    def handle_error(self, request, client_address) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = read_body(self)
        self.server.requests.append((self.path, dict(self.headers), body))
        status, content = self.server.answer(instance_uids(self.headers["Content-Type"], body))
        if status == 0:
            self.close_connection = True
            return
        encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *args) -> None:
        pass


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers["Content-Length"]))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def instance_uids(content_type: str, body: bytes) -> list[str]:
    if not content_type.startswith("multipart/related"):
        return []
    boundary = content_type.rpartition("boundary=")[2].encode()
    assert 'type="application/dicom"' in content_type
    assert body.endswith(b"--" + boundary + b"--\r\n")
    parts = body.split(b"--" + boundary)[1:-1]
    files = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
    return [str(dcmread(BytesIO(content)).SOPInstanceUID) for content in files]


def listed(stored=(), failed=(), warned=()):
    def item(uid, tag="", code=0):
        entry = {"00081155": {"vr": "UI", "Value": [uid]}}
        return entry | ({tag: {"vr": "US", "Value": [code]}} if tag else {})

    content = {}
    if stored or warned:
        good = [item(uid) for uid in stored] + [item(uid, "00081196", code) for uid, code in warned]
        content["00081199"] = {"vr": "SQ", "Value": good}
    if failed:
        content["00081198"] = {"vr": "SQ", "Value": [item(uid, "00081197", code) for uid, code in failed]}
    return content


@contextmanager
def serving(context: ssl.SSLContext | None = None):
    server = Server(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def web(server, **more):
    return {"kind": "dicomweb", "name": "web", "url": server.url, **more}


def fhir(server, **more):
    return {"kind": "fhir", "name": "fhir", "url": server.url, **more}


def test_the_objects_of_a_study_go_with_one_request(sqlite, tmp_path):
    with serving() as server:
        node = node_of(tmp_path, [web(server)])
        study_uid = read_study(sqlite, node, 1, kinds=list(CLASSES))
        assert deliver_due(sqlite, node, NOW) == 3
        ((path, headers, body),) = server.requests
        assert path == "/base/studies"
        assert headers["Accept"] == "application/dicom+json"
        for kind in CLASSES:
            assert (node.folder / "results" / study_uid / "1-default" / f"{kind}.dat").read_bytes() in body


def test_each_object_gets_what_the_answer_says_of_it(sqlite, tmp_path):
    with serving() as server:
        server.answer = lambda uids: (202, listed(failed=[(uids[0], 0xC122)], warned=[(uids[1], 0xB000)]))
        node = node_of(tmp_path, [web(server)])
        read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 1
        first, second = deliveries(sqlite)
        assert (first.state, first.reason) == ("waiting", "STOW-RS failure reason 0xC122")
        assert first.not_before == pytest.approx(NOW + 1000, abs=30)
        assert (second.state, second.reason) == ("done", "stored with warning 0xB000")


def test_a_conflict_of_what_is_there_already_is_no_failure(sqlite, tmp_path):
    with serving() as server:
        server.answer = lambda uids: (409, listed(failed=[(uid, 0x0111) for uid in uids]))
        node = node_of(tmp_path, [web(server)])
        read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 2
        assert {entry.reason for entry in deliveries(sqlite)} == {"it was there already"}


@pytest.mark.parametrize("content", [{}, [], b"", b"<html>stored</html>", listed(["1.2.3"])])
def test_an_object_that_the_answer_does_not_list_is_not_taken_for_stored(sqlite, tmp_path, content):
    with serving() as server:
        server.answer = lambda uids: (202, content)
        node = node_of(tmp_path, [web(server)])
        read_study(sqlite, node, 1)
        assert deliver_due(sqlite, node, NOW) == 0
        assert states(sqlite) == ["waiting"] * 2


def test_one_object_that_breaks_a_request_does_not_keep_the_others_back(sqlite, tmp_path):
    with serving() as server:
        node = node_of(tmp_path, [web(server)])
        study_uid = read_study(sqlite, node, 1)
        bad = object_uid(study_uid, 1, "sr")
        for broken in ((400, b""), (500, b""), (0, b"")):
            server.answer = lambda uids, broken=broken: broken if bad in uids else (200, listed(uids))
            deliver_due(sqlite, node, NOW)
            with sqlite.transaction() as session:
                session.merge(deliveries(sqlite)[0]).not_before = NOW
        read_study(sqlite, node, 2)
        for seconds in (100, 120):  # the server is left alone for ten seconds after it fell silent
            deliver_due(sqlite, node, NOW + seconds)
        assert states(sqlite) == ["waiting", "done", "done", "done"]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 503])
def test_these_answers_are_of_the_server_and_not_of_the_object(sqlite, tmp_path, status):
    with serving() as server:
        server.answer = lambda uids: (status, b"")
        node = node_of(tmp_path, [web(server)])
        for number in range(1, 4):
            read_study(sqlite, node, number)
        assert deliver_due(sqlite, node, NOW) == 0
        assert len(server.requests) == 1
        assert sum(entry.attempts for entry in deliveries(sqlite)) == 1
        server.answer = lambda uids: (200, listed(uids))
        assert deliver_due(sqlite, node, NOW + 20) == 6


def test_a_token_is_read_from_its_file_at_each_time(sqlite, tmp_path):
    token = tmp_path / "token"
    with serving() as server:
        for number, text in enumerate(("first\n", "second"), 1):
            token.write_text(text)
            node = node_of(tmp_path, [web(server, token_file=str(token))])
            read_study(sqlite, node, number)
            deliver_due(sqlite, node, NOW)
        assert [headers["Authorization"] for _, headers, _ in server.requests] == [
            "Bearer first",
            "Bearer second",
        ]


def test_over_tls_only_the_servers_of_the_authority_are_trusted(sqlite, tmp_path):
    authority = Authority(tmp_path / "certificates")
    signed = authority.sign("web")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(signed.certificate, signed.key)
    with serving(context) as server:
        read_study(sqlite, node_of(tmp_path, [fhir(server)]), 1, kinds=["fhir"])
        assert deliver_due(sqlite, node_of(tmp_path, [fhir(server)]), NOW) == 0
        assert server.requests == []
        node = node_of(tmp_path, [fhir(server, authority=str(authority.path))])
        assert deliver_due(sqlite, node, NOW + 20) == 1


def test_a_bundle_is_posted_to_the_base_as_it_is(sqlite, tmp_path):
    with serving() as server:
        server.answer = lambda uids: (200, {"entry": [{"response": {"status": "201 Created"}}]})
        node = node_of(tmp_path, [fhir(server)])
        study_uid = read_study(sqlite, node, 1, kinds=["fhir"])
        assert deliver_due(sqlite, node, NOW) == 1
        ((path, headers, body),) = server.requests
        assert (path, headers["Content-Type"]) == ("/base", "application/fhir+json")
        assert body == (node.folder / "results" / study_uid / "1-default" / "fhir.dat").read_bytes()


@pytest.mark.parametrize(
    ("answer", "reason", "wait"),
    [
        ((400, b"PHANTOM^0001 is wrong"), "HTTP status 400", 1000),
        ((422, b""), "HTTP status 422", 1000),
        ((500, b""), "HTTP status 500", 10),
        (
            (200, {"entry": [{"response": {"status": "412 no"}}]}),
            "an entry of the bundle has status 412",
            1000,
        ),
        ((0, b""), "no answer (RemoteProtocolError)", 10),
    ],
)
def test_a_bundle_that_is_not_taken_waits_as_long_as_makes_sense(sqlite, tmp_path, answer, reason, wait):
    with serving() as server:
        server.answer = lambda uids: answer
        node = node_of(tmp_path, [fhir(server)])
        read_study(sqlite, node, 1, kinds=["fhir"])
        assert deliver_due(sqlite, node, NOW) == 0
        (delivery,) = deliveries(sqlite)
        assert (delivery.state, delivery.reason) == ("waiting", reason)
        assert delivery.not_before == pytest.approx(NOW + wait, abs=5)
        assert not re.search("PHANTOM", delivery.reason)
