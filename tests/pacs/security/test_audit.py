import json
import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from freezeframe.pacs.security import audit
from freezeframe.pacs.security.audit import Head

TRIGGERS = {
    "sqlite": ("DROP TRIGGER audit_refuses_update", "DROP TRIGGER audit_refuses_delete"),
    "postgresql": ("DROP TRIGGER audit_refuses_change ON audit",),
}


def write(database, count: int) -> list[Head]:
    heads = []
    for number in range(count):
        with database.transaction() as session:
            heads.append(
                audit.record(session, "anna", audit.STUDY_OPENED, f"1.2.{number}", now=1000.5 + number)
            )
    return heads


def tamper(database, *statements: str) -> None:
    """Do what somebody with all rights in the database could do."""
    with database.engine.begin() as connection:
        for statement in (*TRIGGERS[database.engine.dialect.name], *statements):
            connection.execute(text(statement))


def test_a_trail_that_nobody_touched_is_whole(database):
    heads = write(database, 5)
    assert audit.verify(database) == audit.Verified(5, heads[-1])


def test_an_empty_trail_is_whole(database):
    assert audit.verify(database) == audit.Verified(0, None)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET who = 'b' WHERE id = 2", "DELETE FROM audit WHERE id = 2"]
)
def test_the_database_refuses_to_change_or_delete_a_line(database, statement):
    write(database, 3)
    with pytest.raises(DatabaseError, match="never changed"), database.engine.begin() as connection:
        connection.execute(text(statement))
    assert audit.verify(database).lines == 3


def test_the_database_refuses_to_truncate_the_trail(database):
    write(database, 1)
    refused = "syntax error" if database.is_sqlite else "never changed"  # SQLite has no such statement
    with pytest.raises(DatabaseError, match=refused), database.engine.begin() as connection:
        connection.execute(text("TRUNCATE audit"))
    assert audit.verify(database).lines == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", "5.0"), ("who", "'eve'"), ("what", "'login'"), ("target", "'1.2.9'"), ("outcome", "'failure'"),
     ("detail", "'x'")],
)  # fmt: skip
def test_a_changed_line_is_named(sqlite, column, value):
    write(sqlite, 4)
    tamper(sqlite, f"UPDATE audit SET {column} = {value} WHERE id = 3")
    found = audit.verify(sqlite)
    assert (found.broken, found.lines) == (3, 2)
    assert "not as it was written" in found.problem


def test_a_changed_line_with_a_fitting_hash_breaks_the_line_after_it(database):
    heads = write(database, 4)
    line = {
        "id": 2, "at": 1001.5, "who": "eve", "what": audit.STUDY_OPENED, "target": "1.2.1", "outcome": "success",
        "detail": "", "previous": heads[0].hash,
    }  # fmt: skip
    tamper(database, f"UPDATE audit SET who = 'eve', hash = '{audit.line_hash(line)}' WHERE id = 2")
    assert audit.verify(database).broken == 3


def test_a_line_that_was_taken_out_is_named(database):
    write(database, 4)
    tamper(database, "DELETE FROM audit WHERE id = 2")
    assert "Line 2 is missing" in audit.verify(database).problem


def test_lines_that_changed_places_are_named(database):
    write(database, 4)
    tamper(
        database,
        "UPDATE audit SET id = 99 WHERE id = 2",
        "UPDATE audit SET id = 2 WHERE id = 3",
        "UPDATE audit SET id = 3 WHERE id = 99",
    )
    assert audit.verify(database).broken == 2


def test_lines_cut_off_at_the_end_are_missed_where_the_head_was_noted(database):
    heads = write(database, 4)
    tamper(database, "DELETE FROM audit WHERE id > 2")
    assert audit.verify(database).broken is None
    assert audit.verify(database, heads[-1]).broken == 3


def test_a_trail_that_was_written_anew_is_not_the_one_that_was_noted(database):
    write(database, 2)
    assert audit.verify(database, Head(2, "0" * 64)).broken == 2


def test_a_line_goes_with_the_transaction_that_it_tells_of(database):
    write(database, 1)
    with pytest.raises(RuntimeError), database.transaction() as session:
        audit.record(session, "anna", audit.FEEDBACK)
        raise RuntimeError("it did not happen")
    write(database, 1)
    assert audit.verify(database).lines == 2


def test_writers_at_once_make_one_chain(database):
    problems = []

    def add(name: str) -> None:
        try:
            for number in range(15):
                with database.transaction() as session:
                    audit.record(session, name, audit.IMAGE_OPENED, f"1.2.{number}")
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=add, args=(f"user{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    found = audit.verify(database)
    assert (found.lines, found.broken) == (60, None)


def test_two_lines_of_one_transaction_follow_on_each_other(database):
    with database.transaction() as session:
        first = audit.record(session, "anna", audit.FEEDBACK)
        second = audit.record(session, "anna", audit.RERUN)
    assert (first.id, second.id) == (1, 2)
    assert audit.verify(database).broken is None


@pytest.mark.parametrize(
    "content", ["ñandú \U0001f600", "nul\0here", "half \ud800 pair", "a\nb\tc", "x" * 5000]
)
def test_any_text_is_kept_so_that_it_verifies(database, content):
    with database.transaction() as session:
        audit.record(session, content, content, content, detail=content)
    assert audit.verify(database).broken is None


def test_the_head_is_noted_in_the_log(sqlite, caplog):
    heads = write(sqlite, 2)
    with caplog.at_level(logging.INFO):
        assert audit.note_head(sqlite) == heads[-1]
    assert (caplog.records[0].audit_line, caplog.records[0].audit_hash) == (2, heads[-1].hash)


LINES = st.fixed_dictionaries(
    {
        "id": st.integers(1, 2**40),
        "at": st.floats(0, 1e11),
        **{name: st.text() for name in ("who", "what", "target", "outcome", "detail", "previous")},
    }
)


@given(LINES)
def test_the_canonical_form_says_exactly_the_line(line):
    assert json.loads(audit.canonical(line)) == line
    assert audit.canonical(dict(reversed(line.items()))) == audit.canonical(line)


@given(LINES, LINES)
@settings(max_examples=50)
def test_different_lines_have_different_hashes(line, other):
    assert (audit.line_hash(line) == audit.line_hash(other)) == (line == other)


def test_an_error_of_the_database_does_not_tell_what_was_to_be_stored(sqlite):
    with pytest.raises(DatabaseError) as error, sqlite.transaction() as session:
        session.execute(text("INSERT INTO nothing VALUES (:name)"), {"name": "PHANTOM^SECRET"})
    assert "SECRET" not in str(error.value)
