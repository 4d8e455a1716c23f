"""Chromium before the seeded node's page: whatever it asks from elsewhere or complains of fails the test."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright
from seeded_node import PASSWORDS, SeededNode, seed

from freezeframe.pacs.review.app import make_app
from freezeframe.pacs.review.page import FOLDER
from freezeframe.pacs.review.serving import make_server, port_of

SECONDS = 60
FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WEBGL, NO_WEBGL = "--enable-unsafe-swiftshader", "--disable-gpu"


@contextmanager
def serving_node(folder: Path, **fields: Any) -> Iterator["ServedNode"]:
    """Serve a seeded node as the node itself does."""
    assert (FOLDER / "index.html").exists(), "the page was not built: make page"
    node = seed(folder / "node", time.time(), web={"port": 0}, **fields)
    web = node.configuration.web
    assert web is not None
    server = make_server(make_app(node.database, node.configuration), web)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait(lambda: server.started)
        yield ServedNode(node, f"http://127.0.0.1:{port_of(server)}")
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        node.database.close()


def launch(playwright: Playwright, webgl: bool) -> Browser:
    return playwright.chromium.launch(
        executable_path="/usr/bin/chromium", args=[*FLAGS, WEBGL if webgl else NO_WEBGL]
    )


@dataclass
class ServedNode:
    """A node that listens, and who has logged in to it."""

    node: SeededNode
    address: str
    states: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def page(
        self,
        browser: Browser,
        user: str | None = "reader-1",
        size: tuple[int, int] = (1280, 900),
        **options: Any,
    ) -> Iterator[Page]:
        """Open a page as a user; it may ask nothing but the node, and complain of nothing."""
        options = {"locale": "en-GB", "storage_state": self._state(browser, user)} | options
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(1000 * SECONDS)
        page = context.new_page()
        complaints = watch(context, page, self.address)
        try:
            yield page
        finally:
            context.close()
        assert complaints == []

    def _state(self, browser: Browser, user: str | None) -> Any:
        if user is None:
            return None
        if user not in self.states:
            context = browser.new_context()
            page = context.new_page()
            page.goto(self.address)
            log_in(page, user)
            self.states[user] = context.storage_state()
            context.close()
        return self.states[user]

    def open_study(self, page: Page, name: str, heat: bool = False) -> Locator:
        """Open a study, and return where its radiograph is, when it is drawn."""
        page.goto(f"{self.address}/study/{self.node.uids[name]}")
        frame = page.locator(".frame[data-busy=false]" + ("[data-heat=true]" if heat else ""))
        frame.wait_for()
        frame = page.locator(".frame")
        wait(lambda: pixels(frame).max() > 100)
        return frame


def watch(context: BrowserContext, page: Page, address: str) -> list[str]:
    complaints: list[str] = []

    def heard(message: Any) -> None:
        # Chromium reports each answer that is an error; which ones are expected is each test's matter.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    context.on(
        "request",
        lambda request: (
            None if request.url.startswith((address, "blob:", "data:")) else complaints.append(request.url)
        ),
    )
    return complaints


def log_in(page: Page, user: str, password: str | None = None) -> None:
    page.locator("input[name=user]").fill(user)
    page.locator("input[name=password]").fill(PASSWORDS[user] if password is None else password)
    page.keyboard.press("Enter")
    if password is None:
        page.locator("nav").wait_for()


def pixels(frame: Locator) -> np.ndarray:
    """What is seen of the radiograph, but for the lowest rows with the notice: (rows, columns, 3) from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(frame.screenshot())).convert("RGB")).astype(int)[:-40]


def box(mask: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of what is True."""
    rows, columns = np.nonzero(mask)
    assert rows.size, "nothing is there"
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def wait(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
