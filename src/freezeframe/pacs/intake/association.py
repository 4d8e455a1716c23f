"""The DICOM service: listens for associations, and holds each in a thread of its own."""

import contextlib
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake.conversation import REQUEST_SECONDS, Caller, Conversation, OnCommitment
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.intake.negotiation import Rejected
from freezeframe.pacs.intake.upper_layer import ABORT, Connection, PeerGoneError, ProtocolError
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.peers import is_of_a_peer
from freezeframe.pacs.security.tls import fingerprint, server_context
from freezeframe.pacs.watching.counters import ASSOCIATIONS, REFUSALS
from freezeframe.pacs.watching.limited_log import LimitedLog

LOGGER = logging.getLogger(__name__)
SPARE_CONNECTIONS = 32
"""That may be open beyond the associations: of callers who have not said yet who they are, or are being refused."""
MOST_STRANGERS = 8
"""Of these, of callers from addresses that no peer has: they are told why they are refused, and keep no peer out."""
AUDIT_SECONDS = 60
"""A caller who is refused for the same reason again and again makes one line in the audit trail in this time."""
STOP_SECONDS = 30


class DicomService:
    """C-STORE and C-ECHO for the peers of the configuration; storage commitment reports of its destinations.

    Parameters
    ----------
    database : Database
        For the audit trail.
    configuration : NodeConfiguration
        With `dicom`, which says where to listen.
    keeper : Keeper
        Makes images durable.
    on_commitment : callable, optional
        Called in the thread of an association with (transaction UID, SOP instances that the peer keeps, those that it
        does not with its reasons). If it raises, the peer is told so, and may report again.

    Attributes
    ----------
    port : int
        Where it listens, after `start`.
    """

    def __init__(
        self,
        database: Database,
        configuration: NodeConfiguration,
        keeper: Keeper,
        on_commitment: OnCommitment | None = None,
    ) -> None:
        if configuration.dicom is None:
            raise UserError("The configuration has no `dicom`.", "where to listen.")
        self._database, self._configuration, self._keeper = database, configuration, keeper
        self._server = configuration.dicom
        self._on_commitment = on_commitment
        self._tls = server_context(self._server.tls) if self._server.tls else None
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._guard = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._strangers: set[threading.Thread] = set()
        self._associations = 0
        self._stopping = False
        self._refused_at: dict[tuple[str, ...], float] = {}
        self._log = LimitedLog(LOGGER)
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises
        ------
        UserError
            If the address can't be used.
        """
        address, port = self._server.address, self._server.port
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._listener = socket.create_server((address, port), family=family, backlog=128)
        except OSError as error:
            raise UserError(
                f"Address {address}, port {port} can't be listened on ({error.strerror or error}).",
                "an address of this machine and a free port.",
                "Change `dicom` in the configuration, or end what uses the port.",
            ) from error
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="dicom", daemon=True)
        self._acceptor.start()
        LOGGER.info("DICOM service listens", extra={"listening": address, "port": self.port})

    def stop(self) -> None:
        """Stop listening, end all associations, and wait for what they are at; what was not answered was not kept."""
        self._stopping = True
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
        with self._guard:
            open_ones = dict(self._connections)
        for connected in open_ones.values():
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in (self._acceptor, *open_ones):
            if thread is not None:
                thread.join(max(0, deadline - time.monotonic()))
        self._log.flush(time.monotonic())

    def _accept(self) -> None:
        assert self._listener is not None
        most = self._server.maximum_associations + SPARE_CONNECTIONS
        while not self._stopping:
            try:
                connected, address = self._listener.accept()
            except OSError as error:
                if not self._stopping:  # such as no more file descriptors
                    self._say(logging.ERROR, "connection not accepted", reason=error.strerror)
                    time.sleep(0.1)
                continue
            thread = threading.Thread(
                target=self._hold, args=(connected, address[0]), name="dicom-association", daemon=True
            )
            is_stranger = not is_of_a_peer(self._configuration, address[0])
            with self._guard:
                is_full = len(self._connections) >= most or self._stopping
                is_full = is_full or (is_stranger and len(self._strangers) >= MOST_STRANGERS)
                if not is_full:
                    self._connections[thread] = connected
                    self._strangers.update([thread] if is_stranger else [])
            if is_full:
                self._say(logging.WARNING, "connection closed: too many", caller=address[0])
                connected.close()
                continue
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # no room for it now: the next caller may have luck
                self._say(logging.ERROR, "connection closed: no thread for it", caller=address[0])
                with self._guard:
                    del self._connections[thread]
                    self._strangers.discard(thread)
                connected.close()

    def _hold(self, connected: socket.socket, address: str) -> None:
        connection = None
        try:
            certificate = None
            if self._tls is not None:
                connected.settimeout(min(REQUEST_SECONDS, self._server.network_timeout))
                connected = self._tls.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
                with self._guard:
                    self._connections[threading.current_thread()] = connected
                connected.do_handshake()
                certificate = connected.getpeercert(binary_form=True)
            connection = Connection(connected, self._server.network_timeout)
            self._converse(connection, Caller(address, fingerprint(certificate)))
        except OSError as error:  # TLS did not come about, or the connection is gone already
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            self._say(logging.WARNING, "connection refused", caller=address, reason=reason)
        except Exception as error:  # a thread that dies would tell nobody
            trace = "".join(
                traceback.format_tb(error.__traceback__)
            )  # without the message, which may hold values
            reason = type(error).__name__
            self._say(logging.ERROR, "association failed", caller=address, reason=reason, trace=trace)
        finally:
            with self._guard:
                self._connections.pop(threading.current_thread(), None)
                self._strangers.discard(threading.current_thread())
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()

    def _converse(self, connection: Connection, caller: Caller) -> None:
        conversation = Conversation(
            connection, caller, self._configuration, self._keeper, self._on_commitment
        )
        fields = {"caller": caller.address}
        seated = False

        def is_full() -> bool:
            nonlocal seated
            with self._guard:
                seated = self._associations < self._server.maximum_associations
                self._associations += seated
            return not seated

        try:
            rejected = conversation.negotiate(is_full)
            if rejected is not None:
                self._note(rejected, caller)
            elif conversation.accepted is not None:
                fields["peer"] = conversation.accepted.peer.name
                ASSOCIATIONS.labels(fields["peer"]).inc()
                conversation.serve()
            connection.finish()
        except PeerGoneError as error:
            self._say(logging.WARNING, "association ended by the peer", **fields, reason=str(error))
        except ProtocolError as error:
            self._say(logging.WARNING, "association aborted", **fields, reason=f"The peer sent {error}.")
            with contextlib.suppress(PeerGoneError):
                connection.send(ABORT, bytes((0, 0, 2, 0)))  # by the provider, reason not specified
                connection.finish()
        finally:
            if seated:
                with self._guard:
                    self._associations -= 1
            self._audit_received(conversation)

    def _note(self, rejected: Rejected, caller: Caller) -> None:
        refusal = rejected.refusal
        REFUSALS.labels("dicom", "association").inc()
        self._say(
            logging.WARNING,
            "association refused",
            calling_ae=rejected.calling_ae,
            caller=caller.address,
            reason=refusal.reason,
            action=refusal.action,
        )
        key, now = (rejected.calling_ae, caller.address, refusal.reason), time.monotonic()
        with self._guard:
            recent = {entry: at for entry, at in self._refused_at.items() if now - at < AUDIT_SECONDS}
            is_new = key not in recent
            # Whoever invents AE titles does not fill the memory, nor the audit trail.
            is_new = is_new and len(recent) < 100
            self._refused_at = {**recent, key: now} if is_new else recent
        if is_new:
            who = f"ae:{rejected.calling_ae}"
            line = (who, audit.ASSOCIATION_REFUSED, caller.address, audit.FAILURE, refusal.reason)
            self._audit([line])

    def _say(self, level: int, message: str, **fields: Any) -> None:
        """Log what a caller brought about; strangers' lines take no place from those of peers' addresses."""
        is_of_peer = is_of_a_peer(self._configuration, fields.get("caller", ""))
        self._log.write(level, message, fields, "peers" if is_of_peer else "strangers", time.monotonic())

    def _audit_received(self, conversation: Conversation) -> None:
        if conversation.accepted is not None and conversation.kept:
            who = f"peer:{conversation.accepted.peer.name}"
            self._audit(
                [
                    (who, audit.IMAGES_RECEIVED, study_uid, audit.SUCCESS, f"{count} images")
                    for study_uid, count in conversation.kept.items()
                ]
            )

    def _audit(self, lines: Iterable[tuple[str, str, str, str, str]]) -> None:
        """Write lines of (who, what, target, outcome, detail)."""
        try:
            with self._database.transaction() as session:
                for line in lines:
                    audit.record(session, *line)
        except SQLAlchemyError as error:
            LOGGER.error("audit trail not written", extra={"reason": type(error).__name__})
