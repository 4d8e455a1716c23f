import pytest
from sqlalchemy import select

from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import DELIVERING, DONE, AuditEntry, Delivery, Feedback, ResultObject, Study

NOW = 1_790_000_000.0


def entries(node) -> list[Feedback]:
    with node.rows.database.reading() as session:
        return list(session.scalars(select(Feedback).order_by(Feedback.id)))


def test_a_reader_agrees_with_a_result(web_node):
    web_node.result()
    answer = web_node.as_("reader").post(
        "/api/results/1/feedback", json={"verdict": "agree", "remark": "clear"}
    )
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("user", "verdict", "label", "remark")} == {
        "user": "reader", "verdict": "agree", "label": "", "remark": "clear",
    }  # fmt: skip
    (entry,) = entries(web_node)
    assert (entry.user, entry.verdict) == ("reader", "agree")


def test_who_changes_their_mind_is_counted_by_the_newest_and_the_older_stays(web_node):
    web_node.result()
    client = web_node.as_("reader")
    for verdict in ("agree", "disagree"):
        client.post("/api/results/1/feedback", json={"verdict": verdict})
    assert [entry.verdict for entry in entries(web_node)] == ["agree", "disagree"]
    (shown,) = client.get("/api/studies/1.2.3.1").json()["results"][0]["feedback"]
    assert shown["verdict"] == "disagree"
    assert client.get("/api/studies").json()["studies"][0]["feedback"] == "disagree"


def test_ones_own_verdict_is_shown_before_the_newer_one_of_another(web_node):
    web_node.result()
    reader, admin = web_node.as_("reader"), web_node.as_("admin")
    reader.post("/api/results/1/feedback", json={"verdict": "agree"})
    admin.post("/api/results/1/feedback", json={"verdict": "disagree"})
    assert reader.get("/api/studies").json()["studies"][0]["feedback"] == "agree"
    assert web_node.as_("viewer").get("/api/studies").json()["studies"][0]["feedback"] == "disagree"


def test_a_correction_names_one_of_the_bundles_classes(web_node):
    web_node.result()
    answer = web_node.as_("reader").post(
        "/api/results/1/feedback", json={"verdict": "correct", "label": "normal"}
    )
    assert answer.json()["label"] == "normal"


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "correct"}, {"verdict": "correct", "label": "unheard of"}, {"verdict": "maybe"}, {},
        {"verdict": "agree", "remark": "x" * 2001}, {"verdict": "agree", "label": "x" * 201}, [],
    ],
)  # fmt: skip
def test_feedback_that_does_not_fit_is_refused_and_not_sent_back(web_node, said):
    web_node.result()
    answer = web_node.as_("reader").post("/api/results/1/feedback", json=said)
    assert answer.status_code == 422
    assert "unheard" not in answer.text
    assert "xxx" not in answer.text
    assert entries(web_node) == []


def test_a_label_without_correction_is_not_kept(web_node):
    web_node.result()
    web_node.as_("reader").post("/api/results/1/feedback", json={"verdict": "agree", "label": "normal"})
    assert entries(web_node)[0].label == ""


def test_any_remark_is_kept_as_text(web_node):
    web_node.result()
    remark = "<img src=x onerror=alert(1)> ñ \U0001f600 "
    answer = web_node.as_("reader").post(
        "/api/results/1/feedback", json={"verdict": "agree", "remark": remark + "\0"}
    )
    assert answer.json()["remark"] == entries(web_node)[0].remark == remark


def test_there_is_no_feedback_on_a_result_that_is_not_there(web_node):
    assert (
        web_node.as_("reader").post("/api/results/7/feedback", json={"verdict": "agree"}).status_code == 404
    )


def test_feedback_is_audited_without_the_remark(web_node):
    web_node.result()
    web_node.as_("reader").post("/api/results/1/feedback", json={"verdict": "agree", "remark": "PHANTOM"})
    with web_node.rows.database.reading() as session:
        (line,) = session.scalars(select(AuditEntry).where(AuditEntry.what == audit.FEEDBACK))
    assert (line.who, line.target, line.detail) == ("reader", "1.2.3.1", "result 1: agree")
    assert audit.verify(web_node.rows.database).broken is None


def add_delivery(node, state: str) -> None:
    result = node.result()
    with node.rows.database.transaction() as session:
        made = ResultObject(result_id=result.id, kind="sr", path="x", sha256="0")
        session.add(made)
        session.flush()
        session.add(
            Delivery(object_id=made.id, destination="pacs", priority=0, state=state, attempts=3, not_before=NOW + 1e9,
                     transaction_uid="1.2", reason="refused")
        )  # fmt: skip


@pytest.mark.parametrize("state", ["waiting", "sent"])
def test_an_administrator_has_a_delivery_tried_again_at_once(web_node, state):
    add_delivery(web_node, state)
    assert web_node.as_("admin").post("/api/deliveries/1/retry").status_code == 200
    with web_node.rows.database.reading() as session:
        delivery = session.get_one(Delivery, 1)
    assert (delivery.state, delivery.not_before < NOW + 1e9, delivery.transaction_uid) == (
        "waiting",
        True,
        "",
    )


@pytest.mark.parametrize("state", ["done", "withheld", "overtaken"])
def test_what_is_done_or_held_back_is_not_sent_again(web_node, state):
    add_delivery(web_node, state)
    assert web_node.as_("admin").post("/api/deliveries/1/retry").status_code == 409


@pytest.mark.parametrize("state", ["waiting", "sent"])
def test_an_administrator_withholds_a_delivery_and_its_study_is_done(web_node, state):
    add_delivery(web_node, state)
    with web_node.rows.database.transaction() as session:
        session.scalars(select(Study)).one().state = DELIVERING
    answer = web_node.as_("admin").post("/api/deliveries/1/withhold")
    assert (answer.status_code, answer.json()) == (200, {"state": "withheld"})
    with web_node.rows.database.reading() as session:
        delivery, study = session.get_one(Delivery, 1), session.scalars(select(Study)).one()
        (line,) = session.scalars(select(AuditEntry).where(AuditEntry.what == audit.WITHHELD))
    assert (delivery.state, delivery.transaction_uid, study.state) == ("withheld", "", DONE)
    assert (line.who, line.target, line.detail) == ("admin", "1.2.3.1", "delivery 1 to pacs")


@pytest.mark.parametrize("state", ["done", "withheld", "overtaken"])
def test_what_is_done_or_held_back_is_not_withheld(web_node, state):
    add_delivery(web_node, state)
    assert web_node.as_("admin").post("/api/deliveries/1/withhold").status_code == 409


@pytest.mark.parametrize("what", ["retry", "withhold"])
def test_a_delivery_that_is_not_there_is_not_found(web_node, what):
    assert web_node.as_("admin").post(f"/api/deliveries/1/{what}").status_code == 404
