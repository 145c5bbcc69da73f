"""Fixtures of the tests in Chromium."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

# The folder for screenshots, if someone wants to look at them.
SCREENSHOTS = os.environ.get("SCREENSHOTS")

# ReDoc takes long to render on a busy machine.
TIMEOUT_MS = 120_000


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Any]:
    """The system's Chromium, which the tests share; only names of this machine resolve."""
    from playwright.async_api import async_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "Chromium is not installed"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(chromium: Any) -> AsyncIterator[Any]:
    """A page that records its `sent_requests` and `error_messages`."""
    page = await chromium.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(TIMEOUT_MS)
    page.sent_requests, page.error_messages = [], []
    page.on("request", lambda request: page.sent_requests.append(request))
    page.on(
        "console",
        lambda message: (
            page.error_messages.append(message.text) if message.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: page.error_messages.append(str(error)))
    yield page
    await page.close()


async def take_screenshot(page: Any, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)
