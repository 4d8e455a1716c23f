"""The queue of jobs, on both databases."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading_jobs import NOW, add_job, add_study, get
from sqlalchemy import select

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import Limits
from freezeframe.pacs.reading.backoff import waits
from freezeframe.pacs.reading.queue import (
    SILENT,
    claim,
    fail,
    finish,
    renew,
    rerun,
    return_claims,
    return_expired,
)
from freezeframe.pacs.tables import (
    DELIVERING,
    JOB_CLAIMED,
    JOB_DONE,
    JOB_OVERTAKEN,
    JOB_QUARANTINED,
    JOB_WAITING,
    QUARANTINED,
    READING,
    RECEIVING,
    WAITING,
    Image,
    Job,
    Study,
)

LIMITS = Limits(attempts=3, first_wait=10, longest_wait=100, lease_seconds=30)


def done(database, held, now=NOW) -> bool:
    with database.transaction() as session:
        return finish(session, held, now)


def order_again(database, job_id, now=NOW) -> int:
    with database.transaction() as session:
        return rerun(session, job_id, now)


def test_jobs_are_claimed_by_priority_then_by_how_long_they_are_due(database):
    (late,) = add_study(database, 1, not_before=NOW - 1)
    (early,) = add_study(database, 2, not_before=NOW - 5)
    (urgent,) = add_study(database, 3, priority=0)
    add_study(database, 4, not_before=NOW + 1)
    order = [held.job_id for _ in range(3) if (held := claim(database, "a", 30, NOW))]
    assert order == [urgent, early, late]
    assert claim(database, "a", 30, NOW) is None


def test_a_claim_holds_what_there_is_to_read(database):
    (job_id,) = add_study(database, 7, ("images/a.dcm", "images/b.dcm", "images/c.dcm"))
    with database.transaction() as session:
        deleted = session.scalars(select(Image).where(Image.path == "images/b.dcm")).one()
        deleted.deleted_at = NOW
    held = claim(database, "a", 30, NOW)
    assert held is not None
    assert (held.job_id, held.study_uid, held.version, held.bundle) == (job_id, "1.2.3.7", 1, "default")
    assert [image.path for image in held.images] == ["images/a.dcm", None, "images/c.dcm"]
    assert [image.sop_instance_uid for image in held.images] == ["1.2.3.7.1", "1.2.3.7.2", "1.2.3.7.3"]
    job, study = get(database, job_id)
    assert (job.state, job.claimed_by, job.claimed_until, job.attempts) == (JOB_CLAIMED, "a", NOW + 30, 1)
    assert study.state == READING


def test_workers_that_ask_at_once_get_each_job_once(database):
    expected = {job_id for number in range(20) for job_id in add_study(database, number)}
    taken: list[int] = []
    start = threading.Barrier(4)

    def work(name: str) -> None:
        start.wait(60)
        deadline = time.monotonic() + 120  # a row that another one has locked looks like no work
        while len(taken) < len(expected) and time.monotonic() < deadline:
            held = claim(database, name, 30, NOW)
            if held is not None:
                taken.append(held.job_id)

    threads = [threading.Thread(target=work, args=(f"worker-{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert sorted(taken) == sorted(expected)


def test_a_renewed_claim_does_not_expire(database):
    add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    assert renew(database, held, 30, NOW + 20)
    assert return_expired(database, LIMITS, NOW + 40) == 0
    assert return_expired(database, LIMITS, NOW + 50) == 1
    assert not renew(database, held, 30, NOW + 51)


def test_a_silent_workers_claim_returns_and_was_an_attempt(database):
    (job_id,) = add_study(database, 1)
    claim(database, "a", 30, NOW)
    assert return_expired(database, LIMITS, NOW + 30) == 1
    job, study = get(database, job_id)
    assert (job.state, job.attempts, job.reason, study.state) == (JOB_WAITING, 1, SILENT, WAITING)
    assert job.not_before > NOW + 30
    assert claim(database, "b", 30, NOW + 30) is None
    again = claim(database, "b", 30, job.not_before)
    assert again is not None
    assert again.attempt == 2


def test_a_study_that_kills_its_worker_is_put_aside_after_its_attempts(database):
    (job_id,) = add_study(database, 1)
    now = NOW
    for _ in range(LIMITS.attempts):
        now += LIMITS.longest_wait
        assert claim(database, "a", 30, now) is not None
        assert return_claims(database, "a", LIMITS, now) == 1
    assert claim(database, "a", 30, now + 1000) is None
    job, study = get(database, job_id)
    assert (job.state, job.reason) == (JOB_QUARANTINED, SILENT)
    assert (study.state, study.reason) == (QUARANTINED, SILENT)


def test_only_the_claims_of_the_worker_that_died_return_at_once(database):
    add_study(database, 1)
    add_study(database, 2)
    first, second = claim(database, "a", 30, NOW), claim(database, "b", 30, NOW)
    assert first is not None
    assert second is not None
    assert return_claims(database, "a", LIMITS, NOW) == 1
    assert not renew(database, first, 30, NOW)
    assert renew(database, second, 30, NOW)


def test_a_worker_that_was_taken_for_dead_can_neither_finish_nor_fail_the_job(database):
    (job_id,) = add_study(database, 1)
    old = claim(database, "a", 30, NOW)
    return_expired(database, LIMITS, NOW + 30)
    new = claim(database, "a", 30, NOW + 100)
    assert old is not None
    assert new is not None
    assert not done(database, old)
    assert fail(database, old, "it is late.", LIMITS, NOW) is None
    assert get(database, job_id)[0].state == JOB_CLAIMED
    assert done(database, new)
    assert get(database, job_id)[0].state == JOB_DONE


def test_a_failure_is_repeated_later_and_its_reason_kept(database):
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    assert fail(database, held, "it took longer than 1 s.", LIMITS, NOW) == JOB_WAITING
    job, study = get(database, job_id)
    assert (job.reason, job.claimed_by, job.claimed_until) == ("it took longer than 1 s.", "", None)
    assert job.not_before == NOW + waits(1, job_id, LIMITS)
    assert study.state == WAITING


def test_what_is_not_the_studys_fault_takes_none_of_its_attempts(database):
    (job_id,) = add_study(database, 1)
    now = NOW
    for _ in range(2 * LIMITS.attempts):
        held = claim(database, "a", 30, now)
        assert held is not None
        assert fail(database, held, "The disk is full.", LIMITS, now, counts=False) == JOB_WAITING
        now += 1000
    assert get(database, job_id)[0].attempts == 0


def test_a_finished_study_is_delivered_when_all_its_bundles_have_read_it(database):
    first, second = add_study(database, 1, bundles=("one", "two"))
    one, two = claim(database, "a", 30, NOW), claim(database, "b", 30, NOW)
    assert one is not None
    assert two is not None
    assert done(database, one)
    assert get(database, first)[1].state == READING
    assert done(database, two)
    assert get(database, second)[1].state == DELIVERING


def test_a_study_of_which_one_bundle_failed_stays_visible_as_put_aside(database):
    limits = LIMITS.model_copy(update={"attempts": 1})
    first, _ = add_study(database, 1, bundles=("one", "two"))
    one, two = claim(database, "a", 30, NOW), claim(database, "b", 30, NOW)
    assert one is not None
    assert two is not None
    fail(database, one, "its bundle is broken.", limits, NOW)
    assert done(database, two)
    study = get(database, first)[1]
    assert (study.state, study.reason) == (QUARANTINED, "its bundle is broken.")


def test_a_version_that_was_overtaken_while_it_was_read_does_not_count(database):
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    with database.transaction() as session:
        study = session.get_one(Study, held.study_id)
        study.version = 2
        add_job(session, study, "default", ["1.2.3.1.1"])
        study.state = WAITING
    assert not done(database, held)
    job, study = get(database, job_id)
    assert (job.state, study.state) == (JOB_OVERTAKEN, WAITING)


def test_a_study_that_is_receiving_again_keeps_that_state_when_a_reading_ends(database):
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    with database.transaction() as session:
        study = session.get_one(Study, held.study_id)
        study.state, study.deadline = RECEIVING, NOW + 30
    assert done(database, held), "until the new images are read, this is the answer"
    assert get(database, job_id)[1].state == RECEIVING


def test_a_study_that_was_put_aside_gets_all_its_attempts_again(database):
    limits = LIMITS.model_copy(update={"attempts": 1})
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    fail(database, held, "it took longer than 1 s.", limits, NOW)
    assert order_again(database, job_id, NOW + 5) == job_id
    job, study = get(database, job_id)
    assert (job.state, job.attempts, job.version, job.created_at) == (JOB_WAITING, 0, 1, NOW + 5)
    assert (study.state, study.reason, study.version) == (WAITING, "", 1)
    assert claim(database, "a", 30, NOW + 5) is not None


def test_a_study_that_is_done_is_read_again_as_a_further_version(database):
    first, other = add_study(database, 1, bundles=("one", "two"))
    for _ in range(2):
        held = claim(database, "a", 30, NOW)
        assert held is not None
        assert done(database, held)
    again = order_again(database, first, NOW + 5)
    assert again not in (first, other)
    job, study = get(database, again)
    assert (job.version, job.bundle, job.image_uids, study.version) == (2, "one", ["1.2.3.1.1"], 2)
    assert (job.state, study.state) == (JOB_WAITING, WAITING)
    held = claim(database, "a", 30, NOW + 5)
    assert held is not None
    assert held.version == 2
    assert done(database, held)
    assert get(database, first)[0].state == JOB_DONE
    assert get(database, other)[1].state == DELIVERING, "the other bundle's answer of version 1 still counts"


def test_what_waits_is_read_or_is_overtaken_is_not_ordered_again(database):
    (job_id,) = add_study(database, 1)
    with pytest.raises(UserError, match="waits to be read"):
        order_again(database, job_id)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    with pytest.raises(UserError, match="being read"):
        order_again(database, job_id)
    done(database, held)
    order_again(database, job_id)
    with pytest.raises(UserError, match="later version"):
        order_again(database, job_id)
    with pytest.raises(UserError, match="no reading 99999"):
        order_again(database, 99999)


def test_a_study_whose_images_were_deleted_or_are_coming_in_is_not_ordered_again(database):
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    done(database, held)
    with database.transaction() as session:
        session.get_one(Study, held.study_id).deadline = NOW + 30
    with pytest.raises(UserError, match="coming in"):
        order_again(database, job_id)
    with database.transaction() as session:
        session.get_one(Study, held.study_id).deadline = None
        session.scalars(select(Image)).one().deleted_at = NOW
    with pytest.raises(UserError, match="deleted"):
        order_again(database, job_id)


def test_studies_that_two_ask_to_read_again_get_one_further_version(database):
    (job_id,) = add_study(database, 1)
    held = claim(database, "a", 30, NOW)
    assert held is not None
    done(database, held)
    outcomes: list[object] = []
    start = threading.Barrier(2)

    def ask() -> None:
        start.wait(60)
        try:
            outcomes.append(order_again(database, job_id))
        except UserError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["UserError", "int"]
    with database.reading() as session:
        assert len(session.scalars(select(Job)).all()) == 2


@given(
    attempt=st.integers(1, 10_000),
    job_id=st.integers(1, 2**40),
    first=st.floats(0.01, 600),
    longest=st.floats(1, 100_000),
)
def test_waits_double_within_a_quarter_and_never_exceed_the_longest(attempt, job_id, first, longest):
    limits = Limits(first_wait=first, longest_wait=longest)
    wait = waits(attempt, job_id, limits)
    assert 0 < wait <= longest
    assert wait == waits(attempt, job_id, limits)
    if wait < longest:
        assert 0.75 <= wait / (first * 2.0 ** (attempt - 1)) <= 1.25
        assert waits(attempt + 1, job_id, limits) > wait


def test_jobs_that_failed_together_do_not_come_back_together():
    limits = Limits(first_wait=10, longest_wait=1000)
    assert len({round(waits(1, job_id, limits), 3) for job_id in range(100)}) > 90
