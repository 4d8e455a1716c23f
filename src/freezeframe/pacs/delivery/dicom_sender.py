"""Results by C-STORE (PS3.4, annex B) and the request for storage commitment (PS3.4, annex J)."""

import logging
import socket
import struct
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.status import code_to_category

from freezeframe.pacs.configuration import DicomDestination
from freezeframe.pacs.delivery.parcels import Answer, Parcel, UnreachableError, whole
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from freezeframe.pacs.security.tls import client_context

LOGGER = logging.getLogger(__name__)

# A file's data set is sent byte by byte as it is stored; pynetdicom would decode and encode it. It has no other switch.
_config.STORE_SEND_CHUNKED_DATASET = True

CONNECT_SECONDS, ASSOCIATE_SECONDS, ANSWER_SECONDS = 10.0, 30.0, 60.0
"""Together shorter than the outbox holds a delivery."""
LINGER_SECONDS = 0.5
"""How long the association stays open for a storage commitment result; most PACS call back later."""
COMMITMENT = UID("1.2.840.10008.1.20.1")  # Storage Commitment Push Model SOP Class
COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")  # its well-known instance
DUPLICATE = 0x0111  # of PS3.7, annex C: the destination has this SOP instance already
NOT_OF_THE_OBJECT = (0x0110, 0x0213)  # processing failure and lack of resources may pass


class Commitments(Protocol):
    """Keeps the books of what is asked for and answered."""

    def begin(self, parcels: Sequence[Parcel]) -> str:
        """Note that the commitment of objects is asked for; return the transaction's UID."""
        ...

    def refused(self, parcels: Sequence[Parcel], reason: str) -> None:
        """Note that the destination did not take the request."""
        ...

    def reported(self, transaction_uid: str, done: list[str], failed: list[tuple[str, int]]) -> None:
        """Note what the destination has committed to, and what not and why (PS3.3, section C.14)."""
        ...


def send(
    destination: DicomDestination, ae_title: str, parcels: Sequence[Parcel], commitments: Commitments | None
) -> Generator[Answer, None, None]:
    """Store objects over one association, and ask for their commitment on the same one.

    Parameters
    ----------
    destination : DicomDestination
        Where to.
    ae_title : str
        Of this node.
    parcels : sequence of Parcel
        Those that are stored already are only asked for.
    commitments : Commitments, optional
        Asks for no commitment where left out; what is stored is done then.

    Yields
    ------
    Answer
        Of each object that is not stored yet, as soon as it is known.

    Raises
    ------
    UnreachableError
        If the destination can't be reached, refuses the association, has no room or falls silent.
    """
    present: list[Parcel] = []
    for parcel, problem in whole(parcel for parcel in parcels if not parcel.is_stored):
        if problem is None:
            present.append(parcel)
        else:
            yield problem
    stored = [parcel for parcel in parcels if parcel.is_stored]
    if commitments is None:  # the configuration has asked for it when they were sent, and does so no longer
        yield from (Answer(parcel, True, "its storage commitment is not asked for") for parcel in stored)
        stored = []
    if not present and not stored:
        return
    reported = threading.Event()

    def on_report(event: evt.Event) -> tuple[int, None]:
        assert commitments is not None
        commitments.reported(*read_report(event.event_information))
        reported.set()
        return 0x0000, None

    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _set_up_socket)]
    if commitments is not None:
        handlers.append((evt.EVT_N_EVENT_REPORT, on_report))
    with _associated(
        destination, ae_title, _contexts(present, commitments is not None), handlers
    ) as association:
        for parcel in present:
            answer = _store(association, parcel)
            if answer.stored:
                stored.append(parcel)
            yield answer
        if commitments is not None and stored and _ask(association, stored, commitments):
            reported.wait(LINGER_SECONDS)


def read_report(information: Dataset) -> tuple[str, list[str], list[tuple[str, int]]]:
    """Read a storage commitment result: its transaction, what is kept, and what is not with the reason's code."""
    done = [str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or []]
    failed = [
        (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0x0110))
        for item in information.get("FailedSOPSequence") or []
    ]
    return str(information.TransactionUID), done, failed


def _contexts(parcels: Sequence[Parcel], commitment: bool) -> list[PresentationContext]:
    wanted: dict[tuple[str, str], None] = {}
    for parcel in parcels:
        syntax = UID(_transfer_syntax(parcel))
        wanted[parcel.sop_class_uid, syntax] = None
        if not syntax.is_compressed:
            wanted[parcel.sop_class_uid, ImplicitVRLittleEndian] = None  # all that old devices may take
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in wanted]
    return [*contexts, build_context(COMMITMENT)] if commitment else contexts


def _transfer_syntax(parcel: Parcel) -> str:
    return str(read_file_meta_info(parcel.path).TransferSyntaxUID)


@contextmanager
def _associated(
    destination: DicomDestination, ae_title: str, contexts: list[PresentationContext], handlers: list[Any]
) -> Iterator[Association]:
    entity = ApplicationEntity(ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = CONNECT_SECONDS
    entity.acse_timeout = ASSOCIATE_SECONDS
    entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
    try:
        tls = None if destination.tls is None else (client_context(destination.tls), destination.address)
        association = entity.associate(
            destination.address,
            destination.port,
            contexts,
            destination.ae_title,
            tls_args=tls,
            evt_handlers=handlers,
        )
    except OSError as error:
        raise UnreachableError(f"its address can't be resolved ({type(error).__name__})") from None
    was_accepted = getattr(association.acceptor.primitive, "result", None) == 0
    if not association.is_established and not was_accepted:
        raise UnreachableError(_why_not(association))
    try:
        # One that accepts the association and none of its contexts can be reached: pynetdicom has aborted then.
        yield association
    finally:
        if association.is_established:
            association.release()


def _why_not(association: Association) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        source, reason = getattr(answer, "result_source", None), getattr(answer, "diagnostic", None)
        return f"it rejects the association (source {source}, reason {reason} of PS3.8, table 9-21)"
    return "no association: it aborts, does not answer, or can't be connected to"


def _set_up_socket(event: evt.Event) -> None:
    connection: socket.socket = event.assoc.dul.socket.socket  # pyright: ignore[reportOptionalMemberAccess, reportAssignmentType]
    # Small messages go at once, and a peer that reads nothing ends the association, not this thread.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_SECONDS), 0))


def _store(association: Association, parcel: Parcel) -> Answer:
    accepted = [
        context
        for context in association.accepted_contexts
        if context.abstract_syntax == parcel.sop_class_uid
    ]
    if accepted and not association.is_established:
        raise UnreachableError("it ended the association")
    if not accepted:
        return Answer(
            parcel, False, f"it takes no objects of SOP class {parcel.sop_class_uid}", is_final=True
        )
    as_it_is = _transfer_syntax(parcel) in {context.transfer_syntax[0] for context in accepted}
    try:
        status = association.send_c_store(str(parcel.path) if as_it_is else dcmread(parcel.path))
    except RuntimeError:  # the association ended between the check and the sending
        raise UnreachableError("it ended the association", parcel) from None
    if "Status" not in status:
        raise UnreachableError("it ended the association, or fell silent, while an object was sent", parcel)
    code = int(status.Status)
    if code == 0x0000:
        return Answer(parcel, True)
    if code == DUPLICATE:
        return Answer(parcel, True, "it was there already")
    if code_to_category(code) == "Warning" or 0xB000 <= code <= 0xBFFF:
        return Answer(parcel, True, f"stored with warning 0x{code:04X}")
    if 0xA700 <= code <= 0xA7FF:
        raise UnreachableError(f"it is out of resources (C-STORE status 0x{code:04X})")
    return Answer(parcel, False, f"C-STORE status 0x{code:04X}", is_final=code not in NOT_OF_THE_OBJECT)


def _ask(association: Association, parcels: Sequence[Parcel], commitments: Commitments) -> bool:
    """Send N-ACTION (PS3.4, section J.3.2); return whether a result may come."""
    if all(context.abstract_syntax != COMMITMENT for context in association.accepted_contexts):
        commitments.refused(parcels, "it offers no storage commitment")
        return False
    if not association.is_established:
        raise UnreachableError("it ended the association")
    request = Dataset()
    request.TransactionUID = commitments.begin(parcels)
    request.ReferencedSOPSequence = []
    for parcel in parcels:
        item = Dataset()
        item.ReferencedSOPClassUID = parcel.sop_class_uid
        item.ReferencedSOPInstanceUID = parcel.sop_instance_uid
        request.ReferencedSOPSequence.append(item)
    try:
        status, _ = association.send_n_action(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
    except (RuntimeError, ValueError):
        raise UnreachableError("it ended the association") from None
    if "Status" not in status:
        # It may have taken the request all the same: its result is waited for, and then it is asked again.
        LOGGER.warning("A request for storage commitment was not answered.")
    elif int(status.Status) != 0x0000:
        commitments.refused(parcels, f"N-ACTION status 0x{int(status.Status):04X}")
        return False
    return True
