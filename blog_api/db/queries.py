"""Named queries: what is read most, compiled once and given to the driver itself."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from sqlalchemy import Dialect, Executable, Insert, Select, UpdateBase, inspect
from sqlalchemy import Row as ResultRow
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.db.base import TableBase, TableModel, TableModelT
from blog_api.db.engine import fetch_records
from blog_api.db.errors import is_unique_violation
from blog_api.db.session import Database

# What a type does to a value on its way to the driver, or from there.
Processor = Callable[[Any], Any]


ResultRows = Sequence[ResultRow[*tuple[Any, ...]]]


class NamedQuery:
    """A select that is built once, with its values bound by name.

    SQLAlchemy compiles it and knows its types. What its connection does for each execution, in a
    greenlet of its own, takes a third of the time of a request for one post, so that is left out.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self.statement = statement
        self._compiled: dict[str, CompiledQuery] = {}

    async def read(self, connection: AsyncConnection, values: Mapping[str, Any]) -> ResultRows:
        """The rows with these values bound; raises what `fetch_records()` does."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = CompiledQuery(self.statement, dialect)
        return compiled.rows(
            await fetch_records(connection, compiled.sql, compiled.parameters(values))
        )


class CompiledQuery:
    """A named query in the SQL of a dialect, and how its values and its rows are converted."""

    def __init__(self, statement: Select[*tuple[Any, ...]], dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect)
        self.sql = str(self._compiled)
        binds = self._compiled.binds
        self._to_driver = [
            (name, get_dialect_type(binds[name].type, dialect).bind_processor(dialect))
            for name in self._compiled.positiontup or ()
        ]
        columns = statement.selected_columns
        self._from_driver = [
            (place, processor)
            for place, column in enumerate(columns)
            if (processor := get_dialect_type(column.type, dialect).result_processor(dialect, None))
        ]
        self._names = SimpleResultMetaData(list(columns.keys()))

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """All values in the order in which the SQL has them; raises InvalidRequestError where one
        is missing."""
        known = self._compiled.construct_params(values)
        return [
            known[name] if processor is None else processor(known[name])
            for name, processor in self._to_driver
        ]

    def rows(self, records: Sequence[Sequence[Any]]) -> ResultRows:
        found = []
        for record in records:
            row = [*record]
            for place, processor in self._from_driver:
                row[place] = processor(row[place])
            found.append(row)
        return IteratorResult(self._names, iter(found)).all()


def get_dialect_type(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """A type as a dialect has it."""
    return type_.dialect_impl(dialect)


# How many rows are read at a time where all are.
BATCH_SIZE = 100


async def execute_query(
    session: AsyncSession, query: NamedQuery | Executable, values: Mapping[str, Any]
) -> ResultRows:
    """The rows of a query, with these values bound.

    Past the session, which would look for objects in them: that is a third of what it costs.
    """
    connection: AsyncConnection = session.info["connection"]
    if isinstance(query, NamedQuery):
        if session.info["database"].uses_driver_queries:
            return await query.read(connection, values)
        query = query.statement
    return (await connection.execute(query, values)).all()


def rows_to_dicts(rows: ResultRows) -> list[dict[str, Any]]:
    """Rows by the names of their columns, of which Pydantic takes half as long to read.

    SQLAlchemy's `_asdict()` would take as long as that saves.
    """
    names = rows[0]._fields if rows else ()
    return [dict(zip(names, row, strict=True)) for row in rows]


async def execute_write(
    session: AsyncSession,
    statement: UpdateBase,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> int:
    """Execute a statement with these values bound, or with each of several; returns how many rows
    it wrote."""
    connection: AsyncConnection = session.info["connection"]
    return (await connection.execute(statement, values)).rowcount


@asynccontextmanager
async def unique_savepoint(
    session: AsyncSession, *, or_raise: type[Exception]
) -> AsyncIterator[None]:
    """What is written within, as a whole; the transaction goes on where it is not unique."""
    try:
        async with session.begin_nested():
            yield
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def flush_unique(session: AsyncSession, *, or_raise: type[Exception]) -> None:
    """Write what is pending; the database judges whether it is unique."""
    try:
        await session.flush()
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def insert_unique(
    session: AsyncSession, row: TableModel, *, or_raise: type[Exception]
) -> None:
    session.add(row)
    await flush_unique(session, or_raise=or_raise)


@cache
def insert_ignoring_conflicts(table: type[TableBase], dialect: str) -> Insert:
    """An insert that leaves out what is there already, and the transaction as it was."""
    # Whichever is needed: each takes memory.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(inspect(table).local_table).on_conflict_do_nothing()
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(inspect(table).local_table).on_conflict_do_nothing()


async def insert_if_missing(
    session: AsyncSession, table: type[TableBase], *rows: Mapping[str, Any]
) -> int:
    """Insert the rows that are not there yet; of one row, returns whether that is 1 or 0."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_ignoring_conflicts(table, connection.dialect.name)
    return await execute_write(session, statement, rows[0] if len(rows) == 1 else rows)


async def insert_returning_id(
    session: AsyncSession, table: type[TableModel], values: Mapping[str, Any]
) -> int | None:
    """The id of a row with all of these values; None where it is there already."""
    connection: AsyncConnection = session.info["connection"]
    statement = insert_ignoring_conflicts(table, connection.dialect.name).returning(col(table.id))
    found: int | None = await connection.scalar(statement, values)
    return found


async def count_rows(database: Database, table: type[TableModel]) -> int:
    """How many rows a table has."""
    async with database.session(writes=False) as session:
        return (await session.exec(select(func.count()).select_from(table))).one()


async def iterate_batches(
    database: Database, query: SelectOfScalar[TableModelT], table: type[TableModelT]
) -> AsyncIterator[Sequence[TableModelT]]:
    """The rows of a query in the order of their ids, each batch read in a transaction of its own,
    so that neither memory nor a connection is held for long."""
    last_id = 0
    while True:
        batch = query.where(col(table.id) > last_id).order_by(col(table.id)).limit(BATCH_SIZE)
        async with database.session(writes=False) as session:
            rows = (await session.exec(batch)).all()
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


async def iterate_rows(
    database: Database, query: SelectOfScalar[TableModelT], table: type[TableModelT]
) -> AsyncIterator[TableModelT]:
    """The same, row by row."""
    async for rows in iterate_batches(database, query, table):
        for row in rows:
            yield row
