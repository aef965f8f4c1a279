"""A browser for the dashboard's tests: Debian's Chromium, driven by Playwright."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Served

PICTURES = ROOT / "build" / "screenshots"
"""Where the tests leave what they saw; git ignores it."""

WAIT = 30_000
"""Milliseconds after which a test gives up on the page; nothing takes a tenth of it."""


def chromium() -> str:
    """The browser's path; a test without one is skipped."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    path = chromium()
    # no sandbox: it cannot be had by root; no /dev/shm: it is small in containers
    options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


class Visitor:
    """Somebody who opens the dashboard; what the browser complained of is kept."""

    def __init__(self, browser: Any, server: Served) -> None:
        self.browser, self.server = browser, server
        self.complaints: list[str] = []
        self.expected: re.Pattern[str] | None = None  # complaints that belong to the test
        self.pages: list[Any] = []

    def open(self, at: str = "/", *, token: bool = True, **options: Any) -> Any:
        """A page in a browser of its own, once it is live."""
        options = {"viewport": {"width": 1280, "height": 820}, "color_scheme": "light", **options}
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(WAIT)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        self.pages.append(page)
        page.goto(f"{self.server.url}/#token={self.server.token}" if token else f"{self.server.url}/")
        if token:
            live(page)
            if at != "/":
                go(page, at)
        return page

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            where = (message.location or {}).get("url", "")
            self.complaints.append(f"{message.type}: {message.text} {where}")

    def leave(self) -> list[str]:
        """Close the pages; the complaints that were not expected."""
        for page in self.pages:
            page.context.close()
        expected = self.expected
        return [text for text in self.complaints if expected is None or not expected.search(text)]


def live(page: Any) -> None:
    """Wait until the page listens."""
    page.locator("#link[data-state=live]").wait_for()


def go(page: Any, path: str) -> None:
    """Have the page show an agent."""
    page.evaluate("path => { location.hash = '#' + path }", path)
    page.locator(f"[data-agent='{path}']").wait_for()


def picture(page: Any, name: str, **options: Any) -> Path:
    """Leave a screenshot behind."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, **options)
    return path
