"""Clients named after people, and the databases and servers that they share."""

import logging
import socket
import subprocess
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import fastapi.routing
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL, make_url
from sqlmodel import col, update

import blog_api.db.migrate
from blog_api.accounts.models import User
from blog_api.accounts.passwords import PasswordHasher
from blog_api.core.logs import LOGGERS
from blog_api.core.settings import Settings
from blog_api.db.base import Invalidates
from blog_api.db.driver import get_driver_connection
from blog_api.db.migrate import migrate
from blog_api.db.session import Database
from blog_api.models import metadata
from tests.support.clients import (
    CHEAP_HASHING,
    MINIMUM_HASHING,
    ChangeSettings,
    ChangeUser,
    client_of,
    log_in,
    make_settings,
    running,
    sign_up,
)
from tests.support.databases import (
    GIVEN_URL,
    TEST_DATABASE_URL,
    make_test_database,
    temporary_database,
)
from tests.support.mailbox import Mailbox
from tests.support.processes import Server
from tests.support.renderers import PausingRenderer

pytest_plugins = ["tests.support.browser", "tests.support.front_end"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def migrated_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Migrate the first database in memory; later ones are copies of it, in a tenth of the time."""
    file = tmp_path_factory.mktemp("migrated") / "blog.db"
    migrate_in_memory = blog_api.db.migrate.migrate_in_memory

    async def migrate_or_copy(database: Database) -> None:
        is_first = not file.exists()
        if is_first:
            await migrate_in_memory(database)
        async with aiosqlite.connect(file) as copy, database.engine.connect() as connection:
            driver = get_driver_connection(connection)
            await (driver.backup(copy) if is_first else copy.backup(driver))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blog_api.db.migrate, "migrate_in_memory", migrate_or_copy)
        yield


@pytest.fixture(scope="session", autouse=True)
def prepared_routes() -> Iterator[None]:
    """Prepare each route once: FastAPI does it for each application, in 0.3 s for all routes.

    The function is private in FastAPI 0.165, see github.com/fastapi/fastapi/pull/10589; without it
    no test starts. Overrides of dependencies stay those of the application.
    """
    prepare = fastapi.routing._populate_api_route_state
    # The route of the router, which must live as long as its id is a key, and what was prepared.
    prepared: dict[tuple[int, str], tuple[object, dict[str, Any]]] = {}

    def prepare_or_copy(route: Any, path: str, endpoint: Any, **values: Any) -> None:
        original = getattr(route, "original_route", None)
        key = (id(original), path)
        if key in prepared:
            vars(route).update(prepared[key][1])
            route.dependency_overrides_provider = values["dependency_overrides_provider"]
            return
        prepare(route, path, endpoint, **values)
        if original is not None:
            prepared[key] = original, dict(vars(route))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastapi.routing, "_populate_api_route_state", prepare_or_copy)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_waits() -> Iterator[None]:
    """Wait long for the database: on a busy machine, requests that compete for it would be 503."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "engine.CONNECT_TIMEOUT_SECONDS",
            "engine.STATEMENT_TIMEOUT_SECONDS",
            "session.SLOT_TIMEOUT_SECONDS",
            "session.STATEMENT_TIMEOUT_SECONDS",
        ):
            patch.setattr(f"blog_api.db.{name}", 30.0)
        yield


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    if TEST_DATABASE_URL is None:
        return make_settings(database_url="sqlite://", **CHEAP_HASHING)
    # In memory the application has a folder of its own.
    media_url = tmp_path_factory.mktemp("media").as_uri()
    return make_settings(database_url=TEST_DATABASE_URL, media_url=media_url, **MINIMUM_HASHING)


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application that all tests share; `empty_app` empties its tables after each test.

    A fixture of a module that starts another application takes this one as a parameter: what starts
    later must stop first.
    """
    if GIVEN_URL is not None and TEST_DATABASE_URL is not None:
        await make_test_database(GIVEN_URL, TEST_DATABASE_URL)
        await migrate(settings)
    async with running(settings) as app:
        # Hash cheaply on Postgres too.
        cheap = make_settings(database_url="sqlite://", **CHEAP_HASHING)
        app.state.password_hasher = PasswordHasher(cheap)
        yield app


@pytest.fixture
async def empty_app(app: FastAPI) -> AsyncGenerator[FastAPI]:
    yield app
    database: Database = app.state.database
    script = ";".join(f"DELETE FROM {table}" for table in reversed(metadata.sorted_tables))
    # In one round trip: a statement for each table takes three times as long.
    async with database.session(writes=True) as session:
        driver = get_driver_connection(await session.connection())
        await (driver.execute(script) if TEST_DATABASE_URL else driver.executescript(script))
    database.invalidate(Invalidates.EVERYTHING)


@pytest.fixture
def change_settings(empty_app: FastAPI) -> Iterator[ChangeSettings]:
    """Change settings that the application reads for each request."""
    settings: Settings = empty_app.state.settings

    def change_settings(**values: object) -> None:
        empty_app.state.settings = empty_app.state.settings.model_copy(update=values)

    yield change_settings
    empty_app.state.settings = settings


@pytest.fixture
def mailbox(
    empty_app: FastAPI, change_settings: ChangeSettings, monkeypatch: pytest.MonkeyPatch
) -> Mailbox:
    """Configures mail. Users who signed up before got none; see the order of the parameters."""
    change_settings(mail_url=make_url("console://"))
    monkeypatch.setattr("blog_api.accounts.recovery.MAX_DELAY_MILLISECONDS", 1)
    return Mailbox(empty_app)


@pytest.fixture(autouse=True)
def quiet_loggers() -> Iterator[None]:
    """Reset the loggers that a command configures: its stream is closed after it."""
    yield
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture
async def anonymous(empty_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """A client that is not logged in."""
    async with client_of(empty_app) as client:
        yield client


@pytest.fixture
async def ann(empty_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(empty_app) as client:
        await sign_up(client, "Ann")
        yield client


@pytest.fixture
async def bob(empty_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(empty_app) as client:
        await sign_up(client, "Bob")
        yield client


@pytest.fixture
async def change_user(empty_app: FastAPI) -> ChangeUser:
    """Change fields of an account directly in the database."""

    async def change_user(email: str, /, **values: object) -> None:
        async with empty_app.state.database.session(writes=True) as session:
            await session.exec(update(User).where(col(User.email) == email).values(**values))

    return change_user


@pytest.fixture
async def admin(empty_app: FastAPI, change_user: ChangeUser) -> AsyncGenerator[AsyncClient]:
    """An administrator with a token of every scope."""
    async with client_of(empty_app) as client:
        await sign_up(client, "Admin")
        await change_user("admin@example.com", is_admin=True)
        await log_in(client, "admin@example.com")
        yield client


@pytest.fixture
def pausing_renderer(
    empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PausingRenderer]:
    """The renderer of the application, which pauses before the text `*two*`.

    No text is short enough to be rendered while the connection is held.
    """
    monkeypatch.setattr("blog_api.text.renderer.MAX_INLINE_LENGTH", 0)
    renderer = empty_app.state.renderer
    empty_app.state.renderer = PausingRenderer("*two*")
    yield empty_app.state.renderer
    empty_app.state.renderer = renderer


@pytest.fixture
def shared_url(empty_app: FastAPI, tmp_path: Path) -> URL:
    """A database for several processes: a new SQLite file, or the Postgres of all tests."""
    return TEST_DATABASE_URL or make_url(f"sqlite+aiosqlite:///{tmp_path}/blog.db")


@pytest.fixture(scope="session")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[URL]:
    folder = tmp_path_factory.mktemp("server")
    async with temporary_database(folder, "server", is_migrated=True) as url:
        yield url


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, server_url: URL) -> Iterator[Server]:
    """Two workers on one database, for tests of concurrency.

    It takes seconds to start, so the tests share it; its tables are not emptied between them.
    """
    folder = tmp_path_factory.mktemp("server")
    # Like the defaults on SQLite.
    settings = {"MAIL_URL": "console://", "MEDIA_URL": f"file://{folder}/media"}
    with Server(folder, server_url, workers=2, settings=settings) as server:
        yield server


@pytest.fixture
async def empty_url(tmp_path: Path) -> AsyncGenerator[URL]:
    """A database without tables."""
    async with temporary_database(tmp_path, "empty") as url:
        yield url


@pytest.fixture
async def migrated_url(tmp_path: Path) -> AsyncGenerator[URL]:
    """A database with empty tables."""
    async with temporary_database(tmp_path, "migrated", is_migrated=True) as url:
        yield url


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis server of this test, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(
        [*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()
        process.stdout.read()
