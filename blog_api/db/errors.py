"""Translate database errors to problems: ServiceUnavailable and Conflict."""

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError

from blog_api.core.errors import Conflict, ServiceUnavailable

log = logging.getLogger(__name__)

# Prepared statements of several clients on one connection.
POOLER_SQLSTATES = ("08P01", "26000", "42P05")
# Errors of Postgres that are not caused by the statement: unreachable, access denied, disk full,
# starting or stopping, read-only, deadlock, timeout, tables not migrated yet or of another user, a
# cached plan that a migration changed, damaged data.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
UNAVAILABLE_SQLSTATES = {
    "0A000", "40001", "40P01", "42501", "42703", "42883", "42P01", "55000", "55P03", "57014",
    *POOLER_SQLSTATES,
}  # fmt: skip
# The connection is closed, being closed, read-only (others may not be, such as those to a new
# primary), or in no transaction or a failed one.
LOST_SQLSTATES = ("08", "25006", "25P", "57P")
UNAVAILABLE_SQLSTATE_CLASSES = (*LOST_SQLSTATES, "28", "3D", "53", "58", "XX")
UNAVAILABLE_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_SCHEMA,
}
# Of the general code SQLITE_ERROR: the file was replaced or is not migrated, or SQLite has rolled
# the transaction back because of an earlier error.
NO_SUCH_NAME = re.compile(r"no such (table|column)\b|has no column named")
ROLLED_BACK = re.compile(r"no such savepoint|no transaction is active")
LOCK_TIMEOUT = "55P03"
UNIQUE_VIOLATIONS = {"23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE}
FOREIGN_KEY_VIOLATIONS = {"23503", sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}


# A numeric value, or a sequence at its end.
OUT_OF_RANGE_SQLSTATES = {"22003", "2200H"}

# What the log says: the problem, and the setting or the command that solves it.
UNAVAILABLE = "The database is unavailable: check BLOG_DATABASE_URL, and that it runs"
BUSY = "The database is busy: the request can be repeated"
TOO_SLOW = "The database does not respond in time: check its load, and BLOG_DATABASE_URL"
NO_CONNECTION = "No connection of the pool is free: raise BLOG_POOL_SIZE"
WRONG_SCHEMA = "The schema of the database does not match this version: run blog-api migrate"
OUT_OF_RANGE = (
    "An id, a version or a counter has reached the end of its column. On Postgres, the error names "
    "the value or the sequence: ALTER TABLE … ALTER COLUMN … TYPE bigint, and ALTER SEQUENCE … AS "
    "bigint"
)
DISK_FULL = (
    "Free space on the disk of the SQLite file. If there is some, an id has reached its maximum: "
    "delete the row with the largest id, and its table's row in sqlite_sequence"
)
NOT_WRITABLE = (
    "The service must be able to write the SQLite file of BLOG_DATABASE_URL, and its folder"
)
DAMAGED = "The SQLite file of BLOG_DATABASE_URL, or its disk, is damaged: restore a backup"
MIGRATED = "A migration has changed a table: the request can be repeated"
ROLLED_BACK_BEFORE = (
    "SQLite has rolled a transaction back: the disk of the file of BLOG_DATABASE_URL is full or "
    "damaged"
)
POOLER = (
    "A pooler such as PgBouncer mixes up prepared statements: set its max_prepared_statements, or "
    "add ?prepared_statement_cache_size=0 to BLOG_DATABASE_URL"
)
# By the start of a SQLSTATE: the first one that fits.
POSTGRES_ADVICE = {
    **dict.fromkeys(POOLER_SQLSTATES, POOLER),
    "0A": MIGRATED,
    "42501": "The user of BLOG_DATABASE_URL may not use a table or a schema: make it the owner of "
    "the database and run blog-api migrate as this user, or grant it the rights",
    "42": WRONG_SCHEMA,
    "58": "Postgres cannot use its files: see its log",
    "XX": "Data of Postgres is damaged: see its log, and restore a backup",
    "40": BUSY,
    LOCK_TIMEOUT: BUSY,
    "57014": TOO_SLOW,
    "25006": "The database is read-only: BLOG_DATABASE_URL must lead to the primary",
    "28": "The database denies access: check the user and the password in BLOG_DATABASE_URL",
    "3D": "There is no such database: create it, or change the name in BLOG_DATABASE_URL",
    "53300": "Postgres has too many connections: raise its max_connections, or lower "
    "BLOG_POOL_SIZE or the number of workers",
    "53": "Postgres has no disk space or memory left: free some on its server",
}
SQLITE_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another process writes to the SQLite file for too long: end it",
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_PROTOCOL: BUSY,
    sqlite3.SQLITE_SCHEMA: MIGRATED,
    sqlite3.SQLITE_NOMEM: "The machine has no memory left: free some, or lower BLOG_CACHE_BYTES",
    sqlite3.SQLITE_FULL: DISK_FULL,
    sqlite3.SQLITE_READONLY: NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: NOT_WRITABLE,
    sqlite3.SQLITE_PERM: NOT_WRITABLE,
    sqlite3.SQLITE_IOERR: DAMAGED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}
# Of these, no action may be needed.
WARNINGS = {UNAVAILABLE, BUSY, MIGRATED, TOO_SLOW, NO_CONNECTION}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise ServiceUnavailable for an unavailable database, and Conflict for a change that another
    transaction made impossible."""
    try:
        yield
    except StaleDataError as error:
        raise Conflict from error
    except DBAPIError as error:
        if get_error_code(error) in UNIQUE_VIOLATIONS | FOREIGN_KEY_VIOLATIONS:
            log.warning("Conflict with another transaction: %s", describe_error(error))
            raise Conflict from error
        if not is_out_of_range(error) and not is_unavailable(error):
            raise
        raise to_service_unavailable(error) from error


def is_out_of_range(error: Exception) -> bool:
    """Return whether an id, a version or a counter does not fit its column."""
    code = get_error_code(error)
    # asyncpg checks values before it sends them.
    return code in OUT_OF_RANGE_SQLSTATES or "value out of int" in str(get_cause(error))


def translate_os_error(context: ExceptionContext) -> None:
    """Raise ServiceUnavailable for timeouts and broken connections, which SQLAlchemy does not wrap.

    A hook of the engine, since an OSError of a route has another cause.
    """
    # An OverflowError is one of SQLite's driver.
    if isinstance(context.original_exception, OSError | OverflowError):
        raise to_service_unavailable(context.original_exception) from context.original_exception


def to_service_unavailable(error: Exception) -> ServiceUnavailable:
    """Log the error and what solves it, and return the problem."""
    advice = find_advice(error)
    level = logging.WARNING if advice in WARNINGS else logging.ERROR
    log.log(level, "%s (%s)", advice, describe_error(error))
    return ServiceUnavailable()


def find_advice(error: Exception) -> str:
    """Return what the log says about an error of the database."""
    if isinstance(error, PoolTimeout):
        return NO_CONNECTION
    if isinstance(error, TimeoutError):
        return TOO_SLOW
    if isinstance(error, OverflowError) or is_out_of_range(error):
        return OUT_OF_RANGE
    code = get_error_code(error)
    if isinstance(code, str):
        found = (POSTGRES_ADVICE[start] for start in POSTGRES_ADVICE if code.startswith(start))
        return next(found, UNAVAILABLE)
    message = str(get_cause(error))
    if NO_SUCH_NAME.search(message):
        return WRONG_SCHEMA
    if ROLLED_BACK.search(message):
        return ROLLED_BACK_BEFORE
    return SQLITE_ADVICE.get(get_primary_code(code) or 0, UNAVAILABLE)


def is_unique_violation(error: DBAPIError) -> bool:
    return get_error_code(error) in UNIQUE_VIOLATIONS


def get_cause(error: Exception) -> Exception:
    """Return the error of the driver in one of SQLAlchemy."""
    cause: Exception | None = getattr(error, "orig", None)
    return cause or error


def get_error_code(error: Exception) -> str | int | None:
    """Return the SQLSTATE of Postgres, or the extended result code of SQLite."""
    cause = get_cause(error)
    sqlstate: str | None = getattr(cause, "sqlstate", None)
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    return sqlstate or code


def is_unavailable(error: Exception) -> bool:
    """Return whether the database is unavailable, rather than the statement wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    code = get_error_code(error)
    if isinstance(code, str):
        return code in UNAVAILABLE_SQLSTATES or code.startswith(UNAVAILABLE_SQLSTATE_CLASSES)
    message = str(get_cause(error))
    if NO_SUCH_NAME.search(message) or ROLLED_BACK.search(message):
        return True
    return get_primary_code(code) in UNAVAILABLE_SQLITE_CODES


def is_busy(error: DBAPIError) -> bool:
    """Return whether another connection holds a lock on the SQLite file."""
    return get_primary_code(get_error_code(error)) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def get_primary_code(code: str | int | None) -> int | None:
    """Return the low byte of an extended result code of SQLite."""
    return code & 0xFF if isinstance(code, int) else None


def describe_error(error: Exception) -> str:
    """Return the driver's message, without the statement."""
    cause = get_cause(error)
    return f"{type(cause).__name__}: {cause}".removesuffix(": ")


def explain_error(error: Exception) -> str:
    """Return the driver's message, after what solves it if the database is unavailable."""
    message = describe_error(error)
    return f"{find_advice(error)} ({message})" if is_unavailable(error) else message
