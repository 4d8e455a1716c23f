"""TLS of the node's servers and clients: 1.2 or newer, both sides with certificates unless configured otherwise."""

import hashlib
import ssl
from pathlib import Path
from typing import NoReturn

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return how a server of this node speaks TLS (PS3.15, section B.12: BCP 195; no TLS 1.0 and 1.1).

    Raises
    ------
    UserError
        If a file is missing or broken, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The other side could have computations made for it at will (and Python never needs to renegotiate).
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load_own(context, tls)
    if tls.require_client:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authority(context, tls.authority, ssl.Purpose.CLIENT_AUTH)
    return context


def client_context(tls: Tls | None, authority: Path | None = None) -> ssl.SSLContext:
    """Return how this node calls a server by TLS; the server's certificate and name are checked.

    Parameters
    ----------
    tls : Tls or None
        With this node's own certificate, which it shows if it is asked; None has none.
    authority : Path, optional
        Whose certificates the server must have (PEM); `tls.authority`, else the system's, where left out. The
        certificate of a server that signed itself is its own authority.

    Raises
    ------
    UserError
        As of `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None:
        _load_own(context, tls)
    _load_authority(context, authority or (tls.authority if tls else None), ssl.Purpose.SERVER_AUTH)
    return context


def fingerprint(certificate: bytes | None) -> str | None:
    """Return the SHA-256 of a certificate (DER) in hexadecimal, as `peers` lists it; None of none."""
    return hashlib.sha256(certificate).hexdigest() if certificate else None


def _load_own(context: ssl.SSLContext, tls: Tls) -> None:
    for path in (tls.certificate, tls.key):
        _check_readable(path)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(
            f"{tls.certificate} and {tls.key} can't be used for TLS ({_reason(error)}).",
            "a certificate and its key, both PEM.",
            "`openssl x509 -in CERTIFICATE -noout -pubkey` and `openssl pkey -in KEY -pubout` must print the same.",
        ) from error


def _load_authority(context: ssl.SSLContext, authority: Path | None, purpose: ssl.Purpose) -> None:
    if authority is None:
        context.load_default_certs(purpose)
        return
    _check_readable(authority)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise UserError(
            f"{authority} can't be used as an authority of TLS ({_reason(error)}).", "certificates, PEM."
        ) from error


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}).",
            "a PEM file that the node's user may read.",
            "Check `tls` in the configuration, and the file's owner.",
        ) from error


def _refuse_password() -> NoReturn:
    # Without this OpenSSL would ask on the terminal, and a service would hang.
    raise ValueError("the key is encrypted; a service needs one that is not, readable by its own user only")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
