"""The outbox: each object of a result to each destination that takes it, until the destination says that it has it.

A result is stored together with its deliveries in one transaction, so nothing is read and then not sent. What is sent
are the bytes of the stored file under their deterministic UIDs, so that sending twice makes no second copy.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from freezeframe.errors import UserError
from freezeframe.pacs.configuration import (
    Destination,
    DicomDestination,
    Hl7Destination,
    NodeConfiguration,
    WebDestination,
)
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery import claims, dicom_sender, fhir_sender, mllp, web_sender
from freezeframe.pacs.delivery.commitment import CommitmentBook
from freezeframe.pacs.delivery.parcels import Answer, Parcel, UnreachableError
from freezeframe.pacs.tables import (
    DELIVERY_OVERTAKEN,
    DELIVERY_WAITING,
    DELIVERY_WITHHELD,
    Delivery,
    Result,
    ResultObject,
)

LOGGER = logging.getLogger(__name__)
PRIORITIES = {"positive": 0, "refused": 1, "negative": 2}
MOST_STUDIES = 200
"""Of one call to one destination, so that a call ends."""
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_SETTLINGS = 0.25, 1.0
"""The first is part of how long a result takes; the second only of how long its study is called open."""
UNKNOWN_DESTINATION = "no destination of this name is configured"


def enqueue(
    session: Session,
    result: Result,
    objects: Sequence[ResultObject],
    configuration: NodeConfiguration,
    now: float,
) -> None:
    """Put a result's objects into the outbox, within the transaction that stores them.

    What waits of older results of the same bundle and study is overtaken: nobody needs it any more. In shadow mode
    everything is withheld, and stays withheld when that mode ends.

    Parameters
    ----------
    session : Session
        Of an open transaction.
    result : Result
        In the session.
    objects : sequence of ResultObject
        Of it; those that are in the outbox already are left as they are.
    configuration : NodeConfiguration
        With the destinations.
    now : float
        Seconds since 1970.
    """
    session.flush()
    older = (
        select(ResultObject.id)
        .join(Result, Result.id == ResultObject.result_id)
        .where(
            Result.study_id == result.study_id,
            Result.bundle == result.bundle,
            Result.id != result.id,
            Result.version <= result.version,
        )
    )
    overtaken = claims.lock(session, Delivery.object_id.in_(older), Delivery.state == DELIVERY_WAITING)
    if overtaken:
        session.execute(update(Delivery).where(Delivery.id.in_(overtaken)).values(state=DELIVERY_OVERTAKEN))
    ids = [made.id for made in objects]
    there = {
        (row.object_id, row.destination)
        for row in session.execute(
            select(Delivery.object_id, Delivery.destination).where(Delivery.object_id.in_(ids))
        )
    }
    for destination in configuration.destinations:
        for made in objects:
            if takes(destination, made.kind) and (made.id, destination.name) not in there:
                session.add(
                    Delivery(
                        object_id=made.id,
                        destination=destination.name,
                        priority=PRIORITIES[result.outcome],
                        state=DELIVERY_WITHHELD if configuration.shadow else DELIVERY_WAITING,
                        attempts=0,
                        not_before=now,
                    )
                )
    session.flush()


def takes(destination: Destination, kind: str) -> bool:
    """Tell whether a destination takes objects of a kind: sr, sc, gsps, hl7 or fhir."""
    if isinstance(destination, (DicomDestination, WebDestination)):
        return kind in destination.objects
    return kind == destination.kind


def run(
    database: Database,
    configuration: NodeConfiguration,
    stop: threading.Event,
    seconds: float = SECONDS_BETWEEN_LOOKS,
) -> None:
    """Deliver until told to stop, each destination in a thread of its own; returns when all of them have ended.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    stop : threading.Event
        What is being sent is still sent, then it ends.
    seconds : float
        Between a destination's looks where nothing is due.
    """

    def repeat(name: str) -> None:
        while not stop.is_set():
            try:
                sent = deliver_to(database, configuration, name, time.time(), stop)
            except Exception as error:  # such as a database that is away: this thread must not end
                LOGGER.error(
                    "Delivering failed.", extra={"destination": name, "reason": type(error).__name__}
                )
                sent = 0
            if not sent:
                stop.wait(seconds)

    threads = [
        threading.Thread(target=repeat, args=(destination.name,), name=f"delivery-{destination.name}")
        for destination in configuration.destinations
    ]
    for thread in threads:
        thread.start()
    while not stop.is_set():
        try:
            look_after(database, configuration)
        except Exception as error:
            LOGGER.error("The outbox can't be looked at.", extra={"reason": type(error).__name__})
        stop.wait(SECONDS_BETWEEN_SETTLINGS)
    for thread in threads:
        thread.join()


def look_after(database: Database, configuration: NodeConfiguration) -> None:
    """Mark studies as done of which nothing is open, and say so where a destination is no longer configured."""
    names = [destination.name for destination in configuration.destinations]
    lost = (
        Delivery.destination.not_in(names),
        Delivery.state.in_(claims.OPEN),
        Delivery.reason != UNKNOWN_DESTINATION,
    )
    with database.reading() as session:
        found = session.scalar(select(Delivery.id).where(*lost).limit(1))
    if found is not None:
        with database.transaction() as session:
            claims.change(session, claims.lock(session, *lost), reason=UNKNOWN_DESTINATION)
        LOGGER.error("Results wait for a destination that is not configured.")
    claims.settle(database)


def deliver_to(
    database: Database,
    configuration: NodeConfiguration,
    destination: str,
    now: float,
    stop: threading.Event | None = None,
) -> int:
    """Send what is due to one destination, study by study; return how many objects it has taken.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    destination : str
        Its name.
    now : float
        Seconds since 1970.
    stop : threading.Event, optional
        Ends after the object that is being sent.
    """
    if configuration.shadow:
        return 0
    target = {entry.name: entry for entry in configuration.destinations}[destination]
    started = time.monotonic()

    def clock() -> float:
        return now + time.monotonic() - started

    taken = 0
    for _ in range(MOST_STUDIES):
        parcels = claims.claim(database, configuration, destination, clock())
        if not parcels:
            break
        sending = _Sending(database, configuration, target, parcels, clock)
        reached = sending.send(stop)
        taken += sending.taken
        if not reached or (stop is not None and stop.is_set()):
            break
    return taken


class _Sending:
    """The deliveries of one study to one destination, from claim to answer."""

    def __init__(
        self,
        database: Database,
        configuration: NodeConfiguration,
        target: Destination,
        parcels: Sequence[Parcel],
        clock: Callable[[], float],
    ) -> None:
        self._database, self._configuration, self._target = database, configuration, target
        self._parcels, self._clock = parcels, clock
        self._commitments: CommitmentBook | None = None
        if isinstance(target, DicomDestination) and target.commitment:
            self._commitments = CommitmentBook(database, configuration, clock)
        self._answered: set[int] = set()
        self._held_at = clock()
        self.taken = 0

    def send(self, stop: threading.Event | None) -> bool:
        """Send, write down each answer, and let go; return whether the destination could be reached."""
        try:
            with closing(self._answers()) as answers:
                for answer in answers:
                    self._note(answer)
                    if stop is not None and stop.is_set():
                        break
                    self._hold()
        except UnreachableError as error:
            self._pause(error.reason, error.parcel)
            return False
        except UserError as error:  # its certificates
            self._pause(error.found, None)
            return False
        except Exception as error:
            # Whatever is wrong with these must not stand in the way of all others for ever.
            fields = {"destination": self._target.name, "reason": type(error).__name__}
            LOGGER.error("Sending failed.", extra=fields)
            for parcel in self._parcels:
                if parcel.delivery_id not in self._answered:
                    self._note(Answer(parcel, False, f"an error of this node ({type(error).__name__})"))
        finally:
            claims.let_go(self._database, self._parcels, self._held_at)
        return True

    def _answers(self) -> Generator[Answer, None, None]:
        target, parcels = self._target, self._parcels
        if isinstance(target, DicomDestination):
            return dicom_sender.send(target, self._configuration.ae_title, parcels, self._commitments)
        if isinstance(target, WebDestination):
            return web_sender.send(target, parcels)
        if isinstance(target, Hl7Destination):
            return mllp.send(target, parcels)
        return fhir_sender.send(target, parcels)

    def _note(self, answer: Answer) -> None:
        commitment = self._commitments is not None
        claims.note(self._database, self._configuration, self._target.name, answer, commitment, self._clock())
        self._answered.add(answer.parcel.delivery_id)
        self.taken += answer.stored

    def _hold(self) -> None:
        if self._clock() - self._held_at > claims.LEASE_SECONDS / 5:
            self._held_at = self._clock()
            claims.hold(self._database, self._parcels, self._held_at)

    def _pause(self, reason: str, blamed: Parcel | None) -> None:
        if blamed is not None:
            self._note(Answer(blamed, False, reason))
        else:
            parcel = next(
                (entry for entry in self._parcels if entry.delivery_id not in self._answered),
                self._parcels[0],
            )
            claims.count_attempt(self._database, parcel, reason)
        name, longer = self._target.name, blamed is None
        claims.pause(self._database, self._configuration, name, reason, longer, self._clock())
