"""The files of the page, which are built from ``web/`` and travel inside the wheel."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response

FOLDER = Path(__file__).resolve().parent / "page"
NOT_BUILT = (
    "The page was not built. In a checkout of freezeframe run `make page` (it needs Node.js and npm), then start the "
    "node again. An installed release has the page in it. The node itself works without: images, results, /api, "
    "/metrics and /health.\n"
)
_NOT_PAGE = ("api", "dicom-web", "metrics", "health")


def router(folder: Path = FOLDER) -> APIRouter:
    """Make the routes of the page: its files, and ``index.html`` for every path that the page itself knows."""
    routes = APIRouter()

    # HEAD as well: checks of load balancers use it.
    @routes.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def page(path: str) -> Response:
        first = path.partition("/")[0]
        if first in _NOT_PAGE:
            return JSONResponse({"detail": "There is no such address."}, 404)
        index = folder / "index.html"
        if not index.is_file():
            return PlainTextResponse(NOT_BUILT, 503)
        file = _file(folder, path)
        if file is not None:
            return FileResponse(file)
        if first == "assets":  # of another release: its HTML would be taken for a script
            return PlainTextResponse("There is no such file.\n", 404)
        return FileResponse(index)

    return routes


def _file(folder: Path, path: str) -> Path | None:
    if not path or "\0" in path:
        return None
    try:
        file = (folder / path).resolve()
        return file if file.is_relative_to(folder.resolve()) and file.is_file() else None
    except OSError:  # a name that is longer than any file's
        return None
