"""Databases of the tests: a SQLite file, or Postgres if `TEST_DATABASE_URL` is set."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from blog_api.core.urls import parse_database_url
from blog_api.db.errors import describe_error
from blog_api.db.migrate import migrate
from tests.support.clients import MINIMUM_HASHING, make_settings


def read_test_database_url() -> URL | None:
    """Return `TEST_DATABASE_URL`; exit unless the name allows wiping the database."""
    given = os.environ.get("TEST_DATABASE_URL")
    if not given:
        return None
    url = parse_database_url(given)
    if "test" not in (url.database or ""):
        pytest.exit("TEST_DATABASE_URL: the database's name must contain 'test': it is wiped.", 2)
    return url


# asyncpg 0.32 leaves an exception that nothing retrieves if it is cancelled while asking for TLS,
# and a later test fails because of it. A URL with an `ssl` of its own still uses TLS.
os.environ.setdefault("PGSSLMODE", "disable")
# Each worker process of `pytest -n` has its own database.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
GIVEN_URL = read_test_database_url()
TEST_DATABASE_URL = (
    GIVEN_URL.set(database=f"{GIVEN_URL.database}_{WORKER}") if GIVEN_URL and WORKER else GIVEN_URL
)


async def connect_by_driver(url: URL) -> Any:
    """Connect to Postgres by asyncpg alone, which takes other parameters than SQLAlchemy's URL."""
    _, parameters = url.get_dialect()().create_connect_args(url)
    return await asyncpg.connect(**parameters)


async def execute_on_server(url: URL, *statements: str) -> list[Any]:
    """Execute each statement in autocommit mode; return the first column of the last result.

    Exits the test run if Postgres is unreachable.
    """
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            return list(result.scalars()) if result.returns_rows else []
    except (OSError, DBAPIError) as error:
        pytest.exit(f"TEST_DATABASE_URL: {describe_error(error)}", 2)
    finally:
        await engine.dispose()


def drop_statement(url: URL) -> str:
    return f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)'


def recreate_statements(url: URL, *, template: str = "template1") -> tuple[str, ...]:
    """Return the statements that drop and create the database of this URL.

    Its commits do not wait for the disk, which takes a millisecond or more for each.
    """
    return (
        drop_statement(url),
        f'CREATE DATABASE "{url.database}" TEMPLATE "{template}"',
        f'ALTER DATABASE "{url.database}" SET synchronous_commit = off',
    )


async def make_test_database(given: URL, url: URL) -> None:
    """Create an empty schema on Postgres; remove what an earlier run left there."""
    if url == given:
        await execute_on_server(given, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        await execute_on_server(given, *recreate_statements(url))


@cache
def read_migrated_file() -> bytes:
    """Migrate a SQLite file and return its content: a copy takes a hundredth of the time."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "blog.db"
        url = make_url(f"sqlite+aiosqlite:///{file}")
        anyio.run(migrate, make_settings(database_url=url, **MINIMUM_HASHING))
        return file.read_bytes()


async def make_migrated_file(file: Path) -> URL:
    """Create a SQLite file with empty tables."""
    # In a thread: the migrations run an event loop of their own.
    file.write_bytes(await anyio.to_thread.run_sync(read_migrated_file))
    return make_url(f"sqlite+aiosqlite:///{file}")


@cache
def make_template(given: URL, url: URL) -> URL:
    """Create and migrate a database on Postgres, which others are copies of."""
    template = url.set(database=f"{url.database}_template")

    async def make() -> None:
        await execute_on_server(given, *recreate_statements(template))
        await migrate(make_settings(database_url=template, **MINIMUM_HASHING))

    anyio.run(make)
    return template


@asynccontextmanager
async def temporary_database(
    folder: Path, name: str, *, is_migrated: bool = False
) -> AsyncIterator[URL]:
    """Yield the URL of a new database: a SQLite file in the folder, or one on Postgres.

    It is empty, or a copy of a migrated one.
    """
    if GIVEN_URL is None or TEST_DATABASE_URL is None:
        file = folder / f"{name}.db"
        if is_migrated:
            await make_migrated_file(file)
        yield make_url(f"sqlite+aiosqlite:///{file}")
        return
    url = TEST_DATABASE_URL.set(database=f"{TEST_DATABASE_URL.database}_{name}")
    template = "template1"
    if is_migrated:
        made = await anyio.to_thread.run_sync(make_template, GIVEN_URL, TEST_DATABASE_URL)
        template = str(made.database)
    await execute_on_server(GIVEN_URL, *recreate_statements(url, template=template))
    yield url
    await execute_on_server(GIVEN_URL, drop_statement(url))
