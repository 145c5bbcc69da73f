"""The database: what every table has, the engine, and one transaction a request."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar

import anyio
from anyio import CancelScope, CapacityLimiter
from fastapi import Depends, Request
from sqlalchemy import URL, Connection, MetaData, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.pool import StaticPool
from sqlmodel import Field, SQLModel, col
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.fields import utc_now
from blog_api.settings import Settings
from blog_api.trouble import (
    is_unique_violation,
    raise_unavailable,
    translate_errors,
    unavailable,
)
from blog_api.urls import sqlite_file

CONSTRAINT_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# How many rows are read at a time where all are.
BATCH = 100

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

# How long a request waits for its turn and its connection, in seconds.
PLACE_SECONDS = 1.0
# How long a statement may take on Postgres, where it may wait for somebody's lock; and how long
# a writer waits on SQLite for the other writers.
STATEMENT_SECONDS = 5.0


class Base(SQLModel, registry=registry(metadata=MetaData(naming_convention=CONSTRAINT_NAMES))):
    """The parent of every table."""


class Row(Base):
    """The columns of every table that has an id."""

    # SQLite gives a deleted row's id to the next one otherwise.
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now, sa_column_kwargs={"onupdate": utc_now})


RowT = TypeVar("RowT", bound=Row)


def set_updated_at(_mapper: object, _connection: Connection, row: Row) -> None:
    """A new row was last changed when it was made, to the microsecond."""
    row.updated_at = row.created_at


event.listen(Row, "before_insert", set_updated_at, propagate=True)


def keep_updated_at(row: Row) -> None:
    """Let the change that is about to be written not be one of what the row's author wrote."""
    flag_modified(row, "updated_at")


class RowRead(SQLModel):
    """What is shown of a `Row`."""

    id: int
    created_at: datetime
    updated_at: datetime


def make_engine(url: URL, *, pool_size: int = 1, for_migrations: bool = False) -> AsyncEngine:
    """An engine that has not connected yet.

    Migrations take as long as they take, and do without foreign keys on SQLite: its batch mode
    drops tables and makes them anew, which would delete their children's rows.
    """
    options: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        if sqlite_file(url) is None:
            options["poolclass"] = StaticPool
        else:
            options |= {"pool_size": pool_size, "max_overflow": 0}
        engine = create_async_engine(url, **options)
        set_up_sqlite(engine, foreign_keys=not for_migrations)
        return engine
    if not for_migrations:
        options["connect_args"] = {"command_timeout": STATEMENT_SECONDS}
    engine = create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=1, pool_pre_ping=True, **options
    )
    if not for_migrations:
        event.listen(engine.sync_engine, "handle_error", raise_unavailable)
    return engine


def set_up_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
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
        cursor.execute(f"PRAGMA busy_timeout = {int(STATEMENT_SECONDS * 900)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
        cursor.execute("PRAGMA foreign_keys")
        if cursor.fetchone() != (foreign_keys,):
            raise RuntimeError("This SQLite was built without foreign keys")
        cursor.close()

    def begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    event.listen(engine.sync_engine, "connect", connect)
    event.listen(engine.sync_engine, "begin", begin)


class Database:
    """The engine and the places at it: as many sessions at a time as there are connections.

    SQLAlchemy's own queue lets newcomers overtake; a CapacityLimiter is first in, first out.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_in_memory = settings.is_in_memory
        pool_size = 1 if settings.is_in_memory else settings.pool_size
        self.engine = make_engine(settings.database_url, pool_size=pool_size)
        writing = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        self._read = async_sessionmaker(
            self.engine, class_=AsyncSession, expire_on_commit=False, info={"database": self}
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
                    await session.commit()
            finally:
                self.leave(session)

    async def enter(self, session: AsyncSession) -> None:
        """Wait for a place, take a connection and begin."""
        writes_sqlite = self._write_lock is not None and "writes" in session.info
        try:
            with anyio.fail_after(STATEMENT_SECONDS if writes_sqlite else PLACE_SECONDS):
                if self._write_lock is not None and writes_sqlite:
                    await self._take(self._write_lock, session)
                await self._take(self._places, session)
                # The connection of a database in memory is the database: what is cancelled on it
                # takes it along.
                with CancelScope(shield=self._is_in_memory):
                    await session.connection()
        except (PoolTimeout, OSError) as error:
            raise unavailable(error) from error

    def leave(self, session: AsyncSession) -> None:
        held: list[CapacityLimiter] = session.info.setdefault("held", [])
        while held:
            held.pop().release_on_behalf_of(session)

    async def _take(self, limiter: CapacityLimiter, session: AsyncSession) -> None:
        await limiter.acquire_on_behalf_of(session)
        session.info.setdefault("held", []).append(limiter)


@asynccontextmanager
async def released(session: AsyncSession) -> AsyncIterator[None]:
    """Commit, and hold neither transaction nor connection nor place while something slow is done.

    What was read before may have changed after: check it again in the WHERE.
    """
    database: Database = session.info["database"]
    await session.commit()
    database.leave(session)
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


async def insert_if_missing(
    session: AsyncSession, table: type[Base], *rows: Mapping[str, Any]
) -> int:
    """Insert the rows that are not there yet; returns how many those are.

    Unlike a failed insert, this leaves the transaction as it was.
    """
    connection = await session.connection()
    insert_into = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert_into(inspect(table).local_table).values(rows).on_conflict_do_nothing()
    return (await connection.execute(statement)).rowcount


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
