"""Take the pictures of docs/node-review.md: the page before a node with synthetic films.

make page && python docs/pictures/page.py
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parents[1] / "tests" / "pacs" / "review")]

from page_browser import launch, serving_node  # noqa: E402  (the tests' own)


def main() -> None:
    """Write node-worklist.webp, node-study.webp, node-tablet.webp and node-dashboard.webp beside this file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_node(Path(folder)) as served,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright, webgl=True)
        with served.page(browser, size=(1280, 760)) as page:
            page.goto(served.address)
            page.locator("tr.row").first.wait_for()
            _save("worklist", page.screenshot())
            served.open_study(page, "urgent", heat=True)
            _save("study", page.screenshot())
            page.goto(f"{served.address}/dashboard")
            page.locator("svg.chart").first.wait_for()
            _save("dashboard", page.screenshot())
        with served.page(browser, size=(768, 1024)) as page:
            page.goto(served.address)
            page.get_by_role("button", name="Español").click()
            served.open_study(page, "second", heat=True)
            _save("tablet", page.screenshot())
        browser.close()


def _save(name: str, content: bytes) -> None:
    Image.open(io.BytesIO(content)).save(FOLDER / f"node-{name}.webp", quality=44, method=6)


if __name__ == "__main__":
    main()
