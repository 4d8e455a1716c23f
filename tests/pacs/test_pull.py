import csv
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import yaml
from node_rows import Rows, image_reading, reading
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from sqlalchemy import select
from typer.testing import CliRunner

from freezeframe.cli.main import app
from freezeframe.data.phantom import make_hospital
from freezeframe.data.sources import read_manifest
from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import open_database
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry, Feedback, Image, Result, Study
from freezeframe.pacs.trial.orthanc import orthanc
from freezeframe.recipe import DataSource
from freezeframe.verbs.pull import pull

NOW = 1.7e9


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hospital")
    make_hospital(folder, 6, 0)
    return sorted(folder.rglob("*.dcm"))[:6]


class Node:
    """A node that has read some films, one study each."""

    def __init__(self, folder: Path, films: list[Path], scores: list[float]) -> None:
        self.config = folder / "node.yaml"
        plain = {"folder": "node", "bundles": [{"path": "bundle"}], "rules": [{"name": "all"}]}
        self.config.write_text(yaml.safe_dump(plain))
        self.configuration = NodeConfiguration.read(self.config)
        self.database = open_database(self.configuration)
        rows = Rows(self.database, self.configuration)
        self.headers = [pydicom.dcmread(film, stop_before_pixels=True) for film in films]
        self.results: list[int] = []
        with self.database.transaction() as session:
            for film, header, score in zip(films, self.headers, scores, strict=True):
                result = rows.result(session, NOW, image_reading(score))
                image = session.scalars(select(Image).where(Image.study_id == result.study_id)).one()
                image.path = f"images/{header.SOPInstanceUID}.dcm"
                image.sop_instance_uid = header.SOPInstanceUID
                session.get_one(Study, result.study_id).study_uid = header.StudyInstanceUID
                said = reading(header.StudyInstanceUID, image_reading(score))
                images = (replace(said.images[0], sop_instance_uid=str(header.SOPInstanceUID)),)
                result.reading = replace(said, images=images).to_dict()
                (self.configuration.folder / "images").mkdir(exist_ok=True)
                shutil.copy(film, self.configuration.folder / image.path)
                self.results.append(result.id)

    def say(self, index: int, verdict: str, label: str = "", user: str = "ana", at: float = NOW) -> None:
        with self.database.transaction() as session:
            session.add(
                Feedback(result_id=self.results[index], user=user, verdict=verdict, label=label, at=at)
            )

    def pull(self, out: Path, **more):
        return pull("node", self.config, out, **more)


@pytest.fixture
def node(tmp_path, films):
    made = Node(tmp_path, films, [0.9, 0.1, 0.9, 0.1, 0.9, 0.1])
    yield made
    made.database.close()


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open() as handle:
        return list(csv.DictReader(handle))


def reasons(out: Path) -> list[str]:
    with (out / "left-out.csv").open() as handle:
        return [row["reason"] for row in csv.DictReader(handle)]


def test_what_readers_said_becomes_labels(node, tmp_path):
    node.say(0, "agree")
    node.say(1, "agree")
    node.say(2, "correct", "normal")
    node.say(3, "disagree")
    made = node.pull(tmp_path / "out")
    assert dict(made.labels) == {"opacity": 1, "normal": 2}
    assert sorted(row["feedback"] for row in rows(tmp_path / "out")) == ["agree", "agree", "correct"]
    assert reasons(tmp_path / "out") == ["the reader disagreed without a label"]


def test_the_newest_word_of_a_reader_counts(node, tmp_path):
    node.say(0, "correct", "normal", at=NOW)
    node.say(0, "agree", at=NOW + 1)
    assert dict(node.pull(tmp_path / "out").labels) == {"opacity": 1}


def test_readers_who_disagree_give_no_label(node, tmp_path):
    node.say(0, "agree")
    node.say(0, "correct", "normal", user="eva")
    assert node.pull(tmp_path / "out").images == 0
    assert reasons(tmp_path / "out") == ["readers disagree"]


def test_images_without_a_label_are_kept_where_that_is_asked_for(node, tmp_path):
    node.say(0, "disagree")
    assert dict(node.pull(tmp_path / "out", keep_unlabelled=True).labels) == {"": 1}


def test_a_result_that_a_later_one_replaced_gives_no_label(node, tmp_path):
    node.say(0, "agree")
    with node.database.transaction() as session:
        session.get_one(Result, node.results[0]).current = False
    assert node.pull(tmp_path / "out").images == 0


def test_an_image_that_retention_deleted_is_listed(node, tmp_path):
    node.say(0, "agree")
    with node.database.transaction() as session:
        for image in session.scalars(select(Image)):
            image.deleted_at = NOW
    node.pull(tmp_path / "out")
    assert reasons(tmp_path / "out") == ["it was deleted by retention"]


def test_a_broken_file_is_listed_and_ends_nothing(node, tmp_path):
    node.say(0, "agree")
    node.say(1, "agree")
    (node.configuration.folder / f"images/{node.headers[0].SOPInstanceUID}.dcm").write_bytes(b"PHANTOM^0001")
    assert node.pull(tmp_path / "out").images == 1
    assert reasons(tmp_path / "out") == ["it can't be read (InvalidDicomError)"]


def test_a_recipe_takes_the_folder_at_once(node, tmp_path):
    for index in range(6):
        node.say(index, "agree")
    made = node.pull(tmp_path / "out")
    manifest = read_manifest(DataSource(path=made.table))
    assert len(manifest.table) == 6
    assert set(manifest.table["label"]) == {"normal", "opacity"}
    assert set(manifest.table["patient"]) == {row["patient"] for row in rows(tmp_path / "out")}


def test_nothing_of_a_patient_or_of_the_original_uids_leaves(node, tmp_path):
    for index in range(6):
        node.say(index, "agree")
    node.pull(tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files) + "".join(map(str, files)).encode()
    for header in node.headers:
        for value in (header.PatientID, header.PatientName, header.StudyInstanceUID, header.SOPInstanceUID):
            assert str(value).encode() not in content


def test_the_audit_trail_says_what_left_and_says_it_first(node, tmp_path):
    node.say(0, "agree")
    node.pull(tmp_path / "out")
    with node.database.reading() as session:
        entry = session.scalars(select(AuditEntry)).one()
    assert entry.what == audit.IMAGES_EXPORTED
    assert entry.target == node.headers[0].StudyInstanceUID
    assert audit.verify(node.database).broken is None


def test_the_same_call_goes_on_where_one_was_ended(node, tmp_path):
    node.say(0, "agree")
    node.pull(tmp_path / "out")
    (image,) = (tmp_path / "out" / "images").iterdir()
    before = image.stat().st_mtime_ns
    node.say(1, "agree")
    assert node.pull(tmp_path / "out").images == 2
    assert image.stat().st_mtime_ns == before


def test_a_patient_has_the_same_pseudonym_in_another_export_with_the_same_secret(node, tmp_path):
    node.say(0, "agree")
    node.pull(tmp_path / "one")
    node.pull(tmp_path / "two")
    node.pull(tmp_path / "three", salt=tmp_path / "another.salt")
    one, two, three = (rows(tmp_path / name)[0]["patient"] for name in ("one", "two", "three"))
    assert one == two != three


def test_a_folder_of_another_pull_or_of_something_else_is_refused(node, tmp_path):
    node.say(0, "agree")
    node.pull(tmp_path / "out")
    with pytest.raises(UserError, match="another pull"):
        node.pull(tmp_path / "out", dates="remove")
    with pytest.raises(UserError, match="not empty"):
        node.pull(node.configuration.folder)


@pytest.mark.parametrize(
    ("origin", "more", "said"),
    [
        ("pax", {}, "one of: node, pacs"),
        ("node", {"dates": "shfit"}, "did you mean 'shift'"),
        ("pacs", {"first": "2026-01-01"}, "no source that is a PACS"),
    ],
)
def test_mistakes_are_said_with_what_to_do(node, tmp_path, origin, more, said):
    with pytest.raises(UserError, match=said):
        pull(origin, node.config, tmp_path / "out", **more)


def test_the_command_prints_the_table_and_what_was_left_out(node, tmp_path):
    node.say(0, "agree")
    node.say(1, "disagree")
    arguments = [
        "data",
        "pull",
        "--from",
        "node",
        "--config",
        str(node.config),
        "--out",
        str(tmp_path / "out"),
    ]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert "1 images of 1 patients" in answer.output
    assert "left out: the reader disagreed without a label" in answer.output


# From a real PACS


def send(port: int, films: list[Path]) -> None:
    entity = AE("SENDER")
    datasets = [pydicom.dcmread(film) for film in films]
    for dataset in datasets:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    entity.add_requested_context(datasets[0].SOPClassUID, ImplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="ORTHANC")
    assert association.is_established
    for dataset in datasets:
        assert association.send_c_store(dataset).Status == 0
    association.release()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory, films):
    port = free_port()
    with orthanc(tmp_path_factory.mktemp("pacs"), {"SENDER": 0, "PULLER": port, "FREEZEFRAME": 0}) as running:
        numbered = []
        folder = tmp_path_factory.mktemp("numbered")
        for index, film in enumerate(films):
            dataset = pydicom.dcmread(film)
            dataset.AccessionNumber, dataset.StudyDate = f"ACC-77{index}0", f"2026010{index + 1}"
            dataset.save_as(folder / f"{index}.dcm")
            numbered.append(folder / f"{index}.dcm")
        send(running.dicom_port, numbered)
        yield running, port


@pytest.fixture(params=["dicomweb", "query"])
def pulled_from(request, archive, tmp_path):
    """How to pull from the PACS in each way."""
    running, port = archive
    (tmp_path / "password").write_text(running.auth[1])
    sources = {
        "dicomweb": {
            "kind": "dicomweb", "name": "pacs", "url": running.web_url, "user": running.auth[0],
            "password_file": "password",
        },
        "query": {
            "kind": "query", "name": "pacs", "ae_title": "ORTHANC", "address": "127.0.0.1",
            "port": running.dicom_port,
        },
    }  # fmt: skip
    plain = {
        "folder": "node", "bundles": [{"path": "bundle"}], "rules": [{"name": "all"}],
        "sources": [sources[request.param]],
    }  # fmt: skip
    config = tmp_path / "node.yaml"
    config.write_text(yaml.safe_dump(plain))
    more = {"receive": f"PULLER:{port}"} if request.param == "query" else {}
    return lambda **asked: pull("pacs", config, tmp_path / "out", **more, **asked)


def test_a_pacs_is_pulled_by_dates(pulled_from, tmp_path):
    made = pulled_from(first="2026-01-02", last="2026-01-04")
    assert made.images == 3
    assert not made.left_out
    for row in rows(tmp_path / "out"):
        image = pydicom.dcmread(tmp_path / "out" / row["image"])
        assert image.pixel_array.size > 0
        assert image.PatientIdentityRemoved == "YES"


def test_a_pacs_is_pulled_by_accession_numbers_with_their_labels(pulled_from, tmp_path):
    (tmp_path / "cases.csv").write_text(
        "Accession Number,label\nACC-7710,normal\nACC-7730,opacity\nNONE-1,normal\n"
    )
    made = pulled_from(accessions=tmp_path / "cases.csv")
    assert dict(made.labels) == {"normal": 1, "opacity": 1}
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"ACC-77" not in content


def test_a_modality_that_nobody_has_pulls_nothing(pulled_from):
    assert pulled_from(first="2026-01-01", modalities=("US",)).images == 0


def test_a_pull_of_everything_is_refused(pulled_from):
    with pytest.raises(UserError, match="Nothing says which studies"):
        pulled_from()


def test_wildcards_among_accession_numbers_are_refused(pulled_from, tmp_path):
    (tmp_path / "cases.csv").write_text("accession\n*\n")
    with pytest.raises(UserError, match="wildcard"):
        pulled_from(accessions=tmp_path / "cases.csv")


@pytest.mark.parametrize("pulled_from", ["query"], indirect=True)
def test_a_pacs_without_dicomweb_needs_a_place_to_send_to(pulled_from, tmp_path):
    with pytest.raises(UserError, match="--receive"):
        pull("pacs", tmp_path / "node.yaml", tmp_path / "out", first="2026-01-01")
