"""One association, from its request to its end."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import decode

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.intake import commands, negotiation, upper_layer
from freezeframe.pacs.intake.commands import Command
from freezeframe.pacs.intake.keeping import Keeper, Origin
from freezeframe.pacs.intake.negotiation import Accepted, Rejected
from freezeframe.pacs.intake.offered import STORAGE_COMMITMENT
from freezeframe.pacs.intake.receiving import Answer, Incoming
from freezeframe.pacs.intake.upper_layer import Connection, PeerGoneError, ProtocolError
from freezeframe.pacs.watching.counters import REFUSALS, STORE_SECONDS

LOGGER = logging.getLogger(__name__)
REQUEST_SECONDS = 30
"""How long an association request may take (PS3.8, section 9.1.5: ARTIM)."""
LARGEST_REPORT = 8 << 20
"""Bytes of a storage commitment report; what goes beyond is answered with a failure."""

OnCommitment = Callable[[str, list[str], list[tuple[str, int]]], None]
"""Transaction UID, SOP instances that the peer keeps, and those that it does not with its reasons."""


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of a connection."""

    address: str
    certificate_sha256: str | None


class Conversation:
    """What is said in one association.

    Parameters
    ----------
    connection : Connection
        To the peer.
    caller : Caller
        Who that is.
    configuration : NodeConfiguration
        Of this node.
    keeper : Keeper
        For what is stored.
    on_commitment : OnCommitment or None
        For what the peer says that it keeps.

    Attributes
    ----------
    accepted : Accepted or None
        After the negotiation.
    kept : Counter of str
        Images of each study that were acknowledged as new.
    """

    def __init__(
        self,
        connection: Connection,
        caller: Caller,
        configuration: NodeConfiguration,
        keeper: Keeper,
        on_commitment: OnCommitment | None,
    ) -> None:
        self._connection, self._caller, self._configuration = connection, caller, configuration
        self._keeper, self._on_commitment = keeper, on_commitment
        self.accepted: Accepted | None = None
        self.kept: Counter[str] = Counter()
        self._command = bytearray()
        self._context_id = 0
        self._message: Incoming | _Report | _Dropped | None = None

    def negotiate(self, is_full: Callable[[], bool]) -> Rejected | None:
        """Answer the association request; return why where it was refused.

        Raises
        ------
        PeerGoneError, ProtocolError
            As of `Connection.read`.
        """
        self._connection.limit(REQUEST_SECONDS)
        kind, body = self._connection.read()
        if kind != upper_layer.ASSOCIATE_RQ:
            raise ProtocolError("another PDU than an association request")
        caller = self._caller
        answer = negotiation.answer(body, self._configuration, caller.address, caller.certificate_sha256)
        if isinstance(answer, Accepted) and is_full():
            assert self._configuration.dicom is not None
            answer = negotiation.too_many(answer.calling_ae, self._configuration.dicom.maximum_associations)
        if isinstance(answer, Rejected):
            self._connection.send(upper_layer.ASSOCIATE_RJ, answer.body)
            return answer
        self.accepted = answer
        self._connection.limit(None)
        self._connection.send(upper_layer.ASSOCIATE_AC, answer.body)
        return None

    def serve(self) -> None:
        """Answer requests until the peer releases the association.

        Raises
        ------
        PeerGoneError, ProtocolError
            As of `Connection.read`, or if the peer aborts; nothing of a message that was not ended is left.
        """
        try:
            while True:
                kind, body = self._connection.read()
                if kind == upper_layer.P_DATA:
                    for context_id, control, data in upper_layer.fragments(body):
                        self._take(context_id, control, data)
                elif kind == upper_layer.RELEASE_RQ:
                    self._connection.send(upper_layer.RELEASE_RP, bytes(4))
                    return
                elif kind == upper_layer.ABORT:
                    raise PeerGoneError("it aborted the association")
                else:
                    raise ProtocolError("a PDU that has no place in an established association")
        finally:
            if self._message is not None:
                self._message.abandon()

    def _take(self, context_id: int, control: int, data: memoryview) -> None:
        is_command, is_last = control & 1, control & 2
        if (self._message is not None or self._command) and context_id != self._context_id:
            raise ProtocolError("a message within another")
        if is_command:
            if self._message is not None or len(self._command) + len(data) > commands.LONGEST:
                raise ProtocolError("a command where none may be, or one that is too long")
            self._context_id = context_id
            self._command += data
            if is_last:
                encoded, self._command = bytes(self._command), bytearray()
                self._begin(commands.read_command(encoded))
        elif self._message is None:
            raise ProtocolError("a data set without a command")
        else:
            self._message.write(data)
            if is_last:
                message, self._message = self._message, None
                self._answer(message)

    def _begin(self, command: Command) -> None:
        assert self.accepted is not None
        if self._context_id not in self.accepted.contexts:
            raise ProtocolError("a message in a presentation context that was not accepted")
        if command.field & commands.RESPONSE:
            raise ProtocolError("a response to nothing")
        sop_class, syntax = self.accepted.contexts[self._context_id]
        if command.field == commands.C_CANCEL and not command.has_data_set:
            return  # of an operation that is over; it has no response
        if command.field == commands.C_STORE and command.has_data_set:
            origin = Origin(self.accepted.peer.name, self.accepted.calling_ae)
            message = Incoming(self._keeper, command, sop_class, syntax, origin)
        elif command.field == commands.N_EVENT_REPORT and command.has_data_set:
            message = _Report(command, sop_class, syntax, self._on_commitment)
        elif command.field == commands.C_ECHO:
            message = _Dropped(command, commands.SUCCESS)
        else:
            message = _Dropped(command, commands.UNRECOGNISED_OPERATION)
        self._request = command
        if command.has_data_set:
            self._message = message
        else:
            self._answer(message)

    def _answer(self, message: "Incoming | _Report | _Dropped") -> None:
        status, comment = commands.SUCCESS, ""
        begun = time.monotonic()
        try:
            kept = message.finish()
            if kept is not None and kept.state == "kept":
                self.kept[kept.study_uid] += 1
        except Answer as answer:
            status, comment = answer.status, answer.comment
        if isinstance(message, Incoming):
            STORE_SECONDS.observe(time.monotonic() - begun)
            if status != commands.SUCCESS:
                REFUSALS.labels("dicom", f"{status:04X}").inc()
        encoded = commands.response(self._request, status, comment)
        self._connection.send(upper_layer.P_DATA, upper_layer.data_pdu(self._context_id, encoded))


class _Dropped:
    """A request whose answer does not depend on its data set."""

    def __init__(self, command: Command, status: int) -> None:
        self._status = status

    def write(self, data: memoryview) -> None:
        pass

    def finish(self) -> None:
        if self._status != commands.SUCCESS:
            raise Answer(self._status, "")

    def abandon(self) -> None:
        pass


class _Report:
    """A storage commitment report (PS3.4, section J.3.3)."""

    def __init__(
        self,
        command: Command,
        sop_class_uid: str,
        transfer_syntax_uid: str,
        on_commitment: OnCommitment | None,
    ) -> None:
        self._is_known = sop_class_uid == command.sop_class_uid == STORAGE_COMMITMENT
        self._implicit = transfer_syntax_uid != ExplicitVRLittleEndian
        self._on_commitment = on_commitment
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        if len(self._data) <= LARGEST_REPORT:
            self._data += data

    def finish(self) -> None:
        if not self._is_known or self._on_commitment is None:
            raise Answer(commands.UNRECOGNISED_OPERATION, "")
        try:
            if len(self._data) > LARGEST_REPORT:
                raise ValueError("too long")
            report = decode(BytesIO(self._data), self._implicit, True)
            done = [str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or ()]
            failed = [
                (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0))
                for item in report.get("FailedSOPSequence") or ()
            ]
            self._on_commitment(str(report.TransactionUID), done, failed)
        # A report may be broken in any way, and whoever takes it may fail; the peer reports again.
        except Exception as error:
            LOGGER.error("storage commitment report not taken", extra={"reason": type(error).__name__})
            raise Answer(commands.PROCESSING_FAILURE, "") from None

    def abandon(self) -> None:
        pass
