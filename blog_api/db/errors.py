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
# starting or stopping, read-only, deadlock, timeout, tables not migrated yet, a cached plan that a
# migration changed. https://www.postgresql.org/docs/current/errcodes-appendix.html
UNAVAILABLE_SQLSTATES = {
    "0A000", "25006", "40001", "40P01", "42703", "42P01", "55000", "55P03", "57014",
}  # fmt: skip
# The connection is closed, being closed, or in no transaction or a failed one.
LOST_SQLSTATES = ("08", "25P", "57P")
UNAVAILABLE_SQLSTATE_CLASSES = (*LOST_SQLSTATES, "28", "3D", "53", "58")
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
        if not is_unavailable(error):
            raise
        raise to_service_unavailable(error) from error


def translate_os_error(context: ExceptionContext) -> None:
    """Raise ServiceUnavailable for timeouts and broken connections, which SQLAlchemy does not wrap.

    A hook of the engine, since an OSError of a route has another cause.
    """
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
