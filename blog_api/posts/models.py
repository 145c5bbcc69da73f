"""Model families of posts, tags, slugs, counters and bookmarks."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field as SchemaField
from sqlalchemy import (
    JSON,
    BigInteger,
    Index,
    Integer,
    UniqueConstraint,
)
from sqlmodel import Field, Relationship, SQLModel, col

from blog_api.accounts.models import User
from blog_api.core.fields import (
    MAX_SLUG_LENGTH,
    MAX_TAG_LENGTH,
    Markdown,
    RequestBody,
    TagNames,
    Timestamp,
    Title,
    schema_example,
    utc_now,
)
from blog_api.db.base import Invalidates, ReadModel, TableBase, TableModel, VersionedModel
from blog_api.web.pagination import Page


class Tag(TableModel, table=True):
    """A tag, named as it was written first; case makes no difference."""

    __tablename__ = "tags"
    invalidates: ClassVar = Invalidates.NOTHING  # The rows of `post_tags` do.

    name: str = Field(max_length=MAX_TAG_LENGTH)
    key: str = Field(max_length=MAX_TAG_LENGTH, unique=True)


class PostTag(TableBase, table=True):
    """That a post has a tag: by this, posts are found. How its author wrote it, the post knows.

    The times are those of the post, which triggers keep, so that the posts of a tag are found in
    their order. Without a time of publication the post is in no list.
    """

    __tablename__ = "post_tags"
    invalidates: ClassVar = Invalidates.LISTS

    tag_id: int = Field(foreign_key="tags.id", ondelete="CASCADE", primary_key=True)
    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE", primary_key=True, index=True)
    published_at: datetime | None = None
    updated_at: datetime


for name, time in (("published_at", PostTag.published_at), ("updated_at", PostTag.updated_at)):
    Index(
        f"ix_post_tags_tag_id_{name}_post_id",
        col(PostTag.tag_id),
        col(time).desc(),
        col(PostTag.post_id).desc(),
    )


class Slug(TableModel, table=True):
    """A slug that a post has or had. It goes to no other post, not even after that one's end."""

    __tablename__ = "slugs"
    invalidates: ClassVar = Invalidates.NOTHING  # Their posts do.

    slug: str = Field(max_length=MAX_SLUG_LENGTH, unique=True)
    post_id: int | None = Field(
        default=None, foreign_key="posts.id", ondelete="SET NULL", index=True
    )


class PostBase(SQLModel):
    title: Title
    content: Markdown


class PostCreate(RequestBody, PostBase):
    """A new post."""

    published_at: Timestamp | None = Field(
        default_factory=utc_now,
        description="Left out: now, or as it was. In the future: scheduled. Null: a draft.",
        schema_extra=schema_example("2026-01-31T09:00:00Z"),
    )
    tags: TagNames = Field(default_factory=list, description="Left out: none, or as they were.")


class PostUpdate(RequestBody):
    """What changes of a post; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI, where generated
    # clients would find and send it.
    title: Title = Field(default_factory=str)
    content: Markdown = Field(default_factory=str)
    published_at: Timestamp | None = Field(
        default=None,
        description="In the future: scheduled. Null: a draft.",
        schema_extra=schema_example("2026-01-31T09:00:00Z"),
    )
    tags: TagNames = Field(default_factory=list)


class Post(PostBase, VersionedModel, table=True):
    __tablename__ = "posts"

    slug: str = Field(max_length=MAX_SLUG_LENGTH, unique=True)
    content_html: str
    published_at: datetime | None = None
    # An administrator's word: its author may do what they like, it stays hidden.
    taken_down_at: datetime | None = None
    # As its author writes them; `PostTag` is the index by which posts are found.
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    # Kept by the routes of comments and bookmarks.
    comment_count: int = 0
    bookmark_count: int = 0
    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def user_name(self) -> str:
        return self.user.name


def make_index(name: str, *columns: Any, **where: Any) -> Index:
    """An index of posts, the latest of which come first."""
    return Index(f"ix_posts_{name}", *columns, col(Post.id).desc(), **where)


# What was taken down is in no list that anybody reads.
NOT_TAKEN_DOWN = col(Post.taken_down_at).is_(None)
WHERE_LISTED = {f"{dialect}_where": NOT_TAKEN_DOWN for dialect in ("postgresql", "sqlite")}
make_index("published_at_id", col(Post.published_at).desc(), **WHERE_LISTED)
make_index("updated_at_id", col(Post.updated_at).desc(), **WHERE_LISTED)
make_index(
    "user_id_published_at_id", col(Post.user_id), col(Post.published_at).desc(), **WHERE_LISTED
)
make_index("user_id_updated_at_id", col(Post.user_id), col(Post.updated_at).desc(), **WHERE_LISTED)
make_index("user_id_created_at_id", col(Post.user_id), col(Post.created_at).desc())


class PostRead(ReadModel):
    """A post."""

    # It was checked when it came: to do that again took as long as all else that is shown.
    title: str
    content: str
    slug: str
    published_at: datetime | None
    user_id: int
    user_name: str
    tags: list[str]
    comment_count: int
    bookmark_count: int


class PostDetail(PostRead):
    """A post with its content as HTML that carries no script."""

    content_html: str


class OwnPostRead(PostRead):
    """A post, as its author and administrators see it."""

    taken_down_at: datetime | None


class PostCount(TableBase, table=True):
    """By how much one of these numbers changed: their sum is the number.

    It counts what is published or scheduled and not taken down. Triggers keep it, and make one
    row of many from time to time: see the migration.
    """

    __tablename__ = "post_counts"
    invalidates: ClassVar = Invalidates.NOTHING  # The posts that are counted do.
    __table_args__ = (
        Index("ix_post_counts_user_id_tag_id", "user_id", "tag_id"),
        {"sqlite_autoincrement": True},
    )

    id: int = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger().with_variant(Integer(), "sqlite"),
    )
    # 0: of all authors, of all tags.
    user_id: int = 0
    tag_id: int = 0
    delta: int


class ListedPost(PostRead):
    """A post in a list."""

    snippet: str | None = SchemaField(
        default=None,
        exclude_if=lambda snippet: snippet is None,
        description="With `q` alone: where the words stand, as HTML with `<mark>`.",
    )


class PostPage(Page[ListedPost]):
    """A page of posts, and how many there are on all pages."""


class OwnPostPage(Page[OwnPostRead]):
    """A page of posts, and how many there are on all pages."""


class TagRead(SQLModel):
    """A tag."""

    name: str
    post_count: int = Field(description="Of published posts.")


class TagPage(Page[TagRead]):
    """A page of tags, and how many there are on all pages."""


class Bookmark(TableModel, table=True):
    """That a user has bookmarked a post."""

    __tablename__ = "bookmarks"
    invalidates: ClassVar = Invalidates.NOTHING
    __table_args__ = (UniqueConstraint("user_id", "post_id"), {"sqlite_autoincrement": True})

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE", index=True)
