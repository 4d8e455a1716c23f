"""What a look at the outbox costs, counted in steps of SQLite's machine: no clock, so no quiet computer is needed."""

from collections.abc import Callable
from contextlib import contextmanager

import pytest
from node_rows import Rows, image_reading
from sqlalchemy import event

from freezeframe.pacs.delivery import claims, outbox
from freezeframe.pacs.delivery.retention import delete_due
from freezeframe.pacs.tables import (
    DELIVERING,
    DELIVERY_DONE,
    DELIVERY_WAITING,
    DONE,
    Delivery,
    ResultObject,
)

STEPS = 100
DAY = 86_400.0
ARCHIVE = {"kind": "dicom", "name": "archive", "ae_title": "ARCHIVE", "address": "127.0.0.1", "port": 1}


def filled(folder, waiting: int, done: int) -> Rows:
    """Studies of which some wait for a destination, the others were delivered."""
    rows = Rows.of(folder, destinations=[ARCHIVE])
    with rows.database.transaction() as session:
        for number in range(waiting + done):
            is_waiting = number < waiting
            result = rows.result(session, 1.0, image_reading(), state=DELIVERING if is_waiting else DONE)
            made = ResultObject(result_id=result.id, kind="sr", path=f"{number}.dcm", sha256="")
            session.add(made)
            session.flush()
            session.add(
                Delivery(
                    object_id=made.id, destination="archive", priority=2, not_before=1.0,
                    state=DELIVERY_WAITING if is_waiting else DELIVERY_DONE, done_at=None if is_waiting else 20 * DAY,
                )
            )  # fmt: skip
    return rows


@contextmanager
def counted(rows: Rows):
    """Count what SQLite does in a block, in hundreds of steps."""
    counts = [0]

    def count() -> int:
        counts[0] += 1
        return 0

    def watch(connection, *_) -> None:
        connection.set_progress_handler(count, STEPS)

    rows.database.close()  # so that all connections are new ones
    event.listen(rows.database.engine, "connect", watch)
    yield counts
    event.remove(rows.database.engine, "connect", watch)
    rows.database.close()


def work(rows: Rows, act: Callable[[Rows], object]) -> int:
    with counted(rows) as counts:
        act(rows)
    return counts[0]


def settle(rows: Rows) -> object:
    return claims.settle(rows.database)


def look(rows: Rows) -> object:
    return outbox.look_after(rows.database, rows.configuration)


def retain(rows: Rows) -> object:
    # Nothing is deleted yet: all was delivered 20 days ago.
    return delete_due(rows.database, rows.configuration, 40 * DAY)


@pytest.mark.parametrize("act", [settle, look, retain])
def test_a_look_at_twice_as_many_waiting_results_costs_about_twice_as_much(tmp_path, act):
    few = work(filled(tmp_path / "few", waiting=150, done=150), act)
    many = work(filled(tmp_path / "many", waiting=300, done=300), act)
    assert many < 2.8 * few


def test_what_was_delivered_long_ago_costs_nothing_when_the_next_delivery_is_looked_for(tmp_path):
    def claim(rows: Rows) -> object:
        return claims.claim(rows.database, rows.configuration, "archive", 10.0)

    few = work(filled(tmp_path / "few", waiting=2, done=20), claim)
    many = work(filled(tmp_path / "many", waiting=2, done=400), claim)
    assert many <= few + 2
