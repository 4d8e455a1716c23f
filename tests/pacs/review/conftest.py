"""A node's web application over made-up rows, and people who are logged in."""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from node_rows import Rows, image_reading

from freezeframe.pacs.configuration import Web
from freezeframe.pacs.review import serving
from freezeframe.pacs.review.access import CSRF_HEADER
from freezeframe.pacs.review.app import make_app
from freezeframe.pacs.security import passwords
from freezeframe.pacs.tables import Login, Result, User

PASSWORD = "three words and more"
NOW = 1_790_000_000.0


@dataclass
class WebNode:
    """A node's rows, its application, and logins to it."""

    rows: Rows
    app: FastAPI
    make_client: Callable[[], TestClient]

    @property
    def folder(self) -> Path:
        return self.rows.configuration.folder

    def as_(self, role: str) -> TestClient:
        """Return a client with an open session of the user of a role, who has the role's name."""
        client, token, now = self.make_client(), secrets.token_hex(), time.time()
        with self.rows.database.transaction() as session:
            session.add(
                Login(
                    token_sha256=hashlib.sha256(token.encode()).hexdigest(),
                    user=role,
                    csrf_token="csrf",
                    created_at=now,
                    expires_at=now + 1000,
                )
            )
        client.cookies["freezeframe"] = token
        client.headers[CSRF_HEADER] = "csrf"
        return client

    def study(self, now: float = NOW, **fields: Any) -> str:
        """Add a study that nobody has read, and return its UID."""
        with self.rows.database.transaction() as session:
            return self.rows.study(session, now, **fields).study_uid

    def result(self, score: float = 0.9, now: float = NOW, warned: bool = False, **fields: Any) -> Result:
        """Add a study that was read, and return its result."""
        with self.rows.database.transaction() as session:
            return self.rows.result(session, now, image_reading(score, warned=warned), **fields)


@pytest.fixture(scope="session")
def password_hash() -> str:
    return passwords.hash_password(PASSWORD)


@contextmanager
def _nodes(folder: Path, password_hash: str) -> Iterator[Callable[..., WebNode]]:
    with ExitStack() as stack:

        def make(routers: Any = (), **fields: Any) -> WebNode:
            rows = Rows.of(folder, **fields)
            stack.callback(rows.database.close)
            with rows.database.transaction() as session:
                for role in passwords.ROLES:
                    session.add(User(name=role, role=role, password_hash=password_hash, created_at=NOW))
            app = make_app(rows.database, rows.configuration, extra_routers=routers)
            return WebNode(rows, app, lambda: stack.enter_context(TestClient(app)))

        yield make


@pytest.fixture
def make_node(tmp_path, password_hash) -> Iterator[Callable[..., WebNode]]:
    """Makes a node with a user of each role; fields of its configuration may be given."""
    with _nodes(tmp_path, password_hash) as make:
        yield make


@pytest.fixture(scope="module")
def lasting_node(tmp_path_factory, password_hash) -> Iterator[WebNode]:
    """One node for all tests of a module, since processes that decode start slowly."""
    with _nodes(tmp_path_factory.mktemp("lasting"), password_hash) as make:
        yield make()


@pytest.fixture
def web_node(make_node) -> WebNode:
    return make_node()


@contextmanager
def _served(app: FastAPI, web: Web) -> Iterator[str]:
    server = serving.make_server(app, web)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        scheme = "https" if web.tls is not None else "http"
        yield f"{scheme}://127.0.0.1:{serving.port_of(server)}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def served() -> Callable[[FastAPI, Web], Any]:
    """Serves an application on a free port of this machine; yields its address."""
    return _served
