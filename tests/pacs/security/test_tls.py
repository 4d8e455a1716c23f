"""TLS of the node, against OpenSSL's own client and real handshakes."""

import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager

import pytest
from certificates import Authority

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import Tls
from freezeframe.pacs.security.tls import client_context, fingerprint, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger").sign("mallory")


def tls_of(signed, **fields) -> Tls:
    return Tls(
        **{"certificate": signed.certificate, "key": signed.key, "authority": signed.authority, **fields}
    )


@contextmanager
def listening(context: ssl.SSLContext):
    """Serve one connection after another; yield the port and what the server saw: fingerprints or errors."""
    seen: list[str | None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                plain.settimeout(30)
                try:
                    with context.wrap_socket(plain, server_side=True) as connected:
                        seen.append(fingerprint(connected.getpeercert(binary_form=True)))
                        connected.sendall(b"hello")
                except OSError as error:
                    seen.append(getattr(error, "reason", None) or type(error).__name__)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def hello(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> bytes:
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    with plain, context.wrap_socket(plain, server_hostname=name) as connected:
        return connected.recv(5)


def test_both_sides_show_certificates_and_the_client_is_known_by_its_fingerprint(authority):
    client = authority.sign("client")
    with listening(server_context(tls_of(authority.sign("server")))) as (port, seen):
        assert hello(port, client_context(tls_of(client))) == b"hello"
    assert seen == [client.sha256]


def test_a_client_without_a_certificate_is_refused(authority):
    with (
        listening(server_context(tls_of(authority.sign("server")))) as (port, seen),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        assert hello(port, client_context(None, authority.path)) == b"hello"
    assert seen == ["PEER_DID_NOT_RETURN_A_CERTIFICATE"]


def test_a_client_without_a_certificate_is_let_in_where_none_is_required(authority):
    tls = tls_of(authority.sign("server"), require_client=False)
    with listening(server_context(tls)) as (port, seen):
        assert hello(port, client_context(None, authority.path)) == b"hello"
    assert seen == [None]


def test_a_client_of_another_authority_is_refused(authority, stranger):
    with (
        listening(server_context(tls_of(authority.sign("server")))) as (port, seen),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        assert hello(port, client_context(tls_of(stranger), authority.path)) == b"hello"
    assert seen == ["CERTIFICATE_VERIFY_FAILED"]


def test_a_server_of_another_authority_or_name_is_not_talked_to(authority, stranger):
    tls = tls_of(authority.sign("server"), require_client=False)
    with listening(server_context(tls)) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            hello(port, client_context(None, stranger.authority))
        with pytest.raises(ssl.SSLCertVerificationError):
            hello(port, client_context(None, authority.path), "pacs.example")


@pytest.mark.parametrize(
    ("version", "taken"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)]
)
def test_tls_1_0_and_1_1_are_refused(authority, version, taken):
    client = authority.sign("client")
    with listening(server_context(tls_of(authority.sign("server")))) as (port, seen):
        command = [
            "openssl", "s_client", f"-{version}", "-connect", f"127.0.0.1:{port}", "-cert", client.certificate,
            "-key", client.key, "-CAfile", authority.path, "-verify_return_error", "-ign_eof",
            "-cipher", "DEFAULT:@SECLEVEL=0",  # or it would not offer the old versions at all
        ]  # fmt: skip
        done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    assert (b"hello" in done.stdout) is taken
    assert (seen == [client.sha256]) is taken
    assert taken or seen == ["UNSUPPORTED_PROTOCOL"]


def test_what_is_wrong_with_the_files_is_said(authority, stranger, tmp_path):
    with pytest.raises(UserError, match=r"absent\.pem can't be read"):
        server_context(tls_of(authority.sign("server"), certificate=tmp_path / "absent.pem"))
    with pytest.raises(UserError, match="can't be used for TLS"):
        server_context(tls_of(authority.sign("server"), key=stranger.key))
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(UserError, match="authority"):
        client_context(None, empty)


def test_an_encrypted_key_is_refused_instead_of_asking_on_the_terminal(authority, tmp_path):
    server = authority.sign("server")
    locked = tmp_path / "locked.key"
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(server.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(UserError, match="encrypted"):
        server_context(tls_of(server, key=locked))
