"""STOW-RS."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from configured import configured
from dicomweb_client import DICOMwebClient
from fastapi import FastAPI, HTTPException, Request
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage
from small_images import ROOT, as_bytes, make_image
from sqlalchemy import select
from waiting import eventually
from web_servers import serving

from freezeframe.pacs.database import open_database
from freezeframe.pacs.intake import parts
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.intake.web_store import router
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry, Image, Study

FAILURE, FAILED, REFERENCED, OTHERS = "00081197", "00081198", "00081199", "0008119A"


@dataclass(frozen=True)
class Store:
    url: str
    folder: object
    database: object

    def images(self) -> list[str]:
        with self.database.reading() as session:
            return sorted(session.scalars(select(Image.sop_instance_uid)))

    def leftovers(self) -> list:
        return list((self.folder / "incoming").iterdir())


def start(tmp_path, **fields) -> Iterator[Store]:
    configuration = configured(tmp_path / "node", **fields)
    database = open_database(configuration)

    def authorise(request: Request) -> str:
        if request.headers.get("authorization") != "Bearer good":
            raise HTTPException(401, "who is it?")
        return "gateway"

    app = FastAPI()
    app.include_router(router(Keeper(database, configuration), database, configuration, authorise))
    with serving(app) as url:
        yield Store(f"{url}/dicom-web", configuration.folder, database)
    database.close()


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    yield from start(tmp_path, retention={"least_free_gigabytes": 0})


def multipart(
    *contents: bytes, boundary: str = "boundary", head: str = "Content-Type: application/dicom"
) -> bytes:
    body = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + part + b"\r\n" for part in contents)
    return body + f"--{boundary}--\r\n".encode()


def post(store: Store, body, path: str = "/studies", **headers: str) -> httpx.Response:
    known = {
        "Authorization": "Bearer good",
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=boundary',
    }
    names = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return httpx.post(store.url + path, content=body, headers=known | names, timeout=60, trust_env=False)


def test_images_of_a_study_are_kept_before_they_are_acknowledged(store):
    images = [make_image(number=number) for number in (1, 2)]
    answer = post(store, multipart(*map(as_bytes, images)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    referenced = [item["00081155"]["Value"][0] for item in answer.json()[REFERENCED]["Value"]]
    assert referenced == [image.SOPInstanceUID for image in images] == store.images()
    kept = store.folder / "images" / images[0].StudyInstanceUID / f"{images[0].SOPInstanceUID}.dcm"
    assert kept.read_bytes() == as_bytes(images[0])
    assert store.leftovers() == []


def test_the_answer_is_a_dicom_data_set_in_json(store):
    answer = post(store, multipart(as_bytes(make_image()), b"nothing"))
    found = Dataset.from_json(answer.text)
    assert found.ReferencedSOPSequence[0].ReferencedSOPClassUID == make_image().SOPClassUID
    assert found.OtherFailuresSequence[0].FailureReason == 0xC000


def test_an_image_that_is_known_is_acknowledged_again(store):
    for _ in range(2):
        assert post(store, multipart(as_bytes(make_image()))).status_code == 200
    with store.database.reading() as session:
        study = session.scalars(select(Study)).one()
    assert (study.images, study.source) == (1, "web")


def test_the_client_of_dicomweb_client_stores(store):
    client = DICOMwebClient(store.url, headers={"Authorization": "Bearer good"})
    images = [make_image(study) for study in (1, 2, 3)]
    answer = client.store_instances(images)
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    assert store.images() == sorted(image.SOPInstanceUID for image in images)


def test_curl_stores_a_body_and_a_single_file(store, tmp_path):
    curl = shutil.which("curl")
    assert curl, "curl is missing: apt-get install curl."
    for number, (content_type, body) in enumerate(
        [
            (
                'multipart/related; type="application/dicom"; boundary=boundary',
                multipart(as_bytes(make_image(1))),
            ),
            ("application/dicom", as_bytes(make_image(2))),
        ]
    ):
        path = tmp_path / "body"
        path.write_bytes(body)
        command = [
            curl,
            "--silent",
            "--noproxy",
            "*",
            "--data-binary",
            f"@{path}",
            "-H",
            f"Content-Type: {content_type}",
        ]
        done = subprocess.run(
            [*command, "-H", "Authorization: Bearer good", "-H", "Expect: 100-continue", f"{store.url}/studies"],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert REFERENCED in json.loads(done.stdout)
        assert len(store.images()) == number + 1


def test_some_images_of_another_study_than_the_path_says_are_not_kept(store):
    wanted, other = make_image(1), make_image(2)
    answer = post(store, multipart(as_bytes(wanted), as_bytes(other)), f"/studies/{wanted.StudyInstanceUID}")
    assert answer.status_code == 202
    (failed,) = answer.json()[FAILED]["Value"]
    assert failed["00081155"]["Value"] == [other.SOPInstanceUID]
    assert failed[FAILURE]["Value"] == [0xA900]
    assert store.images() == [wanted.SOPInstanceUID]
    assert store.leftovers() == []


def test_where_no_image_is_kept_the_answer_is_a_conflict(store):
    answer = post(store, multipart(as_bytes(make_image(2))), f"/studies/{ROOT}.1")
    assert (answer.status_code, store.images()) == (409, [])


def test_other_bytes_under_a_known_uid_are_a_failure_that_does_not_go_away(store):
    post(store, multipart(as_bytes(make_image())))
    answer = post(store, multipart(as_bytes(make_image(PatientID="PHANTOM-OTHER"))))
    assert answer.status_code == 409
    assert answer.json()[FAILED]["Value"][0][FAILURE]["Value"] == [0xC111]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (make_image(SOPClassUID=BasicTextSRStorage), 0x0122),
        (make_image(StudyInstanceUID="../../etc/passwd"), 0xC000),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_no_image_is_a_failure(store, image, reason):
    answer = post(store, multipart(as_bytes(image)))
    assert answer.status_code == 409
    items = [item for tag in (FAILED, OTHERS) if tag in answer.json() for item in answer.json()[tag]["Value"]]
    assert [item[FAILURE]["Value"] for item in items] == [[reason]]
    assert "etc" not in answer.text
    assert store.leftovers() == []


def test_a_part_of_another_type_is_a_failure(store):
    body = multipart(b"{}", head="Content-Type: application/dicom+json")
    answer = post(store, body)
    assert (answer.status_code, answer.json()[OTHERS]["Value"][0][FAILURE]["Value"]) == (409, [0xC000])


def test_a_full_disk_is_never_a_success_and_asks_to_try_later(tmp_path):
    for store in start(tmp_path, retention={"least_free_gigabytes": 1e9}):
        answer = post(store, multipart(as_bytes(make_image())))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()[OTHERS]["Value"][0][FAILURE]["Value"] == [0xA700]
        assert store.images() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 415),
        ({"content_type": 'multipart/related; type="application/dicom+json"; boundary=boundary'}, 415),
        ({"content_type": "multipart/form-data; boundary=boundary"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_type": 'multipart/related; type="application/dicom"'}, 400),
        ({"content_type": f'multipart/related; type="application/dicom"; boundary={"b" * 71}'}, 400),
        ({"content_type": 'multipart/related; type="application/dicom"; boundary=another'}, 400),
        ({"accept": "application/dicom+xml"}, 406),
        ({"accept": "application/dicom+xml, application/dicom+json;q=0.5"}, 200),
        ({"accept": "*/*"}, 200),
        ({"authorization": "Bearer bad"}, 401),
    ],
)
def test_requests_are_answered_as_the_standard_says(store, headers, status):
    answer = post(store, multipart(as_bytes(make_image())), **headers)
    assert answer.status_code == status
    assert len(store.images()) == (status == 200)
    assert store.leftovers() == []


@pytest.mark.parametrize("study", ["1.2.a", "..%2f..", "1" * 65])
def test_a_study_in_the_path_that_is_no_uid_is_a_bad_request(store, study):
    answer = post(store, multipart(as_bytes(make_image())), f"/studies/{study}")
    assert answer.status_code in (400, 404)
    assert store.images() == []


def test_a_body_without_parts_is_a_bad_request(store):
    assert post(store, b"--boundary--\r\n").status_code == 400


def test_what_was_whole_before_the_body_broke_off_is_kept_and_nothing_else(store):
    body = multipart(as_bytes(make_image(1)), as_bytes(make_image(2)))
    assert post(store, body[:-40]).status_code == 400
    assert store.images() == [make_image(1).SOPInstanceUID]
    assert store.leftovers() == []


def received(store: Store) -> list[tuple[str, str, str]]:
    query = select(AuditEntry).where(AuditEntry.what == audit.IMAGES_RECEIVED).order_by(AuditEntry.id)
    with store.database.reading() as session:
        return [(line.who, line.target, line.detail) for line in session.scalars(query)]


def test_the_audit_trail_says_who_stored_how_many_images_of_which_study(store):
    images = [make_image(1, number=1), make_image(1, number=2), make_image(2), make_image(2)]
    assert post(store, multipart(*map(as_bytes, images), b"nothing")).status_code == 202
    first, second = images[0].StudyInstanceUID, images[2].StudyInstanceUID
    expected = [("gateway", first, "2 images"), ("gateway", second, "1 images")]
    assert received(store) == expected
    assert post(store, multipart(as_bytes(images[0]))).status_code == 200  # which was known
    assert received(store) == expected


def test_what_was_kept_of_a_body_that_broke_off_is_in_the_audit_trail(store):
    body = multipart(as_bytes(make_image(1)), as_bytes(make_image(2)))
    assert post(store, body[:-40]).status_code == 400
    assert received(store) == [("gateway", make_image(1).StudyInstanceUID, "1 images")]


def test_a_sender_that_goes_away_leaves_nothing_behind(store):
    body = multipart(as_bytes(make_image()), b"x" * 1_000_000)
    place = urlsplit(store.url)
    with socket.create_connection((place.hostname, place.port)) as connection:
        head = (
            "POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
            f"Content-Length: {len(body)}\r\n"
            'Content-Type: multipart/related; type="application/dicom"; boundary=boundary\r\n\r\n'
        )
        connection.sendall(head.encode() + body[:600_000])
        eventually(lambda: store.images() and store.leftovers())  # the first is kept, the second has begun
    eventually(lambda: not store.leftovers())
    assert store.images() == [make_image().SOPInstanceUID]


def test_more_than_is_taken_at_once_is_too_large(store, monkeypatch):
    monkeypatch.setattr(parts, "MOST_PARTS", 2)
    assert post(store, multipart(*[b"x"] * 3)).status_code == 413
    monkeypatch.setattr(parts, "LARGEST_INSTANCE", 1000)
    assert post(store, multipart(b"x" * 1001)).status_code == 413
    assert store.leftovers() == []


def test_stow_can_be_switched_off(tmp_path):
    for store in start(tmp_path, web={"stow": False}):
        assert post(store, multipart(as_bytes(make_image()))).status_code == 404
