"""Pulling by QIDO-RS and WADO-RS."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from fastapi import FastAPI, Request, Response
from pulls import PullingNode
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, RLELossless, SecondaryCaptureImageStorage
from small_images import as_bytes, make_image
from sqlalchemy import select
from web_servers import serving

from freezeframe.pacs.intake import pulling
from freezeframe.pacs.intake.web_pull import web_puller
from freezeframe.pacs.tables import Cursor, Image, Job, Result, ResultObject, Study
from freezeframe.pacs.trial.orthanc import orthanc


@dataclass
class StandIn:
    """A DICOMweb server that can misbehave."""

    images: list[Dataset] = field(default_factory=list)
    status: int = 200
    broken: set[str] = field(default_factory=set)
    says_count: bool = True
    ignores_offset: bool = False
    asked: list[str] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    encoding: str = "multipart"

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next):
            self.seen.append(request)
            self.asked.append(request.url.path)
            return Response(status_code=self.status) if self.status != 200 else await call_next(request)

        @app.get("/studies")
        def studies(request: Request):
            limit, offset = int(request.query_params["limit"]), int(request.query_params["offset"])
            found: dict[str, int] = {}
            for image in self.images:
                if image.Modality == request.query_params.get("ModalitiesInStudy", image.Modality):
                    found.setdefault(image.StudyInstanceUID, 0)
            for image in self.images:
                if image.StudyInstanceUID in found:
                    found[image.StudyInstanceUID] += 1
            entries = [
                {"0020000D": {"vr": "UI", "Value": [uid]}}
                | ({"00201208": {"vr": "IS", "Value": [count]}} if self.says_count else {})
                for uid, count in found.items()
            ]
            return entries[:limit] if self.ignores_offset else entries[offset : offset + limit]

        @app.get("/studies/{study}/instances")
        def instances(study: str):
            return [
                {
                    "0020000E": {"vr": "UI", "Value": [image.SeriesInstanceUID]},
                    "00080018": {"vr": "UI", "Value": [image.SOPInstanceUID]},
                    "00080016": {"vr": "UI", "Value": [image.SOPClassUID]},
                    "00080060": {"vr": "CS", "Value": [image.Modality]},
                }
                for image in self.images
                if image.StudyInstanceUID == study
            ]

        @app.get("/studies/{study}/series/{series}/instances/{uid}")
        def retrieve(uid: str):
            image = next((image for image in self.images if image.SOPInstanceUID == uid), None)
            if image is None:
                return Response(status_code=404)
            content = b"broken" if uid in self.broken else as_bytes(image)
            if self.encoding == "single":
                return Response(content, media_type="application/dicom")
            if self.encoding == "text":
                return Response("hello", media_type="text/plain")
            body = b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xyz--"
            if self.encoding == "cut":
                body = body[:-20]
            return Response(body, media_type='multipart/related; type="application/dicom"; boundary=xyz')

        return app


@dataclass
class Pulling:
    pacs: StandIn
    node: PullingNode
    url: str

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.puller = web_puller(self.node.database, self.node.keeper, self.node.source)

    def poll(self, seconds: float = 60) -> int:
        self.node.now += seconds
        return self.puller.step(self.node.now)


def start(tmp_path, **fields) -> Iterator[Pulling]:
    pacs = StandIn()
    with serving(pacs.app()) as url:
        source = {"kind": "dicomweb", "url": url, **fields.pop("source", {})}
        node = PullingNode(tmp_path, source, **fields)
        yield Pulling(pacs, node, url)
        assert node.leftovers() == []
        node.close()


@pytest.fixture
def pulling_node(tmp_path) -> Iterator[Pulling]:
    yield from start(tmp_path)


def uids(*images: Dataset) -> list[str]:
    return sorted(image.SOPInstanceUID for image in images)


def test_what_is_missing_is_pulled_from_a_real_pacs_as_it_is_stored(tmp_path):
    images = [make_image(1, number) for number in (1, 2, 3)] + [make_image(2), make_image(3, Modality="CT")]
    images[0].compress(RLELossless)
    report = make_image(2, 7, SOPClassUID=BasicTextSRStorage, Modality="SR", PixelData=None)
    with orthanc(tmp_path) as pacs:
        for image in (*images, report):
            pacs.rest("/instances", "POST", as_bytes(image))
        (tmp_path / "password").write_text(f"{pacs.auth[1]}\n")
        source = {
            "kind": "dicomweb", "url": pacs.web_url, "user": pacs.auth[0], "password_file": str(tmp_path / "password"),
        }  # fmt: skip
        node = PullingNode(tmp_path, source)
        puller = web_puller(node.database, node.keeper, node.source)
        assert sum(puller.step(node.now) for _ in range(4)) == 4
        assert node.images() == uids(*images[:4])
        assert puller.step(node.now + 60) == 0
        with node.database.reading() as session:
            rows = session.scalars(select(Image).where(Image.sop_instance_uid == images[0].SOPInstanceUID))
            assert rows.one().transfer_syntax_uid == RLELossless
            assert {study.source for study in session.scalars(select(Study))} == {"archive"}
        node.close()


def test_a_late_image_is_pulled_by_a_later_poll(pulling_node):
    pulling_node.pacs.images = [make_image(1)]
    assert pulling_node.poll() == 1
    pulling_node.pacs.images.append(make_image(1, 2))
    assert pulling_node.poll(59) == 0
    assert pulling_node.poll(1) == 1
    assert pulling_node.node.images() == uids(*pulling_node.pacs.images)


def test_a_study_that_has_not_changed_is_not_asked_for_again_also_after_a_restart(pulling_node):
    pulling_node.pacs.images = [make_image(1)]
    for _ in range(2):
        pulling_node.poll()
    pulling_node.pacs.asked.clear()
    pulling_node.start()
    pulling_node.poll()
    assert set(pulling_node.pacs.asked) == {"/studies"}


def test_without_a_count_each_study_is_looked_into(pulling_node):
    pulling_node.pacs.says_count = False
    pulling_node.pacs.images = [make_image(1)]
    assert [pulling_node.poll(), pulling_node.poll()] == [1, 0]
    pulling_node.pacs.images.append(make_image(1, 2))
    assert pulling_node.poll() == 1


def test_objects_that_are_no_images_or_of_another_modality_are_left(pulling_node):
    pulling_node.pacs.images = [
        make_image(1),
        make_image(1, 2, SOPClassUID=BasicTextSRStorage),
        make_image(1, 3, series=2, Modality="CT"),
    ]
    assert pulling_node.poll() == 1
    assert pulling_node.node.images() == uids(make_image(1))


def test_results_of_this_node_are_not_pulled(pulling_node):
    capture = make_image(1, 9, SOPClassUID=SecondaryCaptureImageStorage)
    pulling_node.pacs.images = [make_image(1)]
    pulling_node.poll()
    with pulling_node.node.database.transaction() as session:
        job = Job(
            study_id=1, version=1, bundle="default", rule="all", image_uids=[], priority=5, state="done",
            not_before=0, created_at=0,
        )  # fmt: skip
        session.add(job)
        session.flush()
        result = Result(
            job_id=job.id, study_id=1, version=1, bundle="default", bundle_name="b", bundle_sha256="0",
            outcome="negative", current=True, reading={}, created_at=1, seconds=1,
        )  # fmt: skip
        session.add(result)
        session.flush()
        session.add(
            ResultObject(
                result_id=result.id, kind="sc", sop_instance_uid=capture.SOPInstanceUID, path="x", sha256="0"
            )
        )
    pulling_node.pacs.images.append(capture)
    assert pulling_node.poll() == 0
    assert pulling_node.node.images() == uids(make_image(1))


def test_an_image_that_retention_deleted_is_not_pulled_again(pulling_node):
    pulling_node.pacs.images, pulling_node.pacs.says_count = [make_image(1)], False
    pulling_node.poll()
    with pulling_node.node.database.transaction() as session:
        session.scalars(select(Image)).one().deleted_at = 1.0
    assert pulling_node.poll() == 0


def test_one_call_fetches_a_bounded_number_and_the_next_the_rest(pulling_node, monkeypatch):
    monkeypatch.setattr(pulling, "AT_ONCE", 2)
    pulling_node.pacs.images = [make_image(1, number) for number in range(3)] + [make_image(2)]
    assert [pulling_node.poll(), pulling_node.poll(0), pulling_node.poll(0), pulling_node.poll(0)] == [
        2,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize("ignores_offset", [False, True])
def test_many_studies_are_asked_for_page_by_page(pulling_node, monkeypatch, ignores_offset):
    monkeypatch.setattr("freezeframe.pacs.intake.web_pull.PAGE", 2)
    pulling_node.pacs.ignores_offset = ignores_offset
    pulling_node.pacs.images = [make_image(study) for study in range(1, 6)]
    for _ in range(6):
        pulling_node.poll(0 if pulling_node.pacs.asked else 60)
    assert len(pulling_node.node.images()) == (2 if ignores_offset else 5)


def test_a_pacs_that_fails_is_asked_ever_more_rarely_and_nothing_is_lost(pulling_node, caplog):
    caplog.set_level("INFO")
    pulling_node.pacs.images, pulling_node.pacs.status = [make_image(1)], 503
    for _ in range(30):
        assert pulling_node.poll() == 0
    assert len(pulling_node.pacs.asked) == 5  # after 1, 2, 4, 8 and 15 minutes
    pulling_node.pacs.status = 200
    assert pulling_node.poll(900) == 1
    said = [record for record in caplog.records if record.name.endswith("pulling")]
    assert {record.reason for record in said[:-1]} == {"The PACS answers with 503."}
    assert said[-1].message == "Pulling works again."


def test_a_pacs_that_is_down_makes_it_wait(tmp_path, caplog):
    node = PullingNode(tmp_path, {"kind": "dicomweb", "url": "http://127.0.0.1:9"})
    assert web_puller(node.database, node.keeper, node.source).step(node.now) == 0
    assert [record.reason for record in caplog.records] == ["The PACS can't be asked (ConnectionError)."]
    node.close()


@pytest.mark.parametrize("encoding", ["text", "cut"])
def test_an_answer_that_is_no_whole_image_is_left_and_tried_again_later(pulling_node, encoding):
    pulling_node.pacs.images, pulling_node.pacs.encoding = [make_image(1)], encoding
    assert pulling_node.poll() == 0
    pulling_node.pacs.encoding = "multipart"
    assert [pulling_node.poll(), pulling_node.poll()] == [0, 1]  # 120 s after the first try


def test_a_single_file_as_an_answer_is_taken(pulling_node):
    pulling_node.pacs.images, pulling_node.pacs.encoding = [make_image(1)], "single"
    assert pulling_node.poll() == 1


def test_an_image_that_can_not_be_had_does_not_keep_the_others_from_coming(pulling_node):
    pulling_node.pacs.images = [make_image(1, 1), make_image(1, 2), make_image(2)]
    pulling_node.pacs.broken = {make_image(1, 1).SOPInstanceUID}
    assert [pulling_node.poll(), pulling_node.poll(0)] == [1, 1]
    pulling_node.pacs.asked.clear()
    for _ in range(31):  # minutes
        pulling_node.poll()
    tries = [path for path in pulling_node.pacs.asked if path.endswith(make_image(1, 1).SOPInstanceUID)]
    assert len(tries) == 4  # after 2, 6, 14 and 30 minutes


def test_a_full_disk_makes_it_wait(tmp_path, caplog):
    for made in start(tmp_path, retention={"least_free_gigabytes": 1e9}):
        made.pacs.images = [make_image(1)]
        assert made.poll() == 0
        assert any("can't be kept" in getattr(record, "reason", "") for record in caplog.records)
        assert made.node.images() == []


def test_passwords_and_tokens_come_from_files_that_may_change(tmp_path):
    password, token = tmp_path / "password", tmp_path / "token"
    password.write_text("pässword\n")
    for made in start(tmp_path / "1", source={"user": "user", "password_file": str(password)}):
        made.poll()
        expected = base64.b64encode("user:pässword".encode()).decode()
        assert made.pacs.seen[-1].headers["authorization"] == f"Basic {expected}"
    token.write_text("first")
    for made in start(tmp_path / "2", source={"token_file": str(token)}):
        made.poll()
        token.write_text("second")
        made.poll()
        assert [
            request.headers["authorization"] for request in made.pacs.seen[:: len(made.pacs.seen) - 1]
        ] == [
            "Bearer first",
            "Bearer second",
        ]


def test_days_that_were_missed_are_caught_up(tmp_path):
    for made in start(tmp_path, source={"days_back": 1, "modalities": []}):
        made.poll()
        with made.node.database.transaction() as session:
            session.scalars(select(Cursor)).one().at = made.node.now - 5 * 86400
        made.start()
        made.poll()
        spans = [request.query_params["StudyDate"].split("-") for request in made.pacs.seen]
        days = [
            (datetime.strptime(last, "%Y%m%d") - datetime.strptime(first, "%Y%m%d")).days
            for first, last in spans
        ]
        assert days == [2, 7]
