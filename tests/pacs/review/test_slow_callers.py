"""Callers of the web server who say nothing, or drip, or read nothing: nobody else notices them."""

import contextlib
import socket
import time

import httpx
import pytest
from fastapi import APIRouter, Request, Response

from freezeframe.pacs.configuration import Web
from freezeframe.pacs.review import connections, protection

WEB = Web(port=0)
LOGIN = (
    b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
)


@pytest.fixture
def hurried(monkeypatch):
    """Waits of a second instead of many."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(protection, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(protection, "SILENT_SECONDS", 1.0)


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 60)


def answered(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection, which it must within a minute."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            received += block
    return received


def test_connections_that_say_nothing_keep_nobody_out(web_node, served):
    with served(web_node.app, WEB) as url, contextlib.ExitStack() as opened:
        for _ in range(connections.MOST_CONNECTIONS + 20):
            opened.enter_context(connected(url))
        assert httpx.get(f"{url}/api/me", timeout=60).status_code == 401


def test_requests_whose_bodies_do_not_come_keep_nobody_out(web_node, served):
    with served(web_node.app, WEB) as url, contextlib.ExitStack() as opened:
        for _ in range(connections.MOST_CONNECTIONS + 20):
            opened.enter_context(connected(url)).sendall(LOGIN)
        assert httpx.get(f"{url}/api/me", timeout=60).status_code == 401


@pytest.mark.parametrize(
    "said", [b"", b"GET /api/me HTTP/1.1\r\nHost:", b"GET /api/me HTTP/1.1\r\nHost: x\r\n\r\nGET"]
)
def test_who_does_not_ask_is_disconnected(web_node, served, hurried, said):
    with served(web_node.app, WEB) as url, connected(url) as connection:
        connection.sendall(said)
        assert answered(connection).count(b"HTTP/1.1") == said.count(b"\r\n\r\n")


def test_a_dripping_head_is_no_way_to_stay(web_node, served, hurried):
    with served(web_node.app, WEB) as url, connected(url) as connection:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\n")
            while time.monotonic() - begun < 60:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - begun < 60


def test_a_body_that_does_not_come_is_answered_with_408(web_node, served, hurried):
    with served(web_node.app, WEB) as url, connected(url) as connection:
        connection.sendall(LOGIN)
        assert answered(connection).startswith(b"HTTP/1.1 408")


def test_images_that_stop_coming_are_given_up(make_node, served, hurried):
    routes = APIRouter()

    @routes.post("/dicom-web/studies")
    async def store(request: Request) -> int:
        return len([block async for block in request.stream()])

    with served(make_node(routers=(routes,)).app, WEB) as url, connected(url) as connection:
        connection.sendall(b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc")
        assert answered(connection).startswith(b"HTTP/1.1 408")


def test_who_reads_nothing_of_a_large_answer_is_disconnected(make_node, served, hurried):
    routes = APIRouter()

    @routes.get("/large")
    def large() -> Response:
        return Response(b"x" * 50_000_000)

    with served(make_node(routers=(routes,)).app, WEB) as url, connected(url) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(4)  # the caller's own doing: it reads nothing
        assert len(answered(connection)) < 50_000_000


def test_a_slow_answer_and_a_slow_reader_are_waited_for(make_node, served, hurried):
    routes = APIRouter()

    @routes.get("/slow")
    def slow() -> Response:
        time.sleep(2.5)
        return Response(b"x" * 20_000_000)

    with (
        served(make_node(routers=(routes,)).app, WEB) as url,
        httpx.stream("GET", f"{url}/slow", timeout=60) as got,
    ):
        received = 0
        for block in got.iter_raw(1_000_000):
            received += len(block)
            time.sleep(0.15)
    assert received == 20_000_000
