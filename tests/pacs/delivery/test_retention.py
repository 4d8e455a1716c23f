"""What is deleted, and what never is."""

import pytest
from delivering import deliver_due
from outgoing import NOW, dicom, node_of, read_study, study_state
from sqlalchemy import select
from storage_peer import storage_peer

from freezeframe.pacs.delivery import retention
from freezeframe.pacs.delivery.retention import DAY, delete_all_due, delete_due, delete_refused
from freezeframe.pacs.intake.put_aside import put_aside
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    IGNORED,
    JOB_WAITING,
    STUDY_STATES,
    AuditEntry,
    Image,
    Job,
    Refused,
    Study,
)

OVER = NOW + 31 * DAY


def image_file(node, study_uid):
    return node.folder / "images" / study_uid / f"{study_uid}.1.dcm"


def deleted_at(database, study_uid):
    with database.reading() as session:
        return session.scalars(
            select(Image.deleted_at).where(Image.sop_instance_uid == f"{study_uid}.1")
        ).one()


def set_state(database, study_uid, state):
    with database.transaction() as session:
        session.scalars(select(Study).where(Study.study_uid == study_uid)).one().state = state


def test_images_are_deleted_their_days_after_delivery_and_results_stay(database, tmp_path):
    with storage_peer() as peer:
        node = node_of(tmp_path, [dicom("pacs", peer.port)])
        study_uid = read_study(database, node, 1)
        deliver_due(database, node, NOW + 5 * DAY)
        assert delete_due(database, node, NOW + 34 * DAY) == 0
        assert image_file(node, study_uid).exists()
        assert delete_due(database, node, NOW + 36 * DAY) == 1
        assert not image_file(node, study_uid).parent.exists()
        assert deleted_at(database, study_uid) == NOW + 36 * DAY
        assert len(list((node.folder / "results" / study_uid).rglob("*.dat"))) == 2
        assert delete_due(database, node, NOW + 37 * DAY) == 0
        with database.reading() as session:
            lines = session.scalars(select(AuditEntry).where(AuditEntry.what == audit.IMAGES_DELETED)).all()
        assert [(line.target, line.detail) for line in lines] == [(study_uid, "1 images")]


def a_file_put_aside(database, node, number, moment):
    (node.folder / "refused").mkdir(exist_ok=True)
    given = node.folder / "given"
    given.write_bytes(b"nothing %d" % number)
    return node.folder / put_aside(database, node.folder, given, "inbox", "no image", moment)


def test_files_that_were_put_aside_are_deleted_their_days_after(database, tmp_path):
    node = node_of(tmp_path)
    old, new = a_file_put_aside(database, node, 1, NOW), a_file_put_aside(database, node, 2, NOW + 2 * DAY)
    assert delete_refused(database, node, NOW + 89 * DAY) == 0
    assert old.exists()
    assert delete_all_due(database, node, NOW + 91 * DAY) == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert delete_refused(database, node, NOW + 91 * DAY) == 0
    with database.reading() as session:
        reasons = [row.reason for row in session.scalars(select(Refused))]  # which metrics count
        assert reasons == ["no image"] * 2
        (line,) = session.scalars(select(AuditEntry).where(AuditEntry.what == audit.IMAGES_DELETED))
    assert line.detail == "1 files that were put aside"


def test_a_file_that_can_not_be_deleted_does_not_keep_others(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "FILES_AT_ONCE", 1)
    node = node_of(tmp_path)
    stuck, other = a_file_put_aside(sqlite, node, 1, NOW), a_file_put_aside(sqlite, node, 2, NOW)
    stuck.unlink()
    stuck.mkdir()
    assert delete_refused(sqlite, node, NOW + 91 * DAY) == 1
    assert not other.exists()


def test_the_days_of_a_file_that_is_put_aside_again_begin_again(sqlite, tmp_path):
    node = node_of(tmp_path)
    a_file_put_aside(sqlite, node, 1, NOW)
    kept = a_file_put_aside(sqlite, node, 1, NOW + 80 * DAY)
    assert delete_refused(sqlite, node, NOW + 91 * DAY) == 0
    assert kept.exists()


def test_a_file_that_is_gone_already_is_taken_for_deleted(database, tmp_path):
    node = node_of(tmp_path)
    a_file_put_aside(database, node, 1, NOW).unlink()  # as by a kill between file and row
    assert delete_refused(database, node, NOW + 91 * DAY) == 1
    assert delete_refused(database, node, NOW + 91 * DAY) == 0


def test_files_that_were_put_aside_stay_where_they_are_to_be_kept(sqlite, tmp_path):
    node = node_of(tmp_path, retention={"refused_days": None})
    kept = a_file_put_aside(sqlite, node, 1, NOW)
    assert delete_refused(sqlite, node, NOW + 10_000 * DAY) == 0
    assert kept.exists()


@pytest.mark.parametrize("state", [state for state in STUDY_STATES if state not in ("done", "ignored")])
def test_images_of_studies_that_are_not_done_with_stay(sqlite, tmp_path, state):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1)
    set_state(sqlite, study_uid, state)
    assert delete_due(sqlite, node, NOW + 1000 * DAY) == 0
    assert image_file(node, study_uid).exists()


def test_images_that_no_rule_wants_are_deleted_too(sqlite, tmp_path):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1, state=IGNORED)
    assert delete_due(sqlite, node, NOW + 29 * DAY) == 0
    assert delete_due(sqlite, node, OVER) == 1
    assert not image_file(node, study_uid).exists()


def test_images_of_undelivered_results_stay_even_if_the_study_were_said_to_be_done(database, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)])
    study_uid = read_study(database, node, 1)
    set_state(database, study_uid, "done")
    assert delete_due(database, node, OVER) == 0


def test_images_of_a_study_that_is_to_be_read_again_stay(sqlite, tmp_path):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1)
    set_state(sqlite, study_uid, "done")
    with sqlite.transaction() as session:
        session.scalars(select(Job)).one().state = JOB_WAITING
    assert delete_due(sqlite, node, OVER) == 0


def test_what_shadow_mode_withheld_counts_as_delivered(sqlite, tmp_path):
    node = node_of(tmp_path, [dicom("pacs", 104)], shadow=True)
    study_uid = read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    assert study_state(sqlite, study_uid) == "done"
    assert delete_due(sqlite, node, OVER) == 1


def test_without_days_images_stay(sqlite, tmp_path):
    node = node_of(tmp_path, retention={"image_days": None})
    read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    assert delete_due(sqlite, node, NOW + 10_000 * DAY) == 0


def test_with_no_days_they_go_at_once(sqlite, tmp_path):
    node = node_of(tmp_path, retention={"image_days": 0})
    read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    assert delete_due(sqlite, node, NOW + 1) == 1


def test_a_kill_between_row_and_file_leaves_a_file_whose_row_says_deleted(sqlite, tmp_path):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    assert len(retention._mark(sqlite, node.folder, OVER, NOW + 1)) == 1  # and then the process dies
    assert image_file(node, study_uid).exists()
    assert deleted_at(sqlite, study_uid) == OVER
    assert delete_due(sqlite, node, OVER) == 0


def test_an_image_that_is_sent_again_while_it_is_deleted_stays(sqlite, tmp_path):
    node = node_of(tmp_path)
    study_uid = read_study(sqlite, node, 1)
    deliver_due(sqlite, node, NOW)
    ((path, identity),) = retention._mark(sqlite, node.folder, OVER, NOW + 1)
    sent_again = path.with_name("new")
    sent_again.write_bytes(b"image")
    sent_again.rename(image_file(node, study_uid))
    retention._unlink(path, identity)
    assert image_file(node, study_uid).exists()


def test_many_studies_are_deleted_in_one_call_each_with_its_line(sqlite, tmp_path):
    node = node_of(tmp_path)
    for number in range(1, retention.STUDIES_AT_ONCE * 2 + 2):
        read_study(sqlite, node, number, kinds=[])
    deliver_due(sqlite, node, NOW)
    assert delete_due(sqlite, node, OVER) == retention.STUDIES_AT_ONCE * 2 + 1
    assert not list((node.folder / "images").iterdir())
    assert audit.verify(sqlite).lines == retention.STUDIES_AT_ONCE * 2 + 1
