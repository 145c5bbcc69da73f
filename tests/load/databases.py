"""The databases: created by the migrations of the service, loaded, and cleaned between runs."""

import asyncio
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL

from blog_api.accounts.passwords import PasswordHasher
from blog_api.cli.console import progress
from blog_api.db.migrate import migrate
from blog_api.db.revisions import find_migrations
from tests.load import data
from tests.load.data import Row, Size
from tests.load.machine import parent_named
from tests.support.clients import make_settings
from tests.support.processes import make_environment

BATCH = 1_000
# Marks the databases of this program: a comment on Postgres, an application id on SQLite.
MARK = "blog-api load test"
APPLICATION_ID = zlib.crc32(MARK.encode()) >> 1


class ForeignDatabase(Exception):
    """A database of this name exists, but this program did not create it."""


@dataclass(frozen=True)
class Loaded:
    """A database with its data."""

    url: URL
    size: Size
    # The checkout whose migrations created it; None: this one.
    checkout: Path | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> str:
        return str(self.url.database)

    def clean(self) -> None:
        """Delete what a run has added, so that all contenders have the same data."""
        if self.is_sqlite:
            clean_file(self)
        else:
            asyncio.run(clean_postgres(self))


def describe_data(loaded: Loaded) -> str:
    """Return a description of schema and data, which is stored in a complete database."""
    migrations = find_migrations() if loaded.checkout is None else loaded.checkout / "migrations"
    scripts = sorted((migrations / "versions").glob("*.py"))
    # A migration that is not released yet can change and keep its revision.
    schema = zlib.crc32(b"".join(script.read_bytes() for script in scripts))
    return f"{MARK}: {loaded.size.posts} posts, layout {data.LAYOUT}, schema {schema:08x}"


def hash_password() -> str:
    """Hash with the default settings, which log-ins are measured with."""
    passwords = PasswordHasher(make_settings(database_url="sqlite://"))
    return asyncio.run(passwords.hash(data.PASSWORD))


def batches(rows: Iterator[Row], columns: list[str]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := [tuple(row[name] for name in columns) for row in islice(rows, BATCH)]:
        yield batch


# On Postgres.


def render_plain_url(url: URL) -> str:
    """Return the URL without SQLAlchemy's driver name."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def prepare_postgres(
    server: URL, size: Size, checkout: Path | None = None, *, may_replace: bool
) -> Loaded:
    """Return the database `load_test_…` of this size; create and load it if necessary.

    That of another checkout is migrated by that checkout. Raises ForeignDatabase.
    """
    name = f"load_test_{size.name}" + ("" if checkout is None else "_baseline")
    loaded = Loaded(server.set(database=name), size, checkout)
    if not asyncio.run(create_if_missing(server, loaded, may_replace=may_replace)):
        loaded.clean()
        return loaded
    if checkout is None:
        asyncio.run(migrate(make_settings(database_url=loaded.url)))
    else:
        subprocess.run(
            (sys.executable, "-m", "blog_api", "migrate"),
            # Without a `.env` file.
            cwd=Path(__file__).parent,
            env=make_environment(loaded.url, {}) | {"PYTHONPATH": str(checkout)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    asyncio.run(load_postgres(loaded, hash_password()))
    return loaded


async def create_if_missing(server: URL, loaded: Loaded, *, may_replace: bool) -> bool:
    """Create an empty database unless a complete one exists; return whether it was created."""
    name = loaded.url.database
    connection = await asyncpg.connect(render_plain_url(server))
    try:
        comment = await connection.fetchval(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database "
            "WHERE datname = $1",
            name,
        )
        if comment == describe_data(loaded):
            return False
        if comment is not None and not comment.startswith(MARK) and not may_replace:
            raise ForeignDatabase(f"the database {name}")
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        await connection.execute(f"COMMENT ON DATABASE \"{name}\" IS '{MARK}: unfinished'")
        return True
    finally:
        await connection.close()


async def read_columns(connection: asyncpg.Connection, table: str) -> set[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = $1"
    return {row["column_name"] for row in await connection.fetch(query, table)}


async def load_postgres(loaded: Loaded, hashed: str) -> None:
    connection = await asyncpg.connect(render_plain_url(loaded.url))
    try:
        # Disables triggers and foreign keys; only a superuser may.
        await connection.execute("SET session_replication_role = replica")
        # Filling the index of words row by row would take many times as long.
        await connection.execute("SET maintenance_work_mem = '1GB'")
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '% USING gin %'"
        )
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        for table, count, names, rows in data.tables(loaded.size, hashed):
            # Another checkout may lack a table or a column.
            existing = await read_columns(connection, table)
            columns = [name for name in names if name in existing]
            if not columns:
                continue
            with progress(f"{loaded.url.database}: {table}", -(-count // BATCH)) as step:
                for batch in batches(rows, columns):
                    await connection.copy_records_to_table(table, records=batch, columns=columns)
                    step()
            if "id" in columns:
                await connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {count})"
                )
        of_indexes = [index["indexdef"] for index in indexes]
        for statement in (*of_indexes, *data.statements_on_postgres(loaded.size)):
            await connection.execute(statement)
        await connection.execute(
            f"COMMENT ON DATABASE \"{loaded.url.database}\" IS '{describe_data(loaded)}'"
        )
    finally:
        await connection.close()


def postmaster_pid(server: URL) -> int | None:
    """Return the parent of all Postgres processes; None if Postgres runs on another machine."""

    async def find() -> int | None:
        connection = await asyncpg.connect(render_plain_url(server))
        try:
            pid: int = await connection.fetchval("SELECT pg_backend_pid()")
            return parent_named(pid, "postgres")
        finally:
            await connection.close()

    return asyncio.run(find())


async def server_version(server: URL) -> str:
    connection = await asyncpg.connect(render_plain_url(server))
    try:
        version: str = await connection.fetchval("SHOW server_version")
        return version.split()[0]
    finally:
        await connection.close()


async def clean_postgres(loaded: Loaded) -> None:
    connection = await asyncpg.connect(render_plain_url(loaded.url))
    try:
        # Dead rows would slow down the first page of every list.
        for statement in (*data.cleanup_statements(loaded.size), "VACUUM ANALYZE"):
            await connection.execute(statement)
    finally:
        await connection.close()


# On SQLite.


def prepare_sqlite(folder: Path, size: Size, *, may_replace: bool) -> Loaded:
    """Return the file `load_….db` of this size; create and load it if necessary.

    Raises ForeignDatabase.
    """
    path = folder / f"load_{size.name}.db"
    loaded = Loaded(URL.create("sqlite+aiosqlite", database=str(path)), size)
    if path.exists():
        with closing(sqlite3.connect(path)) as file:
            application_id, version = (
                file.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
        if (application_id, version) == (APPLICATION_ID, version_of(loaded)):
            loaded.clean()
            return loaded
        if application_id != APPLICATION_ID and not may_replace:
            raise ForeignDatabase(str(path))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    asyncio.run(migrate(make_settings(database_url=loaded.url)))
    load_file(loaded, hash_password())
    return loaded


def version_of(loaded: Loaded) -> int:
    return zlib.crc32(describe_data(loaded).encode()) >> 1


def to_sqlite(value: object) -> object:
    """Convert a time to the format of the service."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


def load_file(loaded: Loaded, hashed: str) -> None:
    with closing(sqlite3.connect(loaded.file, isolation_level=None)) as file:
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        # An incomplete file is recreated by the next run, so durability is not needed.
        file.execute("PRAGMA journal_mode = OFF")
        file.execute("PRAGMA synchronous = OFF")
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        sql_by_trigger = dict(triggers.fetchall())
        file.execute("BEGIN")
        for name in sql_by_trigger:
            file.execute(f"DROP TRIGGER {name}")
        for table, count, columns, rows in data.tables(loaded.size, hashed):
            insert = (
                f"INSERT INTO {table} ({', '.join(columns)}) "
                f"VALUES ({', '.join('?' * len(columns))})"
            )
            with progress(f"{Path(loaded.file).name}: {table}", -(-count // BATCH)) as step:
                for batch in batches(rows, columns):
                    file.executemany(insert, [tuple(map(to_sqlite, row)) for row in batch])
                    step()
        for statement in (*data.statements_on_sqlite(), *sql_by_trigger.values(), "ANALYZE"):
            file.execute(statement)
        file.execute("COMMIT")
        file.execute(f"PRAGMA user_version = {version_of(loaded)}")


def clean_file(loaded: Loaded) -> None:
    with closing(sqlite3.connect(loaded.file, isolation_level=None, timeout=30)) as file:
        file.execute("PRAGMA foreign_keys = ON")
        file.execute("BEGIN IMMEDIATE")
        for statement in data.cleanup_statements(loaded.size):
            file.execute(statement)
        file.execute("COMMIT")
