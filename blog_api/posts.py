"""Posts: what is written here, and how one of them is read."""

import re
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import JSON, ColumnElement, Index, update
from sqlalchemy.orm import QueryableAttribute, defer
from sqlmodel import Field, Relationship, SQLModel, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.conditional import Versioned, show_version
from blog_api.database import RowRead, SessionDep
from blog_api.errors import NotFound, Problem, ServiceUnavailable, ValidationFailed, raises
from blog_api.fields import (
    SLUG_LENGTH,
    Body,
    Line,
    PathId,
    PathSlug,
    TagNames,
    Text,
    Time,
    shown_as,
    utc_now,
)
from blog_api.links import link
from blog_api.slugs import Slug
from blog_api.tokens import READER_PROBLEMS, Reader
from blog_api.users import User

router = APIRouter(tags=["posts"], responses=raises(ServiceUnavailable))

MARKDOWN = "text/markdown"
QUALITY = re.compile(r"[01](\.\d{0,3})?", re.ASCII)
LOCATION = {"Location": {"schema": {"type": "string"}}}


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
    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def user_name(self) -> str:
        return self.user.name


Index("ix_posts_published_at_id", col(Post.published_at).desc(), col(Post.id).desc())
Index("ix_posts_updated_at_id", col(Post.updated_at).desc(), col(Post.id).desc())


class PostRead(PostBase, RowRead):
    """A post."""

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


class PostNotFound(NotFound):
    detail = "Post not found"


class PostGone(Problem):
    status = 410
    detail = "This post was deleted"


# For options of queries: what SQLModel declares as a string is an attribute to them.
CONTENT_HTML = cast("QueryableAttribute[str]", Post.content_html)


def is_published() -> ColumnElement[bool]:
    return and_(col(Post.published_at) <= utc_now(), col(Post.taken_down_at).is_(None))


def is_visible(reader: User | None) -> ColumnElement[bool]:
    """What somebody may see by its id or slug: what is published, and what is theirs."""
    if reader is None:
        return is_published()
    return or_(is_published(), col(Post.user_id) == reader.id)


def listed_posts() -> SelectOfScalar[Post]:
    """Posts without their HTML, which no list shows."""
    return select(Post).options(defer(CONTENT_HTML, raiseload=True))


async def find_post(session: AsyncSession, query: SelectOfScalar[Post]) -> Post:
    """The one post of a query; raises PostNotFound."""
    post = (await session.exec(query)).first()
    if post is None:
        raise PostNotFound
    return post


async def get_post(post_id: PathId, reader: Reader, session: SessionDep) -> Post:
    return await find_post(session, select(Post).where(col(Post.id) == post_id, is_visible(reader)))


async def get_post_by_slug(slug: PathSlug, reader: Reader, session: SessionDep) -> Post:
    """The post that has or had this slug. Raises PostNotFound and PostGone."""
    is_its_slug = col(Slug.post_id) == col(Post.id)
    query = select(Post).join(Slug, is_its_slug).where(col(Slug.slug) == slug)
    post = (await session.exec(query.where(is_visible(reader)))).first()
    if post is not None:
        return post
    of_deleted = select(Slug).where(col(Slug.slug) == slug, col(Slug.post_id).is_(None))
    raise PostNotFound if (await session.exec(of_deleted)).first() is None else PostGone


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


async def get_counted_post(post_id: PathId, reader: Reader, session: SessionDep) -> Post:
    if reader is not None:
        # Before the post, as when they leave: what they are about to add refers to them.
        me = select(User.id).where(col(User.id) == reader.id)
        await session.exec(me.with_for_update(read=True, key_share=True))
    return await find_post(session, counted(col(Post.id) == post_id, is_visible(reader)))


PostFromPath = Annotated[Post, Depends(get_post)]
PostFromSlug = Annotated[Post, Depends(get_post_by_slug)]
CountedPost = Annotated[Post, Depends(get_counted_post)]


def quality(accept: str, media_type: str) -> float:
    """How much a client wants a media type, from 0 to 1 (RFC 9110, 12.5.1)."""
    wanted = {}
    for one in accept.lower().split(","):
        name, *params = (part.strip() for part in one.split(";"))
        given = next((param[2:] for param in params if param.startswith("q=")), "1")
        wanted[name] = float(given) if QUALITY.fullmatch(given) else 0.0
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((wanted[name] for name in ranges if name in wanted), 0.0)


def present(request: Request, response: Response, post: Post) -> Post | Response:
    """The post as JSON, or as it was written, by what the client would rather have."""
    show_version(request, post)
    headers = {"Vary": "Accept"}
    accept = ",".join(request.headers.getlist("Accept"))
    if quality(accept, MARKDOWN) > quality(accept, "application/json"):
        return Response(post.content, media_type=MARKDOWN, headers=headers)
    response.headers.update(headers)
    return post


READ_PROBLEMS = (*READER_PROBLEMS, PostNotFound, ValidationFailed)
AS_WRITTEN: dict[int | str, dict[str, Any]] = {
    200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}
}


@router.get(
    "/posts/{post_id:int}",
    response_model=PostDetail,
    responses=AS_WRITTEN | raises(*READ_PROBLEMS),
)
async def read_post(request: Request, response: Response, post: PostFromPath) -> Post | Response:
    """Show a post. One that is not published is shown to its author alone.

    With `Accept: text/markdown` it is the content, as it was written.
    """
    return present(request, response, post)


@router.get(
    "/posts/slug/{slug}",
    response_model=PostDetail,
    responses=AS_WRITTEN
    | {308: {"description": "The post has another slug now.", "headers": LOCATION}}
    | raises(*READ_PROBLEMS, PostGone),
)
async def read_post_by_slug(
    request: Request, response: Response, slug: PathSlug, post: PostFromSlug
) -> Post | Response:
    """Show the post with this slug, as by its id. One that it had before leads to it."""
    if post.slug != slug:
        query: str = request.url.query
        # No cache may keep it for good: the post can take its old slug back.
        return RedirectResponse(
            link(request, f"/posts/slug/{post.slug}", query),
            status_code=308,
            headers={"Cache-Control": "no-cache"},
        )
    return present(request, response, post)
