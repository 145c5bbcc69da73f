"""Changes: whether anything was committed that readers may see, by this process or another."""

import logging
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import anyio
from sqlalchemy.exc import DBAPIError

from blog_api.core.errors import ServiceUnavailable
from blog_api.core.settings import Settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.engine import create_engine
from blog_api.db.errors import describe_error
from blog_api.db.session import CacheVersion, Database

log = logging.getLogger(__name__)


# Triggers send a notice on it, from within each transaction that changes what readers see.
CHANNEL = "blog_changes"


# How long a SQLite file may have been changed by others before that is noticed.
POLL_SECONDS = 0.005


# How long a notice of our own may take to come back, and until a lost connection is tried anew.
PROBE_TIMEOUT_SECONDS = 5.0


RETRY_SECONDS = 0.2


class Invalidation(Protocol):
    """Knows a change of the database from none."""

    def current_version(self) -> CacheVersion | None:
        """Since the last change; None while changes might be missed."""

    def watch(self) -> AbstractAsyncContextManager[None]:
        """Within, changes are noticed."""


def create_invalidation(settings: Settings, database: Database) -> Invalidation:
    """What notices the changes of this database."""
    if not settings.is_sqlite:
        return PostgresInvalidation(settings, database)
    file = get_sqlite_path(settings.database_url)
    return MemoryInvalidation(database) if file is None else SqliteFileInvalidation(file, database)


class MemoryInvalidation:
    """Of a database in memory, which nobody else writes to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current_version(self) -> CacheVersion | None:
        return self._database.cache_version

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        yield


class SqliteFileInvalidation:
    """Of a SQLite file: it tells of every commit by another connection than the one that asks,
    but not of what."""

    def __init__(self, file: Path, database: Database) -> None:
        self._file = file
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._version: CacheVersion | None = None
        self._own = database.cache_version
        self._looked_at = 0.0

    def current_version(self) -> CacheVersion | None:
        # To look takes as long as all else that an answer which is kept takes.
        now, own = time.monotonic(), self._database.cache_version
        if own is not self._own or now - self._looked_at > POLL_SECONDS:
            self._own, self._looked_at = own, now
            self._version = self._look()
        return self._version

    def _look(self) -> CacheVersion | None:
        if self._connection is None:
            return None
        try:
            # Microseconds: not worth a thread.
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            log.warning("No answer is kept: %s", error)
            return None
        return CacheVersion(int(version), int(version))

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        with closing(sqlite3.connect(self._file, timeout=0)) as self._connection:
            yield
        self._connection = None


class PostgresInvalidation:
    """Of Postgres: each commit sends a notice to those who listen.

    This process knows its own commits before any notice comes.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._is_listening = False

    def current_version(self) -> CacheVersion | None:
        return self._database.cache_version if self._is_listening else None

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_listening)
            yield
            tasks.cancel_scope.cancel()

    async def _keep_listening(self) -> None:
        # Only here: SQLite does without.
        from asyncpg import InterfaceError, PostgresError

        while True:
            try:
                await self._listen()
            # What SQLAlchemy makes of trouble, and the driver itself, which alone can listen.
            except (
                ServiceUnavailable,
                DBAPIError,
                OSError,
                PostgresError,
                InterfaceError,
            ) as error:
                log.warning("No answer is kept: %s", describe_error(error))
            await anyio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        """Listen on a connection of its own until that is lost."""
        engine = create_engine(self._settings.database_url)
        is_lost, is_heard = anyio.Event(), anyio.Event()
        probe = str(uuid4())

        def lose(_connection: object) -> None:
            self._is_listening = False
            is_lost.set()

        def hear(_connection: object, pid: int, _channel: str, payload: str) -> None:
            if payload == probe:
                is_heard.set()
            elif pid not in self._database.backend_pids:
                operation, _, table = payload.partition(" ")
                self._database.invalidate([(operation, table)])

        try:
            async with engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                driver.add_termination_listener(lose)
                await driver.add_listener(CHANNEL, hear)
                # Behind a pooler notices may go to somebody else.
                await driver.execute("SELECT pg_notify($1, $2)", CHANNEL, probe)
                with anyio.fail_after(PROBE_TIMEOUT_SECONDS):
                    await is_heard.wait()
                # What came while nobody listened.
                self._database.invalidate([("UPDATE", "any")])
                self._is_listening = True
                log.info("Answers are kept: the connection listens")
                await is_lost.wait()
                log.warning("No answer is kept: the connection that listens was lost")
        finally:
            self._is_listening = False
            with anyio.CancelScope(shield=True):
                await engine.dispose()
