"""Model families of posts, tags, slugs, counters and bookmarks."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import MISSING
from pydantic import Field as SchemaField
from sqlalchemy import (
    JSON,
    BigInteger,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    and_,
    literal_column,
)
from sqlmodel import AutoString, Field, Relationship, SQLModel, col

from blog_api.accounts.models import AuthorRead, User
from blog_api.core.fields import (
    MAX_SLUG_LENGTH,
    MAX_SUMMARY_LENGTH,
    MAX_TAG_LENGTH,
    PostContent,
    RequestBody,
    ResponseModel,
    TagNames,
    Timestamp,
    Title,
    schema_example,
    utc_now,
)
from blog_api.core.urls import MAX_URL_LENGTH
from blog_api.db.base import Invalidates, ReadModel, TableBase, TableModel, VersionedModel
from blog_api.posts.fields import (
    CanonicalUrl,
    CommentsOpen,
    CoverAlt,
    CoverUrl,
    GivenSlug,
    GivenSummary,
    TextType,
)
from blog_api.text.excerpts import MAX_READ_IN_LIST, Excerpt, make_excerpt
from blog_api.text.markdown import MARKDOWN, ContentType
from blog_api.web.pagination import Page


class PostBase(SQLModel):
    title: str = Field(max_length=255)
    """Title."""
    content: str
    """The text as it was sent; `content_type` says what it is."""
    content_type: ContentType
    """Type of `content`."""
    published_at: datetime | None
    """Time of publication. In the future: scheduled. Null: a draft."""
    cover_url: str | None = Field(max_length=MAX_URL_LENGTH)
    """Address of the cover; `/media/…` is relative to the service. Null: there is none."""
    cover_alt: str | None = Field(max_length=MAX_SUMMARY_LENGTH)
    """Alternative text of the cover. Null: there is none."""
    canonical_url: str | None = Field(max_length=MAX_URL_LENGTH)
    """Address of the original of this text. Null: it is this post."""
    comments_open: bool
    """Whether the post takes comments, if the service does."""


class PostCreate(RequestBody, PostBase):
    """A new post."""

    title: Title
    content: PostContent
    # A schema with a default would make generated clients send it in PUT, too.
    content_type: TextType = Field(default_factory=lambda: MARKDOWN)
    published_at: Timestamp | None = Field(
        default_factory=utc_now,
        description="Omitted: now in POST, unchanged in PUT. In the future: scheduled. "
        "Null: a draft.",
        schema_extra=schema_example("2026-01-31T09:00:00Z"),
    )
    tags: TagNames = Field(
        default_factory=list, description="Omitted: none in POST, unchanged in PUT."
    )
    slug: GivenSlug = None
    summary: GivenSummary = None
    cover_url: CoverUrl = None
    cover_alt: CoverAlt = None
    canonical_url: CanonicalUrl = None
    comments_open: CommentsOpen = Field(default_factory=lambda: True)


class PostUpdate(RequestBody):
    """Fields to change; the others stay."""

    title: Title | MISSING = MISSING
    content: PostContent | MISSING = MISSING
    content_type: TextType | MISSING = MISSING
    published_at: Timestamp | MISSING | None = Field(
        default=MISSING,
        description="In the future: scheduled. Null: a draft.",
        schema_extra=schema_example("2026-01-31T09:00:00Z"),
    )
    tags: TagNames | MISSING = MISSING
    slug: GivenSlug | MISSING = MISSING
    summary: GivenSummary | MISSING = MISSING
    cover_url: CoverUrl | MISSING = MISSING
    cover_alt: CoverAlt | MISSING = MISSING
    canonical_url: CanonicalUrl | MISSING = MISSING
    comments_open: CommentsOpen | MISSING = MISSING


class Post(PostBase, VersionedModel, table=True):
    __tablename__ = "posts"
    invalidates: ClassVar = Invalidates.ROWS
    slug: str = Field(max_length=MAX_SLUG_LENGTH, unique=True)
    # The author has chosen the slug if it is this one: versions without the column change `slug`.
    given_slug: str | None = Field(default=None, max_length=MAX_SLUG_LENGTH)
    content_type: ContentType = Field(default=MARKDOWN, sa_type=AutoString(20))
    content_html: str
    # Of a post in HTML: its text, which the search reads, and the digest of its content. A trigger
    # makes the post Markdown when a version without these columns changes the content.
    content_text: str | None = None
    text_from: str | None = Field(default=None, max_length=16)
    # The author's summary, if there is one.
    given_summary: str | None = Field(default=None, max_length=MAX_SUMMARY_LENGTH)
    # The excerpt of `content_html`, and the digest of that. A trigger clears them when a version
    # without these columns changes the HTML.
    made_summary: str | None = Field(default=None, max_length=MAX_SUMMARY_LENGTH)
    made_reading_minutes: int | None = None
    made_from: str | None = Field(default=None, max_length=16)
    # The version of the tokenizer that made the words of the post, and the digest of their source.
    # A trigger clears both when a version without these columns changes the text.
    words_version: int | None = Field(default=None, sa_type=SmallInteger, index=True)
    words_from: str | None = Field(default=None, max_length=16)
    # Set by an administrator; the author cannot undo it.
    taken_down_at: datetime | None = None
    # A trigger clears it when the takedown is undone: versions without the column leave it.
    takedown_reason: str | None = Field(default=None, max_length=MAX_SUMMARY_LENGTH)
    # In the author's spelling; `PostTag` is the index.
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    comments_open: bool = True
    # Updated by the routes of comments and bookmarks.
    comment_count: int = 0
    bookmark_count: int = 0
    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def user_name(self) -> str:
        return self.user.name

    @property
    def author(self) -> User:
        return self.user

    @property
    def excerpt(self) -> Excerpt:
        """Return the stored excerpt, or make it of the HTML, which must be loaded then."""
        if self.made_summary is None or self.made_reading_minutes is None:
            return make_excerpt(self.content_html, limit=MAX_READ_IN_LIST)
        return Excerpt(self.made_summary, self.made_reading_minutes)

    @property
    def summary(self) -> str:
        return self.excerpt.summary if self.given_summary is None else self.given_summary

    @property
    def reading_minutes(self) -> int:
        return self.excerpt.reading_minutes


class PostRead(ReadModel, PostBase):
    """A post."""

    slug: str
    """Current slug."""
    summary: str
    """The author's summary, or the beginning of the text: plain text of at most 300 characters.
    Empty if the content has no text."""
    reading_minutes: int
    """Minutes that reading takes at 200 words a minute, at least 1."""
    user_id: int
    """Id of the author."""
    user_name: str
    """Name of the author."""
    author: AuthorRead
    """The author."""
    tags: list[str]
    """Tags in the spelling of the author."""
    comment_count: int
    """Number of public comments: neither deleted nor waiting for approval."""
    bookmark_count: int
    """Number of bookmarks."""


class PostDetail(PostRead):
    """A post with its content as sanitized HTML."""

    content: str
    """The text as it was sent. Null with `body=html` and `body=none`."""
    content_html: str
    """The content as sanitized HTML. Null with `body=source` and `body=none`."""


class OwnPostRead(PostRead):
    """A post as its author and administrators see it."""

    taken_down_at: datetime | None
    """Time at which an administrator took the post down. Null: it was not."""
    takedown_reason: str | None
    """The administrator's reason for the takedown, one line. Null: none was given."""


class OwnPostDetail(OwnPostRead):
    """A post in any state with its content as sanitized HTML."""

    content: str
    """The text as it was sent. Null with `body=html` and `body=none`."""
    content_html: str
    """The content as sanitized HTML. Null with `body=source` and `body=none`."""


# In UTF-8; of all contents in a list together.
MAX_LISTED_BYTES = 2_000_000

LEFT_OUT = (
    "Null if `body` leaves it out, and in a list with more than "
    f"{MAX_LISTED_BYTES:,} bytes of content from the first post on that does not fit: "
    "`GET /posts/{post_id}` has it."
)
LISTED_SOURCE = f"The text as it was sent. {LEFT_OUT}"
LISTED_HTML = f"With `body=html` and `body=both`: the content as sanitized HTML. {LEFT_OUT}"


class ListedPost(PostRead):
    """A post in a list."""

    # Wider than in the base: sent only, never used as a PostRead with content.
    content: str | None = SchemaField(description=LISTED_SOURCE)  # type: ignore[assignment]
    content_html: str | MISSING | None = SchemaField(default=MISSING, description=LISTED_HTML)

    snippet: str | MISSING = SchemaField(
        default=MISSING,
        description="With `q` only: an excerpt as HTML with the matches in `<mark>`.",
    )


class PostPage(Page[ListedPost]):
    """A page of posts."""


class OwnListedPost(OwnPostRead):
    """A post in a list for its author or administrators."""

    # Wider than in the base: sent only, never used as an OwnPostRead with content.
    content: str | None = SchemaField(description=LISTED_SOURCE)  # type: ignore[assignment]
    content_html: str | MISSING | None = SchemaField(default=MISSING, description=LISTED_HTML)


class OwnPostPage(Page[OwnListedPost]):
    """A page of the user's own posts, or of all posts for administrators."""


NOT_TAKEN_DOWN = col(Post.taken_down_at).is_(None)


def make_index(name: str, *columns: Any, is_partial: bool = True) -> Index:
    """Index posts, newest first; a partial index leaves out posts that were taken down."""
    dialects = ("postgresql", "sqlite") if is_partial else ()
    where: dict[str, Any] = {f"{dialect}_where": NOT_TAKEN_DOWN for dialect in dialects}
    return Index(f"ix_posts_{name}", *columns, col(Post.id).desc(), **where)


make_index("published_at_id", col(Post.published_at).desc())
make_index("updated_at_id", col(Post.updated_at).desc())
make_index("user_id_published_at_id", col(Post.user_id), col(Post.published_at).desc())
make_index("user_id_updated_at_id", col(Post.user_id), col(Post.updated_at).desc())
make_index(
    "user_id_created_at_id", col(Post.user_id), col(Post.created_at).desc(), is_partial=False
)


class Slug(TableModel, table=True):
    """A current or former slug of a post. One that was public is never given to another post.

    Triggers mark a slug under which the post was public, and delete the others with the post.
    """

    __tablename__ = "slugs"
    invalidates: ClassVar = Invalidates.NOTHING  # The post does.

    slug: str = Field(max_length=MAX_SLUG_LENGTH, unique=True)
    # Null: the post was deleted.
    post_id: int | None = Field(
        default=None, foreign_key="posts.id", ondelete="SET NULL", index=True
    )
    was_public: bool = False


class Tag(TableModel, table=True):
    """A tag; `key` is casefolded, and `name` is the spelling of the first post, perhaps a draft."""

    __tablename__ = "tags"
    invalidates: ClassVar = Invalidates.NOTHING  # The rows of `post_tags` do.

    name: str = Field(max_length=MAX_TAG_LENGTH)
    key: str = Field(max_length=MAX_TAG_LENGTH, unique=True)


class TagRead(ResponseModel):
    """A tag."""

    name: str
    """Name in the spelling of the first of its published posts."""
    post_count: int
    """Number of published posts."""


class TagPage(Page[TagRead]):
    """A page of tags."""


class PostTag(TableBase, table=True):
    """The index of posts by tag.

    Triggers copy the times of the post, so that the posts of a tag are a range of an index;
    `published_at` is null while the post is in no list.
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


class PostCount(TableBase, table=True):
    """A change of the number of posts that are published or scheduled and not taken down.

    The sum of `delta` is the number: of one author, of one tag, or of all where the id is 0.
    Triggers insert the rows, and merge them from time to time into one total of each counter (see
    the migrations).
    """

    __tablename__ = "post_counts"
    invalidates: ClassVar = Invalidates.NOTHING  # The counted posts do.
    __table_args__ = (
        Index("ix_post_counts_user_id_tag_id", "user_id", "tag_id"),
        {"sqlite_autoincrement": True},
    )

    id: int = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger().with_variant(Integer(), "sqlite"),
    )
    user_id: int = 0
    tag_id: int = 0
    delta: int
    is_total: bool = False


# A bound number would not match the condition of the index on SQLite.
IS_TOTAL_OF_TAG = and_(col(PostCount.is_total), col(PostCount.tag_id) > literal_column("0"))

Index(
    "ix_post_counts_rank",
    col(PostCount.delta).desc(),
    col(PostCount.tag_id),
    sqlite_where=IS_TOTAL_OF_TAG,
    postgresql_where=IS_TOTAL_OF_TAG,
)
Index(
    "ix_post_counts_pending",
    col(PostCount.user_id),
    col(PostCount.tag_id),
    sqlite_where=~col(PostCount.is_total),
    postgresql_where=~col(PostCount.is_total),
)


class Bookmark(TableModel, table=True):
    __tablename__ = "bookmarks"
    invalidates: ClassVar = Invalidates.NOTHING
    __table_args__ = (UniqueConstraint("user_id", "post_id"), {"sqlite_autoincrement": True})

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE", index=True)
