"""Rows: how they are read and written within a session."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from sqlalchemy import Executable, Insert, UpdateBase, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.database import Database
from blog_api.queries import FoundRows, NamedQuery
from blog_api.tables import Base, Row, RowT
from blog_api.trouble import is_unique_violation

# How many rows are read at a time where all are.
BATCH = 100


async def read(
    session: AsyncSession, query: NamedQuery | Executable, values: Mapping[str, Any]
) -> FoundRows:
    """The rows of a query, with these values bound.

    Past the session, which would look for objects in them: that is a third of what it costs.
    """
    connection: AsyncConnection = session.info["connection"]
    if isinstance(query, NamedQuery):
        if session.info["database"].reads_by_driver:
            return await query.read(connection, values)
        query = query.statement
    return (await connection.execute(query, values)).all()


def as_dicts(rows: FoundRows) -> list[dict[str, Any]]:
    """Rows by the names of their columns, of which Pydantic takes half as long to read.

    SQLAlchemy's `_asdict()` would take as long as that saves.
    """
    names = rows[0]._fields if rows else ()
    return [dict(zip(names, row, strict=True)) for row in rows]


async def write(
    session: AsyncSession,
    statement: UpdateBase,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> int:
    """Execute a statement with these values bound, or with each of several; returns how many rows
    it wrote."""
    connection: AsyncConnection = session.info["connection"]
    return (await connection.execute(statement, values)).rowcount


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
def insert_into(table: type[Base], dialect: str) -> Insert:
    """An insert that leaves out what is there already, and the transaction as it was."""
    # Whichever is needed: each takes memory.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(inspect(table).local_table).on_conflict_do_nothing()
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(inspect(table).local_table).on_conflict_do_nothing()


async def insert_if_missing(
    session: AsyncSession, table: type[Base], *rows: Mapping[str, Any]
) -> int:
    """Insert the rows that are not there yet; of one row, returns whether that is 1 or 0."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_into(table, connection.dialect.name)
    return await write(session, statement, rows[0] if len(rows) == 1 else rows)


async def insert_new(
    session: AsyncSession, table: type[Row], values: Mapping[str, Any]
) -> int | None:
    """The id of a row with all of these values; None where it is there already."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_into(table, connection.dialect.name).returning(col(table.id))
    found: int | None = await connection.scalar(statement, values)
    return found


async def count_rows(database: Database, table: type[Row]) -> int:
    """How many rows a table has."""
    async with database.session(writes=False) as session:
        return (await session.exec(select(func.count()).select_from(table))).one()


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
