"""STOW-RS: images by HTTP (PS3.18, section 10.5)."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from freezeframe.pacs import uids
from freezeframe.pacs.configuration import UPLOADED, NodeConfiguration
from freezeframe.pacs.database import Database
from freezeframe.pacs.intake import commands
from freezeframe.pacs.intake.keeping import Keeper, Origin
from freezeframe.pacs.intake.multipart import DICOM, BrokenMultipartError, MultipartReader, media_type
from freezeframe.pacs.intake.parts import Outcome, PartKeeper, TooLargeError
from freezeframe.pacs.security import audit
from freezeframe.pacs.watching.counters import REFUSALS

JSON = "application/dicom+json"
RETRY_SECONDS = 60
_ACCEPTED = (JSON, "application/json", "application/*", "*/*")
_BLOCK = 1 << 18  # bytes that are gathered before a thread is asked to write them
_SOP_CLASS, _SOP_INSTANCE = "00081150", "00081155"
_FAILURE_REASON, _RETRIEVE_URL = "00081197", "00081190"
_REFERENCED, _FAILED, _OTHER_FAILURES = "00081199", "00081198", "0008119A"
_log = logging.getLogger(__name__)


def router(
    keeper: Keeper, database: Database, configuration: NodeConfiguration, authorise: Callable[..., str]
) -> APIRouter:
    """Return ``POST /dicom-web/studies`` and ``POST /dicom-web/studies/{study}``.

    An image is durable before its sender learns of it. The answers are 200 where all are kept, 202 where some are, 409
    where none is, 503 where none is for want of room or the database; 400, 406, 413 and 415 as PS3.18 has them. What
    was whole before a body broke off is kept, and is known when it is sent again.

    Parameters
    ----------
    keeper : Keeper
        Of the node's folder.
    database : Database
        Whose audit trail says who stored how many images of which study.
    configuration : NodeConfiguration
        No routes are made where ``web.stow`` is false.
    authorise : callable
        FastAPI dependency that raises where the caller may not store, and returns the user's name.
    """
    routes = APIRouter(prefix="/dicom-web")
    if configuration.web is None or not configuration.web.stow:
        return routes

    @routes.post("/studies")
    async def store(request: Request, user: Annotated[str, Depends(authorise)]) -> JSONResponse:
        return await kept(request, user, None)

    @routes.post("/studies/{study_uid}")
    async def store_in_study(
        request: Request, study_uid: str, user: Annotated[str, Depends(authorise)]
    ) -> JSONResponse:
        try:
            return await kept(request, user, uids.checked(study_uid))
        except uids.InvalidUidError as error:
            raise HTTPException(400, str(error)) from None

    async def kept(request: Request, user: str, study_uid: str | None) -> JSONResponse:
        _check_accept(request)
        sink = PartKeeper(keeper, Origin(UPLOADED), study_uid)
        try:
            return await _store(request, sink)
        finally:  # also where the body broke off: what was whole before is kept
            await run_in_threadpool(_audit, database, user, sink.outcomes)

    return routes


async def _store(request: Request, sink: PartKeeper) -> JSONResponse:
    body = _body(request, sink)
    try:
        gathered = bytearray()
        async for block in request.stream():
            gathered += block
            if len(gathered) >= _BLOCK:
                await run_in_threadpool(body.feed, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(body.feed, bytes(gathered))
        await run_in_threadpool(body.finish)
    except BrokenMultipartError as error:
        raise _refused(400, str(error)) from None
    except TooLargeError as error:
        raise _refused(413, str(error)) from None
    except ClientDisconnect:
        raise _refused(400, "The connection was closed within the body.") from None
    finally:
        await run_in_threadpool(sink.close)
    if not sink.outcomes:
        raise _refused(400, "The body has no parts.")
    status = _status(sink.outcomes)
    for outcome in sink.outcomes:
        if outcome.failure is not None:
            REFUSALS.labels("stow", f"{outcome.failure:04X}").inc()
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
    return JSONResponse(_answer(sink.outcomes), status, headers, media_type=JSON)


def _audit(database: Database, user: str, outcomes: list[Outcome]) -> None:
    counts = Counter(outcome.study_uid for outcome in outcomes if outcome.is_new)
    if not counts:
        return
    try:
        with database.transaction() as session:
            for study_uid, count in counts.items():
                audit.record(session, user, audit.IMAGES_RECEIVED, study_uid, detail=f"{count} images")
    except SQLAlchemyError as error:
        _log.error("audit trail not written", extra={"reason": type(error).__name__})


class _Whole:
    """A body that is one DICOM file (PS3.18, section 8.6.1.1: a payload of a single part)."""

    def __init__(self, sink: PartKeeper) -> None:
        self._sink = sink
        sink.begin({})

    def feed(self, block: bytes) -> None:
        self._sink.write(memoryview(block))

    def finish(self) -> None:
        self._sink.end()


def _body(request: Request, sink: PartKeeper) -> MultipartReader | _Whole:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _refused(415, "A body with a content encoding is not taken: send it as it is.")
    found, parameters = media_type(request.headers.get("content-type", ""))
    if found == DICOM:
        return _Whole(sink)
    if found != "multipart/related" or parameters.get("type", DICOM).lower() != DICOM:
        raise _refused(415, f'Images are taken as multipart/related; type="{DICOM}", or one as {DICOM}.')
    try:
        return MultipartReader(parameters.get("boundary", ""), sink)
    except BrokenMultipartError as error:
        raise _refused(400, str(error)) from None


def _check_accept(request: Request) -> None:
    accept = request.headers.get("accept", "*/*")
    if not any(media_type(entry.strip())[0] in _ACCEPTED for entry in accept.split(",")):
        raise _refused(406, f"The answer is {JSON}.")


def _refused(status: int, reason: str) -> HTTPException:
    REFUSALS.labels("stow", str(status)).inc()
    _log.warning("A request to store was refused.", extra={"source": UPLOADED, "reason": reason})
    return HTTPException(status, reason)


def _status(outcomes: list[Outcome]) -> int:
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if not failures:
        return 200
    if len(failures) < len(outcomes):
        return 202
    return 503 if commands.OUT_OF_RESOURCES in failures else 409


def _answer(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the store instances response (PS3.18, annex I.2) in the DICOM JSON model."""
    # This node does not serve images to others, so no URL for retrieving them is given.
    answer: dict[str, Any] = {_RETRIEVE_URL: {"vr": "UR"}}
    groups: dict[str, list[dict[str, Any]]] = {_REFERENCED: [], _FAILED: [], _OTHER_FAILURES: []}
    for outcome in outcomes:
        reason = {_FAILURE_REASON: {"vr": "US", "Value": [outcome.failure]}}
        names = {
            _SOP_CLASS: {"vr": "UI", "Value": [outcome.sop_class_uid]},
            _SOP_INSTANCE: {"vr": "UI", "Value": [outcome.sop_instance_uid]},
        }
        if outcome.failure is None:
            groups[_REFERENCED].append({**names, _RETRIEVE_URL: {"vr": "UR"}})
        elif outcome.sop_instance_uid:
            groups[_FAILED].append({**names, **reason})
        else:
            groups[_OTHER_FAILURES].append(reason)
    return answer | {tag: {"vr": "SQ", "Value": items} for tag, items in groups.items() if items}
