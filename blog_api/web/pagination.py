"""Pages of a list by number or by cursor, with the `Link` header (RFC 8288)."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Self, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Field
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import MAX_INT32, RequestBody, SchemaDefaults
from blog_api.db.list_query import DEFAULT_SIZE, ListQuery, RowPage, Sort
from blog_api.db.session import SessionDep
from blog_api.web.links import append_query, make_self_link

MAX_PAGE_SIZE = 100
# Deeper pages would make the database skip too many rows; cursors have no such bound.
MAX_OFFSET = 10_000
MAX_CURSOR_LENGTH = 300

ItemT = TypeVar("ItemT")
OtherT = TypeVar("OtherT")


class PageQuery(RequestBody):
    """The page of a list, by number or by cursor."""

    page: int = Field(default=1, ge=1, le=MAX_OFFSET, description="Page number, from 1.")
    size: int = Field(
        default=DEFAULT_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Maximum number of results."
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_LENGTH,
        description="`next_cursor` of the previous page. Replaces `page` and has no maximum depth.",
    )

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    @model_validator(mode="after")
    def check_depth(self) -> Self:
        if self.offset >= MAX_OFFSET:
            raise PydanticCustomError("too_deep", f"Pages go to a depth of {MAX_OFFSET}")
        # Generated clients send the default, page 1, beside a cursor.
        if self.cursor is not None and self.page != 1:
            raise PydanticCustomError("page_and_cursor", "Send a page or a cursor, not both")
        return self


class SliceQuery(RequestBody):
    """A part of a plain list."""

    skip: int = Field(default=0, ge=0, le=MAX_INT32, description="Number of results to skip.")
    limit: int = Field(
        default=MAX_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Maximum number of results."
    )


PageParams = Annotated[PageQuery, Query()]


def check_ids(value: str) -> str:
    if not all(0 < number <= MAX_INT32 for number in parse_ids(value)):
        raise PydanticCustomError("ids", "An id is out of range")
    return value


def parse_ids(value: str) -> list[int]:
    """Return the different ids in the order in which they were sent."""
    return list(dict.fromkeys(map(int, value.split(","))))


IdList = Annotated[
    str,
    Field(max_length=MAX_PAGE_SIZE * (len(str(MAX_INT32)) + 1)),
    StringConstraints(pattern=r"^[0-9]{1,10}(,[0-9]{1,10}){0,99}$"),
    SchemaDefaults("Up to 100 ids, separated by commas.", "3,1,2"),
    AfterValidator(check_ids),
]


class IdsQuery(RequestBody):
    """Rows by their ids instead of a page."""

    ids: IdList | None = Field(
        default=None,
        description="Up to 100 ids, separated by commas, instead of filters and pages. The "
        "response has these rows in this order, without those that are missing or hidden.",
    )

    @model_validator(mode="after")
    def check_ids_alone(self) -> Self:
        if self.ids is not None and self.model_fields_set - {"ids", "body"}:
            raise PydanticCustomError("ids_alone", "Send ids without other filters and pages")
        return self


# Not a SQLModel: that would leave `ItemT` open, and items would be sent with all their columns.
class Page(BaseModel, Generic[ItemT]):
    """A page of a list."""

    total_count: int = Field(description="Number of results on all pages.")
    results: list[ItemT] = Field(description="The results of this page.")
    next_cursor: str | None = Field(
        description="Cursor of the next page. Null on the last page and in orders without cursors.",
    )

    def map(self, change: Callable[[ItemT], OtherT]) -> "Page[OtherT]":
        """Return the page with `change` applied to each result."""
        return Page.model_construct(
            total_count=self.total_count,
            results=[change(result) for result in self.results],
            next_cursor=self.next_cursor,
        )


def make_page_of_ids(ids: str, rows: Iterable[ItemT], get_id: Callable[[ItemT], int]) -> Page[Any]:
    """Return the only page of the rows that were found, in the order of the ids."""
    by_id = {get_id(row): row for row in rows}
    results = [by_id[number] for number in parse_ids(ids) if number in by_id]
    return Page[Any].model_construct(total_count=len(results), results=results, next_cursor=None)


class Paginator:
    """Reads pages of lists and sets the `Link` header to the others."""

    def __init__(self, session: AsyncSession, request: Request, response: Response) -> None:
        self.session = session
        self.request = request
        self.response = response

    async def paginate(
        self, query: ListQuery, params: PageQuery, sort: Sort, **values: object
    ) -> Page[Any]:
        """Return the requested page with these values bound.

        Raises ValidationFailed for a cursor of another list.
        """
        found = await query.fetch_page(
            self.session,
            sort,
            values,
            size=params.size,
            offset=params.offset,
            cursor=params.cursor,
        )
        if params.cursor is None:
            self._link_numbered_pages(params, found)
        else:
            self._set_links(
                params,
                first={},
                prev={"cursor": found.previous_cursor},
                next={"cursor": found.next_cursor},
            )
        return Page[Any].model_construct(
            total_count=found.total_count, results=found.rows, next_cursor=found.next_cursor
        )

    def _link_numbered_pages(self, params: PageQuery, found: RowPage) -> None:
        deepest = -(-MAX_OFFSET // params.size)
        last = min(max(1, -(-found.total_count // params.size)), deepest)
        following: dict[str, object] = {"page": params.page + 1 if params.page < last else None}
        if params.page == deepest:
            following = {"cursor": found.next_cursor}
        self._set_links(
            params,
            first={"page": 1},
            prev={"page": min(params.page - 1, last) or None},
            next=following,
            last={"page": last},
        )

    def _set_links(self, params: PageQuery, **pages: dict[str, object]) -> None:
        """Set `Link` with the parameters of the request; leave out pages that are None."""
        names = params.model_fields_set - {"page", "cursor"}
        query = {name: one for name, one in self.request.query_params.items() if name in names}
        here = make_self_link(self.request)
        self.response.headers["Link"] = ", ".join(
            f'<{append_query(here, urlencode({**query, **page}))}>; rel="{rel}"'
            for rel, page in pages.items()
            if None not in page.values()
        )


async def get_paginator(session: SessionDep, request: Request, response: Response) -> Paginator:
    return Paginator(session, request, response)


PaginatorDep = Annotated[Paginator, Depends(get_paginator)]
