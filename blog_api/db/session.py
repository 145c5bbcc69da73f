"""Database sessions: one transaction per request, at most as many at once as connections.

`SessionDep` gives a route a session whose transaction commits before the response is sent.
Example, with a pool of one connection: a first request acquires the only slot and the connection;
a second waits for the slot, first in, first out, and becomes a 503 after a second. When the first
is done it releases the slot, and the second takes the connection. Safe methods read in autocommit
mode; connections stay open between requests, so that no time is spent on the pool. A commit changes
`Database.cache_version` as the classes of the written tables declare (`TableBase.invalidates`).
"""

import logging
from asyncio import Semaphore, Task, create_task, shield, timeout, wait
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Annotated, Any

from anyio import CancelScope
from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Problem, ServiceUnavailable
from blog_api.core.settings import Settings
from blog_api.core.urls import get_file_id, get_sqlite_path
from blog_api.db.base import Invalidates
from blog_api.db.cache_version import MAX_CHANGED_ROWS, CacheVersion, record_executed_statement
from blog_api.db.driver import (
    begin_transaction,
    commit_transaction,
    is_connection_open,
    is_in_transaction,
    roll_back_transaction,
)
from blog_api.db.engine import (
    STATEMENT_TIMEOUT_SECONDS,
    create_engine,
    supports_prepared_statements,
)
from blog_api.db.errors import to_service_unavailable, translate_errors

log = logging.getLogger(__name__)

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
SLOT_TIMEOUT_SECONDS = 1.0


class Database:
    """The engine, and a slot per connection for the sessions that use it.

    SQLAlchemy's pool lets newcomers overtake those that wait; a semaphore is first in, first out.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_in_memory = settings.is_in_memory
        # SQLAlchemy executes every statement if a pooler does not support prepared statements, or
        # if statements are traced.
        self.uses_driver_queries = supports_prepared_statements(settings.database_url)
        self.pool_size = pool_size = 1 if settings.is_in_memory else settings.pool_size
        self.engine = create_engine(settings.database_url, pool_size=pool_size)
        # Requests that wait for a slot, and those that have waited too long.
        self.waiting_requests = self.connection_timeouts = 0
        # The connections of sessions. SQLAlchemy begins no transactions on them.
        options = {} if settings.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._engine = self.engine.execution_options(**options)
        event.listen(self._engine.sync_engine, "before_execute", record_executed_statement)
        # A pooler can give each statement outside a transaction to another server.
        self._begins_to_read = not supports_prepared_statements(settings.database_url)
        self.cache_version = CacheVersion(0, 0)
        self._changed_rows: dict[str, int] = {}
        # Server processes of the connections to Postgres: they send this process' notifications.
        self.backend_pids: set[int] = set()
        if not settings.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", self._add_backend)
            event.listen(self.engine.sync_engine, "close", self._remove_backend)
        self.file = get_sqlite_path(settings.database_url)
        # When it was first opened.
        self.file_id: tuple[int, int] | None = None
        if self.file is not None:
            event.listen(self.engine.sync_engine, "first_connect", self._identify_file)
            event.listen(self.engine.sync_engine, "do_connect", self._check_file)
        self._slots = Semaphore(pool_size)
        # A page of a list may have 2 MB, a search read many posts, and indexing a long post take a
        # second. Many of them delay each other, and nothing else.
        self.expensive_slots = Semaphore((pool_size + 1) // 2)
        # Open connections for the next sessions.
        self._idle_connections: list[AsyncConnection] = []
        self._releases: set[Task[None]] = set()
        # Writers wait here first, in order and without a slot. SQLite has one writer at a time; on
        # Postgres one slot is left to readers, who would wait behind many slow writes.
        self._write_slots = Semaphore(1 if settings.is_sqlite else max(pool_size - 1, 1))
        self._write_timeout_seconds = (
            STATEMENT_TIMEOUT_SECONDS if settings.is_sqlite else SLOT_TIMEOUT_SECONDS
        )

    @asynccontextmanager
    async def session(self, *, writes: bool) -> AsyncGenerator[AsyncSession]:
        """Open a session with one transaction: committed at the end, rolled back on an exception.

        Raises ServiceUnavailable if the database does not respond, and Conflict if another
        transaction made the changes impossible.
        """
        # It is bound to a connection by `acquire()`.
        session = AsyncSession(expire_on_commit=False, info={"database": self, "writes": writes})
        is_broken = False
        with translate_errors():
            try:
                await self.acquire(session)
                yield session
                if writes:
                    await self.commit(session)
            except BaseException as error:
                is_broken = not is_client_error(error)
                raise
            finally:
                await self.release(session, is_broken=is_broken)

    @asynccontextmanager
    async def background_session(self, *, writes: bool) -> AsyncGenerator[AsyncSession]:
        """Open a session that is completed before the task is cancelled.

        Anyio cancels again and again until a task ends. aiosqlite 0.22 may then wait forever for a
        thread that has stopped already, and so would the end of the process.
        """
        with CancelScope(shield=True):
            async with self.session(writes=writes) as session:
                yield session

    async def commit(self, session: AsyncSession) -> None:
        """Commit and invalidate. After an error, `release()` invalidates."""
        connection: AsyncConnection = session.info["connection"]
        if session.in_transaction():
            await session.commit()
        if connection.in_transaction():
            await connection.commit()
        if session.info["has_begun"]:
            await commit_transaction(connection)
            session.info["has_begun"] = False
        self._invalidate_written(session)

    def _invalidate_written(self, session: AsyncSession) -> None:
        invalidates = session.info.pop("invalidates", Invalidates.NOTHING)
        self.invalidate(invalidates, session.info.pop("changed_rows", ()))

    def invalidate(self, responses: Invalidates, changed_rows: Iterable[str] = ()) -> None:
        """Change the cache version for a commit of this process or of another."""
        if responses is Invalidates.NOTHING:
            return
        lists, rows, members, tables, _ = self.cache_version
        lists += 1
        changed = dict.fromkeys(changed_rows, lists)
        self._changed_rows.update(changed)
        if len(self._changed_rows) > MAX_CHANGED_ROWS:
            responses = Invalidates.EVERYTHING
        if responses is Invalidates.EVERYTHING:
            self._changed_rows.clear()
        self.cache_version = CacheVersion(
            lists,
            rows + (responses >= Invalidates.ROWS or bool(changed)),
            members + (responses > Invalidates.COUNTERS),
            tables + (responses is Invalidates.EVERYTHING),
            self._changed_rows,
        )

    async def acquire(self, session: AsyncSession) -> None:
        """Wait for a slot, take a connection, and begin the transaction of a writer."""
        semaphores, seconds = [self._slots], SLOT_TIMEOUT_SECONDS
        if session.info.pop("is_expensive", False):
            semaphores.insert(0, self.expensive_slots)
        if session.info["writes"]:
            semaphores.insert(0, self._write_slots)
            seconds = self._write_timeout_seconds
        must_wait = any(semaphore.locked() for semaphore in semaphores)
        acquired: list[Semaphore] = session.info.setdefault("acquired", [])
        self.waiting_requests += must_wait
        try:
            async with timeout(seconds) if must_wait else nullcontext():
                for semaphore in semaphores:
                    await semaphore.acquire()
                    acquired.append(semaphore)
        except TimeoutError as error:
            self.connection_timeouts += 1
            log.warning("Too many requests wait for the connections of BLOG_POOL_SIZE")
            raise ServiceUnavailable from error
        finally:
            self.waiting_requests -= must_wait
        try:
            # A cancelled statement would close the connection, and with it a database in memory.
            with CancelScope(shield=True) if self._is_in_memory else nullcontext():
                await self._connect(session)
        except (PoolTimeout, OSError) as error:
            raise to_service_unavailable(error) from error

    async def _connect(self, session: AsyncSession) -> None:
        info = session.info
        if info["writes"]:
            self.require_file()
        connection = info["connection"] = await self._get_connection()
        # Faster than `session.connection()`.
        session.sync_session.bind = connection.sync_connection
        connection.info["session_info"] = info
        info["has_begun"] = info["writes"] or self._begins_to_read
        if info["has_begun"]:
            await begin_transaction(connection)

    async def _get_connection(self) -> AsyncConnection:
        while self._idle_connections:
            connection = self._idle_connections.pop()
            if is_connection_open(connection):
                return connection
            await connection.close()
        return await self._engine.connect()

    async def release(self, session: AsyncSession, *, is_broken: bool = False) -> None:
        """Release the slot, and leave the connection to the next session unless it is broken.

        Completes even if the task is cancelled: the slot is released after the connection.
        """
        connection: AsyncConnection | None = session.info.pop("connection", None)
        has_begun = session.info.pop("has_begun", False)
        if connection is None:
            self._release_slots(session)
            return
        is_broken = is_broken or connection.invalidated
        if is_broken or has_begun or session.in_transaction() or connection.in_transaction():
            work = self._roll_back(session, connection, is_broken=is_broken, has_begun=has_begun)
            task = create_task(work)
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)
            await shield(task)
        else:
            self._idle_connections.append(connection)
            self._release_slots(session)

    async def _roll_back(
        self,
        session: AsyncSession,
        connection: AsyncConnection,
        *,
        is_broken: bool,
        has_begun: bool,
    ) -> None:
        """Roll back, and release the connection and the slot.

        After an error, a connection without the transaction that was begun is closed: what follows
        would be committed statement by statement.
        """
        is_usable = False
        try:
            with suppress(DBAPIError, ServiceUnavailable):
                has_transaction = is_in_transaction(connection)
                if has_transaction:
                    await roll_back_transaction(connection)
                await session.close()
                if connection.in_transaction():
                    await connection.rollback()
                is_lost = has_begun and is_broken and not has_transaction
                is_usable = not is_lost and not connection.invalidated
        finally:
            try:
                if not is_usable and not self._is_in_memory:
                    await connection.invalidate()
                if is_broken or not is_usable:
                    await connection.close()
                else:
                    self._idle_connections.append(connection)
            finally:
                if is_broken:
                    # The server may have committed: before an error, or before it was cancelled.
                    self._invalidate_written(session)
                self._release_slots(session)

    def _release_slots(self, session: AsyncSession) -> None:
        acquired: list[Semaphore] = session.info.get("acquired", [])
        while acquired:
            acquired.pop().release()

    def count_connections(self) -> tuple[int, int]:
        """Return the number of connections in use, and of idle ones."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            # In memory there is one.
            return (1, 0) if self._slots.locked() else (0, 1)
        idle = len(self._idle_connections)
        return pool.checkedout() - idle, pool.checkedin() + idle

    async def close(self) -> None:
        """Close all connections, also those that are being released."""
        while self._releases:
            await wait(self._releases)
        while self._idle_connections:
            await self._idle_connections.pop().close()
        await self.engine.dispose()

    def _identify_file(self, *_: object) -> None:
        assert self.file is not None
        self.file_id = get_file_id(self.file)

    def _check_file(self, *_: object) -> None:
        # SQLite would create a missing file.
        self.require_file()

    def require_file(self) -> None:
        """Raise ServiceUnavailable if the SQLite file was moved away or replaced.

        Writes to the file that is open would be lost with it.
        """
        if self.file is not None and self.file_id not in (None, get_file_id(self.file)):
            log.error(
                "The database cannot be written: %s was moved away or replaced. "
                "Bring it back, or restart the service",
                self.file,
            )
            raise ServiceUnavailable

    def _add_backend(self, dbapi_connection: Any, record: Any) -> None:
        # A lost connection has no process.
        record.info["pid"] = dbapi_connection.driver_connection.get_server_pid()
        self.backend_pids.add(record.info["pid"])

    def _remove_backend(self, _dbapi_connection: object, record: Any) -> None:
        self.backend_pids.discard(record.info["pid"])


def is_client_error(error: BaseException) -> bool:
    """Return whether a route raised a problem that has nothing to do with the connection."""
    return isinstance(error, Problem) and not isinstance(error, ServiceUnavailable)


@asynccontextmanager
async def connection_released(session: AsyncSession) -> AsyncIterator[None]:
    """Commit, and hold no connection and no slot within the block, which does something slow.

    Others may change what was read before: check it again in the WHERE. Raises RuntimeError after
    `forbid_release()`.
    """
    if session.info.get("is_release_forbidden", False):
        raise RuntimeError("This would commit a part of the transaction")
    await commit_and_release(session)
    yield
    await session.info["database"].acquire(session)


async def commit_and_release(session: AsyncSession) -> None:
    """Commit, and release the connection. On Postgres `session.commit()` would commit nothing."""
    await session.info["database"].commit(session)
    await session.info["database"].release(session)


async def roll_back(session: AsyncSession) -> None:
    """Roll back, and release the connection: a problem will be raised."""
    await session.rollback()
    await session.info["database"].release(session)


def forbid_release(session: AsyncSession) -> None:
    """Make releasing the connection an error: what was written is committed at the end alone."""
    session.info["is_release_forbidden"] = True


def mark_expensive(session: AsyncSession) -> None:
    """Wait for one of the slots for expensive statements too when a slot is acquired next."""
    session.info["is_expensive"] = True


async def acquire_expensive_slot(session: AsyncSession) -> None:
    """Hold one of the slots for expensive statements too, until the connection is released.

    While all are in use, the session waits without a connection.
    """
    expensive_slots = session.info["database"].expensive_slots
    acquired: list[Semaphore] = session.info["acquired"]
    if expensive_slots in acquired:
        return
    if expensive_slots.locked():
        mark_expensive(session)
        async with connection_released(session):
            pass
    else:
        await expensive_slots.acquire()
        acquired.append(expensive_slots)


async def get_session(request: Request) -> AsyncGenerator[AsyncSession]:
    """Open the session of a request; safe methods only read."""
    database: Database = request.app.state.database
    async with database.session(writes=request.method not in SAFE_METHODS) as session:
        yield session


# scope="function" commits before the response is sent. With the default scope a client could
# receive a 201 for a row whose commit then fails.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
