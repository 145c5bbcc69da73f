"""Engines for SQLite and Postgres."""

import sqlite3
from contextlib import suppress
from typing import Any

from pydantic_core import from_json
from sqlalchemy import URL, Connection, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from blog_api.core.urls import get_sqlite_path
from blog_api.db.driver import is_connection_lost
from blog_api.db.errors import is_busy, is_unavailable, translate_os_error

# A statement on Postgres, with its wait for locks; on SQLite, a writer's wait for other writers.
STATEMENT_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 1.0


def create_engine(
    url: URL, *, pool_size: int = 1, for_migrations: bool = False, application_name: str = ""
) -> AsyncEngine:
    """Return an engine that has not connected yet.

    `application_name` is shown in `pg_stat_activity` of Postgres.

    For migrations it has no statement timeout, and no foreign keys on SQLite: Alembic's batch mode
    drops and recreates tables, which would delete the rows that refer to theirs.
    """
    # Five times as fast as `json` for the tags of a post.
    options: dict[str, Any] = {"hide_parameters": True, "json_deserializer": from_json}
    if url.get_backend_name() == "sqlite":
        if get_sqlite_path(url) is None:
            options["poolclass"] = StaticPool
        else:
            options |= {"pool_size": pool_size, "max_overflow": 0}
        options["connect_args"] = {"factory": SqliteConnection}
        engine = create_async_engine(url, **options)
        event.listen(engine.sync_engine, "handle_error", translate_os_error)
        if get_sqlite_path(url) is not None:
            event.listen(engine.sync_engine, "handle_error", discard_connection_on_sqlite)
        configure_sqlite(engine, foreign_keys=not for_migrations)
        return engine
    if not for_migrations:
        options["connect_args"] = {
            "command_timeout": STATEMENT_TIMEOUT_SECONDS,
            "timeout": CONNECT_TIMEOUT_SECONDS,
        }
    if application_name:
        names = {"application_name": application_name}
        options.setdefault("connect_args", {}).update(server_settings=names)
    if not supports_prepared_statements(url):
        # Unnamed statements, also those of asyncpg itself: names of several clients would collide.
        options.setdefault("connect_args", {}).update(
            statement_cache_size=0, prepared_statement_name_func=str
        )
    engine = create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=1, **options
    )
    event.listen(engine.sync_engine, "checkout", reject_closed_connection)
    if not for_migrations:
        event.listen(engine.sync_engine, "handle_error", discard_connection_on_postgres)
        event.listen(engine.sync_engine, "handle_error", translate_os_error)
    return engine


def supports_prepared_statements(url: URL) -> bool:
    """Return whether statements may be prepared for later transactions.

    A pooler without them can give each transaction to another server. Within one, preparing and
    executing an unnamed statement go to the same server.
    """
    return url.query.get("prepared_statement_cache_size") != "0"


def discard_connection_on_postgres(context: ExceptionContext) -> None:
    """Close a connection that is lost, which SQLAlchemy does not notice in all cases."""
    connection = context.connection
    if connection is None or connection.closed or connection.invalidated:
        return
    driver: Any = connection.connection.driver_connection
    error = context.original_exception
    if is_connection_lost(driver, error.__cause__ or error):
        discard_connection(context)


def discard_connection_on_sqlite(context: ExceptionContext) -> None:
    """Close a connection whose COMMIT or ROLLBACK failed, or that cannot use its file.

    After some of these errors SQLite has rolled the transaction back: what follows would be
    committed statement by statement.
    """
    error = context.sqlalchemy_exception
    is_file_broken = isinstance(error, DBAPIError) and is_unavailable(error) and not is_busy(error)
    if context.connection is not None and (context.statement is None or is_file_broken):
        discard_connection(context)


def discard_connection(context: ExceptionContext) -> None:
    context.is_disconnect = True
    # The others are checked when they leave the pool.
    context.invalidate_pool_on_disconnect = False


def reject_closed_connection(dbapi_connection: Any, *_: object) -> None:
    """Make the pool replace a connection that the server has closed."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


class SqliteConnection(sqlite3.Connection):
    """A connection that releases its locks when it is closed.

    Without the rollback, a statement that was cancelled before its rows were fetched would keep the
    transaction open until it is collected as garbage.
    """

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def configure_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
    """Use a write-ahead log, and BEGIN only as the execution option `sqlite_begin` says.

    After the driver's own BEGIN two transactions may read before either writes, and then one
    fails. Transactions that write begin with IMMEDIATE, and wait for each other.
    """

    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        # SQLite's own `lower` changes ASCII letters alone.
        dbapi_connection.create_function("lower", 1, lambda text: text and text.lower())
        cursor = dbapi_connection.cursor()
        # Less than `Database.acquire()` waits: the driver's thread cannot be cancelled.
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
