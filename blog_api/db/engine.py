"""Engines: how connections to SQLite and to Postgres are made."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from blog_api.core.urls import get_sqlite_path
from blog_api.db.errors import to_service_unavailable, translate_os_error

# How long a statement may take on Postgres, where it may wait for somebody's lock; and how long
# a writer waits on SQLite for the other writers.
STATEMENT_TIMEOUT_SECONDS = 5.0


# How long it may take to connect to Postgres.
CONNECT_TIMEOUT_SECONDS = 1.0


def create_engine(url: URL, *, pool_size: int = 1, for_migrations: bool = False) -> AsyncEngine:
    """An engine that has not connected yet.

    Migrations take as long as they take, and do without foreign keys on SQLite: its batch mode
    drops tables and makes them anew, which would delete their children's rows.
    """
    # Python's own takes five times as long to read the tags of a post.
    options: dict[str, Any] = {"hide_parameters": True, "json_deserializer": from_json}
    if url.get_backend_name() == "sqlite":
        if get_sqlite_path(url) is None:
            options["poolclass"] = StaticPool
        else:
            options |= {"pool_size": pool_size, "max_overflow": 0}
        engine = create_async_engine(url, **options)
        configure_sqlite(engine, foreign_keys=not for_migrations)
        return engine
    if not for_migrations:
        options["connect_args"] = {
            "command_timeout": STATEMENT_TIMEOUT_SECONDS,
            "timeout": CONNECT_TIMEOUT_SECONDS,
        }
    engine = create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=1, **options
    )
    event.listen(engine.sync_engine, "checkout", reject_closed_connection)
    if not for_migrations:
        event.listen(engine.sync_engine, "handle_error", translate_os_error)
    return engine


def caches_prepared_statements(url: URL) -> bool:
    """Whether connections keep the statements that they have prepared, which some poolers in front
    of Postgres cannot bear."""
    return url.query.get("prepared_statement_cache_size") != "0"


def is_connection_open(connection: AsyncConnection) -> bool:
    """Whether a connection can be used, as far as the driver knows.

    A ping would take three round trips a request.
    """
    return connection.dialect.name == "sqlite" or not get_driver_connection(connection).is_closed()


def get_driver_connection(connection: AsyncConnection) -> Any:
    """The driver's own connection, of aiosqlite or of asyncpg."""
    assert connection.sync_connection is not None
    return connection.sync_connection.connection.driver_connection


@cache
def get_driver_errors(dialect: str) -> tuple[type[Exception], ...]:
    """What the driver raises where the database refuses something, or is gone."""
    if dialect == "sqlite":
        return (sqlite3.Error,)
    # It takes memory where it is not needed.
    from asyncpg import InterfaceError, InternalClientError, PostgresError

    return (PostgresError, InterfaceError, InternalClientError)


def is_connection_lost(driver: Any, error: Exception) -> bool:
    """Whether asyncpg can use its connection no more: it is closed, or the server has said that it
    closes it, and asyncpg, which still waits for its end, can begin nothing."""
    from asyncpg import InternalClientError

    return driver.is_closed() or isinstance(error, InternalClientError)


async def fetch_records(
    connection: AsyncConnection, sql: str, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """The rows of a statement as the driver gives them, which keeps the statement prepared.

    Raises DBAPIError, as SQLAlchemy would, and ServiceUnavailable where there is no answer.
    """
    driver = get_driver_connection(connection)
    dialect = connection.dialect.name
    try:
        if dialect == "sqlite":
            records: Sequence[Sequence[Any]] = await driver.execute_fetchall(sql, parameters)
        else:
            records = await driver.fetch(sql, *parameters)
    except get_driver_errors(dialect) as error:
        is_gone = dialect != "sqlite" and is_connection_lost(driver, error)
        if is_gone:
            await connection.invalidate(error)
        raise DBAPIError(sql, None, error, connection_invalidated=is_gone) from error
    except OSError as error:
        raise to_service_unavailable(error) from error
    return records


def reject_closed_connection(dbapi_connection: Any, *_: object) -> None:
    """Let the pool replace a connection that the server has closed meanwhile."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def configure_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
    """Write-ahead log, and transactions that begin when we say so.

    The driver's own BEGIN lets two transactions read before either writes, and one of them
    fails. Those that will write say IMMEDIATE and wait for each other.
    """

    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        # SQLite's own knows the letters of ASCII alone.
        dbapi_connection.create_function("lower", 1, lambda text: text and text.lower())
        cursor = dbapi_connection.cursor()
        # A little less than `enter()` waits: a thread that still waits cannot be cancelled.
        cursor.execute(f"PRAGMA busy_timeout = {int(STATEMENT_TIMEOUT_SECONDS * 900)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
        cursor.execute("PRAGMA foreign_keys")
        if cursor.fetchone() != (foreign_keys,):
            raise RuntimeError("This SQLite was built without foreign keys")
        cursor.close()

    def begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("sqlite_begin")
        if kind is not None:
            connection.exec_driver_sql(f"BEGIN {kind}")

    event.listen(engine.sync_engine, "connect", connect)
    event.listen(engine.sync_engine, "begin", begin)
