"""The outbox's rows: which deliveries are due, who sends them, and what became of them.

Who sends a delivery holds it by its `held_until`: a process that dies lets go of it by the clock. Whatever two
processes that hold the same one may write, a delivery that is done stays done. While any delivery of a study to a
destination is held, no other of the same study and destination is given out, so that a newer version never reaches a
destination before an older one that is still being sent.

A destination that can't be reached is left alone as a whole, for a time that doubles; the row ``delivery:NAME`` of the
cursors says since when and until when.
"""

import logging
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, delete, exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from freezeframe.pacs.configuration import Limits, NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.parcels import Answer, Parcel
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import (
    DELIVERING,
    DELIVERY_DONE,
    DELIVERY_OVERTAKEN,
    DELIVERY_SENT,
    DELIVERY_WAITING,
    DELIVERY_WITHHELD,
    DONE,
    JOB_CLAIMED,
    JOB_WAITING,
    Cursor,
    Delivery,
    Job,
    Result,
    ResultObject,
    Study,
)

LOGGER = logging.getLogger(__name__)
LEASE_SECONDS = 150.0
"""Longer than any one answer may take with the time-outs of the senders."""
MOST_AT_ONCE = 50
_MOST_DOUBLINGS = 40  # beyond it a float would overflow
OPEN = (DELIVERY_WAITING, DELIVERY_SENT)
BY_AN_ADMINISTRATOR = "an administrator withheld it"
_ROWS_AT_ONCE = 500  # a database takes only so many values in one statement


def wait(attempts: int, limits: Limits) -> float:
    """Return the seconds before the next attempt: `first_wait`, doubled for each further one, up to `longest_wait`."""
    doubled = limits.first_wait * 2.0 ** min(max(attempts - 1, 0), _MOST_DOUBLINGS)
    return min(doubled, limits.longest_wait)


def claim(
    database: Database, configuration: NodeConfiguration, destination: str, now: float
) -> tuple[Parcel, ...]:
    """Take the due deliveries of one study to one destination: the most urgent first, then the oldest.

    What was to be sent again of a result that is no longer the current one, such as after a storage commitment that
    failed, is overtaken here instead: the older result never follows the newer one.

    Returns
    -------
    tuple of Parcel
        Empty where nothing is due or the destination is left alone.
    """
    due = _is_due(destination, now)
    order = Delivery.priority, Delivery.id
    first = select(Delivery.id).where(*due).order_by(*order).limit(MOST_AT_ONCE)
    with database.reading() as session:  # so that looking for work takes nobody's right to write
        if paused_until(session, destination) > now:
            return ()
        candidates = session.scalars(first).all()
    if not candidates:
        return ()
    with database.transaction() as session:
        # The study is locked before its deliveries are looked at, so of two processes one sees what the other holds.
        of_candidates = (
            select(Study.id)
            .join(Result)
            .join(ResultObject)
            .join(Delivery)
            .where(Delivery.id.in_(candidates), *due)
        )
        study_id = session.scalar(
            of_candidates.order_by(*order)
            .limit(1)
            .with_for_update(skip_locked=True, key_share=True, of=Study)
        )
        if study_id is None:
            return ()
        together = (
            select(Delivery, ResultObject, Study.study_uid, Result.current)
            .join(ResultObject, ResultObject.id == Delivery.object_id)
            .join(Result, Result.id == ResultObject.result_id)
            .join(Study, Study.id == Result.study_id)
            .where(*due, Study.id == study_id)
            .order_by(*order)
            .limit(MOST_AT_ONCE)
        )
        rows = session.execute(together.with_for_update(skip_locked=True, of=Delivery)).all()
        held = []
        for delivery, made, study_uid, is_current in rows:
            if delivery.state == DELIVERY_WAITING and not is_current:
                delivery.state = DELIVERY_OVERTAKEN
            else:
                delivery.held_until = now + LEASE_SECONDS
                held.append((delivery, made, study_uid))
        return tuple(
            Parcel(
                delivery.id,
                study_uid,
                made.kind,
                made.sop_class_uid,
                made.sop_instance_uid,
                configuration.folder / made.path,
                made.sha256,
                delivery.state == DELIVERY_SENT,
            )
            for delivery, made, study_uid in held
        )


def _is_due(destination: str, now: float) -> tuple[ColumnElement[bool], ...]:
    # Whatever has become of a delivery that is held, such as being overtaken: it is being sent.
    held = (
        select(Result.study_id)
        .join(ResultObject, ResultObject.result_id == Result.id)
        .join(Delivery, Delivery.object_id == ResultObject.id)
        .where(Delivery.held_until > now, Delivery.destination == destination)
    )
    of_held_studies = (
        select(ResultObject.id)
        .join(Result, Result.id == ResultObject.result_id)
        .where(Result.study_id.in_(held))
    )
    return (
        Delivery.destination == destination,
        Delivery.state.in_(OPEN),
        Delivery.not_before <= now,
        Delivery.object_id.not_in(of_held_studies),
    )


def studies_with_open() -> Select[int]:
    """Return a query of the ids of the studies with an open delivery of any of their results.

    For ``Study.id.not_in(...)``: it stands for itself, so a database runs it once. One that asks for each study anew is
    run against all open deliveries, which is nothing until a PACS is away for a night.
    """
    return (
        select(Result.study_id)
        .join(ResultObject, ResultObject.result_id == Result.id)
        .join(Delivery, Delivery.object_id == ResultObject.id)
        .where(Delivery.state.in_(OPEN))
    )


def hold(database: Database, parcels: Sequence[Parcel], now: float) -> None:
    """Hold for longer what is being sent."""
    with database.transaction() as session:
        ids = lock(session, Delivery.id.in_([parcel.delivery_id for parcel in parcels]))
        session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(held_until=now + LEASE_SECONDS))


def let_go(database: Database, parcels: Sequence[Parcel], held_at: float) -> None:
    """Hold no longer what was claimed or held last at a time; what another process holds since then stays held."""
    with database.transaction() as session:
        own = Delivery.held_until <= held_at + LEASE_SECONDS
        ids = lock(session, Delivery.id.in_([parcel.delivery_id for parcel in parcels]), own)
        session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(held_until=None))


def note(
    database: Database,
    configuration: NodeConfiguration,
    destination: str,
    answer: Answer,
    commitment: bool,
    now: float,
) -> None:
    """Write down what a destination said of an object, at once, so that nothing that it has is sent again.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    destination : str
        Its name.
    answer : Answer
        What it said.
    commitment : bool
        Whether a stored object is done only when the destination has committed to it.
    now : float
        Seconds since 1970.
    """
    parcel = answer.parcel
    fields = {
        "study_uid": parcel.study_uid, "sop_instance_uid": parcel.sop_instance_uid, "kind": parcel.kind,
        "destination": destination, "reason": answer.reason,
    }  # fmt: skip
    with database.transaction() as session:
        delivery = session.get_one(Delivery, parcel.delivery_id, with_for_update=True)
        if delivery.state == DELIVERY_DONE:
            return
        if answer.stored:
            delivery.sent_at, delivery.reason = now, answer.reason
            _reached(session, destination)
            if commitment and delivery.state == DELIVERY_WITHHELD:
                pass  # while it was sent; nobody asks any more whether the destination keeps it
            elif commitment:
                # Due at once: a process that dies before it asks for the commitment leaves that to the next one.
                delivery.state = DELIVERY_SENT
            else:
                delivery.state, delivery.done_at = DELIVERY_DONE, now
            session.flush()
            audit.record(
                session,
                f"destination:{destination}",
                audit.RESULT_SENT,
                parcel.study_uid,
                detail=f"{parcel.kind} to {destination}",
                now=now,
            )
        elif delivery.state in OPEN:
            put_back(delivery, answer.reason, configuration.limits, now, answer.is_final)
    if answer.stored:
        LOGGER.info("A result was delivered.", extra=fields)
    else:
        LOGGER.warning("A result was not taken and will be sent again.", extra=fields)


def put_back(delivery: Delivery, reason: str, limits: Limits, now: float, is_final: bool = False) -> None:
    """Have a delivery wait for its next attempt; it never ends by failing.

    Only success, a later version or an administrator ends it.
    """
    delivery.attempts += 1
    delivery.state, delivery.reason, delivery.transaction_uid = DELIVERY_WAITING, reason, ""
    delivery.not_before = now + (limits.longest_wait if is_final else wait(delivery.attempts, limits))


def count_attempt(database: Database, parcel: Parcel, reason: str) -> None:
    """Count an attempt for the one delivery that it was made for, so that it shows how long none can be made."""
    with database.transaction() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.id == parcel.delivery_id, Delivery.state.in_(OPEN))
            .values(attempts=Delivery.attempts + 1, reason=reason)
        )


def pause(
    database: Database,
    configuration: NodeConfiguration,
    destination: str,
    reason: str,
    longer: bool,
    now: float,
) -> None:
    """Leave a destination alone that can't be reached: longer each time, or for `first_wait` only.

    The latter is for one that fell silent over an object: the object waits longer each time, and so long as the
    destination's own time is shorter the others get there before it.
    """
    name = _cursor(destination)
    failures = int(longer)
    try:
        with database.transaction() as session:
            cursor = session.get(Cursor, name, with_for_update=True)
            if cursor is None:
                cursor = Cursor(name=name, value={}, at=now)
                session.add(cursor)
            failures = int(cursor.value.get("failures", 0)) + longer
            until = now + wait(failures if longer else 1, configuration.limits)
            since = cursor.value.get("since", now)
            cursor.value = {"failures": failures, "since": since, "until": until, "reason": reason}
            cursor.at = now
    except IntegrityError:
        pass  # another process has just paused it
    LOGGER.warning(
        "A destination can't be reached.",
        extra={"destination": destination, "reason": reason, "attempt": failures},
    )


def paused_until(session: Session, destination: str) -> float:
    """Return until when a destination is left alone, in seconds since 1970; 0 where it is not."""
    cursor = session.get(Cursor, _cursor(destination))
    return 0.0 if cursor is None else float(cursor.value.get("until", 0))


def _reached(session: Session, destination: str) -> None:
    session.execute(delete(Cursor).where(Cursor.name == _cursor(destination)))


def _cursor(destination: str) -> str:
    return f"delivery:{destination}"


def retry(session: Session, delivery: Delivery, now: float) -> None:
    """Have an open delivery sent again at once, and its destination tried at once; an admin's wish.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    delivery : Delivery
        Of the session, waiting or sent.
    now : float
        Seconds since 1970.
    """
    delivery.state, delivery.not_before, delivery.transaction_uid = DELIVERY_WAITING, now, ""
    _reached(session, delivery.destination)


def withhold(session: Session, deliveries: Sequence[int]) -> None:
    """Keep open deliveries back for good; an admin's wish, such as for a destination that is no longer there.

    Their study is done when nothing else of its current results is open. What is being sent at this moment may arrive.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    deliveries : sequence of int
        Ids of deliveries, waiting or sent, that the session has locked.
    """
    change(session, deliveries, state=DELIVERY_WITHHELD, reason=BY_AN_ADMINISTRATOR, transaction_uid="")


def settle(database: Database) -> int:
    """Mark studies as done of whose current results nothing is open, and return how many.

    A study is done by this alone, never by the last delivery's own transaction: of two that end at the same moment
    each would still see the other open.
    """
    open_jobs = exists().where(Job.study_id == Study.id, Job.state.in_((JOB_WAITING, JOB_CLAIMED)))
    delivered = Study.id.not_in(studies_with_open().where(Result.current))
    ended = (Study.state == DELIVERING, ~open_jobs, delivered)
    with database.reading() as session:
        if session.scalar(select(Study.id).where(*ended).limit(1)) is None:
            return 0
    with database.transaction() as session:
        # Locked first and looked at again then: what another transaction has just added is seen.
        ids = session.scalars(
            select(Study.id).where(*ended).with_for_update(skip_locked=True, of=Study)
        ).all()
        still = update(Study).where(Study.id.in_(ids), *ended).values(state=DONE)
        done = session.execute(still.returning(Study.study_uid)).all()
    for row in done:
        LOGGER.info("A study is done.", extra={"study_uid": row.study_uid})
    return len(done)


def change(session: Session, ids: Sequence[int], **values: object) -> None:
    """Write the same into many deliveries that the session has locked."""
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        some = ids[start : start + _ROWS_AT_ONCE]
        session.execute(update(Delivery).where(Delivery.id.in_(some)).values(**values))


def lock(session: Session, *conditions: ColumnElement[bool]) -> list[int]:
    """Lock deliveries in the one order in which everybody locks several of them, and return their ids."""
    rows = select(Delivery.id).where(*conditions).order_by(Delivery.id).with_for_update()
    return list(session.scalars(rows))
