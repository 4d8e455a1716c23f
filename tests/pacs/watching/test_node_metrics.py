import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from node_rows import Rows, image_reading
from prometheus_client.parser import text_string_to_metric_families

from freezeframe.pacs.tables import (
    DELIVERY_WAITING,
    JOB_WAITING,
    QUARANTINED,
    Cursor,
    Delivery,
    Job,
    ResultObject,
    Worker,
)
from freezeframe.pacs.watching import counters, metrics

PACS = {"kind": "dicom", "name": "pacs", "ae_title": "PACS", "address": "127.0.0.1", "port": 104}


@pytest.fixture
def rows(tmp_path):
    made = Rows.of(tmp_path, destinations=[PACS])
    yield made
    made.database.close()


def client(rows: Rows, address: str = "127.0.0.1") -> TestClient:
    app = FastAPI()
    app.include_router(metrics.router(rows.database, rows.configuration))
    return TestClient(app, client=(address, 4711))


def scraped(rows: Rows) -> dict:
    answer = client(rows).get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_an_empty_node_has_all_its_series_at_zero(rows):
    found = scraped(rows)
    assert found["freezeframe_studies", "receiving"] == 0
    assert found["freezeframe_results_total", "default", "positive"] == 0
    assert found["freezeframe_deliveries_open", "pacs", "waiting"] == 0
    assert found["freezeframe_reading_seconds_count",] == 0
    assert found["freezeframe_oldest_waiting_seconds",] == 0
    assert found["freezeframe_disk_free_bytes",] > 0


def test_what_happened_is_counted(rows):
    now = time.time()
    with rows.database.transaction() as session:
        rows.result(session, now, image_reading(0.9))
        result = rows.result(session, now, image_reading(0.1))
        rows.study(session, now, state=QUARANTINED)
        study = rows.study(session, now, source="gone")
        session.add(
            Job(study_id=study.id, version=1, bundle="default", rule="all", image_uids=[], priority=5,
                state=JOB_WAITING, not_before=now, created_at=now - 90)
        )  # fmt: skip
        made = ResultObject(result_id=result.id, kind="sr", path="results/x", sha256="ab" * 32)
        session.add(made)
        session.flush()
        session.add(
            Delivery(
                object_id=made.id,
                destination="pacs",
                priority=1,
                state=DELIVERY_WAITING,
                attempts=3,
                not_before=now,
            )
        )
        session.add(Worker(name="one", started_at=now, seen_at=now))
        session.add(Worker(name="dead", started_at=now, seen_at=now - 3600))
    found = scraped(rows)
    assert found["freezeframe_results_total", "default", "positive"] == 1
    assert found["freezeframe_results_total", "default", "negative"] == 1
    assert found["freezeframe_studies", "quarantined"] == 1
    assert found["freezeframe_images_received_total", "web"] == 3
    assert found["freezeframe_images_received_total", "other"] == 1
    assert 85 < found["freezeframe_oldest_waiting_seconds",] < 300
    assert found["freezeframe_deliveries_open", "pacs", "waiting"] == 1
    assert found["freezeframe_delivery_attempts_most",] == 3
    assert found["freezeframe_workers_alive",] == 1
    assert found["freezeframe_reading_seconds_bucket", "1"] == 0
    assert found["freezeframe_reading_seconds_bucket", "2"] == 2
    assert found["freezeframe_reading_seconds_sum",] == 3


def test_drift_is_among_them(rows):
    signal = {"bundle": "default", "name": "positive rate (own)", "value": 0.4, "alarm": True}
    with rows.database.transaction() as session:
        session.add(Cursor(name="drift", value={"signals": [signal]}, at=0))
    assert scraped(rows)["freezeframe_drift_alarm", "default", "positive rate (own)"] == 1


def test_counters_of_the_process_are_among_them(rows):
    counters.REFUSALS.labels("dicom", "unknown peer").inc()
    assert scraped(rows)["freezeframe_refusals_total", "dicom", "unknown peer"] >= 1


def test_no_patients_data_is_among_them(rows):
    with rows.database.transaction() as session:
        rows.result(session, time.time(), image_reading(0.9))
    text = client(rows).get("/metrics").text
    assert "PHANTOM" not in text
    assert "P0001" not in text


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1", 200), ("::ffff:127.0.0.1", 200), ("192.0.2.7", 403)]
)
def test_only_the_networks_of_the_configuration_may_ask(rows, address, status):
    assert client(rows, address).get("/metrics").status_code == status


def test_what_came_through_a_proxy_is_refused_since_it_hides_who_asks(rows):
    answer = client(rows).get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 403), ("::ffff:127.0.0.1", 403), ("127.0.0.2", 200), ("192.0.2.7", 403)],
)
def test_a_proxy_that_does_not_say_whom_it_speaks_for_is_refused_by_its_address(tmp_path, address, status):
    rows = Rows.of(tmp_path, web={"proxy": {"networks": ["127.0.0.1"]}})
    try:
        assert client(rows, address).get("/metrics").status_code == status
    finally:
        rows.database.close()
