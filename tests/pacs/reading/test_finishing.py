"""From a reading to its result: what is written, stored and sent, and what is not."""

import hashlib
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from pydicom import dcmread
from reading_jobs import NOW, add_film, add_job, get
from sqlalchemy import select

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.reading.findings import StudyReading
from freezeframe.pacs.reading.finishing import finish_reading
from freezeframe.pacs.reading.queue import Claim, claim, rerun, return_expired
from freezeframe.pacs.reading.study_reader import BundleReader, open_readers
from freezeframe.pacs.results.making import NoSourceError
from freezeframe.pacs.tables import (
    DELIVERING,
    DELIVERY_OVERTAKEN,
    DELIVERY_WAITING,
    JOB_DONE,
    JOB_OVERTAKEN,
    WAITING,
    Delivery,
    Result,
    ResultObject,
    Study,
)


@pytest.fixture(scope="module")
def reader(small_bundle, tmp_path_factory, configure):
    readers = open_readers(configure(tmp_path_factory.mktemp("node"), small_bundle), 1)
    with closing(readers["default"]) as opened:
        yield opened


def take(database: Database, now: float = NOW) -> Claim:
    held = claim(database, "a", 30, now)
    assert held is not None
    return held


def rows(database: Database, table: type) -> list:
    with database.reading() as session:
        return list(session.scalars(select(table).order_by(table.id)))


def written(configuration: NodeConfiguration) -> dict[str, str]:
    """SHA-256 of each file of a result."""
    folder = configuration.folder
    paths = [path for path in (folder / "results").rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }


def finish(node, reader: BundleReader, held: Claim, **changes) -> tuple[int | None, StudyReading]:
    database, configuration = node
    reading = replace(reader.read(held, configuration.folder), **changes)
    return finish_reading(database, configuration, held, reading, 0.5, NOW + 1), reading


def test_a_reading_becomes_a_result_with_objects_that_are_to_be_delivered(node, reader):
    database, configuration = node
    (job_id,) = add_film(database, configuration.folder, 1, films=2)
    result_id, reading = finish(node, reader, take(database))
    (result,) = rows(database, Result)
    assert (result.id, result.job_id, result.version, result.current) == (result_id, job_id, 1, True)
    assert (result.outcome, result.probability) == (reading.outcome, reading.probability)
    assert (result.bundle, result.bundle_sha256) == ("default", reading.model.sha256)
    assert StudyReading.from_dict(result.reading) == reading
    objects = rows(database, ResultObject)
    assert {entry.kind for entry in objects} == {"sr", "sc"}
    files = written(configuration)
    assert {entry.path: entry.sha256 for entry in objects}.items() <= files.items()
    for entry in objects:
        data = dcmread(configuration.folder / entry.path)
        assert data.SOPInstanceUID == entry.sop_instance_uid
        assert data.StudyInstanceUID == "1.2.3.1"
    assert {image.heat_map for image in reading.images} <= set(files)
    deliveries = rows(database, Delivery)
    assert {entry.object_id for entry in deliveries} == {entry.id for entry in objects}
    job, study = get(database, job_id)
    assert (job.state, study.state) == (JOB_DONE, DELIVERING)


def test_what_a_killed_attempt_left_is_what_the_next_one_makes(node, reader):
    database, configuration = node
    add_film(database, configuration.folder, 1)
    first = take(database)
    reading = reader.read(first, configuration.folder)
    return_expired(database, configuration.limits, NOW + 31)
    assert finish_reading(database, configuration, first, reading, 0.5, NOW + 32) is None
    left = written(configuration)
    assert len(left) == 3
    assert rows(database, Result) == []
    result_id, _ = finish(node, reader, take(database, NOW + 1000))
    assert result_id is not None
    assert written(configuration) == left
    assert len(rows(database, Result)) == 1


def test_of_two_versions_the_later_result_is_the_current_one(node, reader):
    database, configuration = node
    add_film(database, configuration.folder, 1, films=2)
    finish(node, reader, take(database))
    with database.transaction() as session:
        study = session.scalars(select(Study)).one()
        study.version, study.state = 2, WAITING
        add_job(session, study, "default", ["1.2.3.1.2"])
    finish(node, reader, take(database))
    assert [(result.version, result.current) for result in rows(database, Result)] == [(1, False), (2, True)]
    uids = [entry.sop_instance_uid for entry in rows(database, ResultObject)]
    assert len(set(uids)) == len(uids)


def test_a_version_that_was_overtaken_leaves_no_result(node, reader):
    database, configuration = node
    (job_id,) = add_film(database, configuration.folder, 1)
    held = take(database)
    with database.transaction() as session:
        study = session.scalars(select(Study)).one()
        study.version, study.state = 2, WAITING
        add_job(session, study, "default", ["1.2.3.1.1"])
    assert finish(node, reader, held)[0] is None
    assert get(database, job_id)[0].state == JOB_OVERTAKEN
    assert rows(database, Result) == []
    assert finish(node, reader, take(database))[0] is not None
    (result,) = rows(database, Result)
    assert (result.version, result.current) == (2, True)
    assert rows(database, Study)[0].state == DELIVERING


def read_again(node, reader: BundleReader, **changes) -> int | None:
    """Have a study read, order it again, and return the second result."""
    database, configuration = node
    add_film(database, configuration.folder, 1)
    held = take(database)
    finish(node, reader, held)
    with database.transaction() as session:
        rerun(session, held.job_id, NOW + 5)
    return finish(node, reader, take(database, NOW + 5), **changes)[0]


def test_the_same_answer_of_the_same_bundle_is_stored_and_sent_once(node, reader):
    database, _ = node
    assert read_again(node, reader) is None
    (result,) = rows(database, Result)
    assert result.current
    assert len(rows(database, ResultObject)) == len(rows(database, Delivery)) == 2
    assert {entry.state for entry in rows(database, Delivery)} == {DELIVERY_WAITING}
    assert rows(database, Study)[0].state == DELIVERING


def test_another_bundle_makes_a_further_result_with_uids_of_its_own(node, reader):
    database, _ = node
    model = replace(reader.model, sha256="cd" * 32)
    assert read_again(node, reader, model=model) is not None
    before, after = rows(database, Result)
    assert (before.version, before.current, after.version, after.current) == (1, False, 2, True)
    uids = [entry.sop_instance_uid for entry in rows(database, ResultObject)]
    assert len(set(uids)) == len(uids) == 4
    states = {entry.object_id: entry.state for entry in rows(database, Delivery)}
    assert sorted(states.values()) == [DELIVERY_OVERTAKEN] * 2 + [DELIVERY_WAITING] * 2


def test_one_bundle_under_two_names_makes_two_results_with_uids_of_their_own(
    sqlite, tmp_path, small_bundle, configure
):
    bundles = [{"name": name, "path": str(small_bundle)} for name in ("frontal", "lateral")]
    configuration = configure(
        tmp_path, small_bundle, bundles=bundles, rules=[{"name": "all", "bundle": "frontal"}]
    )
    add_film(sqlite, configuration.folder, 1, films=2, bundles=("frontal", "lateral"))
    for reader in open_readers(configuration, 1).values():
        with closing(reader):
            held = take(sqlite)
            half = replace(held, images=held.images[: 1 + (held.bundle == "lateral")])
            reading = reader.read(half, configuration.folder)
            assert reading.model.configured_as == held.bundle
            assert finish_reading(sqlite, configuration, held, reading, 0.5, NOW + 1) is not None
    uids = [entry.sop_instance_uid for entry in rows(sqlite, ResultObject)]
    assert len(uids) == len(set(uids)) == 5


def test_a_reading_of_an_earlier_release_is_told_to_be_the_same(node, reader):
    database, configuration = node
    add_film(database, configuration.folder, 1)
    finish(node, reader, take(database))
    with database.transaction() as session:
        result = session.scalars(select(Result)).one()
        older = {name: value for name, value in result.reading["model"].items() if name != "configured_as"}
        result.reading = {**result.reading, "model": older}
        study = session.scalars(select(Study)).one()
        study.version, study.state = 2, WAITING
        add_job(session, study, "default", ["1.2.3.1.1"])
    assert StudyReading.from_dict(rows(database, Result)[0].reading).model.configured_as == ""
    assert finish(node, reader, take(database))[0] is None


def test_another_answer_of_the_same_bundle_makes_a_further_result(node, reader):
    database, _ = node
    unreadable = (("1.2.3.1.9", "it is truncated."),)
    assert read_again(node, reader, unreadable=unreadable) is not None
    assert [result.current for result in rows(database, Result)] == [False, True]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_refused_study_has_a_result_and_objects_where_they_are_wanted(node, reader, wanted):
    database, configuration = node
    results = configuration.results.model_copy(update={"refused": wanted})
    configuration = configuration.model_copy(update={"results": results})
    (job_id,) = add_film(database, configuration.folder, 1)
    held = take(database)
    path = configuration.folder / str(held.images[0].path)
    path.write_bytes(path.read_bytes()[:-1000])
    finish((database, configuration), reader, held)
    (result,) = rows(database, Result)
    assert (result.outcome, result.probability) == ("refused", None)
    assert bool(rows(database, ResultObject)) is wanted
    assert get(database, job_id)[1].state == DELIVERING


def test_an_image_whose_header_can_not_be_read_is_named_in_the_result(node, reader):
    database, configuration = node
    add_film(database, configuration.folder, 1, films=2)
    (configuration.folder / "images/1.2.3.1/1.2.3.1.2.dcm").write_bytes(b"\0" * 10)
    result_id, reading = finish(node, reader, take(database))
    assert result_id is not None
    assert [image.sop_instance_uid for image in reading.images] == ["1.2.3.1.1"]
    assert [uid for uid, _ in reading.unreadable] == ["1.2.3.1.2"]
    (report,) = [entry for entry in rows(database, ResultObject) if entry.kind == "sr"]
    said = [element.value for element in dcmread(configuration.folder / report.path).iterall()]
    assert any(
        isinstance(value, str) and value.startswith("Image 1.2.3.1.2 could not be read") for value in said
    )


def test_nothing_is_stored_where_the_objects_cannot_be_made(node, reader):
    database, configuration = node
    add_film(database, configuration.folder, 1)
    held = take(database)
    reading = reader.read(held, configuration.folder)
    shutil.rmtree(configuration.folder / "images")
    with pytest.raises(NoSourceError):
        finish_reading(database, configuration, held, reading, 0.5, NOW)
    assert rows(database, Result) == rows(database, ResultObject) == rows(database, Delivery) == []
    assert get(database, held.job_id)[0].claimed_by == "a"
