"""Model family of follows; queries and pages of profiles."""

from typing import ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from blog_api.accounts.models import ProfileRead
from blog_api.db.base import Invalidates, TableModel
from blog_api.web.pagination import Page, SliceQuery


class UserQuery(SliceQuery):
    """Filter and part of the list of profiles."""

    q: str | None = Field(
        default=None,
        max_length=100,
        description="Beginning of the name or of a word in it and what follows, case-insensitive: "
        "`ann`, `kar` and `anna kar` find Anna Karenina.",
    )


class Follow(TableModel, table=True):
    __tablename__ = "follows"
    invalidates: ClassVar = Invalidates.NOTHING
    __table_args__ = (UniqueConstraint("user_id", "author_id"), {"sqlite_autoincrement": True})

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    author_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)


class ProfilePage(Page[ProfileRead]):
    """A page of profiles."""
