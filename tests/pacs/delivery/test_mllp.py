"""HL7 messages over MLLP to a receiver on the loopback."""

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
from certificates import Authority
from delivering import deliver_due
from hypothesis import given
from hypothesis import strategies as st
from outgoing import NOW, control_id, deliveries, node_of, read_study, states

from freezeframe.pacs.delivery import mllp


class Receiver:
    """Acknowledges each message with the next of `answers`; the last one stays."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.answers: list[str] = ["AA"]
        self.messages: list[bytes] = []
        self.connections = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self.connections += 1
            with connection:
                while self._answer(connection):
                    pass
        except OSError:
            pass

    def _answer(self, connection: socket.socket) -> bool:
        received = b""
        while not received.endswith(b"\x1c\r"):
            block = connection.recv(4096)
            if not block:
                return False
            received += block
        assert received.startswith(b"\x0b")
        message = received[1:-2]
        self.messages.append(message)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        identity = message.split(b"|")[9].decode()
        if answer == "hang up":
            return False
        if answer == "silent":
            connection.recv(4096)
            return False
        if answer == "other":
            answer, identity = "AA", "another"
        segments = f"MSH|^~\\&|RIS||FREEZEFRAME||||ACK|1|P|2.5.1\rMSA|{answer}|{identity}\r"
        if answer == "no MSA":
            segments = segments.split("\r")[0]
        whole = b"\x0b" + segments.encode() + b"\x1c\r"
        connection.sendall(whole[:7])  # in two pieces
        connection.sendall(whole[7:])
        return True


@contextmanager
def receiver(context: ssl.SSLContext | None = None):
    running = Receiver(context)
    try:
        yield running
    finally:
        running.close()


def ris(port, **more):
    return {"kind": "hl7", "name": "ris", "address": "127.0.0.1", "port": port, **more}


def test_messages_are_framed_sent_as_they_are_and_done_when_they_are_acknowledged(sqlite, tmp_path):
    with receiver() as running:
        node = node_of(tmp_path, [ris(running.port)])
        study_uid = read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 1
        assert states(sqlite) == ["done"]
        made = (node.folder / "results" / study_uid / "1-default" / "hl7.dat").read_bytes()
        assert running.messages == [made]


@pytest.mark.parametrize(
    ("answer", "reason", "wait"),
    [
        ("AE", "acknowledged with AE", 10),
        ("CE", "acknowledged with CE", 10),
        ("AR", "acknowledged with AR", 1000),
        ("PHANTOM^0001", "the acknowledgement has no code of HL7 table 0008", 10),
        ("other", "the acknowledgement is of another message", 10),
        ("no MSA", "the acknowledgement has no MSA segment", 10),
        ("hang up", "no acknowledgement (ConnectionResetError)", 10),
    ],
)
def test_what_is_not_accepted_waits_with_a_reason_without_what_the_receiver_wrote(
    sqlite, tmp_path, answer, reason, wait
):
    with receiver() as running:
        running.answers = [answer, "AA"]
        node = node_of(tmp_path, [ris(running.port)])
        read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 0
        (delivery,) = deliveries(sqlite)
        assert (delivery.state, delivery.attempts, delivery.reason) == ("waiting", 1, reason)
        assert delivery.not_before == pytest.approx(NOW + wait, abs=5)
        assert deliver_due(sqlite, node, NOW + 1010) == 1


def test_a_message_whose_acknowledgement_was_lost_comes_again_under_the_same_control_id(sqlite, tmp_path):
    with receiver() as running:
        running.answers = ["hang up", "AA"]
        node = node_of(tmp_path, [ris(running.port)])
        study_uid = read_study(sqlite, node, 1, kinds=["hl7"])
        deliver_due(sqlite, node, NOW)
        deliver_due(sqlite, node, NOW + 20)
        identities = [mllp.control_id(message).decode() for message in running.messages]
        assert identities == [control_id(study_uid, 1)] * 2


def test_a_silent_receiver_is_given_up(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(mllp, "ANSWER_SECONDS", 0.3)
    with receiver() as running:
        running.answers = ["silent"]
        node = node_of(tmp_path, [ris(running.port)])
        read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 0
        assert deliveries(sqlite)[0].reason == "no acknowledgement (TimeoutError)"


def test_over_tls_both_sides_show_their_certificates(sqlite, tmp_path):
    authority = Authority(tmp_path / "certificates")
    server, client = authority.sign("ris"), authority.sign("node")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    own = {"certificate": client.certificate, "key": client.key, "authority": authority.path}
    with receiver(context) as running:
        tls = {name: str(path) for name, path in own.items()}
        node = node_of(tmp_path, [ris(running.port, tls=tls)])
        read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 1


def test_a_server_of_another_authority_gets_nothing(sqlite, tmp_path):
    authority = Authority(tmp_path / "certificates")
    stranger, client = Authority(tmp_path / "others", "other").sign("ris"), authority.sign("node")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(stranger.certificate, stranger.key)
    own = {"certificate": client.certificate, "key": client.key, "authority": authority.path}
    with receiver(context) as running:
        tls = {name: str(path) for name, path in own.items()}
        node = node_of(tmp_path, [ris(running.port, tls=tls)])
        read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 0
        assert running.messages == []
        assert deliveries(sqlite)[0].reason == "no TLS connection (SSLCertVerificationError)"


@given(st.binary(max_size=400).filter(lambda content: mllp.END not in content and mllp.START not in content))
def test_a_frame_is_read_whatever_is_in_it(content):
    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"noise" + mllp.START + content + mllp.END)
        assert mllp.read_frame(far) == content


@given(st.binary(max_size=300))
def test_the_control_id_of_anything_is_bytes(content):
    assert isinstance(mllp.control_id(content), bytes)


def test_a_message_is_addressed_to_the_receiver(sqlite, tmp_path):
    with receiver() as running:
        node = node_of(tmp_path, [ris(running.port, application="RIS", facility="North & South")])
        read_study(sqlite, node, 1, kinds=["hl7"])
        assert deliver_due(sqlite, node, NOW) == 1
        assert running.messages[0].split(b"|")[4:6] == [b"RIS", rb"North \T\ South"]
