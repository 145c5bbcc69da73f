"""The database: one transaction a request, as many at a time as there are connections."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any

import anyio
from anyio import CancelScope, CapacityLimiter, WouldBlock
from fastapi import Depends, Request
from sqlalchemy import Connection, Executable, UpdateBase, event, inspect
from sqlalchemy import Row as RowOfColumns
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    async_sessionmaker,
)
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.engines import STATEMENT_SECONDS, make_engine
from blog_api.settings import Settings
from blog_api.tables import Base, Row, RowT
from blog_api.trouble import (
    is_unique_violation,
    translate_errors,
    unavailable,
)

# What no public answer shows. Whatever else is written may be a change that readers see.
UNSEEN_TABLES = {"audit_entries", "bookmarks", "follows", "tokens"}
# What no answer shows that is of one row: a post knows its tags and its slug by itself.
TABLES_OF_LISTS = {"post_counts", "post_tags", "slugs", "tags"}

# How many rows are read at a time where all are.
BATCH = 100

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

# How long a request waits for its turn and its connection, in seconds.
PLACE_SECONDS = 1.0


def changes_rows(operation: str, table: str) -> bool:
    """Whether a row that readers may see by itself can be another one after a statement."""
    return operation != "INSERT" and table not in TABLES_OF_LISTS


def note_change(connection: Connection, statement: Executable, *_: object) -> None:
    """Let a session know that it writes what readers may see."""
    if isinstance(statement, UpdateBase) and str(statement.table) not in UNSEEN_TABLES:
        operation = "INSERT" if statement.is_insert else "UPDATE"
        info = connection.get_execution_options()["session_info"]
        info.setdefault("changed", set()).add((operation, str(statement.table)))


class Database:
    """The engine and the places at it: as many sessions at a time as there are connections.

    SQLAlchemy's own queue lets newcomers overtake; a CapacityLimiter is first in, first out.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_in_memory = settings.is_in_memory
        pool_size = 1 if settings.is_in_memory else settings.pool_size
        self.engine = make_engine(settings.database_url, pool_size=pool_size)
        # What only reads does without a transaction, whose beginning and end would be two more
        # round trips: each statement sees what is committed, as it would within one.
        self._reading = (
            self.engine
            if settings.is_sqlite
            else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )
        writing = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        event.listen(writing.sync_engine, "before_execute", note_change)
        # How many commits of this process readers may see; and of these, how many may have
        # changed a row that was there already.
        self.changes = 0
        self.changes_of_rows = 0
        # Of its connections to Postgres, by which it knows its own notices.
        self.backend_pids: set[int] = set()
        if not settings.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", self._note_backend)
            event.listen(self.engine.sync_engine, "close", self._forget_backend)
        self._read = async_sessionmaker(
            class_=AsyncSession, expire_on_commit=False, info={"database": self}
        )
        self._write = async_sessionmaker(
            writing,
            class_=AsyncSession,
            expire_on_commit=False,
            info={"database": self, "writes": True},
        )
        self._places = CapacityLimiter(pool_size)
        # SQLite has one writer at a time: the others wait here, where they are in order and
        # keep no connection from readers.
        self._write_lock = CapacityLimiter(1) if settings.is_sqlite else None

    @asynccontextmanager
    async def session(self, *, writes: bool) -> AsyncGenerator[AsyncSession]:
        """One transaction: committed at the end, rolled back by whatever is raised.

        Raises ServiceUnavailable where the database does not answer, and Conflict where it
        refuses what another request made impossible meanwhile.
        """
        session = self._write() if writes else self._read()
        with translate_errors():
            try:
                async with session:
                    await self.enter(session)
                    yield session
                    if writes:
                        await self.commit(session)
            finally:
                await self.leave(session)

    async def commit(self, session: AsyncSession) -> None:
        """Commit. Even if that fails, it may have been done."""
        try:
            await session.commit()
        finally:
            changed = session.info.pop("changed", ())
            self.changes += bool(changed)
            self.changes_of_rows += any(changes_rows(*one) for one in changed)

    async def enter(self, session: AsyncSession) -> None:
        """Wait for a place, take a connection and begin."""
        lock = self._write_lock if "writes" in session.info else None
        try:
            if lock is None and take_at_once(self._places, session):
                # The driver itself does not try for longer than that.
                await self._connect(session)
                return
            with anyio.fail_after(PLACE_SECONDS if lock is None else STATEMENT_SECONDS):
                if lock is not None:
                    await take(lock, session)
                await take(self._places, session)
                # The connection of a database in memory is the database: what is cancelled on it
                # takes it along.
                with CancelScope(shield=self._is_in_memory):
                    await self._connect(session)
        except (PoolTimeout, OSError) as error:
            raise unavailable(error) from error

    async def _connect(self, session: AsyncSession) -> None:
        if "writes" in session.info:
            options = {"session_info": session.info}
            connection = await session.connection(execution_options=options)
        else:
            # To begin and to commit would take the session longer than it takes to read.
            connection = await self._reading.connect()
            session.sync_session.bind = connection.sync_connection
        session.info["connection"] = connection

    async def leave(self, session: AsyncSession) -> None:
        """Give the connection and the places back."""
        connection: AsyncConnection | None = session.info.pop("connection", None)
        try:
            if connection is not None and "writes" not in session.info:
                await connection.close()
        finally:
            held: list[CapacityLimiter] = session.info.setdefault("held", [])
            while held:
                held.pop().release_on_behalf_of(session)

    def _note_backend(self, dbapi_connection: Any, _record: object) -> None:
        self.backend_pids.add(dbapi_connection.driver_connection.get_server_pid())

    def _forget_backend(self, dbapi_connection: Any, _record: object) -> None:
        self.backend_pids.discard(dbapi_connection.driver_connection.get_server_pid())


def take_at_once(limiter: CapacityLimiter, session: AsyncSession) -> bool:
    """Whether it is this session's turn already."""
    try:
        limiter.acquire_on_behalf_of_nowait(session)
    except WouldBlock:
        return False
    session.info.setdefault("held", []).append(limiter)
    return True


async def take(limiter: CapacityLimiter, session: AsyncSession) -> None:
    """Wait for a turn that `leave()` gives back."""
    await limiter.acquire_on_behalf_of(session)
    session.info.setdefault("held", []).append(limiter)


@asynccontextmanager
async def released(session: AsyncSession) -> AsyncIterator[None]:
    """Commit, and hold neither transaction nor connection nor place while something slow is done.

    What was read before may have changed after: check it again in the WHERE.
    """
    database: Database = session.info["database"]
    if session.in_transaction():
        await database.commit(session)
    await database.leave(session)
    yield
    await database.enter(session)


async def get_session(request: Request) -> AsyncGenerator[AsyncSession]:
    """One request is one transaction: it commits as a whole, or not at all."""
    database: Database = request.app.state.database
    async with database.session(writes=request.method not in SAFE_METHODS) as session:
        yield session


# scope="function" commits before the answer leaves. With the default scope a client could
# hold a 201 for a row whose commit then failed.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def read(
    session: AsyncSession, statement: Executable, values: Mapping[str, Any]
) -> Sequence[RowOfColumns[*tuple[Any, ...]]]:
    """The rows of a statement, with these values bound.

    Past the session, which would look for objects in them: that is a third of what it costs.
    """
    connection: AsyncConnection = session.info["connection"]
    return (await connection.execute(statement, values)).all()


@asynccontextmanager
async def attempt(session: AsyncSession, *, or_raise: type[Exception]) -> AsyncIterator[None]:
    """What is written within, as a whole; the transaction goes on where it is not unique."""
    try:
        async with session.begin_nested():
            yield
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def flush(session: AsyncSession, *, or_raise: type[Exception]) -> None:
    """Write what is pending; the database judges whether it is unique."""
    try:
        await session.flush()
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def insert(session: AsyncSession, row: Row, *, or_raise: type[Exception]) -> None:
    session.add(row)
    await flush(session, or_raise=or_raise)


@cache
def insert_into(table: type[Base], dialect: str) -> postgresql.Insert | sqlite.Insert:
    """An insert that leaves out what is there already, and the transaction as it was."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(inspect(table).local_table).on_conflict_do_nothing()


async def insert_if_missing(
    session: AsyncSession, table: type[Base], *rows: Mapping[str, Any]
) -> int:
    """Insert the rows that are not there yet; of one row, returns whether that is 1 or 0."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_into(table, connection.dialect.name)
    return (await connection.execute(statement, rows[0] if len(rows) == 1 else rows)).rowcount


async def insert_new(
    session: AsyncSession, table: type[Row], values: Mapping[str, Any]
) -> int | None:
    """The id of a row with all of these values; None where it is there already."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_into(table, connection.dialect.name).returning(col(table.id))
    found: int | None = await connection.scalar(statement, values)
    return found


async def in_batches(
    database: Database, query: SelectOfScalar[RowT], table: type[RowT]
) -> AsyncIterator[Sequence[RowT]]:
    """The rows of a query in the order of their ids, each batch read in a transaction of its own,
    so that neither memory nor a connection is held for long."""
    last_id = 0
    while True:
        batch = query.where(col(table.id) > last_id).order_by(col(table.id)).limit(BATCH)
        async with database.session(writes=False) as session:
            rows = (await session.exec(batch)).all()
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


async def one_by_one(
    database: Database, query: SelectOfScalar[RowT], table: type[RowT]
) -> AsyncIterator[RowT]:
    """The same, row by row."""
    async for rows in in_batches(database, query, table):
        for row in rows:
            yield row
