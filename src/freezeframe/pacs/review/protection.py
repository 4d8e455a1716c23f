"""What holds for every answer of the web server: security headers, small requests, and errors that tell no secrets."""

import asyncio
import logging
import time
import traceback
from pathlib import PurePath

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger(__name__)
LARGEST_BODY = 64 * 1024
"""Bytes that a request to the API may bring."""
BODY_SECONDS = 10.0
"""That they may take."""
SILENT_SECONDS = 60.0
"""That may pass between two pieces of another body, such as of images."""
ASSETS = "/assets/"
"""Below it are the page's files whose names hold a hash of their content."""

# Cornerstone compiles WebAssembly and starts workers from blobs; nothing comes from another address.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class _BodyRefusedError(HTTPException):
    # FastAPI takes any other exception while it reads a body for a malformed one.
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason, {"Connection": "close"})


def _too_large() -> _BodyRefusedError:
    return _BodyRefusedError(413, f"More than {LARGEST_BODY} bytes.")


class Protection:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app : ASGIApp
        What it protects.
    https : bool
        Whether browsers reach it by HTTPS.
    """

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self.app, self.https = app, https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = finished = False

        async def send_protected(message: Message) -> None:
            nonlocal started, finished
            if message["type"] == "http.response.start":
                started = True
                found = message["status"] < 400
                self._protect(scope["path"], found, MutableHeaders(raw=message["headers"]))
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        small = self._is_small(scope["path"])
        try:
            if small and int(Headers(scope=scope).get("content-length") or 0) > LARGEST_BODY:
                raise _too_large()
            await self.app(scope, _limited(receive, small), send_protected)
        except _BodyRefusedError as error:
            answer = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await answer(scope, receive, send_protected)
        except Exception as error:
            # The text of an exception may hold a patient's name: it goes neither to the log nor to the caller.
            LOGGER.error("a request failed", extra={"reason": place_of(error)})
            if not started:
                await failed()(scope, receive, send_protected)
            elif not finished:
                raise ConnectionAbortedError("the answer was cut off") from None

    @staticmethod
    def _is_small(path: str) -> bool:
        return path.startswith("/api/")

    def _protect(self, path: str, found: bool, headers: MutableHeaders) -> None:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self.https:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if path.startswith(ASSETS) and found:
            headers.setdefault("Cache-Control", "public, max-age=31536000, immutable")
        else:
            headers.setdefault("Cache-Control", "no-store")


def _limited(receive: Receive, small: bool) -> Receive:
    received, ended, begun = 0, False, time.monotonic()

    async def receive_limited() -> Message:
        nonlocal received, ended
        if ended:  # what comes now is the end of the connection, whenever that is
            return await receive()
        left = begun + BODY_SECONDS - time.monotonic() if small else SILENT_SECONDS
        try:
            async with asyncio.timeout(max(0.01, left)):
                message = await receive()
        except TimeoutError:
            raise _BodyRefusedError(408, "The body of the request did not come in time.") from None
        ended = not message.get("more_body", False)
        received += len(message.get("body", b""))
        if small and received > LARGEST_BODY:
            raise _too_large()
        return message

    return receive_limited


def place_of(error: BaseException) -> str:
    """Say what kind of exception it is and where it came from, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"


def failed() -> JSONResponse:
    """Make the answer to a request in which something of ours went wrong."""
    return JSONResponse({"detail": "The node could not do this; its log says where it failed."}, 500)


def explain_errors(app: FastAPI) -> None:
    """Have requests that don't fit answered with the names of the fields; FastAPI would send back their content."""

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        fields = {
            ".".join(str(part) for part in problem["loc"][1:]) or "the body" for problem in error.errors()
        }
        return JSONResponse({"detail": f"Not as expected: {', '.join(sorted(fields))}."}, 422)

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> JSONResponse:
        return failed()
