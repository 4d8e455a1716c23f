"""The dashboard, and the audit trail for administrators."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query
from sqlalchemy import select

from freezeframe.pacs.database import Database
from freezeframe.pacs.review import dashboard
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.logins import Account
from freezeframe.pacs.tables import AuditEntry
from freezeframe.pacs.watching import drift


def router(database: Database, access: Access) -> APIRouter:
    """Make the routes of the dashboard and of the audit trail."""
    routes = APIRouter()

    @routes.get("/api/dashboard", dependencies=[Depends(access.viewer)])
    def numbers(days: Annotated[int, Query(ge=1, le=3650)] = 90) -> dict[str, Any]:
        with database.reading() as session:
            return dashboard.compute(session, days, time.time())

    @routes.post("/api/alarms/acknowledge")
    def acknowledge(
        key: Annotated[str, Body(embed=True, max_length=200)],
        account: Annotated[Account, Depends(access.admin)],
    ) -> dict[str, Any]:
        now = time.time()
        with database.transaction() as session:
            if not drift.acknowledge(session, key, now):
                raise HTTPException(404, "There is no such alarm.")
            audit.record(session, account.user, audit.ALARM_ACKNOWLEDGED, key, now=now)
        return {}

    @routes.get("/api/audit")
    def lines(
        account: Annotated[Account, Depends(access.admin)],
        limit: Annotated[int, Query(ge=1, le=5000)] = 200,
    ) -> dict[str, Any]:
        access.note(account, audit.AUDIT_READ)
        with database.reading() as session:
            query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
            entries = session.scalars(query).all()
        names = ("id", "at", "who", "what", "target", "outcome", "detail", "hash")
        return {"entries": [{name: getattr(entry, name) for name in names} for entry in entries]}

    return routes
