"""Run migrations, which alone create and change tables, and prepare the database at the start."""

import logging
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from blog_api.core.security import SecretKeys, generate_token, read_or_create_key
from blog_api.core.settings import Settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.engine import create_engine
from blog_api.db.revisions import (
    OWN_TABLES,
    VERSION_TABLE,
    Fit,
    Schema,
    find_migrations,
    get_schema,
)
from blog_api.db.session import Database

if TYPE_CHECKING:
    from alembic.config import Config


log = logging.getLogger("blog_api")

# An arbitrary number, which no other lock in the database uses.
ADVISORY_LOCK = 6_274_103


class IncompatibleSchema(Exception):
    """A newer version, or another application, made the tables: this version cannot use them."""


@asynccontextmanager
async def migration_connection(settings: Settings) -> AsyncGenerator[AsyncConnection]:
    """Begin a transaction that excludes other migrations, without foreign keys on SQLite."""
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        check_sqlite_file(file)
    engine = create_engine(settings.database_url, for_migrations=True)
    exclusive = engine.execution_options(sqlite_begin="IMMEDIATE")
    try:
        async with exclusive.begin() as connection:
            if not settings.is_sqlite:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": ADVISORY_LOCK})
            yield connection
    finally:
        await engine.dispose()


def check_sqlite_file(file: Path) -> None:
    """Check that SQLite can open the file, and that it is not that of another application.

    A new one is for its owner alone. Called first: otherwise aiosqlite leaves a thread behind, the
    file lock creates a missing folder, and another application's file gets a write-ahead log.
    Raises OSError and IncompatibleSchema.
    """
    try:
        # SQLite gives the files beside it the same mode.
        if not file.exists():
            file.touch(mode=0o600)
        with closing(sqlite3.connect(file)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in names if not name.startswith("sqlite_")}
    except sqlite3.Error as error:
        raise OSError(f"{error}: {file}") from None
    # After a downgrade of all migrations only their version is left.
    if tables - {VERSION_TABLE} and not OWN_TABLES | {VERSION_TABLE} <= tables:
        raise IncompatibleSchema(Fit.FOREIGN.value)


def make_alembic_config(connection: Connection) -> "Config":
    """Configure Alembic's commands to use this connection and its transaction."""
    from alembic.config import Config

    # The default is the standard output at the time of Alembic's import.
    config = Config(stdout=sys.stdout, attributes={"connection": connection})
    config.set_main_option("script_location", str(find_migrations()).replace("%", "%%"))
    return config


def upgrade_to_head(connection: Connection) -> Schema:
    """Upgrade a database, unless a newer version did; return what it was before.

    Raises IncompatibleSchema.
    """
    from alembic import command

    before = get_schema(connection)
    if before.fit in (Fit.TOO_NEW, Fit.FOREIGN):
        raise IncompatibleSchema(str(before))
    if before.fit is not Fit.NEWER:
        command.upgrade(make_alembic_config(connection), "head")
    return before


async def migrate(settings: Settings) -> Schema:
    """Upgrade a SQLite file or a Postgres database to the head, in one transaction.

    Returns the schema that it had. One that is newer is left as it is. Raises IncompatibleSchema.
    """
    async with migration_connection(settings) as connection:
        return await connection.run_sync(upgrade_to_head)


async def get_file_schema(settings: Settings) -> Schema:
    engine = create_engine(settings.database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(get_schema)
    finally:
        await engine.dispose()


async def migrate_in_memory(database: Database) -> None:
    """Upgrade a database in memory, which exists on its one connection only."""
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        # By the driver: SQLite ignores the pragma in a transaction, which SQLAlchemy would begin.
        await driver.execute("PRAGMA foreign_keys = OFF")
        async with connection.begin():
            await connection.run_sync(upgrade_to_head)
        await driver.execute("PRAGMA foreign_keys = ON")


async def prepare_sqlite_file(settings: Settings, file: Path) -> str:
    """Migrate a SQLite file and return the secret key, by default from a file beside it.

    Holds a file lock, since several workers start at once. Raises OSError if the file cannot be
    opened.
    """
    # Imported here: Postgres does without it.
    from filelock import AsyncFileLock

    check_sqlite_file(file)
    async with AsyncFileLock(f"{file}.lock", mode=0o600):
        # A worker that restarts does not wait for writers.
        schema = await get_file_schema(settings)
        if schema.fit is Fit.NEWER:
            log.warning("%s", schema)
        elif schema.fit is not Fit.SAME:
            await migrate(settings)
        if settings.secret_key is not None:
            return settings.secret_key.get_secret_value()
        return read_or_create_key(file.with_name(f"{file.name}.key"))


async def prepare_database(settings: Settings, database: Database) -> SecretKeys:
    """Migrate SQLite (Postgres is left to `blog-api migrate`) and return the secret keys."""
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        key = await prepare_sqlite_file(settings, file)
    else:
        if settings.is_sqlite:
            await migrate_in_memory(database)
        key = settings.secret_key.get_secret_value() if settings.secret_key else generate_token()
    previous = settings.secret_key_previous
    return SecretKeys(key, previous.get_secret_value() if previous else None)
