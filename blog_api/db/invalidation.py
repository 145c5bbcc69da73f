"""Invalidation of the response cache by commits of this process and of others.

A process counts its own commits in `Database.cache_version`, and learns of others from the
database. Example with two workers on Postgres: worker A inserts a post, a trigger sends the
notification `INSERT posts` with the commit, and worker B, which listens, changes
`CacheVersion.lists`: its cached lists are no longer valid. A SQLite file has a counter of commits
instead, which is polled; a database in memory has no other process. While commits may be missed,
`current_version()` is None, and nothing is cached.
"""

import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import chain, repeat
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

import anyio
from sqlalchemy.exc import DBAPIError

from blog_api.core.errors import ServiceUnavailable
from blog_api.core.settings import Settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.base import Invalidates, get_invalidates, identify_row
from blog_api.db.cache_version import CacheVersion
from blog_api.db.driver import get_driver_errors
from blog_api.db.engine import create_engine
from blog_api.db.errors import describe_error
from blog_api.db.session import Database

log = logging.getLogger(__name__)

# The trigger `notify_of_change` notifies it.
CHANNEL = "blog_changes"
LISTENER = "blog-api listener"
# A cached response may be older by this than the SQLite file, after a commit of another process.
POLL_SECONDS = 0.005
# Until the notification that tests the connection arrives.
PROBE_TIMEOUT_SECONDS = 5.0
# Between two attempts to connect.
RETRY_SECONDS = 0.2
# Between two log lines about one problem; the last repeats.
LOG_PAUSES_SECONDS = (60.0, 600.0, 3_600.0)


class NotificationsLost(Exception):
    """A notification did not arrive: the listening connection leads to a pooler, or elsewhere."""

    def __str__(self) -> str:
        return (
            "notifications do not arrive. Behind a pooler such as PgBouncer, set "
            "BLOG_LISTEN_DATABASE_URL to the address of the Postgres itself"
        )


class Outage:
    """Log why the cache is off: each reason once, and then after growing pauses."""

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        self._reasons: set[str] = set()
        self._pauses = chain(LOG_PAUSES_SECONDS, repeat(LOG_PAUSES_SECONDS[-1]))
        self._next_at = 0.0

    def log(self, reason: str) -> None:
        now = monotonic()
        if reason in self._reasons and now < self._next_at:
            return
        log.warning("The response cache is off: %s", reason)
        self._reasons.add(reason)
        self._next_at = now + next(self._pauses)


class Invalidation(Protocol):
    """Source of the version that cached responses are compared with."""

    def current_version(self) -> CacheVersion | None:
        """Return the version after the latest commit, or None if commits may be missed."""

    def watch(self) -> AbstractAsyncContextManager[None]:
        """Observe the commits of other processes within the block."""


def create_invalidation(settings: Settings, database: Database) -> Invalidation:
    if not settings.is_sqlite:
        return PostgresInvalidation(settings, database)
    file = get_sqlite_path(settings.database_url)
    return MemoryInvalidation(database) if file is None else SqliteFileInvalidation(file, database)


class MemoryInvalidation:
    """Count the commits of this process: a database in memory has no other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current_version(self) -> CacheVersion | None:
        return self._database.cache_version

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        yield


class SqliteFileInvalidation:
    """Poll SQLite's counter of commits by other connections. It does not name the table."""

    def __init__(self, file: Path, database: Database) -> None:
        self._file = file
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._version: CacheVersion | None = None
        self._own_version = database.cache_version
        self._polled_at = 0.0
        self._outage = Outage()

    def current_version(self) -> CacheVersion | None:
        # Polling takes as long as all the rest of sending a cached response.
        now, own_version = monotonic(), self._database.cache_version
        if own_version is not self._own_version or now - self._polled_at > POLL_SECONDS:
            self._own_version, self._polled_at = own_version, now
            self._version = self._poll()
        return self._version

    def _poll(self) -> CacheVersion | None:
        if self._connection is None:
            return None
        try:
            # Takes microseconds, less than a thread.
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            self._outage.log(f"the file of BLOG_DATABASE_URL cannot be read: {error}")
            return None
        self._outage.end()
        number = int(version)
        return CacheVersion(lists=number, rows=number, members=number, tables=number)

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        with closing(sqlite3.connect(self._file, timeout=0)) as self._connection:
            yield
        self._connection = None


class PostgresInvalidation:
    """Listen for the notifications that triggers send with each commit of another process.

    A commit of this process counts at once; its notification is ignored.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._is_listening = False
        # It leads to the connection that listens.
        is_direct = settings.listen_database_url is None
        self._setting = "BLOG_DATABASE_URL" if is_direct else "BLOG_LISTEN_DATABASE_URL"

    def current_version(self) -> CacheVersion | None:
        return self._database.cache_version if self._is_listening else None

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_listening)
            yield
            tasks.cancel_scope.cancel()

    async def _keep_listening(self) -> None:
        errors: tuple[type[Exception], ...] = get_driver_errors("postgresql")
        errors += (ServiceUnavailable, DBAPIError, OSError)
        outage = Outage()
        while True:
            try:
                await self._listen()
                outage.end()
            except NotificationsLost as error:
                outage.log(str(error))
            except errors as error:
                outage.log(f"cannot listen at {self._setting}: {describe_error(error)}")
            await anyio.sleep(RETRY_SECONDS)

    def _invalidate(self, payload: str) -> None:
        """Invalidate what a change such as `UPDATE posts 3,5`, `COUNT posts 3` or `INSERT posts`
        makes stale."""
        operation, _, rest = payload.partition(" ")
        table, _, ids = rest.partition(" ")
        found = get_invalidates(operation, table)
        if found in (Invalidates.COUNTERS, Invalidates.ROWS) and not ids:
            found = Invalidates.EVERYTHING
        rows = (identify_row(table, int(one)) for one in ids.split(",") if one.isdecimal())
        self._database.invalidate(found, rows)

    def _is_own(self, pid: int) -> bool:
        """Return whether a notification is that of a commit of this process.

        Behind a pooler the process ids are made up.
        """
        is_direct = self._settings.listen_database_url is None
        return is_direct and pid in self._database.backend_pids

    async def _probe(self, probe: str, is_probed: anyio.Event) -> None:
        """Wait for a notification from another connection. Raises NotificationsLost.

        A pooler delivers what the listening connection sends to itself, and nothing else.
        """
        # On a connection of its own, whose errors are not logged for each attempt.
        engine = create_engine(self._settings.database_url)
        try:
            async with engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                # One message, which a pooler sends to one server.
                await driver.execute(f"NOTIFY {CHANNEL}, '{probe}'")
        finally:
            await engine.dispose()
        with anyio.move_on_after(PROBE_TIMEOUT_SECONDS):
            await is_probed.wait()
        if not is_probed.is_set():
            raise NotificationsLost

    async def _listen(self) -> None:
        """Listen on a connection outside the pool until it is lost."""
        url = self._settings.listen_database_url or self._settings.database_url
        engine = create_engine(url, application_name=LISTENER)
        is_lost, is_probed = anyio.Event(), anyio.Event()
        probe = str(uuid4())

        def stop(_connection: object) -> None:
            self._is_listening = False
            is_lost.set()

        def receive(_connection: object, pid: int, _channel: str, payload: str) -> None:
            if payload == probe:
                is_probed.set()
            elif not self._is_own(pid):
                self._invalidate(payload)

        try:
            async with engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                driver.add_termination_listener(stop)
                # A transaction stays on one server if a pooler is asked.
                async with driver.transaction():
                    await driver.add_listener(CHANNEL, receive)
                await self._probe(probe, is_probed)
                # Commits before the connection listened were missed.
                self._database.invalidate(Invalidates.EVERYTHING)
                self._is_listening = True
                log.info("The response cache is on: listening for notifications")
                await is_lost.wait()
                log.warning("The response cache is off: the listening connection was lost")
        finally:
            self._is_listening = False
            with anyio.CancelScope(shield=True):
                await engine.dispose()
