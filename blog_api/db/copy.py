"""Copy all rows of a database into an empty one, of the same kind or the other.

The tables come from the metadata: one that is added later is copied without code of its own. The
rows of one snapshot of the source go into one transaction of the target, without triggers: what
triggers derive, such as counters, is in the tables of the source already. Then the rows in the
target are read again. Each table has a digest, the sum of a hash of each row in Python's values,
which does not depend on the database or on an order. If it differs, nothing was copied.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from hashlib import blake2b
from operator import add
from typing import Any

from sqlalchemy import Column, MetaData, Table, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from blog_api.core.settings import Settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.driver import get_driver_connection, get_driver_errors
from blog_api.db.engine import create_engine
from blog_api.db.errors import describe_error
from blog_api.db.invalidation import CHANNEL
from blog_api.db.migrate import migration_connection
from blog_api.db.revisions import Fit, get_schema

# A post may have 2 MB with its HTML.
ROWS_PER_BATCH = 50
DIGEST_BYTES = 16

Advance = Callable[[], None]


class CopyFailed(Exception):
    """The copy is not possible, or was rolled back."""


@dataclass
class Digest:
    """The number of rows of a table, and the sum of their hashes."""

    count: int = 0
    total: int = 0

    def add(self, row: Sequence[Any]) -> None:
        values = repr([normalize(value) for value in row])
        digest = blake2b(values.encode(), digest_size=DIGEST_BYTES).digest()
        self.count += 1
        self.total = (self.total + int.from_bytes(digest)) % 2 ** (8 * DIGEST_BYTES)


def normalize(value: Any) -> Any:
    """Return a value whose `repr()` is equal for equal values of both databases."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, dict):
        return sorted((key, normalize(one)) for key, one in value.items())
    if isinstance(value, list):
        return [normalize(one) for one in value]
    # SQLite has no negative zero.
    return value + 0.0 if isinstance(value, float) else value


@contextmanager
def translate_to_failure(label: str) -> Iterator[None]:
    """Raise CopyFailed with a label for an error of a database."""
    errors: tuple[type[Exception], ...] = (
        OSError,
        SQLAlchemyError,
        *get_driver_errors("sqlite"),
        *get_driver_errors("postgresql"),
    )
    try:
        yield
    except errors as error:
        raise CopyFailed(f"{label}: {describe_error(error)}") from error


@asynccontextmanager
async def read_snapshot(settings: Settings) -> AsyncGenerator[AsyncConnection]:
    """Open a transaction that reads one snapshot, and that writers do not wait for."""
    engine = create_engine(settings.database_url, for_migrations=True)
    options: dict[str, Any] = (
        {"sqlite_begin": "DEFERRED"}
        if settings.is_sqlite
        else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    )
    try:
        async with engine.execution_options(**options).connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def is_same_database(
    source: tuple[Settings, AsyncConnection], target: tuple[Settings, AsyncConnection]
) -> bool:
    """Return whether both connections lead to one database, whatever their URLs are."""
    files = [get_sqlite_path(settings.database_url) for settings, _ in (source, target)]
    if files[0] is not None and files[1] is not None:
        return files[0].samefile(files[1])
    if files[0] is not None or files[1] is not None:
        return False
    # An advisory lock is held within one database only.
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    key = {"key": secrets.randbits(63)}
    await target[1].execute(lock, key)
    return not await source[1].scalar(lock, key)


async def require_empty(connection: AsyncConnection, metadata: MetaData, label: str) -> None:
    filled = [
        table.name
        for table in metadata.sorted_tables
        if (await connection.execute(select(*table.primary_key).limit(1))).first() is not None
    ]
    if filled:
        raise CopyFailed(f"{label}: The database is not empty: {', '.join(sorted(filled))}")


@asynccontextmanager
async def triggers_disabled(
    connection: AsyncConnection, metadata: MetaData
) -> AsyncGenerator[None]:
    """Lock the tables of the target, and disable their triggers until the end of the block.

    A rollback enables them too. Foreign keys are checked on Postgres all the same.
    """
    if connection.dialect.name == "sqlite":
        query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = (await connection.execute(query)).all()
        for name, _ in triggers:
            await connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        yield
        for _, sql in triggers:
            await connection.exec_driver_sql(sql)
        return
    alter = "ALTER TABLE {} {} TRIGGER USER"
    names = [f'"{table.name}"' for table in metadata.sorted_tables]
    for name in names:
        await connection.execute(text(alter.format(name, "DISABLE")))
    yield
    # The driver leaves cursors open, and an open one would prevent ALTER TABLE.
    await connection.execute(text("CLOSE ALL"))
    for name in names:
        await connection.execute(text(alter.format(name, "ENABLE")))
    # A single one for the workers that listen: of a table that is not known, so of everything.
    await connection.execute(text("SELECT pg_notify(:channel, 'COPY')"), {"channel": CHANNEL})


async def read_rows(
    connection: AsyncConnection, table: Table, digest: Digest, advance: Advance
) -> AsyncIterator[Sequence[Any]]:
    """Yield the rows of a table in batches, and add them to its digest."""
    options = {"yield_per": ROWS_PER_BATCH}
    result = await connection.stream(select(table), execution_options=options)
    async for batch in result.partitions():
        for row in batch:
            digest.add(row)
            advance()
        yield batch


async def write_rows(
    connection: AsyncConnection, table: Table, batches: AsyncIterator[Sequence[Any]]
) -> None:
    """Insert the rows of a table. References within it may lead to later rows.

    One COPY for all batches on Postgres, which checks foreign keys at its end.
    """
    if connection.dialect.name == "sqlite":
        async for batch in batches:
            await connection.execute(insert(table), [row._asdict() for row in batch])
        return
    dialect = connection.dialect
    processors = [
        column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.columns
    ]

    async def bind_values() -> AsyncIterator[list[Any]]:
        async for batch in batches:
            for row in batch:
                yield [
                    value if processor is None else processor(value)
                    for processor, value in zip(processors, row, strict=True)
                ]

    driver = get_driver_connection(connection)
    names = [column.name for column in table.columns]
    await driver.copy_records_to_table(table.name, records=bind_values(), columns=names)


async def read_last_id(connection: AsyncConnection, column: Column[Any]) -> int:
    """Return the last id that was given to a row, which may be deleted."""
    table = column.table
    last: int = (await connection.execute(select(func.coalesce(func.max(column), 0)))).scalar_one()
    if connection.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        given = await connection.scalar(query, {"table": table.name})
    else:
        sequence = await find_sequence(connection, column)
        query = text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")
        given = await connection.scalar(query)
    return max(last, given or 0)


async def find_sequence(connection: AsyncConnection, column: Column[Any]) -> str:
    """Return the quoted name of the sequence that gives a column its values on Postgres."""
    query = text("SELECT pg_get_serial_sequence(:table, :column)")
    values = {"table": column.table.name, "column": column.name}
    return str(await connection.scalar(query, values))


async def set_last_id(connection: AsyncConnection, column: Column[Any], last_id: int) -> None:
    if connection.dialect.name == "sqlite":
        values = {"table": column.table.name, "last": last_id}
        for statement in (
            "DELETE FROM sqlite_sequence WHERE name = :table",
            "INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)",
        ):
            await connection.execute(text(statement), values)
    else:
        # Unlike `setval()` it is rolled back.
        sequence = await find_sequence(connection, column)
        await connection.execute(text(f"ALTER SEQUENCE {sequence} RESTART WITH {last_id + 1}"))


class Copy:
    """A copy of the rows of `source` into `target`, two connections in transactions."""

    def __init__(
        self, source: AsyncConnection, target: AsyncConnection, metadata: MetaData
    ) -> None:
        self._source = source
        self.target = target
        self._metadata = metadata
        self._digests = {table.name: Digest() for table in metadata.sorted_tables}

    async def count_rows(self) -> int:
        """Return the number of rows of all tables of the source."""
        counts = (
            select(func.count()).select_from(table).scalar_subquery()
            for table in self._metadata.sorted_tables
        )
        return int((await self._source.execute(select(reduce(add, counts)))).scalar_one())

    async def copy_tables(self, advance: Advance) -> None:
        """Insert the rows of all tables, and set the ids of the next ones. Raises CopyFailed."""
        for table in self._metadata.sorted_tables:
            with translate_to_failure(f"The table {table.name} cannot be copied"):
                batches = read_rows(self._source, table, self._digests[table.name], advance)
                await write_rows(self.target, table, batches)
                column = table.autoincrement_column
                if column is not None:
                    last_id = await read_last_id(self._source, column)
                    await set_last_id(self.target, column, last_id)

    async def compare_tables(self, advance: Advance) -> dict[str, int]:
        """Read the target again; return the number of rows of each table. Raises CopyFailed."""
        for table in self._metadata.sorted_tables:
            digest = Digest()
            with translate_to_failure(f"The copy of {table.name} cannot be read"):
                async for _ in read_rows(self.target, table, digest, advance):
                    pass
            if digest != self._digests[table.name]:
                raise CopyFailed(f"The copy of {table.name} differs, and was rolled back")
        return {name: digest.count for name, digest in self._digests.items()}


@asynccontextmanager
async def open_at_head(
    connecting: AbstractAsyncContextManager[AsyncConnection], label: str
) -> AsyncGenerator[AsyncConnection]:
    """Connect to a database at the revision of this version. Raises CopyFailed with the label."""
    async with AsyncExitStack() as stack:
        with translate_to_failure(label):
            connection = await stack.enter_async_context(connecting)
            schema = await connection.run_sync(get_schema)
        if schema.fit is not Fit.SAME:
            how = f", with BLOG_DATABASE_URL set to the URL of {label}"
            is_other = label != "BLOG_DATABASE_URL" and schema.fit is Fit.OLDER
            raise CopyFailed(f"{label}: {schema}{how if is_other else ''}")
        yield connection


@asynccontextmanager
async def open_copy(
    settings: Settings, target_settings: Settings, metadata: MetaData, label: str
) -> AsyncGenerator[Copy]:
    """Begin a copy into an empty database, which the end of the block commits.

    Raises CopyFailed if one of the databases does not allow it, with the label of the target, or if
    one of them fails later.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(translate_to_failure("Nothing was copied"))
        source = await stack.enter_async_context(
            open_at_head(read_snapshot(settings), "BLOG_DATABASE_URL")
        )
        target = await stack.enter_async_context(
            open_at_head(migration_connection(target_settings), label)
        )
        if await is_same_database((settings, source), (target_settings, target)):
            raise CopyFailed(f"{label}: is the database of BLOG_DATABASE_URL")
        async with triggers_disabled(target, metadata):
            await require_empty(target, metadata, label)
            yield Copy(source, target, metadata)
        if not target_settings.is_sqlite:
            # Otherwise the first queries are planned without statistics.
            await target.execute(text("ANALYZE"))
