"""Tables: what every one of them has."""

from datetime import datetime
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, MetaData, bindparam, event
from sqlalchemy.orm import registry
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import Field, SQLModel, UTCDateTime
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import ResponseModel, utc_now

CONSTRAINT_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class TableBase(SQLModel, registry=registry(metadata=MetaData(naming_convention=CONSTRAINT_NAMES))):
    """The parent of every table."""


class TableModel(TableBase):
    """The columns of every table that has an id."""

    # SQLite gives a deleted row's id to the next one otherwise.
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now, sa_column_kwargs={"onupdate": utc_now})


TableModelT = TypeVar("TableModelT", bound=TableModel)


# The time at which a statement is executed, for those that are built once.
NOW = bindparam("now", callable_=utc_now, type_=UTCDateTime())


def set_updated_at(_mapper: object, _connection: Connection, row: TableModel) -> None:
    """A new row was last changed when it was made, to the microsecond."""
    row.updated_at = row.created_at


event.listen(TableModel, "before_insert", set_updated_at, propagate=True)


def preserve_updated_at(row: TableModel) -> None:
    """Let the change that is about to be written not be one of what the row's author wrote."""
    flag_modified(row, "updated_at")


class ReadModel(ResponseModel):
    """What is shown of a `Row`."""

    # SQLModel's own is there for tables: Pydantic would leave its fast way for each row.
    __init__ = BaseModel.__init__

    id: int
    """Id."""
    created_at: datetime
    """Time of creation."""
    updated_at: datetime
    """Time of the last change by the author."""


class VersionedModel(TableModel):
    """A row with a version, which `If-Match` judges: it counts the changes of what was written.

    What others add to a row, such as a count, changes neither it nor `updated_at`.
    """

    version: int = Field(default=1)


async def save_changes(session: AsyncSession, row: VersionedModel, values: dict[str, Any]) -> None:
    """Give a row the values of a change, and a new version if that makes a difference.

    The answer is made before the commit, and it shows the new `updated_at`: this flushes.
    """
    row.sqlmodel_update(values)
    if session.is_modified(row):
        row.version += 1
        await session.flush()
