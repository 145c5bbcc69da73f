"""Statements and transactions that go directly to the drivers, aiosqlite and asyncpg.

SQLAlchemy's connections to Postgres are in autocommit mode, in which it begins no transaction: the
statements of a session are in the transaction that `begin_transaction()` has begun, whether
SQLAlchemy or the driver executes them.
"""

import sqlite3
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from blog_api.db.errors import LOST_SQLSTATES, to_service_unavailable


def is_connection_open(connection: AsyncConnection) -> bool:
    """Return whether the driver has not noticed that the connection was closed.

    A ping would cost three round trips per request.
    """
    return connection.dialect.name == "sqlite" or not get_driver_connection(connection).is_closed()


def get_driver_connection(connection: AsyncConnection) -> Any:
    """Return the connection of aiosqlite or asyncpg."""
    assert connection.sync_connection is not None
    return connection.sync_connection.connection.driver_connection


@cache
def get_driver_errors(dialect: str) -> tuple[type[Exception], ...]:
    """Return the errors that the driver raises for a failed statement or connection."""
    if dialect == "sqlite":
        return (sqlite3.Error,)
    # Imported here: SQLite does without its memory.
    from asyncpg import InterfaceError, InternalClientError, PostgresError

    return (PostgresError, InterfaceError, InternalClientError)


def is_connection_lost(driver: Any, error: BaseException) -> bool:
    """Return whether asyncpg's connection is unusable: closed, being closed by the server, or in
    another state than asyncpg believes."""
    from asyncpg import DataError, InterfaceError, InternalClientError

    if driver.is_closed() or isinstance(error, InternalClientError):
        return True
    # A wrong parameter is a DataError, which is an InterfaceError.
    if isinstance(error, InterfaceError) and not isinstance(error, DataError):
        return True
    return (getattr(error, "sqlstate", None) or "").startswith(LOST_SQLSTATES)


async def fetch_records(
    connection: AsyncConnection, sql: str, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement, which the driver prepares once for each connection.

    Raises DBAPIError, as SQLAlchemy does, and ServiceUnavailable on a timeout.
    """
    driver = get_driver_connection(connection)
    if connection.dialect.name == "sqlite":
        fetched = driver.execute_fetchall(sql, parameters)
    else:
        fetched = driver.fetch(sql, *parameters)
    records: Sequence[Sequence[Any]] = await await_driver(connection, sql, fetched)
    return records


async def await_driver(connection: AsyncConnection, sql: str, call: Awaitable[Any]) -> Any:
    """Await a call of the driver, and raise its errors as `fetch_records()` does."""
    dialect = connection.dialect.name
    try:
        return await call
    except get_driver_errors(dialect) as error:
        is_lost = dialect != "sqlite" and is_connection_lost(
            get_driver_connection(connection), error
        )
        if is_lost:
            await connection.invalidate(error)
        raise DBAPIError(sql, None, error, connection_invalidated=is_lost) from error
    except (OSError, OverflowError) as error:
        raise to_service_unavailable(error) from error


def is_in_transaction(connection: AsyncConnection) -> bool:
    """Return whether the database is in a transaction."""
    if connection.invalidated:
        return False
    driver = get_driver_connection(connection)
    if connection.dialect.name == "sqlite":
        return bool(driver.in_transaction)
    return bool(driver.is_in_transaction())


async def begin_transaction(connection: AsyncConnection) -> None:
    """Begin a transaction; on SQLite, wait for other writers. Raises as `fetch_records()` does."""
    is_sqlite = connection.dialect.name == "sqlite"
    await execute_command(connection, "BEGIN IMMEDIATE" if is_sqlite else "BEGIN")


async def commit_transaction(connection: AsyncConnection) -> None:
    """Commit, unless SQLAlchemy has committed on SQLite. Raises as `fetch_records()` does."""
    if not is_in_transaction(connection):
        if connection.dialect.name == "sqlite":
            return
        raise make_lost_error("The transaction was lost")
    # After an error in the transaction the server rolls back.
    if await execute_command(connection, "COMMIT") == "ROLLBACK":
        raise make_lost_error("The server has rolled back")


async def roll_back_transaction(connection: AsyncConnection) -> None:
    """Roll back. Raises as `fetch_records()` does."""
    await execute_command(connection, "ROLLBACK")


async def execute_command(connection: AsyncConnection, command: str) -> str:
    """Execute a command without parameters; return what Postgres says it was."""
    driver = get_driver_connection(connection)
    if connection.dialect.name == "sqlite":
        await await_driver(connection, command, driver.execute_fetchall(command))
        return command
    # One message to the server, without a prepared statement: poolers may not have these.
    status: str = await await_driver(connection, command, driver.execute(command))
    return status


def make_lost_error(reason: str) -> DBAPIError:
    return DBAPIError("COMMIT", None, RuntimeError(reason), connection_invalidated=True)
