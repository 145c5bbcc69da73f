"""What a browser makes of it: the documentation without the internet, and CORS."""

import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import URL

from tests.conftest import PASSWORD, sign_up
from tests.processes import Server

pytestmark = pytest.mark.browser

# Where screenshots are left, for a person to look at.
SCREENSHOTS = os.environ.get("SCREENSHOTS")

CALL = """
async (address) => {
    try {
        const answer = await fetch(`${address}/posts`, {
            method: "POST",
            headers: {"Content-Type": "application/json", "X-Request-ID": "x"},
            body: JSON.stringify({title: "Hello", content: "World"}),
        });
        const problem = await answer.json();
        return [answer.status, problem.type, answer.headers.get("WWW-Authenticate")];
    } catch (error) {
        return [0, error.name, null];
    }
}
"""


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    """Debian's Chromium, for which no name but those of this machine exists."""
    from playwright.async_api import async_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "There is no Chromium"
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
    """A page that remembers what it asked for and what it complained of."""
    page = await chromium.new_page(viewport={"width": 1280, "height": 1600})
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request))
    page.on(
        "console",
        lambda message: page.complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    await page.close()


async def look(page: Any, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def assert_nothing_foreign(address: str, page: Any) -> None:
    """All that it asked for came from here; what else it wanted, its policy forbade."""
    for request in page.asked:
        if urlsplit(request.url).netloc != urlsplit(address).netloc:
            is_inside = request.url.startswith(("data:", "blob:"))
            assert is_inside or request.failure == "csp", request.url
    complaints = [text for text in page.complaints if "Content Security Policy" not in text]
    assert complaints == []


async def test_a_post_is_created_in_the_documentation(tmp_path: Path, shared_url: URL, page: Any):
    with Server(tmp_path, shared_url) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
        await page.goto(f"{server.address}/docs")

        # Authorize with the password flow; the dialog shows the scopes.
        await page.get_by_role("button", name="Authorize", exact=True).click()
        dialog = page.locator(".modal-ux")
        await dialog.locator("#oauth_username").fill("ann@example.com")
        await dialog.locator("#oauth_password").fill(PASSWORD)
        scopes = await dialog.locator(".scopes .name").all_inner_texts()
        await look(page, "authorize")
        await dialog.locator(".auth-btn-wrapper button", has_text="Authorize").first.click()
        await dialog.locator("button", has_text="Logout").wait_for()
        await dialog.locator(".auth-btn-wrapper button", has_text="Close").first.click()

        # Try it out, with the example that is there.
        operation = page.locator("#operations-posts-create_post")
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Execute").click()
        status = operation.locator(".live-responses-table .response-col_status").last
        await status.wait_for()
        shown = await status.inner_text()
        await operation.scroll_into_view_if_needed()
        await look(page, "created")
        async with server.client() as client:
            posts = (await client.get("/posts")).json()

    assert set(scopes) >= {"users:read", "users:write", "posts:read", "posts:write", "admin"}
    assert shown.startswith("201")
    assert [post["title"] for post in posts["results"]] == ["Hello, World"]
    assert_nothing_foreign(server.address, page)


async def test_redoc_is_shown(tmp_path: Path, shared_url: URL, page: Any):
    with Server(tmp_path, shared_url) as server:
        await page.goto(f"{server.address}/redoc")
        await page.get_by_role("heading", name="Blog API").wait_for()
        await page.get_by_text("Publish a post, schedule it").first.wait_for()
        await look(page, "redoc")

    assert_nothing_foreign(server.address, page)


class EmptyPage(BaseHTTPRequestHandler):
    """A page on an origin of its own."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def origin() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_page_elsewhere_may_call_if_its_origin_is_named(
    tmp_path: Path, shared_url: URL, page: Any
):
    with origin() as named, origin() as other:
        settings = {"CORS_ORIGINS": f'["{named}"]'}
        with Server(tmp_path, shared_url, settings=settings) as server:
            await page.goto(named)
            allowed = await page.evaluate(CALL, server.address)
            await page.goto(other)
            refused = await page.evaluate(CALL, server.address)

    # The call itself lacks a token; that it can read so is what CORS is for.
    assert allowed == [401, "urn:blog-api:not-authenticated", "Bearer"]
    assert refused == [0, "TypeError", None]
