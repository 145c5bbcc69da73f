"""Pages of a list, by number or by cursor."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, func, literal, tuple_
from sqlmodel import Field, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select, SelectOfScalar

from blog_api.database import SessionDep
from blog_api.errors import FieldError, ValidationFailed
from blog_api.fields import LARGEST_INT, Input, in_utc
from blog_api.links import link_to_self

MAX_SIZE = 100
# Further down the database would have to step over too many rows: a cursor goes to any depth.
MAX_DEPTH = 10_000
CURSOR_LENGTH = 300

T = TypeVar("T")
S = TypeVar("S")

# What a cursor may hold for a column of this type. It comes from outside.
KEY_TYPES: dict[type, Any] = {
    datetime: Annotated[AwareDatetime, AfterValidator(in_utc)],
    int: Annotated[int, Field(ge=0, le=LARGEST_INT)],
    str: Annotated[str, StringConstraints(max_length=100, pattern=r"^\d*$")],
}


class PageQuery(Input):
    """Which page, and how large."""

    page: int = Field(default=1, ge=1, le=MAX_DEPTH, description="From 1.")
    size: int = Field(default=10, ge=1, le=MAX_SIZE, description="How many there are on a page.")
    cursor: str | None = Field(
        default=None,
        max_length=CURSOR_LENGTH,
        description="`next_cursor` of the page before, instead of `page`: goes to any depth.",
    )

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    @model_validator(mode="after")
    def check_depth(self) -> Self:
        if self.offset >= MAX_DEPTH:
            raise PydanticCustomError("too_deep", f"Pages go to a depth of {MAX_DEPTH}")
        if self.cursor is not None and "page" in self.model_fields_set:
            raise PydanticCustomError("page_and_cursor", "Send a page or a cursor, not both")
        return self


class SliceQuery(Input):
    """Which part of a plain list."""

    skip: int = Field(default=0, ge=0, le=LARGEST_INT, description="How many to leave out.")
    limit: int = Field(default=MAX_SIZE, ge=1, le=MAX_SIZE, description="How many to show.")


Paging = Annotated[PageQuery, Query()]


class Page(BaseModel, Generic[T]):
    """A page of a list, and how long the whole list is."""

    # Not a SQLModel: those leave `T` open, and rows would pass with each of their columns.
    total_count: int
    results: list[T]
    next_cursor: str | None = Field(
        default=None, description="Null: there is no more, or the order is one of relevance."
    )

    def of(self, change: Callable[[T], S]) -> "Page[S]":
        """The same page of something else."""
        results = [change(one) for one in self.results]
        return Page.model_construct(
            total_count=self.total_count, results=results, next_cursor=self.next_cursor
        )


@dataclass(frozen=True)
class Sort:
    """An order by columns of which the last is unique, all in one direction."""

    name: str
    columns: tuple[Any, ...]
    is_descending: bool = False

    def order(self, *, backward: bool) -> list[ColumnElement[Any]]:
        is_descending = self.is_descending != backward
        return [column.desc() if is_descending else column.asc() for column in self.columns]

    def beyond(self, keys: Sequence[object], *, backward: bool) -> ColumnElement[bool]:
        """What comes after a row with these keys, or before it."""
        here = tuple_(*self.columns)
        there = tuple_(
            *(literal(key, column.type) for key, column in zip(keys, self.columns, strict=True))
        )
        return here < there if self.is_descending != backward else here > there

    def cursor(self, row: object, *, backward: bool = False) -> str:
        """Where the rows after this one begin, or those before it end."""
        keys = [getattr(row, column.key) for column in self.columns]
        text = json.dumps([self.name, backward, *keys], default=datetime.isoformat)
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def read(self, cursor: str) -> tuple[bool, Sequence[object]]:
        """Whether a cursor goes backward, and from where; raises ValidationFailed."""
        # SQLModel's own types stand around SQLAlchemy's, which know what they are in Python.
        types = [
            KEY_TYPES[getattr(column.type, "impl", column.type).python_type]
            for column in self.columns
        ]
        shape = TypeAdapter(tuple[str, bool, *types])  # type: ignore[valid-type]  # made here
        try:
            name, backward, *keys = shape.validate_json(
                urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            )
        except (ValidationError, ValueError):
            raise refuse_cursor("This is no cursor of this list") from None
        if name != self.name:
            raise refuse_cursor("This cursor is of the list in another order")
        return backward, keys


def refuse_cursor(message: str) -> ValidationFailed:
    return ValidationFailed([FieldError(loc=["query", "cursor"], type="cursor", msg=message)])


class Pages:
    """Makes pages of lists, and tells in `Link` (RFC 8288) where the others are."""

    def __init__(self, session: AsyncSession, request: Request, response: Response) -> None:
        self.session = session
        self.request = request
        self.response = response

    async def show(
        self,
        query: Select[*tuple[Any, ...]] | SelectOfScalar[T],
        paging: PageQuery,
        sort: Sort | None = None,
    ) -> Page[T]:
        """The page of a query's rows.

        Without a `sort` the query has an order of its own, and there are no cursors. Raises
        ValidationFailed for a cursor that is none of this list.
        """
        total_count = await self.count(query)
        if sort is None:
            if paging.cursor is not None:
                raise refuse_cursor("There are no cursors in this order")
            found = await self.session.exec(query.offset(paging.offset).limit(paging.size))
            page = Page[T].model_construct(total_count=total_count, results=list(found.all()))
            self.tell_by_number(page, paging)
            return page
        is_backward = False
        if paging.cursor is not None:
            is_backward, keys = sort.read(paging.cursor)
            query = query.where(sort.beyond(keys, backward=is_backward))
        query = query.order_by(*sort.order(backward=is_backward)).offset(paging.offset)
        # One more than is shown, to know whether there are more.
        rows = list((await self.session.exec(query.limit(paging.size + 1))).all())
        is_more = len(rows) > paging.size
        rows = rows[: paging.size]
        if is_backward:
            rows.reverse()
        next_cursor = sort.cursor(rows[-1]) if rows and (is_more or is_backward) else None
        page = Page[T].model_construct(
            total_count=total_count, results=rows, next_cursor=next_cursor
        )
        if paging.cursor is None:
            self.tell_by_number(page, paging)
        else:
            is_first = not rows or (is_backward and not is_more)
            previous = None if is_first else sort.cursor(rows[0], backward=True)
            self.tell(paging, first={}, prev={"cursor": previous}, next={"cursor": next_cursor})
        return page

    async def count(self, query: Select[*tuple[Any, ...]] | SelectOfScalar[Any]) -> int:
        """How many rows there are on all pages."""
        one_each = query.order_by(None).with_only_columns(
            literal(1).label("one"), maintain_column_froms=True
        )
        count = select(func.count()).select_from(one_each.subquery())
        return (await self.session.exec(count)).one()

    def tell_by_number(self, page: Page[Any], paging: PageQuery) -> None:
        deepest = -(-MAX_DEPTH // paging.size)
        last = min(max(1, -(-page.total_count // paging.size)), deepest)
        following: dict[str, object] = {"page": paging.page + 1 if paging.page < last else None}
        if paging.page == deepest:
            following = {"cursor": page.next_cursor}
        self.tell(
            paging,
            first={"page": 1},
            prev={"page": min(paging.page - 1, last) or None},
            next=following,
            last={"page": last},
        )

    def tell(self, paging: PageQuery, **places: dict[str, object]) -> None:
        """Set `Link`, with the parameters that were sent; a place that is None is left out."""
        sent = paging.model_dump(
            mode="json", exclude_unset=True, exclude_none=True, exclude={"page", "cursor"}
        )
        self.response.headers["Link"] = ", ".join(
            f'<{link_to_self(self.request, {**sent, **place})}>; rel="{rel}"'
            for rel, place in places.items()
            if None not in place.values()
        )


async def get_pages(session: SessionDep, request: Request, response: Response) -> Pages:
    return Pages(session, request, response)


PagesDep = Annotated[Pages, Depends(get_pages)]
