"""Base classes of tables and of the models that show a row."""

from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection, MetaData, bindparam, event, inspect, literal_column
from sqlalchemy.orm import registry
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import Field, SQLModel, UTCDateTime
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import ResponseModel, utc_now
from blog_api.db.functions import later_time

CONSTRAINT_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
TABLE_REGISTRY = registry(metadata=MetaData(naming_convention=CONSTRAINT_NAMES))


class Invalidates(IntEnum):
    """Cached responses that a commit to a table invalidates.

    An INSERT invalidates lists at most: a response that shows one row never shows a new one.
    """

    NOTHING = 0
    # Of a statement that changes numbers of a row: the responses that show this row, lists too.
    COUNTERS = 1
    LISTS = 2
    # Lists, and by an UPDATE the responses that show one of the updated rows.
    ROWS = 3
    EVERYTHING = 4


class TableBase(SQLModel, registry=TABLE_REGISTRY):
    """The parent of every table.

    A table that invalidates cached responses needs the trigger `notify_of_change` on Postgres, and
    with ROWS also `notify_of_rows`. An INSERT invalidates `insert_invalidates` at most.
    """

    invalidates: ClassVar[Invalidates] = Invalidates.EVERYTHING
    insert_invalidates: ClassVar[Invalidates] = Invalidates.LISTS


@lru_cache
def get_invalidates(operation: str, table: str) -> Invalidates:
    """Return the responses that an operation invalidates, by the names of SQL.

    `COUNT` is an UPDATE that changes nothing but counters of a row. An unknown table, such as one
    of a newer version, invalidates everything.
    """
    for mapper in TABLE_REGISTRY.mappers:
        if str(mapper.local_table) == table:
            table_class: type[TableBase] = mapper.class_
            declared = table_class.invalidates
            if operation == "INSERT":
                return min(declared, table_class.insert_invalidates)
            if operation == "COUNT":
                return min(declared, Invalidates.COUNTERS)
            is_of_rows = declared is Invalidates.ROWS and operation == "UPDATE"
            return declared if is_of_rows or declared < Invalidates.ROWS else Invalidates.EVERYTHING
    return Invalidates.EVERYTHING


@lru_cache(maxsize=1_000)
def identify_row(table: str, row_id: int) -> str:
    """Return the part of an ETag that identifies a row, in 12 hexadecimal digits."""
    return sha256(f"{table}/{row_id}".encode()).hexdigest()[:12]


# The time of execution, for statements that are built once.
NOW = bindparam("now", callable_=utc_now, type_=UTCDateTime())
# Not earlier than the row's creation if the clock was set back.
TIME_OF_UPDATE = later_time(literal_column("created_at", UTCDateTime()), NOW)


class TableModel(TableBase):
    """The columns of every table that has an id."""

    # Otherwise SQLite reuses the id of a deleted row.
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(
        default_factory=utc_now, sa_column_kwargs={"onupdate": TIME_OF_UPDATE}
    )


TableModelT = TypeVar("TableModelT", bound=TableModel)


@event.listens_for(TableModel, "before_insert", propagate=True)
def set_updated_at(_mapper: object, _connection: Connection, row: TableModel) -> None:
    """Give a new row one time for both columns: the default factories differ by microseconds."""
    row.updated_at = row.created_at


@event.listens_for(TableModel, "before_update", propagate=True)
def set_time_of_update(_mapper: object, _connection: Connection, row: TableModel) -> None:
    """Set `updated_at` to a value, as `TIME_OF_UPDATE` would have to be read again."""
    state = inspect(row)
    is_given = state.attrs.updated_at.history.has_changes()
    if not is_given and state.session is not None and state.session.is_modified(row):
        row.updated_at = max(row.created_at, utc_now())
        # Also if it is what it was.
        preserve_updated_at(row)


def preserve_updated_at(row: TableModel) -> None:
    """Leave `updated_at` unchanged in the next UPDATE."""
    flag_modified(row, "updated_at")


class ReadModel(ResponseModel):
    """The columns of `TableModel` in a response."""

    id: int
    """Id."""
    created_at: datetime
    """Time of creation."""
    updated_at: datetime
    """Time of the last change by the author."""


class VersionedModel(TableModel):
    """A table whose rows are edited under `If-Match`, which compares the version.

    The version counts the author's edits. Other updates, such as of a counter, leave it and
    `updated_at` unchanged.
    """

    version: int = Field(default=1)


async def save_changes(session: AsyncSession, row: VersionedModel, values: dict[str, Any]) -> None:
    """Set the values, and increment the version if one differs.

    Flushes: the response, made before the commit, shows the new `updated_at`.
    """
    row.sqlmodel_update(values)
    if session.is_modified(row):
        row.version += 1
        await session.flush()
