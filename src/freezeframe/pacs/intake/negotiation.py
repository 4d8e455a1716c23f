"""Who is let in, and with what: the answer to an association request (PS3.8, section 9.3; PS3.7, annex D)."""

from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import negotiate_as_acceptor

from freezeframe.pacs.configuration import NodeConfiguration, Peer
from freezeframe.pacs.intake.offered import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, contexts
from freezeframe.pacs.intake.upper_layer import ASSOCIATE_RQ, MAXIMUM_PDU, ProtocolError
from freezeframe.pacs.security.peers import Refusal, find_peer

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True)
class Accepted:
    """An association that is accepted.

    Attributes
    ----------
    peer : Peer
        Who it is, by the configuration.
    calling_ae : str
        Title that it calls from.
    contexts : dict of int to (str, str)
        Abstract and transfer syntax of each accepted presentation context.
    body : bytes
        Of the A-ASSOCIATE-AC PDU that says so.
    """

    peer: Peer
    calling_ae: str
    contexts: dict[int, tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Rejected:
    """An association that is refused.

    Attributes
    ----------
    calling_ae : str
        Title that was called from.
    result, source, diagnostic : int
        As the A-ASSOCIATE-RJ PDU has them (PS3.8, table 9-21).
    refusal : Refusal
        Why, and what the operator may do.
    """

    calling_ae: str
    result: int
    source: int
    diagnostic: int
    refusal: Refusal

    @property
    def body(self) -> bytes:
        """Of the A-ASSOCIATE-RJ PDU."""
        return bytes((0, self.result, self.source, self.diagnostic))


def answer(
    body: memoryview, configuration: NodeConfiguration, address: str, certificate_sha256: str | None
) -> Accepted | Rejected:
    """Decide on an association request.

    Parameters
    ----------
    body : memoryview
        Of the A-ASSOCIATE-RQ PDU.
    configuration : NodeConfiguration
        With the node's AE title and its peers.
    address : str
        That the connection came from.
    certificate_sha256 : str or None
        Fingerprint of the client's certificate.

    Raises
    ------
    ProtocolError
        If the PDU is broken.
    """
    # Strangers are refused by the fixed fields, before anything else that they sent is looked at.
    called, calling = _title(body[4:20]), _title(body[20:36])
    found = find_peer(configuration, calling, address, certificate_sha256)
    if isinstance(found, Refusal):
        return Rejected(calling, 1, 1, 3, found)
    if called != configuration.ae_title:
        action = f"Set the called AE title to {configuration.ae_title} at the caller."
        return Rejected(calling, 1, 1, 7, Refusal(f"It calls the AE title '{called}'.", action))
    if not int.from_bytes(body[:2]) & 1:
        reason = "It speaks another version of the protocol."
        return Rejected(calling, 1, 2, 2, Refusal(reason, "Update the caller."))
    request = _decode(body)
    if request.application_context_name != _APPLICATION_CONTEXT:
        reason = "It asks for another application context than DICOM's."
        return Rejected(calling, 1, 1, 2, Refusal(reason, "Check what calls there."))
    return _accept(request, found, configuration)


def too_many(calling_ae: str, most: int) -> Rejected:
    """Return the answer where all associations are taken: transient, local limit exceeded."""
    action = "Wait, or raise dicom.maximum_associations."
    return Rejected(calling_ae, 2, 3, 2, Refusal(f"All {most} associations are taken.", action))


def _title(field: memoryview) -> str:
    title = bytes(field)
    if not title.isascii() or not title.decode("ascii").isprintable() or not title.strip():
        raise ProtocolError("an association request without AE titles")
    return title.decode("ascii").strip()


def _decode(body: memoryview) -> A_ASSOCIATE:
    try:
        pdu = A_ASSOCIATE_RQ()
        # pynetdicom decodes a PDU with its header.
        pdu.decode(bytes((ASSOCIATE_RQ, 0)) + len(body).to_bytes(4) + bytes(body))
        return pdu.to_primitive()
    # Its decoders raise whatever broken bytes lead them to.
    except Exception:
        raise ProtocolError("an association request that is broken") from None


def _accept(request: A_ASSOCIATE, peer: Peer, configuration: NodeConfiguration) -> Accepted:
    commitment = any(
        destination.kind == "dicom" and destination.commitment and destination.ae_title in peer.ae_titles
        for destination in configuration.destinations
    )
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in request.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    results, selected = negotiate_as_acceptor(
        request.presentation_context_definition_list,
        contexts(peer.may, commitment),
        roles,  # type: ignore[arg-type]
    )
    response = A_ASSOCIATE()
    response.application_context_name = UID(_APPLICATION_CONTEXT)
    response.calling_ae_title, response.called_ae_title = request.calling_ae_title, request.called_ae_title
    response.result, response.result_source = 0, 1
    response.presentation_context_definition_results_list = results
    length, class_uid, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = MAXIMUM_PDU
    class_uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    response.user_information = [length, class_uid, version, *selected]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(response)
    return Accepted(
        peer,
        request.calling_ae_title.strip(),
        {
            entry.context_id: (str(entry.abstract_syntax), str(entry.transfer_syntax[0]))
            for entry in results
            if entry.result == 0 and entry.context_id is not None
        },
        pdu.encode()[6:],
    )
