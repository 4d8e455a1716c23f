"""The worklist, one study, and reading it again."""

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from freezeframe.errors import UserError
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.reading.again import read_again
from freezeframe.pacs.review import details, summaries
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.review.decoder import Decoder
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.logins import Account
from freezeframe.pacs.tables import Image, Study

State = Literal["", "receiving", "waiting", "reading", "delivering", "done", "ignored", "quarantined"]
Outcome = Literal["", "positive", "negative", "refused"]
Verdicts = Literal["", "none", "any", "agree", "disagree", "correct"]


def router(
    database: Database, configuration: NodeConfiguration, access: Access, decoder: Decoder
) -> APIRouter:
    """Make the routes of studies."""
    routes = APIRouter()

    @routes.get("/api/studies")
    def studies(
        account: Annotated[Account, Depends(access.viewer)],
        state: State = "",
        outcome: Outcome = "",
        feedback: Verdicts = "",
        text: Annotated[str, Query(max_length=200)] = "",
        source: Annotated[str, Query(max_length=32)] = "",
        order: Literal["urgent", "newest"] = "urgent",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> dict[str, Any]:
        asked = summaries.Asked(
            state, outcome, source, feedback, _searchable(text), order == "newest", limit, offset
        )
        with database.reading() as session:
            total, found = summaries.find(session, asked, account.user)
        access.note(account, audit.STUDIES_LISTED)
        return {"total": total, "studies": found}

    @routes.get("/api/studies/{study_uid}")
    def study(
        study_uid: str, account: Annotated[Account, Depends(access.viewer)], request: Request
    ) -> dict[str, Any]:
        language = language_of(request, configuration)
        with database.reading() as session:
            found = _study(session, study_uid)
            answer = details.detail(session, found, account.user, language)
            images = details.images_of(session, found)
        access.note(account, audit.STUDY_OPENED, found.study_uid)
        describe = decoder.describe
        return {**answer, "images": [_image(image, configuration, describe) for image in images]}

    @routes.post("/api/studies/{study_uid}/rerun")
    def rerun(study_uid: str, account: Annotated[Account, Depends(access.admin)]) -> dict[str, list[int]]:
        now = time.time()
        with database.transaction() as session:
            found = _study(session, study_uid)
            try:
                ordered = read_again(session, found.id, now)
            except UserError as error:
                raise HTTPException(409, str(error)) from error
            audit.record(session, account.user, audit.RERUN, found.study_uid, now=now)
        return {"jobs": ordered}

    return routes


def language_of(request: Request, configuration: NodeConfiguration) -> details.Language:
    """Return the language that the page speaks, the node's where it does not say."""
    asked = request.headers.get("Accept-Language", "")[:2].lower()
    if asked == "en":
        return "en"
    return "es" if asked == "es" else configuration.results.language


def _searchable(text: str) -> str:
    return text.replace("\0", "")  # which PostgreSQL does not take


def _study(session: Session, study_uid: str) -> Study:
    found = session.scalars(select(Study).where(Study.study_uid == _searchable(study_uid)[:64])).first()
    if found is None:
        raise HTTPException(404, "There is no such study.")
    return found


def _image(image: Image, configuration: NodeConfiguration, describe: Callable[..., Any]) -> dict[str, Any]:
    path = configuration.folder / image.path
    description = None
    if image.deleted_at is None and path.is_file():
        try:
            description = describe(path)
        except UnreadableImage:
            description = None  # such as a report among the images
    return {
        "sop_instance_uid": image.sop_instance_uid,
        "series_uid": image.series_uid,
        "rows": description.rows if description else None,
        "columns": description.columns if description else None,
        "frames": description.frames if description else None,
        "available": description is not None,
    }
