"""Collections: rows in an order, and how some of them are read in one statement."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    bindparam,
    func,
    literal,
    literal_column,
    tuple_,
)
from sqlmodel import Field, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select as SelectOfRows
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.core.errors import FieldError, ValidationFailed
from blog_api.core.fields import MAX_INT32, to_utc
from blog_api.db.queries import NamedQuery, execute_query

# How many rows a page has, unless another number is asked for.
DEFAULT_SIZE = 10


# One more is read than is shown, to know whether there are more.
DEFAULT_LIMIT = DEFAULT_SIZE + 1


# Any select, of objects or of columns.
AnySelect = Select[*tuple[Any, ...]]


# What a cursor may hold for a column of this type. It comes from outside.
KEY_TYPES: dict[type, Any] = {
    datetime: Annotated[AwareDatetime, AfterValidator(to_utc)],
    int: Annotated[int, Field(ge=0, le=MAX_INT32)],
    str: Annotated[str, StringConstraints(max_length=100, pattern=r"^\d*$")],
}


# One is another if it is another object: columns that are compared make a condition.
@dataclass(frozen=True, eq=False)
class Sort:
    """An order by columns of which the last is unique, all in one direction."""

    name: str
    columns: tuple[Any, ...]
    is_descending: bool = False
    # Not where what the rows are ordered by is no property of theirs, or no column.
    has_cursors: bool = True
    # What all rows fulfil, by which they are a range of an index in this order.
    within: ColumnElement[bool] | None = None

    def order(
        self, columns: Iterable[ColumnElement[Any]], *, backward: bool = False
    ) -> list[ColumnElement[Any]]:
        is_descending = self.is_descending != backward
        return [column.desc() if is_descending else column.asc() for column in columns]

    def beyond(self, *, backward: bool) -> ColumnElement[bool]:
        """What comes after the row whose keys are bound, or before it."""
        here = tuple_(*self.columns)
        there = tuple_(
            *(
                bindparam(f"from_{place}", type_=column.type)
                for place, column in enumerate(self.columns)
            )
        )
        return here < there if self.is_descending != backward else here > there

    def keys(self, row: Any) -> list[object]:
        """Where a row of this list stands in its order."""
        return [getattr(row, f"key_{place}") for place in range(len(self.columns))]

    def cursor(self, row: object, *, backward: bool = False) -> str:
        """Where the rows after this one begin, or those before it end."""
        text = to_json([self.name, backward, *self.keys(row)])
        return urlsafe_b64encode(text).decode().rstrip("=")

    @cached_property
    def cursors(self) -> TypeAdapter[Any]:
        """What a cursor holds: the name, whether it goes backward, and the keys."""
        # SQLModel's own types stand around SQLAlchemy's, which know what they are in Python.
        keys = (
            KEY_TYPES[getattr(column.type, "impl", column.type).python_type]
            for column in self.columns
        )
        shape: Any = tuple.__class_getitem__((str, bool, *keys))
        return TypeAdapter(shape)

    def read(self, cursor: str) -> tuple[bool, dict[str, object]]:
        """Whether a cursor goes backward, and from where; raises ValidationFailed."""
        try:
            name, backward, *keys = self.cursors.validate_json(
                urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            )
        except (ValidationError, ValueError):
            raise make_cursor_error("This is no cursor of this list") from None
        if name != self.name:
            raise make_cursor_error("This cursor is of the list in another order")
        return backward, {f"from_{place}": key for place, key in enumerate(keys)}


class ListQuery:
    """All rows of a list, and how a page of them is read in one statement.

    Statements are built once, since that takes longer than to execute them: what differs from
    one request to the next is bound by name.
    """

    def __init__(
        self,
        query: AnySelect,
        *,
        where: Sequence[ColumnElement[bool]] = (),
        total: ColumnElement[int] | None = None,
        rows_of: Callable[[Subquery], AnySelect] | None = None,
        is_named: bool = True,
    ) -> None:
        """`query` is of objects or of columns; `where` are further conditions, on what rows are
        ordered by. `total` is how many rows there are, unless they have to be counted. `rows_of`
        reads what is shown of those on a page, where the query does not: the way to a deep page
        is shorter then. Unless it is named, it is there for one request, whose values it has."""
        self.query = query
        self.where = where
        self.rows_of = rows_of
        self.is_of_objects = rows_of is None and isinstance(query, SelectOfScalar)
        self.total = count_query(query.where(*where)) if total is None else total
        self.is_named = is_named
        self._queries: dict[tuple[Sort, bool | None, bool], NamedQuery | AnySelect] = {}

    async def read(
        self,
        session: AsyncSession,
        sort: Sort,
        is_backward: bool | None,
        values: dict[str, object],
    ) -> list[Any]:
        """The rows of a page, each with its `total_count` and its keys."""
        place = (sort, is_backward, values["limit"] == DEFAULT_LIMIT)
        query = self._queries.get(place)
        if query is None:
            query = self.build(*place)
            if self.is_named and not self.is_of_objects:
                query = NamedQuery(query)
            self._queries[place] = query
        if self.is_of_objects:
            assert isinstance(query, SelectOfRows)
            return list((await session.exec(query, params=values)).all())
        return list(await execute_query(session, query, values))

    async def count(self, session: AsyncSession, values: dict[str, object]) -> int:
        """How many rows there are on all pages."""
        ((total_count,),) = await execute_query(session, select(self.total), values)
        return int(total_count)

    def with_columns(self, columns: Sequence[ColumnElement[Any]]) -> AnySelect:
        """The query with more columns. One of objects has rows then, which begin with them."""
        if not self.is_of_objects:
            return self.query.add_columns(*columns)
        query: AnySelect = select(self.query.column_descriptions[0]["entity"], *columns)
        where = self.query.whereclause
        return query if where is None else query.where(where)

    def build(self, sort: Sort, is_backward: bool | None, is_usual: bool) -> AnySelect:
        """A page in this order, from a cursor on if it goes somewhere.

        Postgres cannot see how far down the rows are, and of the usual size is told how many: one
        plan is as good as another then, and it makes one for all executions. Of another size it
        makes one for each, which takes longer than to execute it.
        """
        backward = bool(is_backward)
        keys = [column.label(f"key_{n}") for n, column in enumerate(sort.columns)]
        query = self.with_columns(keys).order_by(*sort.order(sort.columns, backward=backward))
        # Of several bounds of one column SQLite begins at the first that it meets.
        if is_backward is not None:
            query = query.where(sort.beyond(backward=backward))
        if sort.within is not None:
            query = query.where(sort.within)
        query = query.where(*self.where)
        query = query.limit(
            literal_column(str(DEFAULT_LIMIT), Integer)
            if is_usual
            else bindparam("limit", type_=Integer)
        )
        if is_backward is None:
            query = query.offset(select(bindparam("offset", type_=Integer)).scalar_subquery())
        if self.rows_of is not None:
            found = query.subquery("found")
            keys_found = [found.c[key.name] for key in keys]
            query = (
                self.rows_of(found)
                .add_columns(*keys_found)
                .order_by(*sort.order(keys_found, backward=backward))
            )
        return query.add_columns(self.total.label("total_count"))


def count_query(query: AnySelect) -> ColumnElement[int]:
    """How many rows a query has."""
    one_each = query.order_by(None).with_only_columns(
        literal(1).label("one"), maintain_column_froms=True
    )
    return select(func.count()).select_from(one_each.subquery()).scalar_subquery()


def make_cursor_error(message: str) -> ValidationFailed:
    return ValidationFailed([FieldError(loc=["query", "cursor"], type="cursor", msg=message)])
