"""A storage SCP that answers as a test says: statuses, aborts, silence; and takes storage commitment requests."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from outgoing import CLASSES
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF

COMMITMENT = "1.2.840.10008.1.20.1"
Behaviour = Callable[[str], int | str]
"""SOP instance UID -> status; or 'abort', or 'silent'."""


class StoragePeer:
    """What came, and in what order.

    Attributes
    ----------
    stored : list of (str, bytes)
        SOP instance UIDs and data sets that were acknowledged as stored.
    asked : list of (str, list of str)
        Storage commitment requests: transaction UID, SOP instance UIDs.
    """

    def __init__(self, behaviour: Behaviour, commitment: str, syntaxes: Sequence[str]) -> None:
        self.behaviour, self.commitment = behaviour, commitment
        self.stored: list[tuple[str, bytes]] = []
        self.tried: list[str] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.associations = 0
        self.stop = threading.Event()
        self.stops_reading = False
        entity = AE(ae_title="PEER")
        entity.maximum_associations = 50
        for sop_class in CLASSES.values():
            entity.add_supported_context(sop_class, list(syntaxes))
        if commitment != "none":
            entity.add_supported_context(COMMITMENT)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._act),
            (evt.EVT_ESTABLISHED, self._count),
            (evt.EVT_PDU_RECV, self._read),
        ]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port: int = self._server.server_address[1]

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _ in self.stored]

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()

    def _read(self, event: evt.Event) -> None:
        if self.stops_reading and isinstance(event.pdu, P_DATA_TF):
            self.stop.wait(60)  # in the thread that reads from the connection

    def _count(self, event: evt.Event) -> None:
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.tried.append(uid)
        answer = self.behaviour(uid)
        if answer == "abort":
            event.assoc.abort()
            return 0xC000
        if answer == "silent":
            self.stop.wait(60)
            return 0xC000
        assert isinstance(answer, int)
        if answer == 0 or 0xB000 <= answer <= 0xBFFF:
            self.stored.append((uid, event.request.DataSet.getvalue()))
        return answer

    def _act(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence]
        self.asked.append((str(information.TransactionUID), uids))
        if self.commitment == "refuse":
            return 0x0110, None
        if self.commitment == "same association":
            threading.Thread(target=self._report, args=(event.assoc, information), daemon=True).start()
        return 0x0000, None

    def _report(self, association: Any, information: Dataset) -> None:
        time.sleep(0.05)  # after the answer to N-ACTION
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        report.ReferencedSOPSequence = information.ReferencedSOPSequence
        association.send_n_event_report(report, 1, COMMITMENT, "1.2.840.10008.1.20.1.1")


@contextmanager
def storage_peer(
    behaviour: Behaviour = lambda uid: 0,
    commitment: str = "none",
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
) -> Iterator[StoragePeer]:
    """Run one for the length of a block; `commitment`: none, later, refuse, same association."""
    peer = StoragePeer(behaviour, commitment, syntaxes)
    try:
        yield peer
    finally:
        peer.close()
