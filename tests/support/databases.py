"""Databases of the tests: a SQLite file, or Postgres if `TEST_DATABASE_URL` is set."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from blog_api.core.urls import parse_database_url
from blog_api.db.errors import describe_error


def read_test_database_url() -> URL | None:
    """Return `TEST_DATABASE_URL`; exit unless the name allows wiping the database.

    Without an `ssl` of its own it connects without TLS: asyncpg 0.32 leaves an exception that
    nothing retrieves if it is cancelled while asking for TLS, and a later test fails of it.
    """
    given = os.environ.get("TEST_DATABASE_URL")
    if not given:
        return None
    url = parse_database_url(given)
    if "test" not in (url.database or ""):
        pytest.exit("TEST_DATABASE_URL: the database's name must contain 'test': it is wiped.", 2)
    return url if "ssl" in url.query else url.update_query_dict({"ssl": "disable"})


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


def recreate_statements(url: URL) -> tuple[str, str]:
    """Return the statements that drop and create the database of this URL."""
    drop = f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)'
    return drop, f'CREATE DATABASE "{url.database}"'


async def make_test_database(given: URL, url: URL) -> None:
    """Create an empty schema on Postgres; remove what an earlier run left there."""
    if url == given:
        await execute_on_server(given, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        await execute_on_server(given, *recreate_statements(url))


@asynccontextmanager
async def temporary_database(folder: Path, name: str) -> AsyncIterator[URL]:
    """Yield the URL of an empty database: a SQLite file in the folder, or one on Postgres."""
    if GIVEN_URL is None or TEST_DATABASE_URL is None:
        yield make_url(f"sqlite+aiosqlite:///{folder}/{name}.db")
        return
    url = TEST_DATABASE_URL.set(database=f"{TEST_DATABASE_URL.database}_{name}")
    drop, create = recreate_statements(url)
    await execute_on_server(GIVEN_URL, drop, create)
    yield url
    await execute_on_server(GIVEN_URL, drop)
