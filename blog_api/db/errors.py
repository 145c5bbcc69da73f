"""Translate database errors to problems: ServiceUnavailable and Conflict."""

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from blog_api.core.errors import Conflict, ServiceUnavailable

log = logging.getLogger(__name__)

# Errors of Postgres that are not caused by the statement: unreachable, access denied, disk full,
# starting or stopping, read-only, deadlock, timeout, tables not migrated yet or of another role, a
# cached plan that a migration changed, damaged data. https://www.postgresql.org/docs/current/errcodes-appendix.html
UNAVAILABLE_SQLSTATES = {
    "0A000", "40001", "40P01", "42501", "42703", "42883", "42P01", "55000", "55P03", "57014",
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
UNAVAILABLE_SQLITE_MESSAGES = re.compile(
    r"no such (table|column|savepoint)|has no column named|no transaction is active"
)
LOCK_TIMEOUT = "55P03"
UNIQUE_VIOLATIONS = {"23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE}
FOREIGN_KEY_VIOLATIONS = {"23503", sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}


# A numeric value, or a sequence at its end.
OUT_OF_RANGE_SQLSTATES = {"22003", "2200H"}
OUT_OF_RANGE = (
    "An id, a version or a counter has reached the end of its column. On Postgres, the next line "
    "names the value or the sequence: ALTER TABLE … ALTER COLUMN … TYPE bigint, and ALTER SEQUENCE "
    "… AS bigint"
)
DISK_FULL = (
    "Free space on the disk of the SQLite file. If there is some, an id has reached its maximum: "
    "delete the row with the largest id, and its table's row in sqlite_sequence"
)


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
        if is_out_of_range(error):
            log.error(OUT_OF_RANGE)
        elif get_error_code(error) == sqlite3.SQLITE_FULL:
            log.error(DISK_FULL)
        elif not is_unavailable(error):
            raise
        raise to_service_unavailable(error) from error


def is_out_of_range(error: DBAPIError) -> bool:
    """Return whether an id, a version or a counter does not fit its column."""
    code = get_error_code(error)
    # asyncpg checks values before it sends them.
    return code in OUT_OF_RANGE_SQLSTATES or "value out of int" in str(error.orig)


def translate_os_error(context: ExceptionContext) -> None:
    """Raise ServiceUnavailable for timeouts and broken connections, which SQLAlchemy does not wrap.

    A hook of the engine, since an OSError of a route has another cause.
    """
    if isinstance(context.original_exception, OverflowError):
        # Of SQLite's driver.
        log.error(OUT_OF_RANGE)
        raise to_service_unavailable(context.original_exception) from context.original_exception
    if isinstance(context.original_exception, OSError):
        raise to_service_unavailable(context.original_exception) from context.original_exception


def to_service_unavailable(error: Exception) -> ServiceUnavailable:
    log.warning("The database is unavailable: %s", describe_error(error))
    return ServiceUnavailable()


def is_unique_violation(error: DBAPIError) -> bool:
    return get_error_code(error) in UNIQUE_VIOLATIONS


def get_error_code(error: DBAPIError) -> str | int | None:
    """Return the SQLSTATE of Postgres, or the extended result code of SQLite."""
    sqlstate: str | None = getattr(error.orig, "sqlstate", None)
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return sqlstate or code


def is_unavailable(error: DBAPIError) -> bool:
    """Return whether the database is unavailable, rather than the statement wrong."""
    if error.connection_invalidated:
        return True
    code = get_error_code(error)
    if isinstance(code, str):
        return code in UNAVAILABLE_SQLSTATES or code.startswith(UNAVAILABLE_SQLSTATE_CLASSES)
    if UNAVAILABLE_SQLITE_MESSAGES.search(str(error.orig)):
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
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}".removesuffix(": ")
