"""Migrations: the only thing that makes or changes tables."""

import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from blog_api.core.security import generate_token, read_or_create_key
from blog_api.core.settings import Settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.engine import create_engine
from blog_api.db.session import Database

if TYPE_CHECKING:
    from alembic.config import Config


# Any number will do, as long as nobody else in the database takes it for another lock.
ADVISORY_LOCK = 6_274_103


# The revision that this code works with: the newest in `migrations`. Alembic could find it, but
# is large: it is imported where it is used, so that a worker need not hold it.
HEAD_REVISION = "7d2e90b1c4a3"


def find_migrations() -> Path:
    """`migrations`: within the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    packed = package / "migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


def get_current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


@asynccontextmanager
async def migration_connection(settings: Settings) -> AsyncGenerator[AsyncConnection]:
    """A transaction that no other migration runs beside, without foreign keys on SQLite."""
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
    """Raise OSError where SQLite cannot open the file.

    Before anything else does: aiosqlite would leave a thread behind, and the lock would make
    a missing folder without a word.
    """
    try:
        sqlite3.connect(file).close()
    except sqlite3.Error as error:
        raise OSError(f"{error}: {file}") from None


def make_alembic_config(connection: Connection) -> "Config":
    """For Alembic's commands on this connection, within its transaction."""
    from alembic.config import Config

    # Otherwise it prints to what standard output was when it was imported.
    config = Config(stdout=sys.stdout, attributes={"connection": connection})
    config.set_main_option("script_location", str(find_migrations()).replace("%", "%%"))
    return config


class UnknownRevision(Exception):
    """The database is at a revision that this version does not have; the message says which."""


def upgrade_to_head(connection: Connection) -> None:
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(make_alembic_config(connection), "head")
    except CommandError as error:
        raise UnknownRevision(str(error)) from error


async def migrate(settings: Settings) -> None:
    """Bring a database on disk or on a server to the head: as a whole, or not at all."""
    async with migration_connection(settings) as connection:
        await connection.run_sync(upgrade_to_head)


async def get_file_revision(settings: Settings) -> str | None:
    """The revision that a SQLite file is at."""
    engine = create_engine(settings.database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(get_current_revision)
    finally:
        await engine.dispose()


async def migrate_in_memory(database: Database) -> None:
    """The same for a database that only its one connection sees."""
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        # SQLite ignores the pragma within a transaction: it goes around SQLAlchemy, which
        # would begin one.
        await driver.execute("PRAGMA foreign_keys = OFF")
        async with connection.begin():
            await connection.run_sync(upgrade_to_head)
        await driver.execute("PRAGMA foreign_keys = ON")


async def prepare_sqlite_file(settings: Settings, file: Path) -> str:
    """Migrate a SQLite file; returns the secret key, which gets a file beside it if not set.

    Under a lock, since several workers start at once. Raises OSError where the file cannot
    be opened.
    """
    # As Alembic it is imported where it is used: Postgres needs neither.
    from filelock import AsyncFileLock

    check_sqlite_file(file)
    async with AsyncFileLock(f"{file}.lock"):
        # A worker that starts anew writes nothing, so it starts while others write.
        if await get_file_revision(settings) != HEAD_REVISION:
            await migrate(settings)
        if settings.secret_key is not None:
            return settings.secret_key.get_secret_value()
        return read_or_create_key(file.with_name(f"{file.name}.key"))


async def prepare_database(settings: Settings, database: Database) -> str:
    """What has to be there before the first request; returns the secret key.

    SQLite is migrated here; Postgres is left to `blog-api migrate`.
    """
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        return await prepare_sqlite_file(settings, file)
    if settings.is_sqlite:
        await migrate_in_memory(database)
    return settings.secret_key.get_secret_value() if settings.secret_key else generate_token()
