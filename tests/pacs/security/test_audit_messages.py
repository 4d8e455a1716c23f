import base64
import re
import socket
import ssl
import threading
import time
from datetime import datetime
from xml.etree import ElementTree

import pytest
from certificates import Authority, Signed
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.pacs.configuration import Audit, NodeConfiguration
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.audit_messages import message
from freezeframe.pacs.security.syslog import Forwarder, syslog_message
from freezeframe.pacs.tables import AuditEntry

EVERYTHING = sorted(value for name, value in vars(audit).items() if name.isupper() and isinstance(value, str))

# The schema of PS3.15, section A.5.1, as far as these messages use it: attributes that must be (True) or may be there
# with what they may be, and children in order with how often.
TOKEN, CODED = (
    r"\S(.*\S)?",
    ({"csd-code": True, "codeSystemName": True, "originalText": True, "displayName": False}, ()),
)
ATTRIBUTES = {
    "EventActionCode": "[CRUDE]",
    "EventOutcomeIndicator": "0|4|8|12",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
}
SCHEMA = {
    "AuditMessage": (
        {},
        (
            ("EventIdentification", 1, 1), ("ActiveParticipant", 1, 99), ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, 99),
        ),
    ),
    "EventIdentification": (
        {"EventActionCode": False, "EventDateTime": True, "EventOutcomeIndicator": True},
        (("EventID", 1, 1), ("EventTypeCode", 0, 99), ("EventOutcomeDescription", 0, 1)),
    ),
    "EventID": CODED,
    "EventTypeCode": CODED,
    "EventOutcomeDescription": ({}, ()),
    "ActiveParticipant": (
        {
            "UserID": True, "AlternativeUserID": False, "UserName": False, "UserIsRequestor": True,
            "NetworkAccessPointID": False, "NetworkAccessPointTypeCode": False,
        },
        (("RoleIDCode", 0, 99),),
    ),
    "RoleIDCode": CODED,
    "AuditSourceIdentification": (
        {"AuditEnterpriseSiteID": False, "AuditSourceID": True}, (("AuditSourceTypeCode", 0, 99),),
    ),
    "AuditSourceTypeCode": ({"csd-code": True}, ()),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID": True, "ParticipantObjectTypeCode": False, "ParticipantObjectTypeCodeRole": False},
        (("ParticipantObjectIDTypeCode", 1, 1), ("ParticipantObjectName", 1, 1), ("ParticipantObjectDetail", 0, 99)),
    ),
    "ParticipantObjectIDTypeCode": CODED,
    "ParticipantObjectName": ({}, ()),
    "ParticipantObjectDetail": ({"type": True, "value": True}, ()),
}  # fmt: skip


def check(element: ElementTree.Element) -> None:
    """Raise where an element is not as the standard's schema has it."""
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) <= set(attributes), element.tag
    assert {name for name, needed in attributes.items() if needed} <= set(element.attrib), element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(ATTRIBUTES.get(name, ".*"), value, re.DOTALL), (name, value)
    order = [name for name, _, _ in children]
    assert [child.tag for child in element] == sorted((child.tag for child in element), key=order.index)
    for name, least, most in children:
        assert least <= len(element.findall(name)) <= most, (element.tag, name)
    for child in element:
        check(child)
    if element.tag == "ParticipantObjectDetail":
        base64.b64decode(element.attrib["value"], validate=True)
    if element.tag == "EventIdentification":
        assert datetime.fromisoformat(element.attrib["EventDateTime"]).tzinfo is not None


def line(what: str = audit.LOGIN, **fields) -> AuditEntry:
    plain = {
        "id": 7, "at": 1_790_000_000.25, "who": "anna", "target": "", "outcome": "success", "detail": "",
        "previous": "0" * 64, "hash": "1" * 64,
    }  # fmt: skip
    return AuditEntry(**{**plain, "what": what, **fields})


def parsed(entry: AuditEntry) -> ElementTree.Element:
    root = ElementTree.fromstring(message(entry, "FREEZEFRAME"))
    check(root)
    return root


def event(entry: AuditEntry) -> tuple[str, str | None]:
    root = parsed(entry)
    kinds = root.findall("EventIdentification/EventTypeCode")
    return (
        root.find("EventIdentification/EventID").attrib["csd-code"],
        kinds[0].attrib["csd-code"] if kinds else None,
    )


@pytest.mark.parametrize("what", EVERYTHING)
@pytest.mark.parametrize("target", ["", "10.0.0.1", "1.2.840.1", "berta"])
@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_every_kind_of_line_makes_a_message_that_fits_the_standards_schema(what, target, outcome):
    parsed(line(what, target=target, outcome=outcome, detail="more of it"))


TEXT = st.text(max_size=40)


@given(TEXT, TEXT, TEXT, TEXT)
@settings(max_examples=100)
def test_any_text_makes_a_message_that_fits(who, what, target, detail):
    parsed(line(what, who=who, target=target, detail=detail, outcome="failure"))


@pytest.mark.parametrize(
    ("what", "codes"),
    [
        (audit.LOGIN, ("110114", "110122")), (audit.LOGIN_FAILED, ("110114", "110122")),
        (audit.LOGOUT, ("110114", "110123")), (audit.STARTED, ("110100", "110120")),
        (audit.STOPPED, ("110100", "110121")), (audit.STUDY_OPENED, ("110103", None)),
        (audit.IMAGES_RECEIVED, ("110104", None)), (audit.RESULT_SENT, ("110104", None)),
        (audit.IMAGES_DELETED, ("110105", None)), (audit.STUDIES_LISTED, ("110112", None)),
        (audit.ASSOCIATION_REFUSED, ("110113", "110126")), (audit.USERS_CHANGED, ("110113", "110137")),
        (audit.IMAGES_EXPORTED, ("110106", None)), ("something else", ("110100", "something else")),
    ],
)  # fmt: skip
def test_events_have_the_codes_of_the_standard(what, codes):
    assert event(line(what)) == codes


def test_a_failure_is_said_with_its_reason():
    root = parsed(line(audit.LOGIN_FAILED, outcome="failure", detail="too soon"))
    found = root.find("EventIdentification")
    assert found.attrib["EventOutcomeIndicator"] == "4"
    assert found.findtext("EventOutcomeDescription") == "too soon"


def test_who_came_from_an_address_has_it_as_network_access_point():
    user = parsed(line(target="10.0.0.1")).find("ActiveParticipant")
    assert (user.attrib["UserID"], user.attrib["NetworkAccessPointID"]) == ("anna", "10.0.0.1")


def test_a_transfer_names_its_source_and_its_destination():
    root = parsed(line(audit.RESULT_SENT, who="destination:pacs", target="1.2.3"))
    roles = {
        found.attrib["UserID"]: found.find("RoleIDCode").attrib["csd-code"]
        for found in root.findall("ActiveParticipant")
    }
    assert roles == {"destination:pacs": "110152", "FREEZEFRAME": "110153"}


def test_what_the_node_does_by_itself_has_the_node_as_its_only_participant():
    (node,) = parsed(line(audit.IMAGES_DELETED, who=audit.NODE, target="1.2.3")).findall("ActiveParticipant")
    assert (node.attrib["UserID"], node.attrib["UserIsRequestor"]) == ("FREEZEFRAME", "true")


def test_a_study_is_an_object_with_its_uid():
    study = parsed(line(audit.STUDY_OPENED, target="1.2.3", detail="1.2.3.4")).find(
        "ParticipantObjectIdentification"
    )
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    assert study.find("ParticipantObjectIDTypeCode").attrib["csd-code"] == "110180"
    detail = study.find("ParticipantObjectDetail").attrib
    assert (detail["type"], base64.b64decode(detail["value"])) == ("detail", b"1.2.3.4")


def test_a_message_holds_the_lines_number_and_hash_so_that_a_cut_is_noticed():
    last = parsed(line()).findall("ParticipantObjectIdentification")[-1]
    details = {
        found.attrib["type"]: base64.b64decode(found.attrib["value"]).decode()
        for found in last.findall("ParticipantObjectDetail")
    }
    assert last.attrib["ParticipantObjectID"] == "line 7"
    assert details["hash"] == "1" * 64


def test_the_syslog_message_has_the_header_of_rfc_5424_with_dicoms_identifier():
    content = syslog_message(line(), "FREEZEFRAME").decode()
    match = re.fullmatch(
        r"<85>1 (\S+)Z ([!-~]{1,255}) freezeframe (\d+) DICOM\+RFC3881 - \ufeff(<AuditMessage>.*)",
        content,
        re.DOTALL,
    )
    assert match is not None
    assert datetime.fromisoformat(match[1]).microsecond == 250_000
    check(ElementTree.fromstring(match[4]))


def forwarder(database, url: str, authority=None) -> Forwarder:
    content = {"folder": "x", "bundles": [{"path": "x"}], "rules": [{"name": "all"}]}
    plain = NodeConfiguration.parse(content, "test")
    return Forwarder(database, plain.model_copy(update={"audit": Audit(syslog=url, authority=authority)}))


def write(database, count: int) -> None:
    with database.transaction() as session:
        for number in range(count):
            audit.record(session, "anna", audit.STUDY_OPENED, f"1.2.{number}")


def test_lines_are_sent_by_udp_each_once_and_in_order(sqlite):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        sender = forwarder(sqlite, f"udp://127.0.0.1:{server.getsockname()[1]}")
        write(sqlite, 3)
        assert sender.step(0.0) == 3
        write(sqlite, 1)
        # A restarted node goes on where the last one was.
        assert forwarder(sqlite, sender.url.geturl()).step(1.0) == 1
        assert sender.step(2.0) == 0
        received = [server.recv(65536).decode() for _ in range(4)]
    assert [re.search(r'"line (\d+)"', content)[1] for content in received] == ["1", "2", "3", "4"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class SyslogServer:
    """Takes one TLS connection after another, and keeps what RFC 5425 frames it got."""

    def __init__(self, signed: Signed) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed.certificate, signed.key)
        self.socket = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.received = b""
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    def _serve(self) -> None:
        self.socket.settimeout(30)
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        with connection:
            while content := connection.recv(65536):
                self.received += content

    def close(self) -> None:
        self.thread.join(30)
        self.socket.close()

    def frames(self) -> list[bytes]:
        rest, found = self.received, []
        while rest:
            length, _, rest = rest.partition(b" ")
            found.append(rest[: int(length)])
            rest = rest[int(length) :]
        return found


def test_lines_are_sent_by_tls_in_the_frames_of_rfc_5425(sqlite, authority):
    server = SyslogServer(authority.sign("server"))
    write(sqlite, 3)
    sender = forwarder(sqlite, f"tls://127.0.0.1:{server.port}", authority.path)
    sent = sender.step(0.0)
    server.close()
    assert sent == 3
    assert [frame[:5] for frame in server.frames()] == [b"<85>1"] * 3
    check(ElementTree.fromstring(server.frames()[2].partition(b"\xef\xbb\xbf")[2].decode()))


def test_a_server_with_a_foreign_certificate_gets_nothing(sqlite, authority, tmp_path):
    server = SyslogServer(Authority(tmp_path).sign("stranger"))
    write(sqlite, 1)
    assert forwarder(sqlite, f"tls://127.0.0.1:{server.port}", authority.path).step(0.0) == 0
    server.close()
    assert server.received == b""


def test_a_server_that_is_down_makes_the_sender_wait_and_misses_nothing(sqlite, authority):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write(sqlite, 2)
    sender = forwarder(sqlite, f"tls://127.0.0.1:{port}", authority.path)
    begin = time.monotonic()
    assert [sender.step(0.0), sender.step(1.0), sender.step(5.0), sender.step(9.0)] == [0, 0, 0, 0]
    assert time.monotonic() - begin < 30
    write(sqlite, 1)
    server = SyslogServer(authority.sign("server"))
    sender.url = sender.url._replace(netloc=f"127.0.0.1:{server.port}")
    assert sender.step(1000.0) == 3
    server.close()
    assert len(server.frames()) == 3


def test_without_a_syslog_server_nothing_is_sent(sqlite):
    write(sqlite, 1)
    content = {"folder": "x", "bundles": [{"path": "x"}], "rules": [{"name": "all"}]}
    assert Forwarder(sqlite, NodeConfiguration.parse(content, "test")).step(0.0) == 0
