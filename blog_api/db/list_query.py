"""Paginated lists: one statement reads a page, its total and its cursors.

    POSTS = ListQuery(select(Post.id), select_rows=select_found_posts(PostRead))
    NEWEST = Sort("-published_at", (col(Post.published_at), col(Post.id)), is_descending=True)
    page = await POSTS.fetch_page(session, NEWEST, {}, size=10)

Statements are built once per sort and kind of page: building one takes longer than executing it.
What differs between requests is bound by name.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    case,
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
from blog_api.db.session import acquire_expensive_slot

DEFAULT_SIZE = 10
# One row more than the page shows, to learn whether another page follows.
DEFAULT_LIMIT = DEFAULT_SIZE + 1

# A SELECT of objects or of columns.
AnySelect = Select[*tuple[Any, ...]]

# Bounds of the values that a client's cursor may hold, by the type of the column.
CURSOR_TYPES: dict[type, Any] = {
    datetime: Annotated[AwareDatetime, AfterValidator(to_utc)],
    int: Annotated[int, Field(ge=0, le=MAX_INT32)],
    str: Annotated[str, StringConstraints(max_length=100, pattern=r"^\d*$")],
}


# Compared by identity: comparing columns makes an SQL condition.
@dataclass(frozen=True, eq=False)
class Sort:
    """An order by columns in one direction, of which the last is unique."""

    name: str
    columns: tuple[Any, ...]
    is_descending: bool = False
    # False if a key is computed (a rank, a count), so that a cursor could not compare it.
    has_cursors: bool = True
    # The id ascends in a descending order, which has no cursors then.
    id_ascends: bool = False
    # A condition that all rows fulfill and that makes them a range of the sort's index.
    index_condition: ColumnElement[bool] | None = None

    def order_by(
        self, columns: Iterable[ColumnElement[Any]], *, backward: bool = False
    ) -> list[ColumnElement[Any]]:
        is_descending = self.is_descending != backward
        *keys, row_id = (column.desc() if is_descending else column.asc() for column in columns)
        return [*keys, row_id.element.asc() if self.id_ascends else row_id]

    def after_cursor(self, *, backward: bool) -> ColumnElement[bool]:
        """Return the condition of the rows after the cursor, or before it."""
        keys = tuple_(*self.columns)
        cursor = tuple_(
            *(bindparam(f"cursor_{n}", type_=column.type) for n, column in enumerate(self.columns))
        )
        return keys < cursor if self.is_descending != backward else keys > cursor

    def make_cursor(self, row: Mapping[str, Any], *, backward: bool = False) -> str:
        """Return the cursor of the rows after this one, or before it."""
        keys = [row[f"key_{n}"] for n in range(len(self.columns))]
        return urlsafe_b64encode(to_json([self.name, backward, *keys])).decode().rstrip("=")

    @cached_property
    def cursor_adapter(self) -> TypeAdapter[Any]:
        """Validator of a cursor: the sort's name, whether it goes backward, and the keys."""
        # SQLModel's types wrap SQLAlchemy's, which have the Python type.
        keys = (
            CURSOR_TYPES[getattr(column.type, "impl", column.type).python_type]
            for column in self.columns
        )
        shape: Any = tuple.__class_getitem__((str, bool, *keys))
        return TypeAdapter(shape)

    def parse_cursor(self, cursor: str) -> tuple[bool, dict[str, object]]:
        """Return whether a cursor goes backward and its values. Raises ValidationFailed."""
        if not self.has_cursors:
            raise make_cursor_error("There are no cursors in this order")
        try:
            name, backward, *keys = self.cursor_adapter.validate_json(
                urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            )
        except (ValidationError, ValueError):
            raise make_cursor_error("This is no cursor of this list") from None
        if name != self.name:
            raise make_cursor_error("This cursor is of the list in another order")
        return backward, {f"cursor_{n}": key for n, key in enumerate(keys)}


@dataclass(frozen=True)
class RowPage:
    """The rows of a page: dicts, or objects if the query is of objects."""

    rows: list[Any]
    total_count: int
    next_cursor: str | None
    previous_cursor: str | None


@dataclass(frozen=True, eq=False)
class FoundRows:
    """The ids of a page, and of one row more if another page follows."""

    ids: Subquery
    # The order of the list; rows before a cursor are read in the opposite order.
    order_by: list[ColumnElement[Any]]
    is_backward: bool

    def sum_over_page(self, value: ColumnElement[int]) -> ColumnElement[int]:
        """Return the sum of a column from the page's first row to the current one."""
        total: ColumnElement[int] = func.sum(value).over(order_by=self.order_by, rows=(None, 0))
        if not self.is_backward:
            return total
        # The row that belongs to another page comes first.
        has_more = func.count().over() == bindparam("limit", type_=Integer)
        other = func.first_value(value).over(order_by=self.order_by)
        return total - case((has_more, other), else_=0)


# Returns the statement that reads the rows, and the subquery in it that has the ids and the keys.
SelectRows = Callable[[FoundRows], tuple[AnySelect, Subquery]]


class ListQuery:
    """A query whose rows are read a page at a time.

    `query` is of objects or of columns; `where` are further conditions on the sort's columns.
    `total` counts the rows; by default they are counted by the query itself. `select_rows` reads
    the rows of a page whose ids `query` found: skipping rows to a deep page is cheaper then.
    With `is_reusable=False` the statement holds the values of one request and is not compiled
    ahead. `complete_row` completes each row, in place, after it was read.
    """

    def __init__(
        self,
        query: AnySelect,
        *,
        where: Sequence[ColumnElement[bool]] = (),
        total: ColumnElement[int] | None = None,
        select_rows: SelectRows | None = None,
        is_reusable: bool = True,
        complete_row: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.query = query
        self.where = where
        self.select_rows = select_rows
        # The class of the objects, or None for a query of columns.
        self.entity: Any = None
        if select_rows is None and isinstance(query, SelectOfScalar):
            self.entity = query.column_descriptions[0]["entity"]
        self.total = count_query(query.where(*where)) if total is None else total
        self.is_reusable = is_reusable
        self.complete_row = complete_row
        self._statements: dict[tuple[Sort, bool | None, bool], NamedQuery | AnySelect] = {}

    async def fetch_page(
        self,
        session: AsyncSession,
        sort: Sort,
        values: Mapping[str, object],
        *,
        size: int,
        offset: int = 0,
        cursor: str | None = None,
    ) -> RowPage:
        """Read a page by offset or by cursor. Raises ValidationFailed for a cursor of another list.

        `values` are those of the query's bound parameters.
        """
        is_backward, keys = (None, {}) if cursor is None else sort.parse_cursor(cursor)
        await acquire_expensive_slot(session)
        bound = {**values, **keys, "offset": offset, "limit": size + 1}
        found = await self._fetch(session, sort, is_backward, bound)
        has_more = len(found) > size
        shown = found[:size]
        if is_backward:
            shown.reverse()
        next_cursor = previous_cursor = None
        if shown and sort.has_cursors:
            if has_more or is_backward:
                next_cursor = sort.make_cursor(shown[-1])
            if cursor is not None and (has_more or not is_backward):
                previous_cursor = sort.make_cursor(shown[0], backward=True)
        if shown:
            total_count = shown[0]["total_count"]
        elif offset == 0 and cursor is None:
            total_count = 0
        else:
            count = select(self.total.label("total_count"))
            [counted] = await execute_query(session, count, bound)
            total_count = counted["total_count"]
        if self.complete_row is not None:
            for row in shown:
                self.complete_row(row)
        rows = shown if self.entity is None else [row["entity"] for row in shown]
        return RowPage(rows, int(total_count), next_cursor, previous_cursor)

    async def _fetch(
        self,
        session: AsyncSession,
        sort: Sort,
        is_backward: bool | None,
        values: Mapping[str, object],
    ) -> list[Any]:
        """Return rows by the names of their columns, each with its keys and `total_count`."""
        kind = (sort, is_backward, values["limit"] == DEFAULT_LIMIT)
        statement = self._statements.get(kind)
        if statement is None:
            statement = self._build(*kind)
            if self.is_reusable and self.entity is None:
                statement = NamedQuery(statement)
            self._statements[kind] = statement
        if self.entity is None:
            return await execute_query(session, statement, values)
        assert isinstance(statement, SelectOfRows)
        names = ["entity", *(f"key_{n}" for n in range(len(sort.columns))), "total_count"]
        found = await session.exec(statement, params=values)
        return [dict(zip(names, row, strict=True)) for row in found]

    def _build(self, sort: Sort, is_backward: bool | None, is_default_size: bool) -> AnySelect:
        """Return the statement of a page; `is_backward` is None for a page by offset.

        Postgres cannot see the offset, and sees the limit only if it is the default: it plans the
        statement once for all executions. Planning each of them takes longer than executing it.
        """
        backward = bool(is_backward)
        keys = [column.label(f"key_{n}") for n, column in enumerate(sort.columns)]
        query = self._add_columns(keys).order_by(*sort.order_by(sort.columns, backward=backward))
        # SQLite uses the first of several bounds on a column for the index: the narrowest leads.
        if is_backward is not None:
            query = query.where(sort.after_cursor(backward=backward))
        if sort.index_condition is not None:
            query = query.where(sort.index_condition)
        query = query.where(*self.where)
        query = query.limit(
            literal_column(str(DEFAULT_LIMIT), Integer)
            if is_default_size
            else bindparam("limit", type_=Integer)
        )
        if is_backward is None:
            query = query.offset(select(bindparam("offset", type_=Integer)).scalar_subquery())
        if self.select_rows is not None:
            found = query.subquery("found")
            order = sort.order_by([found.c[key.name] for key in keys])
            query, found = self.select_rows(FoundRows(found, order, backward))
            found_keys = [found.c[key.name] for key in keys]
            query = query.add_columns(*found_keys).order_by(
                *sort.order_by(found_keys, backward=backward)
            )
        return query.add_columns(self.total.label("total_count"))

    def _add_columns(self, columns: Sequence[ColumnElement[Any]]) -> AnySelect:
        if self.entity is None:
            return self.query.add_columns(*columns)
        # A SELECT of one entity becomes one of rows, which begin with the entity.
        query: AnySelect = select(self.entity, *columns)
        where = self.query.whereclause
        return query if where is None else query.where(where)


def count_query(query: AnySelect) -> ColumnElement[int]:
    """Return the number of rows of a query, as a scalar subquery."""
    one_each = query.order_by(None).with_only_columns(
        literal(1).label("one"), maintain_column_froms=True
    )
    return select(func.count()).select_from(one_each.subquery()).scalar_subquery()


def make_cursor_error(message: str) -> ValidationFailed:
    return ValidationFailed([FieldError(loc=["query", "cursor"], type="cursor", msg=message)])
