"""People with their clients, and the database that they share."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import col, delete, update

from blog_api.database import Base, describe
from blog_api.main import create_app
from blog_api.migrating import migrate
from blog_api.security import Passwords
from blog_api.settings import Settings
from blog_api.urls import parse_database_url
from blog_api.users import User

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


TEST_DATABASE_URL = wipeable_url()


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


async def make_test_database(url: URL) -> None:
    """An empty schema on Postgres, whatever an earlier run left there."""
    engine = create_async_engine(url)
    try:
        await (await engine.connect()).close()
    except (OSError, DBAPIError) as error:
        pytest.exit(f"TEST_DATABASE_URL: {describe(error)}", 2)
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await engine.dispose()


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
    if TEST_DATABASE_URL is not None:
        await make_test_database(TEST_DATABASE_URL)
        await migrate(settings)
    async with running(settings) as app:
        # What hashing costs is no matter of the database.
        app.state.passwords = Passwords(make_settings(database_url="sqlite://", **CHEAP))
        yield app


@pytest.fixture
async def empty_app(app: FastAPI) -> AsyncGenerator[FastAPI]:
    yield app
    async with app.state.database.session(writes=True) as session:
        for table in reversed(Base.metadata.sorted_tables):
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


@pytest.fixture
async def empty_url(tmp_path: Path) -> AsyncGenerator[URL]:
    """A database with no tables yet: a file, or one more database on Postgres."""
    if TEST_DATABASE_URL is None:
        yield make_url(f"sqlite+aiosqlite:///{tmp_path}/empty.db")
        return
    name = f"{TEST_DATABASE_URL.database}_empty"
    engine = create_async_engine(TEST_DATABASE_URL, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        await connection.execute(text(f'CREATE DATABASE "{name}"'))
        yield TEST_DATABASE_URL.set(database=name)
        await connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    await engine.dispose()
