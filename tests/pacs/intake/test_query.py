"""Pulling by C-FIND and C-MOVE."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from pulls import PullingNode
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage
from pynetdicom import AE, evt
from small_images import as_bytes, make_image
from sqlalchemy import select

from freezeframe.pacs.intake.association import DicomService
from freezeframe.pacs.intake.pulling import Puller
from freezeframe.pacs.intake.query import query_puller
from freezeframe.pacs.tables import Study
from freezeframe.pacs.trial.orthanc import Orthanc, ServerTls, orthanc

FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
PEER = {"name": "pacs", "ae_titles": ["ORTHANC"]}


def puller_of(node: PullingNode) -> Puller:
    return query_puller(node.database, node.configuration, node.source)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


def pulling_node(folder: Path, port: int, **source) -> PullingNode:
    source = {"kind": "query", "ae_title": "ORTHANC", "address": "127.0.0.1", "port": port, **source}
    return PullingNode(folder, source, peers=[PEER], dicom={"port": 0})


def test_what_is_missing_is_sent_by_a_real_pacs_now_and_later(pacs, tmp_path):
    images = [make_image(1, number) for number in (1, 2, 3)] + [make_image(2), make_image(3, Modality="CT")]
    report = make_image(2, 7, series=2, SOPClassUID=BasicTextSRStorage, Modality="SR", PixelData=None)
    for image in (*images, report):
        pacs.rest("/instances", "POST", as_bytes(image))
    node = pulling_node(tmp_path, pacs.dicom_port)
    service = DicomService(node.database, node.configuration, node.keeper)
    service.start()
    try:
        pacs.add_modality(node.configuration.ae_title, service.port)
        puller = puller_of(node)
        assert sum(puller.step(node.now) for _ in range(4)) == 4
        assert node.images() == sorted(image.SOPInstanceUID for image in images[:4])
        late = make_image(1, 4)
        pacs.rest("/instances", "POST", as_bytes(late))
        assert puller.step(node.now + 30) == 0
        assert puller.step(node.now + 60) == 1
        assert late.SOPInstanceUID in node.images()
        with node.database.reading() as session:
            assert {study.source for study in session.scalars(select(Study))} == {"pacs"}
    finally:
        service.stop()
        node.close()


def test_it_asks_over_tls_with_its_certificate(tmp_path):
    authority = Authority(tmp_path / "certificates")
    server, client = authority.sign("server"), authority.sign("client")
    with orthanc(
        tmp_path, {"FREEZEFRAME": 0}, tls=ServerTls(server.certificate, server.key, authority.path)
    ) as pacs:
        pacs.rest("/instances", "POST", as_bytes(make_image()))
        tls = {
            "certificate": str(client.certificate),
            "key": str(client.key),
            "authority": str(authority.path),
        }
        node = pulling_node(tmp_path, pacs.dicom_port, tls=tls)
        archive = puller_of(node)._archive
        with archive.session():
            (found,) = archive.instances(make_image().StudyInstanceUID)
        assert found.sop_instance_uid == make_image().SOPInstanceUID
        node.close()


class Peer:
    """A query/retrieve SCP that answers what a test says."""

    def __init__(self, contexts: tuple[str, ...] = (FIND, MOVE)) -> None:
        self.find: list[tuple[int, Dataset | None]] = [(0x0000, None)]
        self.moves: list[str] = []
        self.move_status = 0x0000
        self.aborts = False
        entity = AE("ORTHANC")
        for context in contexts:
            entity.add_supported_context(context)
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _find(self, event):
        if self.aborts:
            event.assoc.abort()
            return
        level = event.identifier.QueryRetrieveLevel
        for status, answer in self.find:
            if answer is None or answer.QueryRetrieveLevel == level:
                yield status, answer

    def _move(self, event):
        self.moves.append(str(event.identifier.SOPInstanceUID))
        yield None, None


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.server.shutdown()


def answer(level: str, **elements) -> tuple[int, Dataset]:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return 0xFF00, dataset


def failure(peer: Peer, tmp_path, caplog) -> str:
    node = pulling_node(tmp_path, peer.port)
    assert puller_of(node).step(node.now) == 0
    node.close()
    (record,) = [record for record in caplog.records if record.name.endswith("pulling")]
    return record.reason


def test_a_failed_query_is_said_with_its_status(peer, tmp_path, caplog):
    peer.find = [(0xA700, None)]
    assert failure(peer, tmp_path, caplog) == "The PACS answers C-FIND with status A700."


def test_a_pacs_that_aborts_makes_it_wait(peer, tmp_path, caplog):
    peer.aborts = True
    assert failure(peer, tmp_path, caplog) in (
        "The PACS broke the association off.",
        "The PACS gives no answer to C-FIND.",
    )


def test_a_pacs_that_is_down_makes_it_wait(tmp_path, caplog):
    peer = Peer()
    peer.server.shutdown()
    assert failure(peer, tmp_path, caplog) == "The PACS can't be reached, or breaks the association off."


def test_a_pacs_without_move_makes_it_wait(tmp_path, caplog):
    peer = Peer((FIND,))
    assert failure(peer, tmp_path, caplog) == "The PACS takes no C-FIND or no C-MOVE in the study root."
    peer.server.shutdown()


def test_an_unknown_move_destination_is_a_problem_of_the_pacs(peer, tmp_path, caplog):
    image = make_image()
    peer.find = [
        answer("STUDY", StudyInstanceUID=image.StudyInstanceUID),
        answer("SERIES", SeriesInstanceUID=image.SeriesInstanceUID, Modality="DX"),
        answer("IMAGE", SOPInstanceUID=image.SOPInstanceUID, SOPClassUID=image.SOPClassUID),
        (0x0000, None),
    ]
    assert failure(peer, tmp_path, caplog) == "The PACS answers C-MOVE with status A801."
    assert peer.moves == [image.SOPInstanceUID]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_no_uid_in_an_answer_is_left_out(peer, tmp_path):
    peer.find = [
        answer("STUDY", StudyInstanceUID="../../etc"),
        answer("STUDY", StudyInstanceUID="1.2.3"),
        answer("SERIES", SeriesInstanceUID="1.2.3.4", Modality="DX"),
        answer("IMAGE", SOPInstanceUID="x/../y", SOPClassUID=""),
        (0x0000, None),
    ]
    node = pulling_node(tmp_path, peer.port)
    assert puller_of(node).step(node.now) == 0
    assert peer.moves == []
    node.close()
