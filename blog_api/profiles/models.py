"""Model family of follows; queries and pages of profiles."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from sqlalchemy import UniqueConstraint
from sqlmodel import Field
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import ProfileRead
from blog_api.db.base import Invalidates, TableModel
from blog_api.web.pagination import IdsQuery, Page, PageQuery, SliceQuery


class PostCounter(Protocol):
    """Counts published posts; that of the package of posts, which profiles do not know."""

    async def __call__(self, session: AsyncSession, user_ids: Sequence[int]) -> Mapping[int, int]:
        """Return the numbers by the ids of the authors who have any."""


class UserQuery(SliceQuery, IdsQuery):
    """Filter and part of the list of profiles."""

    q: str | None = Field(
        default=None,
        max_length=100,
        description="Beginning of the name or of a word in it and what follows, case-insensitive, "
        "with or without accents: `ann`, `kar` and `anna kar` find Anna Karenina.",
    )


class Follow(TableModel, table=True):
    __tablename__ = "follows"
    invalidates: ClassVar = Invalidates.NOTHING
    __table_args__ = (UniqueConstraint("user_id", "author_id"), {"sqlite_autoincrement": True})

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    author_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)


class FollowedQuery(PageQuery, IdsQuery):
    """A page of the followed authors, or those of some authors who are followed."""


class ProfilePage(Page[ProfileRead]):
    """A page of profiles."""
