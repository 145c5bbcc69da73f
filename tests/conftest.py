"""People with their clients, and the database that they share."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from anyio import sleep
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import col, delete, update

from blog_api.accounts.models import User
from blog_api.accounts.passwords import PasswordHasher
from blog_api.app import create_app
from blog_api.core.settings import Settings
from blog_api.core.urls import parse_database_url
from blog_api.db.base import TableBase
from blog_api.db.errors import describe_error
from blog_api.db.migrate import migrate
from tests.processes import Server

PASSWORD = "correct horse"
ALL_SCOPES = "users:read users:write posts:read posts:write admin"
SECRET_KEY = "for the tests and nothing but the tests"

# OWASP's floor, and what only a database in memory may have.
FLOOR = {"argon2_memory_kib": 19_456, "argon2_passes": 2, "argon2_lanes": 1}
CHEAP = {"argon2_memory_kib": 8, "argon2_passes": 1, "argon2_lanes": 1}


def wipeable_url() -> URL | None:
    """`TEST_DATABASE_URL`, if that database may be wiped."""
    given = os.environ.get("TEST_DATABASE_URL")
    if not given:
        return None
    url = parse_database_url(given)
    if "test" not in (url.database or ""):
        pytest.exit("TEST_DATABASE_URL: the database's name must contain 'test': it is wiped.", 2)
    return url


# With `pytest -n`, which of the processes this is; each has a database of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
GIVEN_URL = wipeable_url()
TEST_DATABASE_URL = (
    GIVEN_URL.set(database=f"{GIVEN_URL.database}_{WORKER}") if GIVEN_URL and WORKER else GIVEN_URL
)


def make_settings(**values: object) -> Settings:
    """Settings that no environment and no `.env` has a say in."""
    given: dict[str, Any] = {
        "_env_file": None,
        "secret_key": SECRET_KEY,
        # All tests come from one address.
        "rate_limit_enabled": False,
        **values,
    }
    return Settings(**given)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def settings() -> Settings:
    if TEST_DATABASE_URL is None:
        return make_settings(database_url="sqlite://", **CHEAP)
    return make_settings(database_url=TEST_DATABASE_URL, **FLOOR)


async def at_server(given: URL, *statements: str) -> list[Any]:
    """What the last of these statements finds; each is executed by itself. Where Postgres is not
    there, no test is worth a try."""
    engine = create_async_engine(given, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            return list(result.scalars()) if result.returns_rows else []
    except (OSError, DBAPIError) as error:
        pytest.exit(f"TEST_DATABASE_URL: {describe_error(error)}", 2)
    finally:
        await engine.dispose()


async def make_test_database(given: URL, url: URL) -> None:
    """An empty schema on Postgres, whatever an earlier run left there."""
    if url == given:
        await at_server(given, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        await at_server(given, *drop_and_create(url))


def drop_and_create(url: URL) -> tuple[str, str]:
    drop = f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)'
    return drop, f'CREATE DATABASE "{url.database}"'


@asynccontextmanager
async def one_more_database(folder: Path, name: str) -> AsyncIterator[URL]:
    """A file in a folder, or a database beside that of the tests, which is empty."""
    if GIVEN_URL is None or TEST_DATABASE_URL is None:
        yield make_url(f"sqlite+aiosqlite:///{folder}/{name}.db")
        return
    url = TEST_DATABASE_URL.set(database=f"{TEST_DATABASE_URL.database}_{name}")
    drop, create = drop_and_create(url)
    await at_server(GIVEN_URL, drop, create)
    yield url
    await at_server(GIVEN_URL, drop)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """An application between its start and its end."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, address: str = "127.0.0.1") -> AsyncClient:
    transport = ASGITransport(app, client=(address, 1))
    return AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application that all tests share; each leaves its tables empty."""
    if GIVEN_URL is not None and TEST_DATABASE_URL is not None:
        await make_test_database(GIVEN_URL, TEST_DATABASE_URL)
        await migrate(settings)
    async with running(settings) as app:
        # What hashing costs is no matter of the database.
        app.state.password_hasher = PasswordHasher(make_settings(database_url="sqlite://", **CHEAP))
        yield app


@pytest.fixture
async def empty_app(app: FastAPI) -> AsyncGenerator[FastAPI]:
    yield app
    async with app.state.database.session(writes=True) as session:
        for table in reversed(TableBase.metadata.sorted_tables):
            await session.exec(delete(table))


@pytest.fixture
async def anonymous(empty_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """Somebody who is not logged in."""
    async with client_of(empty_app) as client:
        yield client


async def sign_up(client: AsyncClient, name: str) -> None:
    """Open an account and log the client in to it."""
    body = {"email": f"{name.lower()}@example.com", "name": name, "password": PASSWORD}
    answer = await client.post("/sign-up", json=body)
    assert answer.status_code == 200, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['token']['access_token']}"


async def log_in(client: AsyncClient, email: str, scope: str = ALL_SCOPES) -> None:
    """Log the client in to an account that there is."""
    form = {"username": email, "password": PASSWORD, "scope": scope}
    answer = await client.post("/auth", data=form)
    assert answer.status_code == 200, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


async def ask(client: AsyncClient, method: str, path: str, **values: Any) -> Response:
    """The answer; whoever is told to come again, since too many others ask, does."""
    while True:
        response = await client.request(method, path, **values)
        if response.status_code != 503:
            return response
        await sleep(0.1)


async def publish(client: AsyncClient, **values: object) -> dict[str, Any]:
    """A new post of the client's, with these values."""
    answer = await client.post("/posts", json={"title": "Hello", "content": "World"} | values)
    assert answer.status_code == 201, answer.text
    post: dict[str, Any] = answer.json()
    return post


async def remark(
    client: AsyncClient, post: dict[str, Any], content: str = "Hi", to: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A new comment of the client's on a post, or an answer to another comment on it."""
    body = {"content": content, "parent_id": to and to["id"]}
    answer = await client.post(f"/posts/{post['id']}/comments", json=body)
    assert answer.status_code == 201, answer.text
    comment: dict[str, Any] = answer.json()
    return comment


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


class ChangeUser(Protocol):
    async def __call__(self, email: str, **values: object) -> None: ...


@pytest.fixture
async def change_user(empty_app: FastAPI) -> ChangeUser:
    """What only an administrator does to an account, by its address."""

    async def change_user(email: str, **values: object) -> None:
        async with empty_app.state.database.session(writes=True) as session:
            await session.exec(update(User).where(col(User.email) == email).values(**values))

    return change_user


@pytest.fixture
async def admin(empty_app: FastAPI, change_user: ChangeUser) -> AsyncGenerator[AsyncClient]:
    """An administrator, with a token of every scope."""
    async with client_of(empty_app) as client:
        await sign_up(client, "Admin")
        await change_user("admin@example.com", is_admin=True)
        await log_in(client, "admin@example.com")
        yield client


@pytest.fixture
def shared_url(empty_app: FastAPI, tmp_path: Path) -> URL:
    """A database for several processes: a file of its own, or the Postgres of all tests."""
    return TEST_DATABASE_URL or make_url(f"sqlite+aiosqlite:///{tmp_path}/blog.db")


@pytest.fixture(scope="session")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[URL]:
    async with one_more_database(tmp_path_factory.mktemp("server"), "server") as url:
        await migrate(make_settings(database_url=url, **FLOOR))
        yield url


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, server_url: URL) -> Iterator[Server]:
    """Two workers at one database, for what is done at once.

    It takes seconds to start, so the tests share it; nobody wipes its database between them.
    """
    with Server(tmp_path_factory.mktemp("server"), server_url, workers=2) as server:
        yield server


@pytest.fixture
async def empty_url(tmp_path: Path) -> AsyncGenerator[URL]:
    """A database with no tables yet: a file, or one more database on Postgres."""
    async with one_more_database(tmp_path, "empty") as url:
        yield url
