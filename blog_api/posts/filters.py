"""Query parameters of the lists of posts."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from sqlmodel import Field

from blog_api.core.fields import MAX_INT32, RequestModel, TagName, Timestamp, casefold_key
from blog_api.posts.search import MAX_QUERY_LENGTH
from blog_api.web.pagination import PageQuery


class PostSort(StrEnum):
    """By publication or by the last change; with a minus the latest come first."""

    newest = "-published_at"
    oldest = "published_at"
    last_updated = "-updated_at"
    first_updated = "updated_at"


class TagFilter(RequestModel):
    """Posts of one tag, or of all."""

    tag: TagName | None = Field(default=None, description="A tag; case makes no difference.")

    def values(self) -> dict[str, Any]:
        """What statements bind, by name, of the filters that were sent."""
        return {} if self.tag is None else {"tag": casefold_key(self.tag)}


class PostFilter(TagFilter):
    """Which posts; filters combine."""

    author: int | None = Field(
        default=None, ge=1, le=MAX_INT32, description="The id of a user, whose posts they are."
    )
    since: Timestamp | None = Field(default=None, description="Published at this time or later.")
    until: Timestamp | None = Field(default=None, description="Published before this time.")
    q: str | None = Field(
        default=None,
        max_length=MAX_QUERY_LENGTH,
        description="Words that they have, whole or in their beginning, in title, tags or "
        "content; in quotation marks, side by side.",
    )

    def values(self) -> dict[str, Any]:
        given = {"author": self.author, "since": self.since, "until": self.until}
        return super().values() | {
            name: value for name, value in given.items() if value is not None
        }


class PostQuery(PostFilter, PageQuery):
    """Which posts, in which order, and which page of them."""

    sort: PostSort | None = Field(
        default=None,
        description="Left out: the newest first; with `q` the best first, and no cursors.",
    )


class OwnPostQuery(TagFilter, PageQuery):
    """Which of one's own posts, and which page of them."""


PostListing = Annotated[PostQuery, Query()]


OwnPostListing = Annotated[OwnPostQuery, Query()]
