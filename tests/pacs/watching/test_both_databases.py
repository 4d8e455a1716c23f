import time

import numpy as np
import pytest
from node_rows import Rows, configuration, image_reading, random_image
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import IntegrityError

from freezeframe.pacs.tables import Study, Worker
from freezeframe.pacs.watching import drift, health
from freezeframe.pacs.watching.metrics import NodeCollector


def test_metrics_health_and_drift_are_counted_in_either(database, tmp_path):
    made = configuration(
        tmp_path, drift={"window": 20, "baseline": 30}, retention={"least_free_gigabytes": 0}
    )
    (tmp_path / "node").mkdir(exist_ok=True)
    rows, generator, now = Rows(database, made), np.random.default_rng(3), time.time()
    with database.transaction() as session:
        for index in range(50):
            image = random_image(generator) if index < 30 else image_reading(0.99)
            rows.result(session, now - 5 * 86400 + index * 600, image)
        session.add(Worker(name="one", started_at=now, seen_at=now))
    signals = {signal.name: signal.state for signal in drift.look(database, made, now)}
    assert signals["positive rate (own)"] == "outside"
    registry = CollectorRegistry()
    registry.register(NodeCollector(database, made))
    value = registry.get_sample_value
    assert value("freezeframe_studies", {"state": "done"}) == 50
    assert value("freezeframe_reading_seconds_count") == 50
    assert value("freezeframe_workers_alive") == 1
    alarm = {"bundle": "default", "signal": "positive rate (own)"}
    assert value("freezeframe_drift_alarm", alarm) == 1
    assert all(check.ok for check in health.examine(database, made, now))


def test_errors_of_the_database_do_not_tell_what_was_to_be_stored(database):
    def add() -> None:
        with database.transaction() as session:
            session.add(
                Study(
                    study_uid="1.2",
                    source="web",
                    state="done",
                    first_at=0,
                    last_at=0,
                    patient_name="PHANTOM^0001",
                )
            )

    add()
    with pytest.raises(IntegrityError) as raised:
        add()
    assert "PHANTOM" not in str(raised.value)
