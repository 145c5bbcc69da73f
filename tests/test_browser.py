"""Swagger UI, ReDoc and CORS in Chromium, without the internet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import URL

from tests.support.browser import take_screenshot
from tests.support.clients import PASSWORD, sign_up
from tests.support.processes import Server

pytestmark = pytest.mark.browser

CREATE_POST = """
async (address) => {
    try {
        const response = await fetch(`${address}/posts`, {
            method: "POST",
            headers: {"Content-Type": "application/json", "X-Request-ID": "x"},
            body: JSON.stringify({title: "Hello", content: "World"}),
        });
        const problem = await response.json();
        return [response.status, problem.type, response.headers.get("WWW-Authenticate")];
    } catch (error) {
        return [0, error.name, null];
    }
}
"""


def assert_loaded_from_server_only(address: str, page: Any) -> None:
    """Check that the content security policy blocked every request to another host."""
    for request in page.sent_requests:
        if urlsplit(request.url).netloc != urlsplit(address).netloc:
            is_inline = request.url.startswith(("data:", "blob:"))
            assert is_inline or request.failure == "csp", request.url
    errors = [text for text in page.error_messages if "Content Security Policy" not in text]
    assert errors == []


async def test_a_post_can_be_created_from_swagger_ui(tmp_path: Path, shared_url: URL, page: Any):
    with Server(tmp_path, shared_url) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
        await page.goto(f"{server.address}/docs")

        # The dialog shows the scopes of the password flow.
        await page.get_by_role("button", name="Authorize", exact=True).click()
        dialog = page.locator(".modal-ux")
        await dialog.locator("#oauth_username").fill("ann@example.com")
        await dialog.locator("#oauth_password").fill(PASSWORD)
        scopes = await dialog.locator(".scopes .name").all_inner_texts()
        await take_screenshot(page, "authorize")
        await dialog.locator(".auth-btn-wrapper button", has_text="Authorize").first.click()
        await dialog.locator("button", has_text="Logout").wait_for()
        await dialog.locator(".auth-btn-wrapper button", has_text="Close").first.click()

        # The example is valid as it is.
        operation = page.locator("#operations-posts-create_post")
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Execute").click()
        status = operation.locator(".live-responses-table .response-col_status").last
        await status.wait_for()
        shown = await status.inner_text()
        await operation.scroll_into_view_if_needed()
        await take_screenshot(page, "created")
        async with server.client() as client:
            posts = (await client.get("/posts")).json()

    assert set(scopes) >= {"users:read", "users:write", "posts:read", "posts:write", "admin"}
    assert shown.startswith("201")
    assert [post["title"] for post in posts["results"]] == ["Hello, World"]
    assert_loaded_from_server_only(server.address, page)


async def test_redoc_renders_without_foreign_requests(tmp_path: Path, shared_url: URL, page: Any):
    with Server(tmp_path, shared_url) as server:
        await page.goto(f"{server.address}/redoc")
        await page.get_by_role("heading", name="Blog API").wait_for()
        await page.locator("[id='tag/posts/operation/create_post']").wait_for()
        await take_screenshot(page, "redoc")

    assert_loaded_from_server_only(server.address, page)


class EmptyPage(BaseHTTPRequestHandler):
    """An empty page, whatever the path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Empty</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serve_empty_page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_only_a_page_of_a_configured_origin_can_read_responses(
    tmp_path: Path, shared_url: URL, page: Any
):
    with serve_empty_page() as trusted, serve_empty_page() as untrusted:
        settings = {"CORS_ORIGINS": f'["{trusted}"]'}
        with Server(tmp_path, shared_url, settings=settings) as server:
            await page.goto(trusted)
            allowed = await page.evaluate(CREATE_POST, server.address)
            await page.goto(untrusted)
            rejected = await page.evaluate(CREATE_POST, server.address)

    # The request has no token; CORS only decides whether the page can read the response.
    assert allowed == [401, "urn:blog-api:not-authenticated", "Bearer"]
    assert rejected == [0, "TypeError", None]
