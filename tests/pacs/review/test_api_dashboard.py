import time
from dataclasses import asdict
from datetime import date, timedelta

import pytest
from node_rows import image_reading
from sqlalchemy import select

from freezeframe.evaluation.intervals import wilson
from freezeframe.pacs.review.dashboard import truth
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry, Cursor, Feedback, Result
from freezeframe.pacs.watching.drift_signals import Signal

DAY = 86400


def add(node, score: float, verdict: str = "", label: str = "", ago: float = 0.0, wait: float = 60.0) -> None:
    now = time.time() - ago
    with node.rows.database.transaction() as session:
        result = node.rows.result(session, now, image_reading(score))
        result.created_at = now + wait
        if verdict:
            session.add(Feedback(result_id=result.id, user="a", verdict=verdict, label=label, at=now))


def dashboard(node, **parameters):
    answer = node.as_("viewer").get("/api/dashboard", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_empty_node_has_a_dashboard(web_node):
    found = dashboard(web_node)
    assert found["volumes"] == [{"day": date.today().isoformat(), "studies": 0, "positive": 0, "refused": 0}]
    assert found["waiting"] == {"p50": None, "p95": None, "p99": None, "unit": "s", "n": 0}
    assert found["sensitivity"] == {"value": None, "low": None, "high": None, "n": 0}
    assert (found["agreement"], found["over_time"], found["states"], found["drift"]) == ([], [], {}, [])


def test_volumes_are_counted_by_day_also_days_without_a_study(web_node):
    add(web_node, 0.9, ago=2 * DAY)
    add(web_node, 0.1, ago=2 * DAY)
    web_node.study(time.time(), state="waiting")
    found = dashboard(web_node)
    today = date.today()
    assert found["volumes"] == [
        {"day": (today - timedelta(2)).isoformat(), "studies": 2, "positive": 1, "refused": 0},
        {"day": (today - timedelta(1)).isoformat(), "studies": 0, "positive": 0, "refused": 0},
        {"day": today.isoformat(), "studies": 1, "positive": 0, "refused": 0},
    ]
    assert found["states"] == {"done": 2, "waiting": 1}


def test_what_is_older_than_was_asked_for_does_not_count(web_node):
    add(web_node, 0.9, "agree", ago=10 * DAY)
    found = dashboard(web_node, days=5)
    assert found["sensitivity"]["n"] == 0
    assert sum(day["studies"] for day in found["volumes"]) == 0


def test_waiting_is_from_the_last_image_to_the_result(web_node):
    for wait in (10, 20, 30, 40, 100):
        add(web_node, 0.1, wait=wait)
    found = dashboard(web_node)["waiting"]
    assert found["p50"] == pytest.approx(30, abs=0.01)
    assert found["p95"] == pytest.approx(88, abs=0.01)
    assert found["n"] == 5


def test_a_reading_that_was_ordered_again_tells_nothing_of_waiting(web_node):
    add(web_node, 0.1, wait=10)
    add(web_node, 0.1, wait=90_000)
    with web_node.rows.database.transaction() as session:
        audit.record(session, "admin", audit.RERUN, "1.2.3.2")
    assert dashboard(web_node)["waiting"]["p99"] == pytest.approx(10, abs=0.01)


def test_sensitivity_and_specificity_are_against_what_the_readers_said_with_wilsons_intervals(web_node):
    add(web_node, 0.9, "agree")  # true positive
    add(web_node, 0.9, "agree")
    add(web_node, 0.9, "disagree")  # false positive
    add(web_node, 0.9, "correct", "normal")  # false positive
    add(web_node, 0.1, "agree")  # true negative
    add(web_node, 0.1, "correct", "opacity")  # false negative
    add(web_node, 0.1)  # nobody said anything
    found = dashboard(web_node)
    low, high = wilson(2, 3)
    assert found["sensitivity"] == pytest.approx({"value": 2 / 3, "low": low, "high": high, "n": 3})
    low, high = wilson(1, 3)
    assert found["specificity"] == pytest.approx({"value": 1 / 3, "low": low, "high": high, "n": 3})
    (week,) = found["over_time"]
    assert week["sensitivity"] == found["sensitivity"]
    assert date.fromisoformat(week["week"]).weekday() == 0
    assert found["agreement"] == [{"week": week["week"], "reviewed": 6, "agreed": 3}]


def test_weeks_are_kept_apart(web_node):
    add(web_node, 0.9, "agree", ago=14 * DAY)
    add(web_node, 0.9, "disagree")
    found = dashboard(web_node)
    assert [week["agreed"] for week in found["agreement"]] == [1, 0]


def test_of_several_verdicts_the_newest_counts_and_of_several_versions_the_newest(web_node):
    add(web_node, 0.9, "agree")
    add(web_node, 0.9, "agree")
    with web_node.rows.database.transaction() as session:
        session.add(Feedback(result_id=1, user="b", verdict="disagree", at=time.time() + 9))
        session.get_one(Result, 2).current = False
    found = dashboard(web_node)
    assert (found["sensitivity"]["n"], found["specificity"]["value"]) == (0, 0.0)


@pytest.mark.parametrize(
    ("verdict", "label", "said", "positive_class", "held"),
    [
        ("agree", "", True, "b", True), ("agree", "", False, "b", False), ("disagree", "", True, "b", False),
        ("disagree", "", False, "b", True), ("correct", "b", False, "b", True), ("correct", "c", True, "b", False),
        ("correct", "c", True, None, True), ("correct", "a", True, None, False),
    ],
)  # fmt: skip
def test_the_readers_truth_follows_from_verdict_and_label(verdict, label, said, positive_class, held):
    assert truth(verdict, label, said, positive_class, ["a", "b", "c"]) is held


def test_drift_is_shown_as_it_was_last_looked_at(web_node):
    signal = {
        "bundle": "default", "name": "positive rate (own)", "state": "outside", "value": 0.5, "low": 0.1, "high": 0.3,
        "alarm": True, "images": 200,
    }  # fmt: skip
    with web_node.rows.database.transaction() as session:
        session.add(Cursor(name="drift", value={"signals": [signal]}, at=0.0))
    del signal["images"]
    assert dashboard(web_node)["drift"] == [signal]


def test_an_administrator_reads_the_audit_trail_the_newest_first(web_node):
    with web_node.rows.database.transaction() as session:
        audit.record(session, "node", audit.STARTED)
    answer = web_node.as_("admin").get("/api/audit", params={"limit": 2}).json()["entries"]
    assert [entry["what"] for entry in answer] == [audit.AUDIT_READ, audit.STARTED]


def test_an_administrator_acknowledges_an_alarm_which_is_then_no_longer_shown(web_node):
    signal = Signal(
        "default", "positive rate (own)", "outside", 0.5, 0.1, 0.3, 0.2, 0.5, 200, 200, since=1.0, alarm=True
    )
    alarm = {"key": signal.key, "since": 1.0, "detail": ""}
    with web_node.rows.database.transaction() as session:
        session.add(Cursor(name="drift", value={"signals": [asdict(signal)], "alarms": [alarm]}, at=0.0))
    admin = web_node.as_("admin")
    assert [entry["key"] for entry in admin.get("/api/node").json()["alarms"]] == [signal.key]
    assert web_node.as_("reader").post("/api/alarms/acknowledge", json={"key": signal.key}).status_code == 403
    assert admin.post("/api/alarms/acknowledge", json={"key": "another"}).status_code == 404
    assert admin.post("/api/alarms/acknowledge", json={"key": signal.key}).status_code == 200
    assert admin.get("/api/node").json()["alarms"] == []
    with web_node.rows.database.reading() as session:
        newest = session.scalars(select(AuditEntry.what).order_by(AuditEntry.id.desc())).first()
    assert newest == audit.ALARM_ACKNOWLEDGED
