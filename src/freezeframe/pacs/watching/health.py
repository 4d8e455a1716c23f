"""Whether a node lives, and whether it can do its work: for a container's and a load balancer's checks."""

import shutil
import threading
import time
from dataclasses import asdict, dataclass

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.tables import (
    DELIVERY_SENT,
    DELIVERY_WAITING,
    JOB_WAITING,
    Cursor,
    Delivery,
    Job,
    Worker,
)

LONGEST_WAIT = 1800.0
"""Seconds that a reading may be overdue."""
STUCK_ATTEMPTS = 5
"""Failed attempts after which a delivery counts as stuck."""
STUCK_COMMITMENT = 86400.0
"""Seconds that a destination may take to commit to what it was sent."""
LEASES = 3
"""Leases that a worker may be silent for."""
SECONDS_BETWEEN_LOOKS = 5.0
"""A look writes to the database, and anybody may ask."""


@dataclass(frozen=True)
class Check:
    """One thing that must be so for a node to do its work.

    Attributes
    ----------
    key : str
        database, disk, workers, readings or deliveries.
    ok : bool
        Whether it is so.
    reason : str
        Why not; '' where it is.
    """

    key: str
    ok: bool
    reason: str = ""


def examine(database: Database, configuration: NodeConfiguration, now: float) -> tuple[Check, ...]:
    """Look at everything that a node needs to do its work.

    Parameters
    ----------
    database : Database
        One row of it is written.
    configuration : NodeConfiguration
        Of the node.
    now : float
        Seconds since 1970.
    """
    free = shutil.disk_usage(configuration.folder).free / 1e9
    least = configuration.retention.least_free_gigabytes
    disk = Check("disk", free >= least, "" if free >= least else f"{free:.1f} GB free, {least:g} needed")
    try:
        with database.transaction() as session:
            session.merge(Cursor(name="health", value={}, at=now))
        with database.reading() as session:
            limits = configuration.limits
            alive = session.scalar(
                select(func.count()).where(Worker.seen_at >= now - LEASES * limits.lease_seconds)
            )
            overdue = session.scalar(
                select(func.min(Job.not_before)).where(Job.state == JOB_WAITING, Job.not_before <= now)
            )
            failing = session.scalar(
                select(func.count()).where(
                    Delivery.state == DELIVERY_WAITING, Delivery.attempts >= STUCK_ATTEMPTS
                )
            )
            uncommitted = session.scalar(
                select(func.count()).where(
                    Delivery.state == DELIVERY_SENT, Delivery.sent_at < now - STUCK_COMMITMENT
                )
            )
    except SQLAlchemyError as error:
        return (Check("database", False, f"it can't be written ({type(error).__name__})"), disk)
    workers = Check("workers", True)
    if limits.workers and not alive:
        workers = Check("workers", False, "no reading process was seen lately")
    readings = Check("readings", True)
    if overdue is not None and now - overdue > LONGEST_WAIT:
        readings = Check("readings", False, f"one is due for {(now - overdue) / 60:.0f} minutes")
    stuck = (failing or 0) + (uncommitted or 0)
    deliveries = Check("deliveries", not stuck, f"{stuck} stuck" if stuck else "")
    return (Check("database", True), disk, workers, readings, deliveries)


def router(database: Database, configuration: NodeConfiguration) -> APIRouter:
    """Make ``GET /health/live`` (200 while the process answers) and ``/health/ready`` (200, or 503 with reasons)."""
    routes = APIRouter()
    lock = threading.Lock()
    last: tuple[float, tuple[Check, ...]] = (0.0, ())

    @routes.get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/health/ready", include_in_schema=False)
    def ready() -> JSONResponse:
        nonlocal last
        with lock:
            moment = time.monotonic()
            if not last[1] or moment - last[0] >= SECONDS_BETWEEN_LOOKS:
                last = moment, examine(database, configuration, time.time())
            checks = last[1]
        well = all(check.ok for check in checks)
        content = {
            "status": "ready" if well else "not ready",
            "checks": [asdict(check) for check in checks],
        }
        return JSONResponse(content, status_code=200 if well else 503)

    return routes
