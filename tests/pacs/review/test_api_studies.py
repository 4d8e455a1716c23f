import json
import time
from contextlib import closing
from pathlib import Path

import pg8000.native
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from node_rows import CLASSES
from small_images import make_image
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select

from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.pacs.review.summaries import MOST_WORDS, text_condition
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    IGNORED,
    JOB_QUARANTINED,
    QUARANTINED,
    AuditEntry,
    Cursor,
    Delivery,
    Feedback,
    Image,
    Job,
    Result,
    ResultObject,
    Study,
)

NOW = 1_790_000_000.0


def uids(client, **parameters) -> list[str]:
    answer = client.get("/api/studies", params=parameters)
    assert answer.status_code == 200, answer.text
    return [study["study_uid"] for study in answer.json()["studies"]]


def say(node, result: Result, verdict: str, user: str = "reader", at: float = NOW, label: str = "") -> None:
    with node.rows.database.transaction() as session:
        session.add(Feedback(result_id=result.id, user=user, verdict=verdict, label=label, at=at))


def audited(node, what: str) -> list[AuditEntry]:
    with node.rows.database.reading() as session:
        return list(session.scalars(select(AuditEntry).where(AuditEntry.what == what)))


def test_the_worklist_shows_a_study_with_its_result(web_node):
    web_node.result(0.9, warned=True, description="CHEST PA", accession_number="A1")
    study = web_node.as_("viewer").get("/api/studies").json()["studies"][0]
    assert study == {
        "study_uid": "1.2.3.1", "patient_name": "PHANTOM^0001", "patient_id": "P0001", "patient_sex": "",
        "patient_birth_date": "", "accession_number": "A1", "study_date": "", "study_time": "",
        "description": "CHEST PA", "modalities": ["DX"], "source": "web", "state": "done", "version": 1, "images": 1,
        "received_at": NOW, "outcome": "positive", "probability": 0.9, "positive_class": "opacity", "threshold": 0.5,
        "bundle": "default", "warnings": 1, "feedback": None, "reason": "",
    }  # fmt: skip


def test_a_study_without_a_result_is_shown_too(web_node):
    web_node.study(state=IGNORED, reason="no rule wants it")
    study = web_node.as_("viewer").get("/api/studies").json()["studies"][0]
    assert (study["outcome"], study["reason"], study["warnings"]) == (None, "no rule wants it", 0)


def test_urgent_studies_come_first_by_probability_then_the_newest(web_node):
    web_node.result(0.6, NOW + 4)  # 1
    web_node.result(0.95, NOW)  # 2
    web_node.result(0.1, NOW + 5)  # 3
    reviewed = web_node.result(0.99, NOW + 1)  # 4
    web_node.study(NOW + 9)  # 5
    say(web_node, reviewed, "agree")
    client = web_node.as_("viewer")
    assert [uid[-1] for uid in uids(client)] == ["2", "1", "5", "3", "4"]
    assert [uid[-1] for uid in uids(client, order="newest")] == ["5", "3", "1", "4", "2"]


def test_the_list_is_given_in_parts_with_the_number_of_all(web_node):
    for number in range(5):
        web_node.study(NOW + number)
    client = web_node.as_("viewer")
    answer = client.get("/api/studies", params={"limit": 2, "offset": 2, "order": "newest"}).json()
    assert (answer["total"], [entry["study_uid"] for entry in answer["studies"]]) == (
        5,
        ["1.2.3.3", "1.2.3.2"],
    )


def test_the_list_is_chosen_by_state_outcome_source_and_feedback(web_node):
    first, second = web_node.result(0.9), web_node.result(0.1, source="pacs")
    web_node.study(state=QUARANTINED)
    say(web_node, first, "disagree")
    client = web_node.as_("viewer")
    assert uids(client, state="quarantined") == ["1.2.3.3"]
    assert uids(client, outcome="negative") == ["1.2.3.2"]
    assert uids(client, source="pacs") == ["1.2.3.2"]
    assert uids(client, feedback="any") == uids(client, feedback="disagree") == ["1.2.3.1"]
    assert uids(client, feedback="none") == ["1.2.3.2"]
    assert uids(client, feedback="agree") == []
    assert second.study_id == 2


@pytest.mark.parametrize(
    "parameters", [{"state": "x"}, {"limit": 0}, {"limit": 501}, {"offset": -1}, {"order": "x"}]
)
def test_a_question_that_makes_no_sense_is_refused_without_its_content(web_node, parameters):
    answer = web_node.as_("viewer").get("/api/studies", params=parameters)
    assert answer.status_code == 422
    assert answer.json() == {"detail": f"Not as expected: {next(iter(parameters))}."}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("phantom", True), ("PHANTOM 0001", True), ("0001 phan", True), ("p0001", True), ("a77", True),
        ("thorax", True),
        ("MUÑOZ", True), ("muñoz", True), ("Muñoz", True), ("phantom 0002", False), ("%", False), ("_", False),
        ("100%", False), ("\\", False), ("'; DROP TABLE studies; --", False), ("\0", True), ("   ", True),
    ],
)  # fmt: skip
def test_studies_are_found_by_words_of_name_identifier_accession_number_and_description(
    web_node, text, found
):
    web_node.study(description="Thorax MUÑOZ", accession_number="A77")
    assert uids(web_node.as_("viewer"), text=text) == (["1.2.3.1"] if found else [])


@pytest.fixture(scope="module")
def texts():
    engine = create_engine("sqlite://")
    table = Table("texts", MetaData(), Column("text", String))
    with engine.connect() as connection:
        table.metadata.create_all(connection)
        yield connection, table
    engine.dispose()


WORDS = st.text(st.sampled_from("aB%_\\/'\"^*[]ñÑ-"), min_size=1, max_size=5)


@given(
    st.text(st.sampled_from("abB%_\\/'\"^*[]ñÑ- "), max_size=12),
    st.lists(WORDS, min_size=1, max_size=MOST_WORDS),
)
@settings(max_examples=150, deadline=None)
@example("a_b", ["%"])
@example("a\\%b", ["\\%"])
def test_searched_words_are_taken_literally_whatever_they_are(texts, content, words):
    connection, table = texts
    connection.execute(table.delete())
    connection.execute(insert(table), {"text": content})
    query = select(table).where(text_condition(" ".join(words), (table.c.text,)))
    found = connection.execute(query).first() is not None
    # Case is folded, of letters other than ASCII's at least where the whole word has one case.
    exact = all(word in content for word in words)
    folded = all(word.lower() in content.lower() for word in words)
    assert exact <= found <= folded


def test_a_name_that_is_a_script_is_only_a_text(web_node):
    name = "<script>alert('x')</script>"
    web_node.study(patient_name=name)
    answer = web_node.as_("viewer").get("/api/studies")
    assert answer.json()["studies"][0]["patient_name"] == name
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def put_image(node, study_uid: str) -> None:
    path = node.folder / f"images/{study_uid}/{study_uid}.1.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    make_image().save_as(path, enforce_file_format=True)


def test_one_study_is_shown_with_images_results_warnings_and_deliveries(web_node):
    result = web_node.result(0.9, warned=True)
    put_image(web_node, "1.2.3.1")
    with web_node.rows.database.transaction() as session:
        made = ResultObject(result_id=result.id, kind="sr", path="x", sha256="0")
        session.add(made)
        session.flush()
        session.add(
            Delivery(object_id=made.id, destination="pacs", priority=0, state="waiting", attempts=3, not_before=NOW,
                     reason="refused")
        )  # fmt: skip
    say(web_node, result, "agree", "reader", NOW)
    say(web_node, result, "disagree", "reader", NOW + 2)
    say(web_node, result, "agree", "other", NOW + 1)
    answer = web_node.as_("viewer").get("/api/studies/1.2.3.1").json()
    assert answer["study"]["study_uid"] == "1.2.3.1"
    assert answer["images"] == [
        {"sop_instance_uid": "1.2.3.1.1", "series_uid": "1.2.3.1.0", "rows": 16, "columns": 12, "frames": 1,
         "available": True}
    ]  # fmt: skip
    (found,) = answer["results"]
    assert found["reading"]["images"][0]["members"]["a"]["opacity"] == 0.9
    assert found["warnings"][0]["sentence"].startswith("The image has almost no contrast (1%")
    assert [(entry["user"], entry["verdict"]) for entry in found["feedback"]] == [
        ("reader", "disagree"),
        ("other", "agree"),
    ]
    delivery = found["deliveries"][0]
    assert (delivery["kind"], delivery["state"], delivery["attempts"]) == ("sr", "waiting", 3)
    assert answer["job"]["state"] == "done"
    assert answer["previous"] == []


def test_warnings_are_said_in_the_language_of_the_page(web_node):
    web_node.result(0.9, warned=True)
    client = web_node.as_("viewer")
    answer = client.get("/api/studies/1.2.3.1", headers={"Accept-Language": "es"}).json()
    assert answer["results"][0]["warnings"][0]["sentence"].startswith("La imagen casi no tiene contraste")


def test_a_deleted_image_is_not_available(web_node):
    web_node.result()
    put_image(web_node, "1.2.3.1")
    with web_node.rows.database.transaction() as session:
        session.get_one(Image, 1).deleted_at = NOW
    image = web_node.as_("viewer").get("/api/studies/1.2.3.1").json()["images"][0]
    assert (image["available"], image["rows"]) == (False, None)


def test_previous_studies_are_those_under_the_same_identifier(web_node):
    web_node.result(0.2, NOW, patient_id="P1")
    web_node.result(0.9, NOW + 5, patient_id="P1")
    web_node.result(0.9, NOW + 6, patient_id="P2")
    client = web_node.as_("viewer")
    previous = client.get("/api/studies/1.2.3.2").json()["previous"]
    assert [study["study_uid"] for study in previous] == ["1.2.3.1"]


def test_studies_without_an_identifier_are_not_taken_for_one_patients(web_node):
    web_node.study(patient_id="")
    web_node.study(patient_id="")
    assert web_node.as_("viewer").get("/api/studies/1.2.3.1").json()["previous"] == []


@pytest.mark.parametrize("uid", ["9.9", "x", "%00", "1" * 500, "..%2f..%2fnode.sqlite"])
def test_a_study_that_is_not_there_is_not_found(web_node, uid):
    assert web_node.as_("viewer").get(f"/api/studies/{uid}").status_code == 404


def test_opening_a_study_is_audited_once_in_a_while(web_node):
    web_node.result()
    client = web_node.as_("viewer")
    for _ in range(3):
        client.get("/api/studies/1.2.3.1")
    (line,) = audited(web_node, audit.STUDY_OPENED)
    assert (line.who, line.target) == ("viewer", "1.2.3.1")


def test_searches_are_audited_without_what_was_searched_for(web_node):
    web_node.as_("viewer").get("/api/studies", params={"text": "PHANTOM"})
    (line,) = audited(web_node, audit.STUDIES_LISTED)
    assert "PHANTOM" not in line.target + line.detail


def test_an_administrator_has_a_study_read_again(web_node):
    web_node.result()
    with web_node.rows.database.transaction() as session:
        session.get_one(Job, 1).state = JOB_QUARANTINED
        session.get_one(Study, 1).state = QUARANTINED
    answer = web_node.as_("admin").post("/api/studies/1.2.3.1/rerun")
    assert answer.json() == {"jobs": [1]}
    with web_node.rows.database.reading() as session:
        assert session.get_one(Job, 1).state == "waiting"
    assert audited(web_node, audit.RERUN)[0].target == "1.2.3.1"


def test_a_study_that_two_bundles_read_is_read_again_by_both(web_node):
    web_node.result()
    with web_node.rows.database.transaction() as session:
        first = session.get_one(Job, 1)
        fields = {column.key: getattr(first, column.key) for column in Job.__table__.columns}
        session.add(Job(**{**fields, "id": None, "bundle": "other"}))
    client = web_node.as_("admin")
    assert len(client.post("/api/studies/1.2.3.1/rerun").json()["jobs"]) == 2


def test_a_study_that_waits_can_not_be_read_again(web_node):
    web_node.result()
    client = web_node.as_("admin")
    assert client.post("/api/studies/1.2.3.1/rerun").status_code == 200
    again = client.post("/api/studies/1.2.3.1/rerun")
    assert again.status_code == 409
    assert "waits to be read" in again.json()["detail"]


def test_a_study_that_no_rule_wanted_can_not_be_read_again(web_node):
    web_node.study(state=IGNORED)
    assert web_node.as_("admin").post("/api/studies/1.2.3.1/rerun").status_code == 409


def test_the_node_says_what_it_is_with_its_bundles_and_alarms(web_node, tmp_path):
    with web_node.rows.database.transaction() as session:
        alarm = {"key": "k", "since": NOW, "detail": "unlike"}
        session.add(Cursor(name="drift", value={"alarms": [alarm]}, at=NOW))
    answer = web_node.as_("viewer").get("/api/node").json()
    assert (answer["ae_title"], answer["shadow"], answer["language"]) == ("FREEZEFRAME", False, "en")
    assert answer["alarms"] == [alarm]
    assert answer["bundles"] == [{"name": "default", "classes": [], "positive_class": None}]


def test_the_node_names_the_classes_of_its_bundle(make_node, tmp_path):
    write_bundle(tmp_path / "bundle")
    answer = make_node().as_("viewer").get("/api/node").json()
    assert answer["bundles"] == [
        {"name": "default", "classes": ["normal", "opacity"], "positive_class": "opacity"}
    ]


def test_all_of_it_works_on_postgresql_too(make_node, postgresql_port):
    name = f"page_{time.monotonic_ns()}"
    with closing(
        pg8000.native.Connection("node", host="127.0.0.1", port=postgresql_port, database="postgres")
    ) as server:
        server.run(f"CREATE DATABASE {name}")
    node = make_node(database=f"postgresql+pg8000://node@127.0.0.1:{postgresql_port}/{name}")
    first, second = (
        node.result(0.6, warned=True, patient_id="P"),
        node.result(0.9, time.time(), patient_id="P"),
    )
    say(node, first, "agree")
    client = node.as_("admin")
    assert uids(client) == ["1.2.3.2", "1.2.3.1"]
    assert uids(client, feedback="agree", outcome="positive", text="phantöm 0001") == []
    assert uids(client, feedback="agree", outcome="positive", text="phantom 0001") == ["1.2.3.1"]
    assert uids(client, text="\0%_\\") == []
    assert len(client.get("/api/studies/1.2.3.1").json()["previous"]) == 1
    said = {"verdict": "correct", "label": "normal", "remark": "\0 ñ"}
    assert client.post(f"/api/results/{second.id}/feedback", json=said).status_code == 200
    assert client.post("/api/studies/1.2.3.1/rerun").status_code == 200
    found = client.get("/api/dashboard", params={"days": 3650}).json()
    assert (found["sensitivity"]["n"], found["specificity"]["value"]) == (1, 0.0)
    assert client.get("/api/audit").json()["entries"][-1]["who"] == "admin"
    assert audit.verify(node.rows.database).broken is None


def write_bundle(folder: Path) -> None:
    """Only what a bundle says of itself."""
    preprocessing = Preprocessing.from_steps(
        [{"resize": {"size": 32}}], (32, 32), (0.5,) * 3, (0.25,) * 3
    ).to_dict()
    point = OperatingPoint("youden", None, "opacity", 0.5, 0.9, 0.8, 10, 10).to_dict()
    member = {
        "name": "a", "backbone": "small", "weight": 1.0, "graph": "members/a.onnx", "preprocessing": preprocessing,
    }  # fmt: skip
    content = {
        "schema_version": 1, "name": "small", "made": "2026-01-01T00:00:00+00:00", "versions": {},
        "classes": [{"label": label} for label in CLASSES], "members": [member], "rule": "mean", "licence": "",
        "operating_points": [{"name": "youden", "point": point}],
    }  # fmt: skip
    folder.mkdir()
    (folder / "bundle.json").write_text(json.dumps(content))
