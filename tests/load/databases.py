"""The databases: made by the service's own migrations, loaded, kept, and cleaned between runs."""

import asyncio
import sqlite3
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
from blog_api.db.migrate import find_migrations, get_head_revision, migrate
from tests.load import data
from tests.load.data import Row, Size
from tests.load.machine import parent_named
from tests.support.clients import make_settings

BATCH = 1_000
# What a database that was made here is known by: a comment on Postgres, a number in SQLite's file.
MADE_HERE = "blog-api load test"
APPLICATION_ID = zlib.crc32(MADE_HERE.encode()) >> 1


class NotOurs(Exception):
    """There is something of that name already that was not made here."""


@dataclass(frozen=True)
class Loaded:
    """A database with its data."""

    url: URL
    size: Size

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> str:
        return str(self.url.database)

    def clean(self) -> None:
        """Delete what a run has added, so that each contender meets the same tables."""
        if self.is_sqlite:
            clean_file(self)
        else:
            asyncio.run(clean_postgres(self))


def key_of(size: Size) -> str:
    """What a complete database says of itself; with other tables or other data it is another."""
    scripts = sorted((find_migrations() / "versions").glob("*.py"))
    # A migration that is not released yet can change without another revision.
    schema = zlib.crc32(b"".join(script.read_bytes() for script in scripts))
    revision = f"{get_head_revision()} ({schema:08x})"
    return f"{MADE_HERE}: {size.posts} posts, layout {data.LAYOUT}, revision {revision}"


def password_hash() -> str:
    """Of the usual strength: it is what logging in costs."""
    passwords = PasswordHasher(make_settings(database_url="sqlite://"))
    return asyncio.run(passwords.hash(data.PASSWORD))


def batches(rows: Iterator[Row], columns: list[str]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := [tuple(row[name] for name in columns) for row in islice(rows, BATCH)]:
        yield batch


# On Postgres.


def plain(url: URL) -> str:
    """As other drivers and languages write it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def prepare_postgres(server: URL, size: Size, *, may_replace: bool) -> Loaded:
    """The database `load_test_…` of this size; raises NotOurs where somebody else's is there."""
    loaded = Loaded(server.set(database=f"load_test_{size.name}"), size)
    if asyncio.run(make_postgres(server, loaded, may_replace=may_replace)):
        asyncio.run(migrate(make_settings(database_url=loaded.url)))
        asyncio.run(load_postgres(loaded, password_hash()))
    else:
        loaded.clean()
    return loaded


async def make_postgres(server: URL, loaded: Loaded, *, may_replace: bool) -> bool:
    """Whether it had to be made: it is empty then."""
    name = loaded.url.database
    connection = await asyncpg.connect(plain(server))
    try:
        comment = await connection.fetchval(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database "
            "WHERE datname = $1",
            name,
        )
        if comment == key_of(loaded.size):
            return False
        if comment is not None and not comment.startswith(MADE_HERE) and not may_replace:
            raise NotOurs(f"the database {name}")
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        await connection.execute(f"COMMENT ON DATABASE \"{name}\" IS '{MADE_HERE}: unfinished'")
        return True
    finally:
        await connection.close()


async def load_postgres(loaded: Loaded, hashed: str) -> None:
    connection = await asyncpg.connect(plain(loaded.url))
    try:
        # Neither triggers nor foreign keys meanwhile. It takes a superuser.
        await connection.execute("SET session_replication_role = replica")
        for table, count, columns, rows in data.tables(loaded.size, hashed):
            with progress(f"{loaded.url.database}: {table}", -(-count // BATCH)) as step:
                for batch in batches(rows, columns):
                    await connection.copy_records_to_table(table, records=batch, columns=columns)
                    step()
            if "id" in columns:
                await connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {count})"
                )
        for statement in (data.COUNTS, data.WORDS_ON_POSTGRES, "VACUUM ANALYZE"):
            await connection.execute(statement)
        await connection.execute(
            f"COMMENT ON DATABASE \"{loaded.url.database}\" IS '{key_of(loaded.size)}'"
        )
    finally:
        await connection.close()


def postmaster_pid(server: URL) -> int | None:
    """The process of which all of Postgres descends; None where it runs elsewhere."""

    async def find() -> int | None:
        connection = await asyncpg.connect(plain(server))
        try:
            pid: int = await connection.fetchval("SELECT pg_backend_pid()")
            return parent_named(pid, "postgres")
        finally:
            await connection.close()

    return asyncio.run(find())


async def server_version(server: URL) -> str:
    connection = await asyncpg.connect(plain(server))
    try:
        version: str = await connection.fetchval("SHOW server_version")
        return version.split()[0]
    finally:
        await connection.close()


async def clean_postgres(loaded: Loaded) -> None:
    connection = await asyncpg.connect(plain(loaded.url))
    try:
        # What is dead would stand before the newest posts of every list.
        for statement in (*data.leftovers(loaded.size), "VACUUM ANALYZE"):
            await connection.execute(statement)
    finally:
        await connection.close()


# On SQLite.


def prepare_sqlite(folder: Path, size: Size, *, may_replace: bool) -> Loaded:
    """The file `load_….db` of this size; raises NotOurs where somebody else's is there."""
    path = folder / f"load_{size.name}.db"
    loaded = Loaded(URL.create("sqlite+aiosqlite", database=str(path)), size)
    if path.exists():
        with closing(sqlite3.connect(path)) as file:
            mark, version = (
                file.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
        if (mark, version) == (APPLICATION_ID, version_of(size)):
            loaded.clean()
            return loaded
        if mark != APPLICATION_ID and not may_replace:
            raise NotOurs(str(path))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    asyncio.run(migrate(make_settings(database_url=loaded.url)))
    load_file(loaded, password_hash())
    return loaded


def version_of(size: Size) -> int:
    return zlib.crc32(key_of(size).encode()) >> 1


def to_sqlite(value: object) -> object:
    """As the service writes it."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


def load_file(loaded: Loaded, hashed: str) -> None:
    with closing(sqlite3.connect(loaded.file, isolation_level=None)) as file:
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        # A file that is left half loaded is made anew.
        file.execute("PRAGMA journal_mode = OFF")
        file.execute("PRAGMA synchronous = OFF")
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        made_by = dict(triggers.fetchall())
        file.execute("BEGIN")
        for name in made_by:
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
        for statement in (data.COUNTS, data.WORDS_ON_SQLITE, *made_by.values(), "ANALYZE"):
            file.execute(statement)
        file.execute("COMMIT")
        file.execute(f"PRAGMA user_version = {version_of(loaded.size)}")


def clean_file(loaded: Loaded) -> None:
    with closing(sqlite3.connect(loaded.file, isolation_level=None, timeout=30)) as file:
        file.execute("PRAGMA foreign_keys = ON")
        file.execute("BEGIN IMMEDIATE")
        for statement in data.leftovers(loaded.size):
            file.execute(statement)
        file.execute("COMMIT")
