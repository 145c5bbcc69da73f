"""The database: one transaction a request, as many at a time as there are connections."""

from asyncio import Semaphore, timeout
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, Any, NamedTuple

from anyio import CancelScope
from fastapi import Depends, Request
from sqlalchemy import Connection, Executable, UpdateBase, event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Problem, ServiceUnavailable
from blog_api.core.settings import Settings
from blog_api.db.engine import (
    STATEMENT_TIMEOUT_SECONDS,
    caches_prepared_statements,
    create_engine,
    is_connection_open,
)
from blog_api.db.errors import to_service_unavailable, translate_errors

# What no public answer shows. Whatever else is written may be a change that readers see.
UNSEEN_TABLES = {"audit_entries", "bookmarks", "follows", "tokens"}


# What no answer shows that is of one row: a post knows its tags and its slug by itself.
TABLES_OF_LISTS = {"post_counts", "post_tags", "slugs", "tags"}


SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


# How long a request waits for its turn, in seconds.
SLOT_TIMEOUT_SECONDS = 1.0


def changes_existing_rows(operation: str, table: str) -> bool:
    """Whether a row that readers may see by itself can be another one after a statement."""
    return operation != "INSERT" and table not in TABLES_OF_LISTS


def record_changed_table(connection: Connection, statement: Executable, *_: object) -> None:
    """Let a session know that it writes what readers may see."""
    if isinstance(statement, UpdateBase) and str(statement.table) not in UNSEEN_TABLES:
        operation = "INSERT" if statement.is_insert else "UPDATE"
        info = connection.get_execution_options()["session_info"]
        info.setdefault("changed", set()).add((operation, str(statement.table)))


class CacheVersion(NamedTuple):
    """What is another value after each commit that readers may see."""

    lists: int
    # Also stays the same while rows are only added: one that was there shows none of those.
    rows: int


class Database:
    """The engine and the places at it: as many sessions at a time as there are connections.

    SQLAlchemy's own queue lets newcomers overtake; a semaphore is first in, first out.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_in_memory = settings.is_in_memory
        # A driver that must not keep statements is better known to SQLAlchemy, and whoever has
        # to hear of each statement hears it from there.
        self.uses_driver_queries = caches_prepared_statements(settings.database_url)
        pool_size = 1 if settings.is_in_memory else settings.pool_size
        self.engine = create_engine(settings.database_url, pool_size=pool_size)
        # What only reads does without a transaction, whose beginning and end would be two more
        # round trips: each statement sees what is committed, as it would within one.
        self._reading = (
            self.engine
            if settings.is_sqlite
            else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )
        writing = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        event.listen(writing.sync_engine, "before_execute", record_changed_table)
        self.cache_version = CacheVersion(0, 0)
        # Of its connections to Postgres, by which it knows its own notices.
        self.backend_pids: set[int] = set()
        if not settings.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", self._add_backend)
            event.listen(self.engine.sync_engine, "close", self._remove_backend)
        self._read = async_sessionmaker(
            class_=AsyncSession, expire_on_commit=False, info={"database": self}
        )
        self._write = async_sessionmaker(
            writing,
            class_=AsyncSession,
            expire_on_commit=False,
            info={"database": self, "writes": True},
        )
        self._slots = Semaphore(pool_size)
        # Connections that are read from, between two readers.
        self._idle: list[AsyncConnection] = []
        # SQLite has one writer at a time: the others wait here, where they are in order and
        # keep no connection from readers.
        self._write_lock = Semaphore(1) if settings.is_sqlite else None

    @asynccontextmanager
    async def session(self, *, writes: bool) -> AsyncGenerator[AsyncSession]:
        """One transaction: committed at the end, rolled back by whatever is raised.

        Raises ServiceUnavailable where the database does not answer, and Conflict where it
        refuses what another request made impossible meanwhile.
        """
        session = self._write() if writes else self._read()
        with translate_errors():
            try:
                await self.acquire(session)
                yield session
                if writes:
                    await self.commit(session)
            except BaseException as error:
                # What a route refuses has nothing to do with the connection.
                session.info["is_broken"] = not is_client_error(error)
                raise
            finally:
                try:
                    if writes or session.in_transaction():
                        # `close()` alone would be left half done by who is cancelled.
                        await session.__aexit__(None, None, None)
                finally:
                    await self.release(session)

    async def commit(self, session: AsyncSession) -> None:
        """Commit. Even if that fails, it may have been done."""
        try:
            await session.commit()
        finally:
            self.invalidate(session.info.pop("changed", ()))

    def invalidate(self, changed: Collection[tuple[str, str]]) -> None:
        """What readers may see was written, here or by others: what was done to which tables."""
        if changed:
            lists, rows = self.cache_version
            rows += any(changes_existing_rows(*one) for one in changed)
            self.cache_version = CacheVersion(lists + 1, rows)

    async def acquire(self, session: AsyncSession) -> None:
        """Wait for a place, take a connection and begin."""
        needed, seconds = [self._slots], SLOT_TIMEOUT_SECONDS
        if self._write_lock is not None and "writes" in session.info:
            needed, seconds = [self._write_lock, self._slots], STATEMENT_TIMEOUT_SECONDS
        must_wait = any(one.locked() for one in needed)
        held: list[Semaphore] = session.info.setdefault("held", [])
        try:
            async with timeout(seconds) if must_wait else nullcontext():
                for one in needed:
                    await one.acquire()
                    held.append(one)
            # The connection of a database in memory is the database: what is cancelled on it
            # takes it along.
            with CancelScope(shield=True) if self._is_in_memory else nullcontext():
                # The driver itself does not try for longer than that.
                await self._connect(session)
        except (PoolTimeout, OSError) as error:
            raise to_service_unavailable(error) from error

    async def _connect(self, session: AsyncSession) -> None:
        if "writes" in session.info:
            if self._idle:
                # There are no more connections than places.
                await self._idle.pop().close()
            options = {"session_info": session.info}
            connection = await session.connection(execution_options=options)
        else:
            connection = await self._reading_connection()
            # To begin and to commit would take the session longer than it takes to read.
            session.sync_session.bind = connection.sync_connection
        session.info["connection"] = connection

    async def _reading_connection(self) -> AsyncConnection:
        """One that was read from before, as it was left, or else one of the pool, which takes
        longer than to read."""
        while self._idle:
            connection = self._idle.pop()
            if is_connection_open(connection):
                return connection
            await connection.close()
        return await self._reading.connect()

    async def release(self, session: AsyncSession) -> None:
        """Give the connection and the places back."""
        connection: AsyncConnection | None = session.info.pop("connection", None)
        is_broken = session.info.pop("is_broken", False)
        try:
            if connection is not None and "writes" not in session.info:
                if is_broken:
                    await connection.close()
                else:
                    self._idle.append(connection)
        finally:
            held: list[Semaphore] = session.info.get("held", [])
            while held:
                held.pop().release()

    async def close(self) -> None:
        """Close all connections."""
        while self._idle:
            await self._idle.pop().close()
        await self.engine.dispose()

    def _add_backend(self, dbapi_connection: Any, _record: object) -> None:
        self.backend_pids.add(dbapi_connection.driver_connection.get_server_pid())

    def _remove_backend(self, dbapi_connection: Any, _record: object) -> None:
        self.backend_pids.discard(dbapi_connection.driver_connection.get_server_pid())


def is_client_error(error: BaseException) -> bool:
    """Whether a route says no, rather than the database."""
    return isinstance(error, Problem) and not isinstance(error, ServiceUnavailable)


@asynccontextmanager
async def connection_released(session: AsyncSession) -> AsyncIterator[None]:
    """Commit, and hold neither transaction nor connection nor place while something slow is done.

    What was read before may have changed after: check it again in the WHERE.
    """
    database: Database = session.info["database"]
    if session.in_transaction():
        await database.commit(session)
    await database.release(session)
    yield
    await database.acquire(session)


async def get_session(request: Request) -> AsyncGenerator[AsyncSession]:
    """One request is one transaction: it commits as a whole, or not at all."""
    database: Database = request.app.state.database
    async with database.session(writes=request.method not in SAFE_METHODS) as session:
        yield session


# scope="function" commits before the answer leaves. With the default scope a client could
# hold a 201 for a row whose commit then failed.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
