"""Audit messages to a syslog server: RFC 5424 over UDP (RFC 5426) or TLS (RFC 5425), as PS3.15, section A.6 asks."""

import contextlib
import logging
import os
import socket
import ssl
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sqlalchemy import select

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.security.audit_messages import message
from freezeframe.pacs.tables import AuditEntry, Cursor

LOGGER = logging.getLogger(__name__)
_CURSOR = "audit-syslog"
_BATCH = 100
_TIMEOUT = 10.0
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 600.0
_PRIORITY = 10 * 8 + 5  # security/authorization, notice
_LARGEST_DATAGRAM = 65_000


class Forwarder:
    """Sends the lines of the audit trail that were not sent yet; what was sent is kept in the database.

    The trail itself is the queue: a server that is down or slow holds up nobody, and misses nothing over TLS once it
    is back. A line may come twice after a crash. Over UDP nobody knows what arrives.

    Parameters
    ----------
    database : Database
        Whose trail it is.
    configuration : NodeConfiguration
        `audit.syslog` says where to.
    """

    def __init__(self, database: Database, configuration: NodeConfiguration) -> None:
        self.database = database
        self.ae_title = configuration.ae_title
        self.url = urlsplit(configuration.audit.syslog) if configuration.audit.syslog else None
        self.authority = configuration.audit.authority
        self._not_before, self._wait = 0.0, _FIRST_WAIT

    def step(self, now: float) -> int:
        """Send up to a hundred lines, and return how many; call it every second in a thread of its own.

        A failure is logged and makes the next attempt wait, at most ten minutes; nothing is raised for it.
        """
        if self.url is None or now < self._not_before:
            return 0
        with self.database.reading() as session:
            cursor = session.get(Cursor, _CURSOR)
            sent = int(cursor.value["line"]) if cursor is not None else 0
            query = select(AuditEntry).where(AuditEntry.id > sent).order_by(AuditEntry.id).limit(_BATCH)
            lines = session.scalars(query).all()
        if not lines:
            return 0
        try:
            self._send([syslog_message(line, self.ae_title) for line in lines])
        except OSError as error:
            LOGGER.warning("audit messages not sent", extra={"reason": type(error).__name__})
            self._not_before, self._wait = now + self._wait, min(2 * self._wait, _LONGEST_WAIT)
            return 0
        self._wait = _FIRST_WAIT
        with self.database.transaction() as session:
            session.merge(Cursor(name=_CURSOR, value={"line": lines[-1].id}, at=now))
        return len(lines)

    def _send(self, messages: list[bytes]) -> None:
        assert self.url is not None
        host, port = self.url.hostname or "", self.url.port or 0
        if self.url.scheme == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as plain:
                for content in messages:
                    plain.sendto(content[:_LARGEST_DATAGRAM], address)
            return
        context = ssl.create_default_context(cafile=self.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection((host, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as stream,
        ):
            deadline = time.monotonic() + _TIMEOUT
            for content in messages:
                if time.monotonic() > deadline:
                    raise TimeoutError
                stream.sendall(b"%d " % len(content) + content)
            # Its answer says that all was received (RFC 5425, section 4.4); not every server gives one.
            with contextlib.suppress(OSError):
                stream.unwrap()


def syslog_message(line: AuditEntry, ae_title: str) -> bytes:
    """Make the RFC 5424 message of one line, with the MSGID of PS3.15, section A.6."""
    moment = datetime.fromtimestamp(line.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    host = "".join(character for character in socket.gethostname() if "!" <= character <= "~")[:255] or "-"
    header = f"<{_PRIORITY}>1 {moment} {host} freezeframe {os.getpid()} DICOM+RFC3881 - "
    return header.encode("ascii") + b"\xef\xbb\xbf" + message(line, ae_title).encode()
