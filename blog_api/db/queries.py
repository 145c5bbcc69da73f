"""Execute statements within a session: queries compiled once, writes, inserts and batches.

A statement that is executed often is a `NamedQuery`: built once at the top of its module, with its
values bound by name. It bypasses SQLAlchemy's connection, whose work for each execution takes a
third of the time of a request for one post. An INSERT, UPDATE or DELETE can be one as well; it
returns the rows of its RETURNING.

    POST_BY_ID = NamedQuery(select(...).where(col(Post.id) == bindparam("post_id", type_=Integer)))
    posts = await execute_query(session, POST_BY_ID, {"post_id": 1})
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Executable, Insert, Select, UpdateBase, bindparam, inspect
from sqlalchemy import select as select_columns
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.db.base import Invalidates, TableBase, TableModel, TableModelT
from blog_api.db.cache_version import record_invalidation
from blog_api.db.driver import fetch_records
from blog_api.db.errors import is_unique_violation
from blog_api.db.session import Database

# Rows as dicts: Pydantic reads them twice as fast as objects.
Rows = list[dict[str, Any]]
# Converts a value on its way to or from the driver.
Processor = Callable[[Any], Any]

BATCH_SIZE = 100


class NamedQuery:
    """A statement that SQLAlchemy compiles once per dialect and the driver executes.

    A statement that changes less than what the class of its table declares has `invalidates`.
    """

    def __init__(
        self,
        statement: Select[*tuple[Any, ...]] | UpdateBase,
        *,
        invalidates: Invalidates | None = None,
    ) -> None:
        self.statement = statement
        self.invalidates = invalidates
        self._compiled: dict[str, CompiledQuery] = {}

    async def fetch(self, connection: AsyncConnection, values: Mapping[str, Any]) -> Rows:
        """Return the rows with these values bound. Raises the errors of `fetch_records()`."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = CompiledQuery(self.statement, dialect)
        records = await fetch_records(connection, compiled.sql, compiled.bind(values))
        return compiled.convert(records)

    def record_invalidation(self, session: AsyncSession, values: Mapping[str, Any]) -> None:
        """Note what the commit will invalidate."""
        if isinstance(self.statement, UpdateBase):
            record_invalidation(session.info, self.statement, [values], self.invalidates)


class CompiledQuery:
    """The SQL of a statement in one dialect, with the conversions of its values and columns."""

    def __init__(self, statement: Select[*tuple[Any, ...]] | UpdateBase, dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect)
        self.sql = str(self._compiled)
        binds = self._compiled.binds
        self._bind_processors = [
            (name, binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in self._compiled.positiontup or ()
        ]
        # Defaults of columns that have no value in an INSERT.
        self._defaults: list[Any] = [one.default for one in self._compiled.insert_prefetch]
        columns: Any = statement.exported_columns
        self._names = columns.keys()
        self._result_processors: list[tuple[str, Processor]] = [
            (name, processor)
            for name, column in columns.items()
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of the SQL's placeholders.

        Raises InvalidRequestError if one is missing.
        """
        if self._defaults:
            defaults = {
                one.column.key: one.arg if one.is_scalar else one.arg(None)
                for one in self._defaults
            }
            values = {**defaults, **values}
        bound = self._compiled.construct_params(values)
        return [
            bound[name] if processor is None else processor(bound[name])
            for name, processor in self._bind_processors
        ]

    def convert(self, records: Sequence[Sequence[Any]]) -> Rows:
        rows = [dict(zip(self._names, record, strict=True)) for record in records]
        for name, processor in self._result_processors:
            for row in rows:
                row[name] = processor(row[name])
        return rows


async def execute_query(
    session: AsyncSession, query: NamedQuery | Executable, values: Mapping[str, Any]
) -> Rows:
    """Return the rows of a query without objects, past the session and its identity map."""
    connection: AsyncConnection = session.info["connection"]
    if isinstance(query, NamedQuery):
        if session.info["database"].uses_driver_queries:
            query.record_invalidation(session, values)
            return await query.fetch(connection, values)
        query = query.statement
    result = await connection.execute(query, values)
    return [dict(row) for row in result.mappings()] if result.returns_rows else []


class Write(NamedTuple):
    """A statement that changes rows, and the values bound in it."""

    query: NamedQuery
    values: Mapping[str, Any]


@cache
def combine(first: NamedQuery, *others: NamedQuery) -> NamedQuery:
    """Return one statement of Postgres: the rows of the first, and how many the others have."""
    numbers = [
        select_columns(func.count())
        .select_from(other.statement.cte(f"other_{number}"))
        .scalar_subquery()
        .label(f"number_{number}")
        for number, other in enumerate(others)
    ]
    return NamedQuery(select_columns(first.statement.cte("first"), *numbers))


async def execute_together(
    session: AsyncSession, first: Write, *others: Write
) -> tuple[Rows, list[int]]:
    """Execute writes with a RETURNING each, on Postgres in one round trip.

    Return the rows of the first and, if it has any, the number of rows of each other. A name that
    several bind has one value, and no column has a default.
    """
    connection: AsyncConnection = session.info["connection"]
    if connection.dialect.name == "sqlite" or not session.info["database"].uses_driver_queries:
        rows = await execute_query(session, *first)
        return rows, [len(await execute_query(session, *other)) for other in others]
    values: dict[str, Any] = {}
    for write in (first, *others):
        write.query.record_invalidation(session, write.values)
        values |= write.values
    combined = combine(first.query, *(other.query for other in others))
    rows = await execute_query(session, combined, values)
    names = [f"number_{number}" for number in range(len(others))]
    found = [[row.pop(name) for name in names] for row in rows]
    return rows, found[0] if found else []


async def execute_write(
    session: AsyncSession,
    statement: UpdateBase,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> int:
    """Execute a statement once, or once for each of several mappings; return the row count."""
    connection: AsyncConnection = session.info["connection"]
    return (await connection.execute(statement, values)).rowcount


@asynccontextmanager
async def unique_savepoint(
    session: AsyncSession, *, or_raise: type[Exception]
) -> AsyncIterator[None]:
    """Write within a savepoint; raise `or_raise` on a unique violation, and go on."""
    try:
        async with session.begin_nested():
            # The session begins the savepoint with its first use of the connection, and
            # `execute_write()` bypasses it.
            await session.connection()
            yield
    except DBAPIError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def flush_unique(session: AsyncSession, *, or_raise: type[Exception]) -> None:
    """Flush the session; raise `or_raise` on a unique violation."""
    try:
        await session.flush()
    except DBAPIError as error:
        if not is_unique_violation(error):
            raise
        raise or_raise from None


async def insert_unique(
    session: AsyncSession, row: TableModel, *, or_raise: type[Exception]
) -> None:
    session.add(row)
    await flush_unique(session, or_raise=or_raise)


def insert_into(table: type[TableBase], dialect: str) -> Any:
    """Return the INSERT of a dialect, which has `on_conflict_do_nothing()` and `…_update()`."""
    # Import one dialect only: each takes memory.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(inspect(table).local_table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(inspect(table).local_table)


@cache
def insert_ignoring_conflicts(table: type[TableBase], dialect: str) -> Insert:
    statement: Insert = insert_into(table, dialect).on_conflict_do_nothing()
    return statement


@cache
def insert_row_ignoring_conflicts(
    table: type[TableBase], dialect: str, names: tuple[str, ...]
) -> NamedQuery:
    statement = bind_values(table, insert_ignoring_conflicts(table, dialect), names)
    return NamedQuery(statement.returning(*inspect(table).primary_key))


def bind_values(table: type[TableBase], statement: Insert, names: Iterable[str]) -> Insert:
    """Return an INSERT of one row with the values of these columns bound by their names."""
    types = {name: inspect(table).local_table.columns[name].type for name in names}
    return statement.values({name: bindparam(name, type_=one) for name, one in types.items()})


def make_insert_if_missing(
    session: AsyncSession, table: type[TableBase], row: Mapping[str, Any]
) -> Write:
    """Return what inserts a row that violates no unique constraint."""
    connection: AsyncConnection = session.info["connection"]
    return Write(insert_row_ignoring_conflicts(table, connection.dialect.name, tuple(row)), row)


async def insert_row_if_missing(
    session: AsyncSession, table: type[TableBase], row: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Insert a row; return its primary key, or None if it violates a unique constraint."""
    inserted = await execute_query(session, *make_insert_if_missing(session, table, row))
    return inserted[0] if inserted else None


async def insert_if_missing(
    session: AsyncSession, table: type[TableBase], *rows: Mapping[str, Any]
) -> None:
    """Insert the rows that violate no unique constraint."""
    connection: AsyncConnection = session.info["connection"]
    await execute_write(session, insert_ignoring_conflicts(table, connection.dialect.name), rows)


@cache
def insert_or_replace(table: type[TableBase], dialect: str, names: tuple[str, ...]) -> NamedQuery:
    statement = insert_into(table, dialect)
    keys = inspect(table).primary_key
    names_of_keys = {key.name for key in keys}
    values = {
        name: column for name, column in statement.excluded.items() if name not in names_of_keys
    }
    replaced = statement.on_conflict_do_update(index_elements=keys, set_=values)
    return NamedQuery(bind_values(table, replaced, names).returning(*keys))


def make_upsert(session: AsyncSession, table: type[TableBase], row: Mapping[str, Any]) -> Write:
    """Return what inserts a row, or replaces the one with its primary key."""
    connection: AsyncConnection = session.info["connection"]
    return Write(insert_or_replace(table, connection.dialect.name, tuple(row)), row)


async def lock_work(session: AsyncSession, name: str) -> None:
    """Let one transaction at a time do a kind of work. SQLite has one writer anyway."""
    connection: AsyncConnection = session.info["connection"]
    if connection.dialect.name == "postgresql":
        key = func.hashtextextended(f"blog-api {name}", 0)
        await connection.execute(select(func.pg_advisory_xact_lock(key)))


async def count_rows(database: Database, table: type[TableModel]) -> int:
    async with database.session(writes=False) as session:
        return (await session.exec(select(func.count()).select_from(table))).one()


async def iterate_batches(
    database: Database,
    query: SelectOfScalar[TableModelT],
    table: type[TableModelT],
    *,
    batch_size: int = BATCH_SIZE,
) -> AsyncIterator[Sequence[TableModelT]]:
    """Yield rows in batches, in the order of their ids.

    Each batch is read in its own transaction: no connection is held while it is processed.
    """
    last_id = 0
    while True:
        batch = query.where(col(table.id) > last_id).order_by(col(table.id)).limit(batch_size)
        async with database.session(writes=False) as session:
            rows = (await session.exec(batch)).all()
        if not rows:
            return
        yield rows
        last_id = rows[-1].id


async def iterate_rows(
    database: Database,
    query: SelectOfScalar[TableModelT],
    table: type[TableModelT],
    *,
    batch_size: int = BATCH_SIZE,
) -> AsyncIterator[TableModelT]:
    """Yield the rows of `iterate_batches()` one by one."""
    async for rows in iterate_batches(database, query, table, batch_size=batch_size):
        for row in rows:
            yield row
