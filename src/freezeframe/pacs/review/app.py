"""The web server's application: the API, and the page that uses it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake import web_store
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.review import (
    api_dashboard,
    api_feedback,
    api_images,
    api_session,
    api_studies,
    page,
    protection,
)
from freezeframe.pacs.review.access import Access
from freezeframe.pacs.review.decoder import Decoder


def make_app(
    database: Database,
    configuration: NodeConfiguration,
    keeper: Keeper | None = None,
    extra_routers: Iterable[APIRouter] = (),
) -> FastAPI:
    """Make the application; `serving.make_server` serves it.

    Parameters
    ----------
    database : Database
        Of the node.
    configuration : NodeConfiguration
        Of the node.
    keeper : Keeper, optional
        Keeps what comes by STOW-RS; without one nothing is taken.
    extra_routers : iterable of APIRouter, optional
        More routes, such as of metrics and health. They decide themselves who may use them.
    """
    access, decoder = Access(database, configuration), Decoder()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            decoder.close()

    # Without the pages that describe the API: they load scripts from elsewhere.
    app = FastAPI(
        title="freezeframe node", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    protection.explain_errors(app)
    app.include_router(api_session.router(database, configuration, access))
    app.include_router(api_studies.router(database, configuration, access, decoder))
    app.include_router(api_images.router(database, configuration, access, decoder))
    app.include_router(api_feedback.router(database, access))
    app.include_router(api_dashboard.router(database, access))
    if keeper is not None:
        app.include_router(web_store.router(keeper, database, configuration, access.sender))
    for router in extra_routers:
        app.include_router(router)
    app.include_router(page.router())  # the last, since it answers whatever is left
    app.add_middleware(protection.Protection, https=access.web.is_secure)
    return app
