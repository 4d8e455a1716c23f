"""What must not hurt the DICOM service: broken PDUs and data sets, lies about lengths, hangers-on."""

import logging
import random
import resource
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from dicom_files import make_image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from services import dcmtk, finished, serving
from sqlalchemy import select
from waiting import eventually

from freezeframe.pacs.intake import association, conversation, receiving, upper_layer
from freezeframe.pacs.intake.commands import read_command
from freezeframe.pacs.intake.elements import BrokenDataSetError, Encoding, walk
from freezeframe.pacs.intake.header import NotAnImageError, read_header
from freezeframe.pacs.intake.upper_layer import ProtocolError, fragments
from freezeframe.pacs.tables import AuditEntry, Image

UNDEFINED = 0xFFFFFFFF


@pytest.fixture
def service(database, configuration):
    with serving(database, configuration) as started:
        yield started
        assert finished(dcmtk("echoscu", started.port))[0] == 0  # it lives on
        eventually(lambda: not list((configuration.folder / "incoming").iterdir()))


def request(calling="PACS", called="FREEZEFRAME") -> bytes:
    """Return an A-ASSOCIATE-RQ for one CR context, number 1."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    context = build_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def command(instance: bytes = b"2.25.4000.1\0", **other: bytes) -> bytes:
    """Return the command of a C-STORE request; other fields by name."""
    fields = {
        "class": (0x00000002, str(ComputedRadiographyImageStorage).encode() + b"\0"),
        "field": (0x00000100, b"\x01\0"),
        "message": (0x00000110, b"\x07\0"),
        "data": (0x00000800, b"\0\0"),
        "instance": (0x00001000, instance),
    }
    return b"".join(element(tag, other.get(name, value)) for name, (tag, value) in fields.items())


def pdv(control: int, data: bytes, context: int = 1) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def pdata(*items: bytes) -> bytes:
    body = b"".join(items)
    return struct.pack(">BxL", 4, len(body)) + body


def data_set(**attributes) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, make_image(1, **attributes))
    return stream.getvalue()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, service, associated: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", service.port), timeout=60)
        if associated:
            self.socket.sendall(request())
            assert self.read()[0] == 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def read(self) -> tuple[int, bytes]:
        """Return the next PDU; type 0 where the connection was closed."""
        header = self._exactly(6)
        if len(header) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", header)
        return kind, self._exactly(length)

    def status(self) -> int:
        """Return the status of a response."""
        kind, body = self.read()
        assert kind == 4, kind
        values = {
            entry.tag: body[6:][entry.start :][: entry.length] for entry in walk(body[6:], 0, Encoding(True))
        }
        return int.from_bytes(values[0x00000900], "little")

    def ended(self) -> bool:
        """Whether the service aborts or closes, and nothing else."""
        kind, _ = self.read()
        return kind in (0, 7)

    def _exactly(self, size: int) -> bytes:
        received = b""
        try:
            while len(received) < size and (block := self.socket.recv(size - len(received))):
                received += block
        except ConnectionError:
            pass
        return received


def stored(database) -> list[Image]:
    with database.reading() as session:
        return list(session.scalars(select(Image)))


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(200),  # TLS to a port without
        struct.pack(">BxL", 1, 0),
        struct.pack(">BxL", 1, 0xFFFFFFFF),
        struct.pack(">BxL", 4, 6) + bytes(6),  # data without an association
        struct.pack(">BxL", 9, 4) + bytes(4),
        struct.pack(">BxL", 5, 4) + bytes(4),
        request()[:80] + bytes(200),
        request()[:-30],
        bytes(6),
    ],
)
def test_nonsense_instead_of_a_request_is_ended(service, content):
    with Raw(service, associated=False) as client:
        client.send(content)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ended()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">BxL", 4, 0xFFFFFFF0),
        struct.pack(">BxL", 4, 3) + b"\0\0\0",
        pdata(pdv(3, command())[:-3] + b""),
        struct.pack(">BxL", 4, 6) + struct.pack(">LBB", 1, 1, 3),
        pdata(pdv(3, command(), context=9)),  # not negotiated
        pdata(pdv(2, b"data without a command")),
        pdata(pdv(3, command()), pdv(3, command())),
        pdata(pdv(3, command()), pdv(2, b"x", context=3)),
        pdata(pdv(3, b"no command")),
        pdata(pdv(3, command(field=b"\x01"))),
        pdata(pdv(3, command(field=b"\x01\x80"))),  # a response
        b"".join(pdata(pdv(1, bytes(60_000))) for _ in range(3)),  # a command without an end
        request(),  # a second request
        struct.pack(">BxL", 2, 4) + bytes(4),
        struct.pack(">BxL", 0, 4) + bytes(4),
    ],
)
def test_what_breaks_the_protocol_is_aborted_and_nothing_is_stored(service, database, content):
    with Raw(service) as client:
        client.send(content)
        assert client.ended()
    assert stored(database) == []


@pytest.mark.parametrize(
    "instance",
    [b"../../../../x\0", b"..", b"/etc/passwd\0", b"1.2/3", b"1" * 66, b"1.2\\1.3 ", b"\xff\xfe", b""],
)
def test_a_path_as_a_uid_of_the_command_is_refused_and_the_association_goes_on(
    service, database, configuration, instance
):
    with Raw(service) as client:
        client.send(pdata(pdv(3, command(instance)), pdv(2, data_set())))
        assert client.status() == 0x0117
        client.send(pdata(pdv(3, command()), pdv(2, data_set())))
        assert client.status() == 0x0000
    [row] = stored(database)
    assert row.path == "images/2.25.2000.1/2.25.4000.1.dcm"


def test_unknown_operations_are_said_to_be_unknown(service):
    with Raw(service) as client:
        for field in (b"\x20\0", b"\x21\0", b"\x30\x01", b"\xff\0"):  # C-FIND, C-MOVE, N-ACTION, none
            client.send(pdata(pdv(3, command(field=field)), pdv(2, b"some data set")))
            assert client.status() == 0x0211
        client.send(pdata(pdv(3, command(field=b"\xff\x0f", data=b"\x01\x01"))))  # C-CANCEL has no answer
        client.send(pdata(pdv(3, command(field=b"\x30\0", data=b"\x01\x01"))))
        assert client.status() == 0x0000


def explicit(tag: int, representation: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, representation, 0, length)


def item(length: int) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 0xC000),
        (bytes(1000), 0xC000),
        (b"\xff" * 1000, 0xC000),
        (data_set()[:200], 0xC000),
        # A gigabyte is declared, and is not there.
        (explicit(0x00091010, b"OB", 1 << 30) + b"only this", 0xC000),
        (explicit(0x00081140, b"SQ", UNDEFINED) + item(UNDEFINED) * 10, 0xC000),
        # 100,000 sequences in each other.
        ((explicit(0x00081140, b"SQ", UNDEFINED) + item(UNDEFINED)) * 100_000, 0xC000),
        # 300,000 empty items.
        (explicit(0x00081140, b"SQ", UNDEFINED) + item(0) * 300_000, 0xC000),
        (explicit(0x00081140, b"SQ", UNDEFINED) + data_set(), 0xC000),
    ],
)
def test_a_broken_data_set_is_not_understood_and_the_association_goes_on(service, database, content, status):
    with Raw(service) as client:
        client.send(pdata(pdv(3, command())))
        blocks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)] or [b""]
        for number, block in enumerate(blocks):
            client.send(pdata(pdv(2 if number == len(blocks) - 1 else 0, block)))
        assert client.status() == status
        client.send(pdata(pdv(3, command()), pdv(2, data_set())))
        assert client.status() == 0x0000


def test_a_large_element_before_the_pixels_is_stored_without_taking_memory(service, database, configuration):
    size = 256 << 20
    head, tail = make_image(1), make_image(1)
    for entry in list(head):
        if entry.tag > 0x0008FFFF:
            del head[entry.tag]
    for entry in list(tail):
        if entry.tag <= 0x0008FFFF:
            del tail[entry.tag]

    def encoded(data) -> bytes:
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, False
        write_dataset(stream, data)
        return stream.getvalue()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Raw(service) as client:
        client.send(pdata(pdv(3, command()), pdv(0, encoded(head) + explicit(0x00091010, b"OB", size))))
        block = pdata(pdv(0, bytes(1 << 17)))
        for _ in range(size >> 17):
            client.send(block)
        client.send(pdata(pdv(2, encoded(tail))))
        assert client.status() == 0x0000
    [row] = stored(database)
    assert row.size > size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    (configuration.folder / row.path).unlink()


def test_an_instance_that_is_too_large_is_refused_and_leaves_no_file(monkeypatch, service, configuration):
    monkeypatch.setattr(receiving, "LARGEST_INSTANCE", 1 << 20)
    with Raw(service) as client:
        client.send(pdata(pdv(3, command())))
        for _ in range(20):
            client.send(pdata(pdv(0, bytes(1 << 17))))
        eventually(lambda: not list((configuration.folder / "incoming").iterdir()))
        client.send(pdata(pdv(2, b"end")))
        assert client.status() == 0xC112


def test_whoever_says_nothing_is_closed_and_the_others_are_served(monkeypatch, database, configuration):
    monkeypatch.setattr(conversation, "REQUEST_SECONDS", 1)
    with serving(database, configuration) as service:
        silent = [Raw(service, associated=False) for _ in range(5)]
        dripping = Raw(service, associated=False)
        stop = threading.Event()

        def drip():
            try:
                for byte in request():
                    dripping.send(bytes((byte,)))
                    if stop.wait(0.05):
                        return
            except OSError:
                return

        thread = threading.Thread(target=drip)
        thread.start()
        assert finished(dcmtk("echoscu", service.port))[0] == 0
        assert all(client.ended() for client in [*silent, dripping])
        stop.set()
        thread.join(30)
        for client in [*silent, dripping]:
            client.socket.close()


def test_connections_beyond_the_limit_are_closed_at_once_and_the_service_recovers(
    database, configuration, monkeypatch
):
    monkeypatch.setattr(association, "SPARE_CONNECTIONS", 3)
    with serving(database, configuration, maximum_associations=1) as service:
        clients = [Raw(service, associated=False) for _ in range(8)]
        eventually(lambda: len(service._connections) == 4)
        for client in clients:
            client.socket.close()
        eventually(lambda: finished(dcmtk("echoscu", service.port))[0] == 0)


def test_strangers_who_say_nothing_keep_no_peer_out(database, configuration):
    peer = configuration.peers[0].model_copy(update={"networks": ("127.0.0.1",)})
    with (
        serving(database, configuration.model_copy(update={"peers": (peer,)})) as service,
        ExitStack() as opened,
    ):
        for _ in range(configuration.dicom.maximum_associations + association.SPARE_CONNECTIONS + 1):
            opened.enter_context(
                socket.create_connection(("127.0.0.1", service.port), 60, source_address=("127.0.0.2", 0))
            )
        assert finished(dcmtk("echoscu", service.port))[0] == 0


def test_a_system_without_room_for_a_thread_costs_a_connection_and_not_the_service(
    service, database, monkeypatch
):
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def without_room(thread):
        if thread.name == "dicom-association" and failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", without_room)
    with Raw(service, associated=False) as client:
        assert client.ended()
    assert not service._connections
    assert finished(dcmtk("echoscu", service.port))[0] == 0


def test_a_flood_of_invented_titles_fills_neither_memory_nor_audit_trail(service, database):
    for number in range(130):
        with Raw(service, associated=False) as client:
            client.send(request(calling=f"FLOOD{number}"))
            assert client.read()[0] in (0, 3)  # refused, or closed because too many are being refused
    eventually(lambda: not service._connections)
    with database.reading() as session:
        assert len(list(session.scalars(select(AuditEntry)))) <= 100


def test_who_is_refused_again_and_again_does_not_rotate_the_log_away(database, configuration, caplog):
    with serving(database, configuration) as service:
        for number in range(60):
            with Raw(service, associated=False) as client:
                client.send(request(calling=f"FLOOD{number}") if number % 2 else b"\xff" * 100)
                assert client.read()[0] in (0, 3, 7)
        eventually(lambda: not service._connections)
        lines = [record for record in caplog.records if record.name == association.__name__]
        assert sum(record.levelno >= logging.WARNING for record in lines) < 10
    told = [getattr(record, "repeated", 0) for record in caplog.records]
    assert sum(told) >= 50


def test_random_damage_to_a_whole_association_never_ends_the_service(service, database):
    whole = request() + pdata(pdv(3, command()), pdv(0, data_set()[:500])) + pdata(pdv(2, data_set()[500:]))
    chance = random.Random(5)
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(damaged))
            damaged[at] = chance.randrange(256)
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        with Raw(service, associated=False) as client:
            try:
                client.send(bytes(damaged))
                client.socket.shutdown(socket.SHUT_WR)
                deadline = time.monotonic() + 60
                while client.read()[0]:
                    assert time.monotonic() < deadline
            except OSError:
                pass
    for row in stored(database):
        assert row.path.startswith("images/2.25.2000.1/2.") or row.path.startswith("images/")
        assert ".." not in row.path


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_walking_any_bytes_ends_with_elements_or_a_clear_error(content, implicit, little):
    with suppress(BrokenDataSetError):
        starts = [entry.start for entry in walk(content, 0, Encoding(implicit, little))]
        assert starts == sorted(starts)
        assert all(start <= len(content) + 8 for start in starts)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_fragments_or_command_are_parsed_or_a_protocol_error(content):
    for parse in (lambda: list(fragments(memoryview(content))), lambda: read_command(content)):
        with suppress(ProtocolError):
            parse()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_has_a_header_with_safe_uids_or_none(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "damaged.dcm"
    if not (folder / "whole.dcm").exists():
        write_image(folder / "whole.dcm", 1)
    content = bytearray((folder / "whole.dcm").read_bytes()[:1400])
    for at, value in data.draw(st.lists(st.tuples(st.integers(132, 1399), st.integers(0, 255)), max_size=8)):
        content[at] = value
    path.write_bytes(content)
    with suppress(NotAnImageError):
        header = read_header(path)
        for uid in (header.study.study_uid, header.series_uid, header.sop_instance_uid, header.sop_class_uid):
            assert set(uid) <= set("0123456789.")


def test_large_bounds_are_what_the_documentation_says():
    assert (upper_layer.MAXIMUM_PDU, upper_layer.LARGEST_BODY) == (131072, 262144)
