import sqlite3
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from node_rows import Rows, image_reading
from sqlalchemy import event

from freezeframe.pacs.tables import DELIVERY_WAITING, JOB_WAITING, Delivery, Job, ResultObject, Worker
from freezeframe.pacs.watching import health

NOW = 1.7e9


@pytest.fixture
def rows(tmp_path):
    made = Rows.of(tmp_path, retention={"least_free_gigabytes": 0})
    with made.database.transaction() as session:
        session.add(Worker(name="one", started_at=NOW, seen_at=NOW))
    yield made
    made.database.close()


def failing(rows: Rows, now: float = NOW) -> dict[str, str]:
    return {
        check.key: check.reason
        for check in health.examine(rows.database, rows.configuration, now)
        if not check.ok
    }


def test_a_node_that_works_is_ready(rows):
    assert failing(rows) == {}


def test_a_worker_that_was_not_seen_lately_is_missed(rows):
    assert failing(rows, NOW + 3600) == {"workers": "no reading process was seen lately"}


def test_a_node_without_workers_of_its_own_misses_none(tmp_path):
    rows = Rows.of(tmp_path, limits={"workers": 0}, retention={"least_free_gigabytes": 0})
    assert failing(rows) == {}
    rows.database.close()


def test_a_disk_that_is_too_full_is_said(tmp_path):
    rows = Rows.of(tmp_path, limits={"workers": 0}, retention={"least_free_gigabytes": 1e9})
    assert "needed" in failing(rows)["disk"]
    rows.database.close()


def test_a_reading_that_is_long_overdue_is_said(rows):
    with rows.database.transaction() as session:
        study = rows.study(session, NOW)
        session.add(
            Job(study_id=study.id, version=1, bundle="default", rule="all", image_uids=[], priority=5,
                state=JOB_WAITING, not_before=NOW - 3600, created_at=NOW - 3600)
        )  # fmt: skip
    assert failing(rows) == {"readings": "one is due for 60 minutes"}


def test_a_delivery_that_fails_again_and_again_is_said(rows):
    with rows.database.transaction() as session:
        result = rows.result(session, NOW, image_reading())
        made = ResultObject(result_id=result.id, kind="sr", path="results/x", sha256="ab" * 32)
        session.add(made)
        session.flush()
        session.add(
            Delivery(
                object_id=made.id,
                destination="pacs",
                priority=1,
                state=DELIVERY_WAITING,
                attempts=6,
                not_before=NOW,
            )
        )
    assert failing(rows) == {"deliveries": "1 stuck"}


def test_a_database_that_cant_be_written_is_said(rows, tmp_path):
    rows.database.close()
    event.listen(rows.database.engine, "connect", lambda made, _: made.execute("PRAGMA busy_timeout=50"))
    other = sqlite3.connect(tmp_path / "node" / "node.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert failing(rows) == {"database": "it can't be written (OperationalError)"}
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_the_answers_are_200_and_503_with_reasons(rows):
    app = FastAPI()
    app.include_router(health.router(rows.database, rows.configuration))
    client = TestClient(app)
    assert client.get("/health/live").json() == {"status": "alive"}
    answer = client.get("/health/ready")  # the worker of these tests was seen long ago
    assert answer.status_code == 503
    assert [check["key"] for check in answer.json()["checks"] if not check["ok"]] == ["workers"]


def test_a_ready_node_answers_200(rows):
    with rows.database.transaction() as session:
        session.merge(Worker(name="one", started_at=time.time(), seen_at=time.time()))
    app = FastAPI()
    app.include_router(health.router(rows.database, rows.configuration))
    assert TestClient(app).get("/health/ready").status_code == 200
