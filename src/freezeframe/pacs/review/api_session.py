"""Login and logout, who one is, and what node this is."""

import importlib.metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from freezeframe import files
from freezeframe.bundle.runtime import contents
from freezeframe.errors import UserError
from freezeframe.pacs.configuration import NodeConfiguration, UsedBundle
from freezeframe.pacs.database import Database
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.security.logins import Account
from freezeframe.pacs.security.passwords import MOST_CHARACTERS
from freezeframe.pacs.tables import Cursor


class Credentials(BaseModel):
    """What a login sends."""

    user: str = Field(max_length=200)
    password: str = Field(max_length=MOST_CHARACTERS)


def router(database: Database, configuration: NodeConfiguration, access: Access) -> APIRouter:
    """Make the routes of sessions and of the node itself."""
    routes = APIRouter()
    bundles = [_bundle(entry) for entry in configuration.bundles]
    version = importlib.metadata.version("freezeframe")
    language = configuration.results.language

    @routes.post("/api/login")
    def log_in(credentials: Credentials, request: Request, response: Response) -> dict[str, str]:
        # No session has a token yet. A form of another site can't send JSON, and browsers say where a request is from.
        is_json = request.headers.get("Content-Type", "").partition(";")[0].strip() == "application/json"
        if not is_json or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise HTTPException(403, "Logins are taken as JSON from the node's own page.")
        return me(access.log_in(request, response, credentials.user, credentials.password))

    @routes.post("/api/logout", dependencies=[Depends(access.viewer)])
    def log_out(request: Request, response: Response) -> dict[str, str]:
        access.log_out(request, response)
        return {}

    @routes.get("/api/me")
    def me(account: Annotated[Account, Depends(access.viewer)]) -> dict[str, str]:
        return {
            "user": account.user,
            "role": account.role,
            "language": language,
            "csrf_token": account.csrf_token,
        }

    @routes.get("/api/node", dependencies=[Depends(access.viewer)])
    def node() -> dict[str, Any]:
        with database.reading() as session:
            # Whatever watches something keeps its alarms in its cursor.
            cursors = session.scalars(select(Cursor).order_by(Cursor.name)).all()
        return {
            "ae_title": configuration.ae_title,
            "shadow": configuration.shadow,
            "language": language,
            "version": version,
            "bundles": bundles,
            "alarms": [alarm for cursor in cursors for alarm in cursor.value.get("alarms", [])],
        }

    return routes


def _bundle(entry: UsedBundle) -> dict[str, Any]:
    """Return what the page shows of a bundle; one that can't be read is the readers' matter, not the page's."""
    try:
        found = contents.parse(files.read_json(entry.path / contents.CONTENTS), str(entry.path))
    except UserError:
        return {"name": entry.name, "classes": [], "positive_class": None}
    points = {point.name: point.threshold().positive_class for point in found.operating_points}
    chosen = entry.operating_point or next(iter(points), "")
    return {"name": entry.name, "classes": list(found.labels), "positive_class": points.get(chosen)}
