"""The sample front end of `tests/frontend` and a service for it, which the tests share."""

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, delete, update

from blog_api.accounts.models import User
from blog_api.db.session import Database
from blog_api.models import metadata
from tests.support.clients import MINIMUM_HASHING, PASSWORD, ChangeUser, make_settings
from tests.support.databases import temporary_database
from tests.support.processes import Server

FOLDER = Path(__file__).parents[1] / "frontend"
TIMEOUT_MS = 20_000
MEDIA_MAX_BYTES = 100_000


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    """The front end on a free port."""
    handler = partial(QuietHandler, directory=str(FOLDER))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
async def front_end_database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    folder = tmp_path_factory.mktemp("front")
    async with temporary_database(folder, "front", is_migrated=True) as url:
        database = Database(make_settings(database_url=url, **MINIMUM_HASHING))
        yield database
        await database.engine.dispose()


@pytest.fixture(scope="session")
def front_end_server(
    tmp_path_factory: pytest.TempPathFactory, front_end_database: Database, origin: str
) -> Iterator[Server]:
    """The API, which pages of the front end may call. It prints its mails."""
    folder = tmp_path_factory.mktemp("front_server")
    settings = {
        "CORS_ORIGINS": f'["{origin}"]',
        "MAIL_URL": "console://",
        "MEDIA_URL": f"file://{folder}/media",
        "MEDIA_MAX_BYTES": str(MEDIA_MAX_BYTES),
        "PASSWORD_RESET_URL": f"{origin}/#/new-password/{{token}}",
    }
    with Server(folder, front_end_database.engine.url, settings=settings) as server:
        yield server


@pytest.fixture
async def api(front_end_database: Database, front_end_server: Server) -> Server:
    """The API without data and without mails of earlier tests."""
    async with front_end_database.session(writes=True) as session:
        for table in reversed(metadata.sorted_tables):
            await session.exec(delete(table))
    front_end_server.read_log()
    front_end_server.log = ""
    return front_end_server


class FrontEnd:
    """The front end in a page."""

    def __init__(self, page: Any, origin: str, api: Server) -> None:
        self.page = page
        self.address = f"{origin}/?api={api.address}"
        self.api = api.address
        self.failures: list[str] = []
        page.on("response", self._check_response)

    def _check_response(self, response: Any) -> None:
        if response.status >= 400:
            path = response.url.removeprefix(self.api)
            self.failures.append(f"{response.status} {response.request.method} {path}")

    def calls(self) -> list[str]:
        """Return the requests to the API since the last call, without preflight requests."""
        sent = self.page.sent_requests
        urls = [request.url for request in sent if request.method != "OPTIONS"]
        sent.clear()
        return sorted(url.removeprefix(self.api) for url in urls if url.startswith(self.api))

    async def open(self, fragment: str = "") -> None:
        """Load a page anew; returns when it has no more requests under way."""
        await self.page.goto("about:blank")
        self.page.sent_requests.clear()
        await self.page.goto(self.address + fragment, wait_until="networkidle")

    async def follow(self, link: str) -> None:
        await self.page.get_by_role("link", name=link, exact=True).first.click()

    async def fill(self, **values: str) -> None:
        for name, value in values.items():
            await self.page.locator(f"main [name={name}]").fill(value)

    async def press(self, name: str, within: str = "body") -> None:
        """Press the first button with this name, in the first element with a selector."""
        element = self.page.locator(within).first
        await element.get_by_role("button", name=name, exact=True).first.click()

    async def sign_up(self, name: str) -> None:
        await self.open("#/sign-up")
        await self.fill(name=name, email=f"{name.lower()}@example.com", password=PASSWORD)
        await self.press("Sign up")
        await self.page.get_by_role("button", name="Log out").wait_for()

    async def log_in(self, name: str) -> None:
        await self.open("#/log-in")
        await self.fill(username=f"{name.lower()}@example.com", password=PASSWORD)
        await self.press("Log in")
        await self.page.get_by_role("button", name="Log out").wait_for()

    async def see(self, text: str) -> None:
        """Wait until the text is shown."""
        await self.page.get_by_text(text).first.wait_for()

    async def see_page(self, heading: str) -> None:
        await self.page.locator("h1", has_text=heading).wait_for()

    async def titles(self) -> list[str]:
        titles: list[str] = await self.page.locator("article h2").all_inner_texts()
        return titles

    async def assert_nothing_is_cut_off(self) -> None:
        """Check that the page is no wider than the screen."""
        width = await self.page.evaluate("document.documentElement.scrollWidth")
        assert width == self.page.viewport_size["width"]

    def assert_nothing_failed(self, *, except_for: Sequence[str] = ()) -> None:
        """Check that no other response was an error, and that no script or policy failed."""
        assert self.failures == [*except_for]
        logged = [text for text in self.page.error_messages if "Failed to load" not in text]
        assert logged == []


@pytest.fixture
def front(page: Any, origin: str, api: Server) -> FrontEnd:
    page.set_default_timeout(TIMEOUT_MS)
    return FrontEnd(page, origin, api)


@pytest.fixture
async def change_front_end_user(front_end_database: Database) -> ChangeUser:
    """Change fields of an account of `api` directly in the database."""

    async def change_user(email: str, /, **values: object) -> None:
        async with front_end_database.session(writes=True) as session:
            await session.exec(update(User).where(col(User.email) == email).values(**values))

    return change_user
