"""Whole studies that are read again."""

import pytest
from reading_jobs import NOW, add_study
from sqlalchemy import delete, select

from freezeframe.errors import UserError
from freezeframe.pacs.reading.again import read_again
from freezeframe.pacs.tables import IGNORED, JOB_QUARANTINED, QUARANTINED, RECEIVING, Job, Study


def again(database, now=NOW + 5) -> list[int]:
    with database.transaction() as session:
        return read_again(session, session.scalars(select(Study.id)).one(), now)


def set_aside(database, state: str) -> None:
    """Leave a study without a reading, as completion does where it can read none of the files."""
    with database.transaction() as session:
        session.execute(delete(Job))
        study = session.scalars(select(Study)).one()
        study.state, study.reason, study.deadline = state, "Files that could not be read: 1.", None


def test_a_study_that_was_put_aside_before_any_reading_is_looked_at_again(database):
    add_study(database, 1)
    set_aside(database, QUARANTINED)
    assert again(database) == []
    with database.reading() as session:
        study = session.scalars(select(Study)).one()
    assert (study.state, study.deadline, study.reason) == (RECEIVING, NOW + 5, "")
    with pytest.raises(UserError, match="coming in"):
        again(database)


def test_a_study_that_no_rule_wanted_is_not_looked_at_again(database):
    add_study(database, 1)
    set_aside(database, IGNORED)
    with pytest.raises(UserError, match="No rule wanted"):
        again(database)


def test_a_reading_that_was_put_aside_is_repeated_though_another_bundle_is_a_version_further(database):
    (aside,) = add_study(database, 1)
    with database.transaction() as session:
        study, job = session.scalars(select(Study)).one(), session.get_one(Job, aside)
        fields = {column.key: getattr(job, column.key) for column in Job.__table__.columns}
        session.add(Job(**fields | {"id": None, "bundle": "other", "version": 2, "state": "done"}))
        job.state, study.state, study.version = JOB_QUARANTINED, QUARANTINED, 2
    assert again(database) == [aside]
