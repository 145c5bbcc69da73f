"""The version of cached responses, and what the statements of a session will invalidate."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, Executable, Insert, UpdateBase

from blog_api.db.base import Invalidates, get_invalidates, identify_row

# Further ones invalidate everything.
MAX_CHANGED_ROWS = 10_000


class CacheVersion(NamedTuple):
    """Counters of commits: a cached response is valid until those that it depends on change.

    `lists` counts all commits, `rows` those that changed rows, `members` those after which a list
    may have other rows, and `tables` those that may have changed any row. `changed_rows` has the
    number of the last commit that changed a row.
    """

    lists: int
    rows: int
    members: int = 0
    tables: int = 0
    changed_rows: Mapping[str, int] = MappingProxyType({})


def get_operation(statement: UpdateBase) -> str:
    """Return the operation as a notification names it."""
    if isinstance(statement, Insert):
        return "INSERT"
    return "DELETE" if isinstance(statement, Delete) else "UPDATE"


def record_executed_statement(
    connection: Connection,
    statement: Executable,
    several_values: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    _options: object,
) -> None:
    """Handle SQLAlchemy's event `before_execute`."""
    if isinstance(statement, UpdateBase):
        record_invalidation(connection.info["session_info"], statement, several_values or [values])


def record_invalidation(
    info: dict[str, Any],
    statement: UpdateBase,
    several_values: Sequence[Mapping[str, Any]],
    declared: Invalidates | None = None,
) -> None:
    """Note in the info of a session what the commit of a statement will invalidate.

    By default that is what the class of the table declares.
    """
    table = str(statement.table)
    found = get_invalidates(get_operation(statement), table) if declared is None else declared
    if found in (Invalidates.COUNTERS, Invalidates.ROWS):
        # So SQLAlchemy names the parameter when it updates an object.
        ids = {one.get(f"{table}_id") for one in several_values}
        if None in ids:
            found = Invalidates.EVERYTHING
        else:
            info.setdefault("changed_rows", set()).update(identify_row(table, one) for one in ids)
    info["invalidates"] = max(found, info.get("invalidates", found))
