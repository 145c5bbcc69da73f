"""Posts: what is written here."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Security
from sqlalchemy import ColumnElement, Index
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import Field, Relationship, SQLModel, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.database import Row, RowRead, SessionDep, is_unique_violation
from blog_api.errors import (
    BODY_PROBLEMS,
    Conflict,
    Forbidden,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import (
    SLUG_LENGTH,
    Body,
    Line,
    PathId,
    PathSlug,
    Text,
    Time,
    shown_as,
    utc_now,
)
from blog_api.paging import Page, Paging, paginate
from blog_api.slugs import Slug, possible_slugs
from blog_api.tokens import (
    READER_PROBLEMS,
    USER_PROBLEMS,
    DraftReader,
    Reader,
    Writer,
    get_reader,
)
from blog_api.users import User, UserFromPath, UserNotFound

router = APIRouter(tags=["posts"], responses=raises(ServiceUnavailable))


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


class Post(PostBase, Row, table=True):
    __tablename__ = "posts"

    slug: str = Field(max_length=SLUG_LENGTH, unique=True)
    published_at: datetime | None = None
    # An administrator's word: its author may do what they like, it stays hidden.
    taken_down_at: datetime | None = None
    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def user_name(self) -> str:
        return self.user.name


Index("ix_posts_published_at_id", col(Post.published_at).desc(), col(Post.id).desc())


class PostRead(PostBase, RowRead):
    """A post."""

    slug: str
    published_at: datetime | None
    user_id: int
    user_name: str


class PostPage(Page[PostRead]):
    """A page of posts, and how many there are on all pages."""


class OwnPostRead(PostRead):
    """A post, as its author and administrators see it."""

    taken_down_at: datetime | None


class OwnPostPage(Page[OwnPostRead]):
    """A page of posts, and how many there are on all pages."""


class PostNotFound(NotFound):
    detail = "Post not found"


class NotYourPost(Forbidden):
    detail = "You don't have access to modify this post"


OWN_POST_PROBLEMS = (*USER_PROBLEMS, PostNotFound, NotYourPost, ValidationFailed)


def is_published() -> ColumnElement[bool]:
    return and_(col(Post.published_at) <= utc_now(), col(Post.taken_down_at).is_(None))


def published_posts() -> SelectOfScalar[Post]:
    """What readers see, newest first."""
    return (
        select(Post)
        .where(is_published())
        .order_by(col(Post.published_at).desc(), col(Post.id).desc())
    )


def own_posts(user: User) -> SelectOfScalar[Post]:
    """What an author sees, drafts too, the last begun first."""
    return (
        select(Post)
        .where(col(Post.user_id) == user.id)
        .order_by(col(Post.created_at).desc(), col(Post.id).desc())
    )


def visible_posts(reader: User | None) -> SelectOfScalar[Post]:
    """What somebody may see by its id or slug: what is published, and what is theirs."""
    if reader is None:
        return select(Post).where(is_published())
    return select(Post).where(or_(is_published(), col(Post.user_id) == reader.id))


async def find_post(session: AsyncSession, query: SelectOfScalar[Post]) -> Post:
    """The one post of a query; raises PostNotFound."""
    post = (await session.exec(query)).first()
    if post is None:
        raise PostNotFound
    return post


async def get_post(post_id: PathId, reader: Reader, session: SessionDep) -> Post:
    return await find_post(session, visible_posts(reader).where(col(Post.id) == post_id))


async def get_post_by_slug(slug: PathSlug, reader: Reader, session: SessionDep) -> Post:
    is_its_slug = col(Slug.post_id) == col(Post.id)
    query = visible_posts(reader).join(Slug, is_its_slug).where(col(Slug.slug) == slug)
    return await find_post(session, query)


async def get_own_post(user: Writer, post_id: PathId, session: SessionDep) -> Post:
    """The post, locked until the request ends, so that nobody deletes it meanwhile."""
    query = visible_posts(user).where(col(Post.id) == post_id).with_for_update(of=Post)
    post = await find_post(session, query)
    if post.user_id != user.id:
        raise NotYourPost
    return post


PostFromPath = Annotated[Post, Depends(get_post)]
PostFromSlug = Annotated[Post, Depends(get_post_by_slug)]
OwnPost = Annotated[Post, Depends(get_own_post)]


async def insert_post(session: AsyncSession, post: Post) -> None:
    """Insert a post under a slug that no post ever had; raises Conflict."""
    for slug in possible_slugs(post.title):
        post.slug = slug
        try:
            async with session.begin_nested():
                session.add(post)
                await session.flush()
                session.add(Slug(slug=slug, post_id=post.id))
        except IntegrityError as error:
            if not is_unique_violation(error):
                raise
        else:
            return
    raise Conflict


async def change_post(session: AsyncSession, post: Post, changes: Body) -> Post:
    """Give a post the fields that were sent."""
    post.sqlmodel_update(changes.model_dump(exclude_unset=True))
    # The answer is made before the commit, and it shows the new `updated_at`.
    await session.flush()
    return post


def keep_updated_at(post: Post) -> None:
    """Let the change that is about to be written not be one of the post's text."""
    flag_modified(post, "updated_at")


@router.post(
    "/posts",
    status_code=201,
    response_model=PostRead,
    responses=raises(*BODY_PROBLEMS, *USER_PROBLEMS),
)
async def create_post(new: PostCreate, user: Writer, session: SessionDep) -> Post:
    """Publish a post, schedule it, or keep it as a draft."""
    post = Post.model_validate(new, update={"slug": "", "user_id": user.id})
    post.user = user
    await insert_post(session, post)
    return post


@router.get(
    "/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_reader)],
)
async def list_posts(paging: Paging, session: SessionDep) -> Page[Post]:
    """List the published posts, newest first."""
    return await paginate(session, published_posts(), paging)


@router.get(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=raises(*READER_PROBLEMS, PostNotFound, ValidationFailed),
)
async def read_post(post: PostFromPath) -> Post:
    """Show a post. One that is not published is shown to its author alone."""
    return post


@router.get(
    "/posts/slug/{slug}",
    response_model=PostRead,
    responses=raises(*READER_PROBLEMS, PostNotFound, ValidationFailed),
)
async def read_post_by_slug(post: PostFromSlug) -> Post:
    """Show the post with this slug, as by its id."""
    return post


@router.put(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=raises(*BODY_PROBLEMS, *OWN_POST_PROBLEMS),
)
async def replace_post(new: PostCreate, post: OwnPost, session: SessionDep) -> Post:
    """Write a post anew. If `published_at` is left out, it stays as it was."""
    return await change_post(session, post, new)


@router.patch(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=raises(*BODY_PROBLEMS, *OWN_POST_PROBLEMS),
)
async def update_post(changes: PostUpdate, post: OwnPost, session: SessionDep) -> Post:
    """Change the fields that are sent; leave the others."""
    return await change_post(session, post, changes)


@router.delete(
    "/posts/{post_id:int}", status_code=204, responses=raises(*OWN_POST_PROBLEMS, Conflict)
)
async def delete_post(post: OwnPost, session: SessionDep) -> None:
    """Delete a post. Its slug goes to no other."""
    await session.delete(post)


@router.get(
    "/users/{user_id:int}/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[Security(get_reader)],
)
async def list_posts_of_user(user: UserFromPath, paging: Paging, session: SessionDep) -> Page[Post]:
    """List a user's published posts, newest first."""
    return await paginate(session, published_posts().where(col(Post.user_id) == user.id), paging)


@router.get(
    "/users/me/posts",
    response_model=OwnPostPage,
    responses=raises(*USER_PROBLEMS, ValidationFailed),
)
async def list_own_posts(user: DraftReader, paging: Paging, session: SessionDep) -> Page[Post]:
    """List the posts of the user who asks, drafts too, the last begun first."""
    return await paginate(session, own_posts(user), paging)
