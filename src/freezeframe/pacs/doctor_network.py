"""Signs of life of whatever a node calls: C-ECHO, a web request without content, a TCP connection."""

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from pydicom.uid import UID
from pynetdicom.ae import ApplicationEntity

from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import (
    DicomDestination,
    FhirDestination,
    Hl7Destination,
    NodeConfiguration,
    QueryPull,
    Tls,
    WatchedFolder,
    WebDestination,
    WebPull,
)
from freezeframe.pacs.intake.offered import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
)
from freezeframe.pacs.security.tls import client_context

SECONDS = 5.0
"""That somebody may take to answer."""


@dataclass(frozen=True)
class Sign:
    """Of one source or destination.

    Attributes
    ----------
    name, address : str
        Which, and where.
    reason : str
        Why it gives none; '' where it does.
    """

    name: str
    address: str
    reason: str


def ask_all(configuration: NodeConfiguration) -> list[Sign]:
    """Ask all sources and destinations at the same time."""
    asked: list[tuple[str, str, Callable[[], str]]] = []
    for entry in (*configuration.sources, *configuration.destinations):
        match entry:
            case WatchedFolder():
                asked.append((entry.name, str(entry.path), partial(_folder, entry.path)))
            case DicomDestination() | QueryPull():
                echo = partial(
                    _echo, entry.address, entry.port, entry.ae_title, configuration.ae_title, entry.tls
                )
                asked.append((entry.name, f"{entry.ae_title} {entry.address}:{entry.port}", echo))
            case Hl7Destination():
                connect = partial(_connect, entry.address, entry.port, entry.tls)
                asked.append((entry.name, f"{entry.address}:{entry.port}", connect))
            case WebDestination() | WebPull() | FhirDestination():
                asked.append((entry.name, entry.url, partial(_web, entry)))
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(asked))) as pool:
        reasons = list(pool.map(lambda entry: _explained(entry[2]), asked))
    return [Sign(name, address, reason) for (name, address, _), reason in zip(asked, reasons, strict=True)]


def _explained(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except FreezeframeError as error:
        return str(error)
    except (OSError, httpx.HTTPError, ValueError) as error:
        return getattr(error, "strerror", None) or type(error).__name__


def _folder(path: Path) -> str:
    return "" if path.is_dir() else "there is no such folder"


def _connect(address: str, port: int, tls: Tls | None) -> str:
    with socket.create_connection((address, port), SECONDS) as connection:
        if tls is not None:
            with client_context(tls).wrap_socket(connection, server_hostname=address):
                pass
    return ""


def _echo(address: str, port: int, ae_title: str, own: str, tls: Tls | None) -> str:
    entity = ApplicationEntity(own)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = SECONDS
    entity.add_requested_context(VERIFICATION)
    context: tuple[ssl.SSLContext, str] | None = (client_context(tls), address) if tls is not None else None
    association = entity.associate(address, port, ae_title=ae_title, tls_args=context)
    if not association.is_established:
        return "the association was refused" if association.is_rejected else "no association"
    try:
        status = association.send_c_echo()
        return "" if status and status.Status == 0 else "C-ECHO failed"
    finally:
        association.release()


def _web(entry: WebDestination | WebPull | FhirDestination) -> str:
    headers, login = {}, None
    if entry.token_file is not None:
        headers["Authorization"] = f"Bearer {entry.token_file.read_text(encoding='utf-8').strip()}"
    if not isinstance(entry, FhirDestination) and entry.user is not None:
        password = entry.password_file.read_text(encoding="utf-8").strip() if entry.password_file else ""
        login = httpx.BasicAuth(entry.user, password)
    # Asked as it will be used; OPTIONS is answered by few, and by some before they look at the login.
    address = (
        f"{entry.url.rstrip('/')}/{'metadata' if isinstance(entry, FhirDestination) else 'studies?limit=1'}"
    )
    verify: ssl.SSLContext | bool = True
    if entry.url.startswith("https"):
        verify = client_context(None, entry.authority)
    with (
        httpx.Client(
            headers=headers,
            auth=login,
            verify=verify,
            timeout=SECONDS,
            trust_env=False,
            follow_redirects=False,
        ) as client,
        client.stream("GET", address) as answer,
    ):
        code = answer.status_code
    return f"HTTP status {code}" if code in (401, 403, 404) or code >= 500 or 300 <= code < 400 else ""
