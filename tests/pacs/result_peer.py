"""A PACS that takes results and remembers them."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)


class ResultPeer:
    """What came.

    Attributes
    ----------
    objects : dict of str to Dataset
        By SOP instance UID.
    twice : list of str
        SOP instance UIDs that came again with other bytes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Dataset] = {}
        self.twice: list[str] = []
        self._bytes: dict[str, bytes] = {}
        entity = AE(ae_title="ARCHIVE")
        entity.maximum_associations = 20
        for sop_class in (
            Comprehensive3DSRStorage,
            SecondaryCaptureImageStorage,
            GrayscaleSoftcopyPresentationStateStorage,
        ):
            entity.add_supported_context(sop_class)
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port: int = self._server.server_address[1]

    def destination(self, **fields: object) -> dict[str, object]:
        """Return how a node's configuration names it."""
        return {
            "kind": "dicom", "name": "archive", "ae_title": "ARCHIVE", "address": "127.0.0.1", "port": self.port,
            **fields,
        }  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        uid, content = str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()
        if self._bytes.setdefault(uid, content) != content:
            self.twice.append(uid)
        self.objects[uid] = event.dataset
        return 0x0000


@contextmanager
def result_peer() -> Iterator[ResultPeer]:
    """Run one for the length of a block."""
    peer = ResultPeer()
    try:
        yield peer
    finally:
        peer.close()
