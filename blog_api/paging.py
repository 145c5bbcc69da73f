"""Pages of a list."""

from typing import Annotated, Generic, Self, TypeVar

from fastapi import Query
from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import func
from sqlmodel import Field, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.database import Row
from blog_api.fields import LARGEST_INT, Input

MAX_SIZE = 100
# Further down the database would have to step over too many rows.
MAX_DEPTH = 10_000

T = TypeVar("T")
RowT = TypeVar("RowT", bound=Row)


class PageQuery(Input):
    """Which page, and how large."""

    page: int = Field(default=1, ge=1, le=MAX_DEPTH, description="From 1.")
    size: int = Field(default=10, ge=1, le=MAX_SIZE, description="How many there are on a page.")

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    @model_validator(mode="after")
    def check_depth(self) -> Self:
        if self.offset >= MAX_DEPTH:
            raise PydanticCustomError("too_deep", f"Pages go to a depth of {MAX_DEPTH}")
        return self


class SliceQuery(Input):
    """Which part of a plain list."""

    skip: int = Field(default=0, ge=0, le=LARGEST_INT, description="How many to leave out.")
    limit: int = Field(default=MAX_SIZE, ge=1, le=MAX_SIZE, description="How many to show.")


Paging = Annotated[PageQuery, Query()]
Slicing = Annotated[SliceQuery, Query()]


class Page(BaseModel, Generic[T]):
    """A page of a list, and how long the whole list is."""

    # Not a SQLModel: those leave `T` open, and rows would pass with each of their columns.
    total_count: int
    results: list[T]


async def paginate(
    session: AsyncSession, query: SelectOfScalar[RowT], paging: PageQuery
) -> Page[RowT]:
    """The page of a query's rows; the query says their order, which ends in `id`."""
    count = select(func.count()).select_from(query.order_by(None).subquery())
    total_count = (await session.exec(count)).one()
    rows = await session.exec(query.offset(paging.offset).limit(paging.size))
    return Page.model_construct(total_count=total_count, results=list(rows.all()))
