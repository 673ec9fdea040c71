"""A real Chromium, the system's, moved by Playwright: fixtures for tests of a report's pages, which it loads from files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
REQUIRED = "OLLAMAKE_BROWSER"  # `required`: where there is none, tests fail; CI says so
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@dataclass(frozen=True, slots=True)
class Opened:
    """A page, and what a reader would not like of it."""

    page: Page
    said: list[str] = field(default_factory=list)  # on the console, by an error, in a dialog
    asked: list[str] = field(default_factory=list)  # addresses


def found() -> str | None:
    """The system's Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = found()
    if path is None:
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(f"no Chromium: {', '.join(NAMES)}")
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as play:
        # Root's Chromium starts without a sandbox alone; the pages are ours, and from files.
        running = play.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser) -> Callable[..., Any]:
    """Opens a file in a context of its own; whatever it says, and each address that it asks for, is kept."""

    @contextmanager
    def opening(path: Path, **options: Any) -> Iterator[Opened]:
        context = browser.new_context(**{"viewport": WIDE, **options})
        try:
            page = context.new_page()
            one = Opened(page)
            page.on("console", lambda message: one.said.append(message.text))
            page.on("pageerror", lambda error: one.said.append(str(error)))
            page.on("dialog", lambda dialog: (one.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.on("request", lambda request: one.asked.append(request.url))
            page.goto(path.as_uri())
            yield one
        finally:
            context.close()

    return opening
