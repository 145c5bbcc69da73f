"""Posts: what is written here."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import Depends
from sqlalchemy import (
    JSON,
    ColumnElement,
    Index,
    Row,
    Select,
    Subquery,
    update,
)
from sqlalchemy import select as select_columns
from sqlalchemy.orm import QueryableAttribute, defer
from sqlmodel import Field, Relationship, SQLModel, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.conditional import Versioned
from blog_api.database import SessionDep
from blog_api.errors import NotFound
from blog_api.fields import (
    SLUG_LENGTH,
    Body,
    Line,
    PathId,
    TagNames,
    Text,
    Time,
    shown_as,
    utc_now,
)
from blog_api.tables import NOW, RowRead
from blog_api.tokens import PresentedAccess, reader_id_of
from blog_api.users import User


class PostBase(SQLModel):
    title: Line
    content: Text


class PostCreate(Body, PostBase):
    """A new post."""

    published_at: Time | None = Field(
        default_factory=utc_now,
        description="Left out: now, or as it was. In the future: scheduled. Null: a draft.",
        schema_extra=shown_as("2026-01-31T09:00:00Z"),
    )
    tags: TagNames = Field(default_factory=list, description="Left out: none, or as they were.")


class PostUpdate(Body):
    """What changes of a post; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI, where generated
    # clients would find and send it.
    title: Line = Field(default_factory=str)
    content: Text = Field(default_factory=str)
    published_at: Time | None = Field(
        default=None,
        description="In the future: scheduled. Null: a draft.",
        schema_extra=shown_as("2026-01-31T09:00:00Z"),
    )
    tags: TagNames = Field(default_factory=list)


class Post(PostBase, Versioned, table=True):
    __tablename__ = "posts"

    slug: str = Field(max_length=SLUG_LENGTH, unique=True)
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


def index(name: str, *columns: Any, **where: Any) -> Index:
    """An index of posts, the latest of which come first."""
    return Index(f"ix_posts_{name}", *columns, col(Post.id).desc(), **where)


# What was taken down is in no list that anybody reads.
IS_LISTED = col(Post.taken_down_at).is_(None)
LISTED = {f"{dialect}_where": IS_LISTED for dialect in ("postgresql", "sqlite")}
index("published_at_id", col(Post.published_at).desc(), **LISTED)
index("updated_at_id", col(Post.updated_at).desc(), **LISTED)
index("user_id_published_at_id", col(Post.user_id), col(Post.published_at).desc(), **LISTED)
index("user_id_updated_at_id", col(Post.user_id), col(Post.updated_at).desc(), **LISTED)
index("user_id_created_at_id", col(Post.user_id), col(Post.created_at).desc())


class PostRead(RowRead):
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


# A post that is read and not changed: a row that has what is shown of it.
PostRow = Row[*tuple[Any, ...]]


class PostNotFound(NotFound):
    detail = "Post not found"


# For options of queries: what SQLModel declares as a string is an attribute to them.
CONTENT_HTML = cast("QueryableAttribute[str]", Post.content_html)

IS_PUBLISHED = and_(col(Post.published_at) <= NOW, IS_LISTED)
IS_SCHEDULED = and_(col(Post.published_at) > NOW, IS_LISTED)


def is_visible_to(reader_id: Any) -> ColumnElement[bool]:
    """What somebody may see by its id or slug: what is published, and what is theirs."""
    return or_(IS_PUBLISHED, col(Post.user_id) == reader_id)


def columns_of(shown: type[PostRead]) -> list[ColumnElement[Any]]:
    """What is shown of a post, as columns: a row costs a third of what an object does."""
    names = [name for name in shown.model_fields if name != "user_name"]
    return [*(getattr(Post, name) for name in names), col(User.name).label("user_name")]


def posts_as(shown: type[PostRead]) -> Select[*tuple[Any, ...]]:
    """Rows of posts, as they are shown."""
    return select_columns(*columns_of(shown)).join(User, col(User.id) == col(Post.user_id))


def found_as(shown: type[PostRead]) -> Callable[[Subquery], Select[*tuple[Any, ...]]]:
    """The same of the posts whose ids were found."""
    return lambda found: posts_as(shown).join(found, found.c.id == col(Post.id))


def listed_posts() -> SelectOfScalar[Post]:
    """Posts without their HTML, which no list shows."""
    return select(Post).options(defer(CONTENT_HTML, raiseload=True))


async def find_post(session: AsyncSession, query: SelectOfScalar[Post]) -> Post:
    """The one post of a query; raises PostNotFound."""
    post = (await session.exec(query)).first()
    if post is None:
        raise PostNotFound
    return post


def counted(*which: ColumnElement[bool]) -> SelectOfScalar[Post]:
    """A post, to whose counts something is about to be added.

    Locked until the request ends: whoever changes what belongs to a post comes here first, so
    that no two wait for each other.
    """
    return select(Post).where(*which).with_for_update(of=Post, key_share=True)


async def change_counts(
    session: AsyncSession, ids: SelectOfScalar[int], **counts: ColumnElement[int]
) -> None:
    """Change counts of many posts. They are locked one after the other, as by `counted()`."""
    which = col(Post.id).in_(ids)
    await session.exec(
        select(Post.id).where(which).order_by(col(Post.id)).with_for_update(key_share=True)
    )
    # What others add to a post is no change of it.
    values = {**counts, "updated_at": col(Post.updated_at)}
    await session.exec(
        update(Post).where(which).values(values).execution_options(synchronize_session=False)
    )


async def get_counted_post(post_id: PathId, access: PresentedAccess, session: SessionDep) -> Post:
    if access is not None:
        # Before the post, as when they leave: what they are about to add refers to them.
        me = select(User.id).where(col(User.id) == access.user.id)
        await session.exec(me.with_for_update(read=True, key_share=True))
    return await find_post(
        session, counted(col(Post.id) == post_id, is_visible_to(reader_id_of(access)))
    )


CountedPost = Annotated[Post, Depends(get_counted_post)]
