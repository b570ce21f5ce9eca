"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .programs import missing

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ImportError:
    PLAYWRIGHT = False
else:
    PLAYWRIGHT = True
    expect.set_options(timeout=20_000)

__all__ = ["browser", "watched"]

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Skipped where there is none, which for CI is a failure."""
    if not PLAYWRIGHT:
        missing("playwright (of PyPI)")
    if CHROMIUM is None:
        missing("chromium (of Debian)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def watched(page: Page) -> tuple[list[str], list[str]]:
    """What it will complain of, and the addresses that it will ask: lists that grow."""
    complaints: list[str] = []
    addresses: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda websocket: addresses.append(websocket.url))
    return complaints, addresses
