"""Whether the database can be written."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from anyio import to_thread
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import ServiceUnavailable
from blog_api.db.errors import get_primary_code
from blog_api.db.session import Database

log = logging.getLogger(__name__)

# On a disk with less the largest request body may not fit.
MIN_FREE_BYTES = 8 * 1024 * 1024

IS_READ_ONLY = text(
    "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
)


async def require_writable(session: AsyncSession) -> None:
    """Raise ServiceUnavailable if writes would fail, or be lost with a file that was moved away."""
    database: Database = session.info["database"]
    if database.file is not None:
        database.require_file()
        reason = await to_thread.run_sync(check_file, database.file)
    elif database.engine.dialect.name == "sqlite":
        reason = ""
    else:
        connection = await session.connection()
        reason = ""
        if await connection.scalar(IS_READ_ONLY):
            reason = "it is read-only: BLOG_DATABASE_URL must lead to the primary"
            # A setting of the database or of the role is read by new connections.
            await connection.invalidate()
    if reason:
        log.error("The database cannot be written: %s", reason)
        raise ServiceUnavailable


def check_file(file: Path) -> str:
    """Return why a SQLite file cannot be written, or an empty string."""
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", timeout=0, uri=True)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
        return check_disk(file.parent)
    except OSError as error:
        return f"{error.strerror}: {file}"
    except sqlite3.Error as error:
        # Another writer can write.
        if get_primary_code(error.sqlite_errorcode) != sqlite3.SQLITE_BUSY:
            return str(error)
    return ""


def check_disk(folder: Path) -> str:
    """Return what to do if the disk of a folder is full, or an empty string.

    The folder of pictures is created with the first one.
    """
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free
    is_full = free < MIN_FREE_BYTES
    return (
        f"free space on the disk of {folder.absolute()}: {free:,} bytes are left" if is_full else ""
    )
