"""Query parameters of the lists of posts."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, StringConstraints
from sqlmodel import Field

from blog_api.accounts.usernames import MAX_USERNAME_LENGTH, UserKey
from blog_api.core.fields import RequestModel, TagName, Timestamp, tag_key
from blog_api.posts.bodies import PostBody
from blog_api.posts.search import MAX_QUERY_LENGTH, MAX_TERMS, check_query
from blog_api.web.pagination import IdsQuery, PageQuery


class PostSort(StrEnum):
    """Order by publication or by last change; a minus means newest first."""

    newest = "-published_at"
    oldest = "published_at"
    last_updated = "-updated_at"
    first_updated = "updated_at"


SearchQuery = Annotated[
    str, StringConstraints(max_length=MAX_QUERY_LENGTH), AfterValidator(check_query)
]


class TagFilter(RequestModel):
    """Filter by tag."""

    tag: TagName | None = Field(default=None, description="Tag, case-insensitive.")

    def values(self) -> dict[str, Any]:
        """Return the filters that were sent, by the names of their bound parameters."""
        return {} if self.tag is None else {"tag": tag_key(self.tag)}


class PostFilter(TagFilter):
    """Filters, combined with AND."""

    author: UserKey | None = Field(
        default=None, max_length=MAX_USERNAME_LENGTH, description="Id or username of the author."
    )
    since: Timestamp | None = Field(default=None, description="Published at this time or later.")
    until: Timestamp | None = Field(default=None, description="Published before this time.")
    q: SearchQuery | None = Field(
        default=None,
        description="Full-text search in title, tags and content. Words match by prefix and by "
        f"their other forms, phrases in quotation marks exactly; at most {MAX_TERMS} of them.",
    )

    def values(self) -> dict[str, Any]:
        values = super().values() | {"since": self.since, "until": self.until}
        if self.author is not None:
            is_id = self.author.isdecimal()
            values |= {"author": int(self.author)} if is_id else {"username": self.author}
        return {name: value for name, value in values.items() if value is not None}


class PostPageQuery(PageQuery):
    """The page of a list of posts, and how much of each post it contains."""

    body: PostBody = Field(
        default=PostBody.source,
        description="The text of each post: `source` is `content`, `html` is `content_html`. "
        "What is left out is null or, without HTML, `content_html` is absent.",
    )


class BookmarkQuery(PostPageQuery, IdsQuery):
    """A page of the bookmarked posts, or those of some posts that are bookmarked."""


class PostQuery(PostFilter, PostPageQuery, IdsQuery):
    """Filters, order and page of a list of posts."""

    sort: PostSort | None = Field(
        default=None,
        description="Default: newest first; with `q` by relevance, which has no cursors.",
    )


class OwnPostQuery(TagFilter, PostPageQuery):
    """Filter and page of the user's own posts."""


BookmarkParams = Annotated[BookmarkQuery, Query()]

PostParams = Annotated[PostQuery, Query()]

OwnPostParams = Annotated[OwnPostQuery, Query()]
