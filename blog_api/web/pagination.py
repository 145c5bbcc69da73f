"""Pages of a list, by number or by cursor."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Self, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Field
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import MAX_INT32, RequestModel
from blog_api.db.list_query import DEFAULT_SIZE, ListQuery, Sort, make_cursor_error
from blog_api.db.queries import rows_to_dicts
from blog_api.db.session import SessionDep
from blog_api.web.links import append_query, make_self_link

MAX_PAGE_SIZE = 100


# Further down the database would have to step over too many rows: a cursor goes to any depth.
MAX_OFFSET = 10_000


MAX_CURSOR_LENGTH = 300


T = TypeVar("T")


S = TypeVar("S")


class PageQuery(RequestModel):
    """Which page, and how large."""

    page: int = Field(default=1, ge=1, le=MAX_OFFSET, description="From 1.")
    size: int = Field(
        default=DEFAULT_SIZE, ge=1, le=MAX_PAGE_SIZE, description="How many there are on a page."
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_LENGTH,
        description="`next_cursor` of the page before, instead of `page`: goes to any depth.",
    )

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    @model_validator(mode="after")
    def check_depth(self) -> Self:
        if self.offset >= MAX_OFFSET:
            raise PydanticCustomError("too_deep", f"Pages go to a depth of {MAX_OFFSET}")
        if self.cursor is not None and "page" in self.model_fields_set:
            raise PydanticCustomError("page_and_cursor", "Send a page or a cursor, not both")
        return self


class SliceQuery(RequestModel):
    """Which part of a plain list."""

    skip: int = Field(default=0, ge=0, le=MAX_INT32, description="How many to leave out.")
    limit: int = Field(
        default=MAX_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="How many to show."
    )


PageParams = Annotated[PageQuery, Query()]


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


class Paginator:
    """Makes pages of lists, and tells in `Link` (RFC 8288) where the others are."""

    def __init__(self, session: AsyncSession, request: Request, response: Response) -> None:
        self.session = session
        self.request = request
        self.response = response

    async def paginate(
        self,
        rows: ListQuery,
        paging: PageQuery,
        sort: Sort,
        **values: object,
    ) -> Page[Any]:
        """The page that is asked for, with these values bound.

        Raises ValidationFailed for a cursor that is none of this list.
        """
        is_backward: bool | None = None
        if paging.cursor is not None:
            if not sort.has_cursors:
                raise make_cursor_error("There are no cursors in this order")
            is_backward, keys = sort.read(paging.cursor)
            values |= keys
        # One more than is shown, to know whether there are more.
        values |= {"offset": paging.offset, "limit": paging.size + 1}
        found = await rows.read(self.session, sort, is_backward, values)
        is_more = len(found) > paging.size
        shown = found[: paging.size]
        if is_backward:
            shown.reverse()
        next_cursor = None
        if sort.has_cursors and shown and (is_more or is_backward):
            next_cursor = sort.cursor(shown[-1])
        page = Page[Any].model_construct(
            total_count=await self.count(rows, shown, paging, values),
            results=[row[0] for row in shown] if rows.is_of_objects else rows_to_dicts(shown),
            next_cursor=next_cursor,
        )
        if paging.cursor is None:
            self.tell_by_number(page, paging)
        else:
            is_first = not shown or (is_backward and not is_more)
            previous = None if is_first else sort.cursor(shown[0], backward=True)
            self.tell(paging, first={}, prev={"cursor": previous}, next={"cursor": next_cursor})
        return page

    async def count(
        self, rows: ListQuery, shown: list[Any], paging: PageQuery, values: dict[str, object]
    ) -> int:
        """How many there are on all pages, which each row tells; where none does, none or some."""
        if shown:
            return int(shown[0].total_count)
        is_first = paging.page == 1 and paging.cursor is None
        return 0 if is_first else await rows.count(self.session, values)

    def tell_by_number(self, page: Page[Any], paging: PageQuery) -> None:
        deepest = -(-MAX_OFFSET // paging.size)
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
        kept = paging.model_fields_set - {"page", "cursor"}
        sent = {name: one for name, one in self.request.query_params.items() if name in kept}
        here = make_self_link(self.request)
        self.response.headers["Link"] = ", ".join(
            f'<{append_query(here, urlencode({**sent, **place}))}>; rel="{rel}"'
            for rel, place in places.items()
            if None not in place.values()
        )


async def get_paginator(session: SessionDep, request: Request, response: Response) -> Paginator:
    return Paginator(session, request, response)


PaginatorDep = Annotated[Paginator, Depends(get_paginator)]
