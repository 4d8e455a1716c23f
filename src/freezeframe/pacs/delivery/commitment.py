"""Storage commitment (PS3.4, annex J): a destination says that it keeps what it was sent, often much later.

A request that is not answered in time is made again, with a new transaction; an object that the destination does not
commit to is sent again.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence

from sqlalchemy import select

from freezeframe.pacs import uids
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery.claims import put_back, settle, wait
from freezeframe.pacs.delivery.parcels import Parcel
from freezeframe.pacs.tables import DELIVERY_DONE, DELIVERY_SENT, Delivery, ResultObject

LOGGER = logging.getLogger(__name__)
ANSWER_SECONDS = 300.0
"""How long a destination may take before it is asked again; longer each time."""


class CommitmentBook:
    """What was asked for over one association, and what was answered over it.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    now : callable
        Returns the time in seconds since 1970.
    """

    def __init__(
        self, database: Database, configuration: NodeConfiguration, now: Callable[[], float] = time.time
    ) -> None:
        self._database, self._configuration, self._now = database, configuration, now

    def begin(self, parcels: Sequence[Parcel]) -> str:
        """Note a request before it is made, since its result may come first; return the transaction's UID."""
        transaction_uid = uids.derived(self._configuration.uid_root, uuid.uuid4())
        self._postpone(parcels, transaction_uid, "")
        return transaction_uid

    def refused(self, parcels: Sequence[Parcel], reason: str) -> None:
        """Note that the destination did not take the request; it is asked again later."""
        self._postpone(parcels, "", reason)
        LOGGER.warning("A request for storage commitment was refused.", extra={"reason": reason})

    def reported(self, transaction_uid: str, done: list[str], failed: list[tuple[str, int]]) -> None:
        """Note a result that came over the same association."""
        committed(self._database, self._configuration, transaction_uid, done, failed, self._now())

    def _postpone(self, parcels: Sequence[Parcel], transaction_uid: str, reason: str) -> None:
        now, limits = self._now(), self._configuration.limits
        ids = [parcel.delivery_id for parcel in parcels]
        with self._database.transaction() as session:
            rows = select(Delivery).where(Delivery.id.in_(ids), Delivery.state == DELIVERY_SENT)
            for delivery in session.scalars(rows.order_by(Delivery.id).with_for_update()):
                if delivery.transaction_uid:
                    delivery.attempts += 1
                    delivery.reason = "no storage commitment came in time"
                if reason:
                    delivery.attempts += 1
                    delivery.reason = reason
                delivery.transaction_uid = transaction_uid
                delivery.not_before = now + max(ANSWER_SECONDS, wait(delivery.attempts, limits))


def committed(
    database: Database,
    configuration: NodeConfiguration,
    transaction_uid: str,
    done: Sequence[str],
    failed: Sequence[tuple[str, int]],
    now: float,
) -> None:
    """Take a storage commitment result (N-EVENT-REPORT), whichever association it came over.

    Parameters
    ----------
    database, configuration : Database, NodeConfiguration
        Of the node.
    transaction_uid : str
        Of the request; one that is unknown, or was made again meanwhile, changes nothing.
    done : sequence of str
        SOP instance UIDs that the destination keeps.
    failed : sequence of (str, int)
        SOP instance UIDs that it does not keep, with the failure reason (PS3.3, section C.14.1.1): sent again.
    now : float
        Seconds since 1970.
    """
    reasons = dict(failed)
    kept = set(done) - set(reasons)
    count = 0
    with database.transaction() as session:
        rows = (
            select(Delivery, ResultObject.sop_instance_uid)
            .join(ResultObject, ResultObject.id == Delivery.object_id)
            .where(Delivery.transaction_uid == transaction_uid, Delivery.state == DELIVERY_SENT)
            .order_by(Delivery.id)
            .with_for_update(of=Delivery)
        )
        for delivery, sop_instance_uid in session.execute(rows) if transaction_uid else ():
            if sop_instance_uid in kept:
                delivery.state, delivery.done_at, delivery.reason = DELIVERY_DONE, now, ""
                count += 1
            elif sop_instance_uid in reasons:
                code = reasons[sop_instance_uid]
                put_back(delivery, f"storage commitment failed: 0x{code:04X}", configuration.limits, now)
                count += 1
    LOGGER.info(
        "A storage commitment result came."
        if count
        else "A storage commitment result of no open request came.",
        extra={"reason": f"{len(kept)} kept, {len(reasons)} not"},
    )
    settle(database)
