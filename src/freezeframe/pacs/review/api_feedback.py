"""What readers say of results, and deliveries that an administrator has tried again, or withholds."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from freezeframe.pacs.database import Database
from freezeframe.pacs.delivery import claims
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.logins import Account
from freezeframe.pacs.tables import (
    Delivery,
    Feedback,
    Result,
    ResultObject,
    Study,
)

Identifier = Annotated[int, Path(ge=1, lt=2**31)]


class Said(BaseModel):
    """A reader's verdict on a result."""

    verdict: Literal["agree", "disagree", "correct"]
    label: str = Field(default="", max_length=200, description="the right class; only with 'correct'")
    remark: str = Field(default="", max_length=2000)


def router(database: Database, access: Access) -> APIRouter:
    """Make the routes that say something of results."""
    routes = APIRouter()

    @routes.post("/api/results/{result_id}/feedback")
    def feedback(
        result_id: Identifier, said: Said, account: Annotated[Account, Depends(access.reader)]
    ) -> dict[str, Any]:
        now = time.time()
        with database.transaction() as session:
            result = session.get(Result, result_id)
            if result is None:
                raise HTTPException(404, "There is no such result.")
            labels = [entry["label"] for entry in result.reading["model"]["classes"]]
            if said.verdict == "correct" and said.label not in labels:
                raise HTTPException(422, "To correct a result, name one of the bundle's classes.")
            entry = Feedback(
                result_id=result_id,
                user=account.user[:64],
                verdict=said.verdict,
                label=said.label if said.verdict == "correct" else "",
                remark=said.remark.replace("\0", ""),  # which PostgreSQL does not take
                at=now,
            )
            session.add(entry)
            session.flush()
            study = session.get_one(Study, result.study_id)
            detail = f"result {result_id}: {said.verdict}"
            audit.record(session, account.user, audit.FEEDBACK, study.study_uid, detail=detail, now=now)
        return {
            "user": entry.user,
            "verdict": entry.verdict,
            "label": entry.label,
            "remark": entry.remark,
            "at": entry.at,
        }

    @routes.post("/api/deliveries/{delivery_id}/retry")
    def retry(delivery_id: Identifier, account: Annotated[Account, Depends(access.admin)]) -> dict[str, str]:
        now = time.time()
        with database.transaction() as session:
            delivery = _open_delivery(session, delivery_id, "try again")
            claims.retry(session, delivery, now)
            _record(session, account, audit.RETRY, delivery, now)
        return {"state": delivery.state}

    @routes.post("/api/deliveries/{delivery_id}/withhold")
    def withhold(
        delivery_id: Identifier, account: Annotated[Account, Depends(access.admin)]
    ) -> dict[str, str]:
        now = time.time()
        with database.transaction() as session:
            delivery = _open_delivery(session, delivery_id, "withhold")
            claims.withhold(session, [delivery.id])
            _record(session, account, audit.WITHHELD, delivery, now)
        claims.settle(database)
        return {"state": delivery.state}

    return routes


def _open_delivery(session: Session, delivery_id: int, what: str) -> Delivery:
    delivery = session.get(Delivery, delivery_id, with_for_update=True)
    if delivery is None:
        raise HTTPException(404, "There is no such delivery.")
    if delivery.state not in claims.OPEN:
        raise HTTPException(409, f"This delivery is {delivery.state}: there is nothing to {what}.")
    return delivery


def _record(session: Session, account: Account, what: str, delivery: Delivery, now: float) -> None:
    made = session.get_one(ResultObject, delivery.object_id)
    study = session.get_one(Study, session.get_one(Result, made.result_id).study_id)
    detail = f"delivery {delivery.id} to {delivery.destination}"
    audit.record(session, account.user, what, study.study_uid, detail=detail, now=now)
