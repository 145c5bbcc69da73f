"""Queries of posts."""

from collections.abc import Callable
from typing import Annotated, Any, cast

from fastapi import Depends
from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    String,
    Subquery,
    bindparam,
    update,
)
from sqlalchemy import select as select_columns
from sqlalchemy.orm import QueryableAttribute, defer
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import Auth, OptionalAuth, get_reader_id
from blog_api.accounts.models import User
from blog_api.core.fields import (
    PathId,
)
from blog_api.db.base import NOW
from blog_api.db.queries import NamedQuery, execute_query
from blog_api.db.session import SessionDep
from blog_api.posts.errors import PostGone, PostNotFound
from blog_api.posts.models import NOT_TAKEN_DOWN, Post, PostDetail, PostRead, Slug

# A post that is read and not changed: a row that has what is shown of it.
PostRow = Row[*tuple[Any, ...]]


# For options of queries: what SQLModel declares as a string is an attribute to them.
CONTENT_HTML = cast("QueryableAttribute[str]", Post.content_html)


IS_PUBLISHED = and_(col(Post.published_at) <= NOW, NOT_TAKEN_DOWN)


IS_SCHEDULED = and_(col(Post.published_at) > NOW, NOT_TAKEN_DOWN)


def is_visible_to(reader_id: Any) -> ColumnElement[bool]:
    """What somebody may see by its id or slug: what is published, and what is theirs."""
    return or_(IS_PUBLISHED, col(Post.user_id) == reader_id)


def post_columns(shown: type[PostRead]) -> list[ColumnElement[Any]]:
    """What is shown of a post, as columns: a row costs a third of what an object does."""
    names = [name for name in shown.model_fields if name != "user_name"]
    return [*(getattr(Post, name) for name in names), col(User.name).label("user_name")]


def select_posts(shown: type[PostRead]) -> Select[*tuple[Any, ...]]:
    """Rows of posts, as they are shown."""
    return select_columns(*post_columns(shown)).join(User, col(User.id) == col(Post.user_id))


def posts_by_ids(shown: type[PostRead]) -> Callable[[Subquery], Select[*tuple[Any, ...]]]:
    """The same of the posts whose ids were found."""
    return lambda found: select_posts(shown).join(found, found.c.id == col(Post.id))


def posts_without_html() -> SelectOfScalar[Post]:
    """Posts without their HTML, which no list shows."""
    return select(Post).options(defer(CONTENT_HTML, raiseload=True))


async def find_post(session: AsyncSession, query: SelectOfScalar[Post]) -> Post:
    """The one post of a query; raises PostNotFound."""
    post = (await session.exec(query)).first()
    if post is None:
        raise PostNotFound
    return post


def lock_post_for_counters(*which: ColumnElement[bool]) -> SelectOfScalar[Post]:
    """A post, to whose counts something is about to be added.

    Locked until the request ends: whoever changes what belongs to a post comes here first, so
    that no two wait for each other.
    """
    return select(Post).where(*which).with_for_update(of=Post, key_share=True)


async def update_counters(
    session: AsyncSession, ids: SelectOfScalar[int], **counts: ColumnElement[int]
) -> None:
    """Change counters of several posts, locked in the order of their ids."""
    which = col(Post.id).in_(ids)
    await session.exec(
        select(Post.id).where(which).order_by(col(Post.id)).with_for_update(key_share=True)
    )
    # What others add to a post is no change of it.
    values = {**counts, "updated_at": col(Post.updated_at)}
    await session.exec(
        update(Post).where(which).values(values).execution_options(synchronize_session=False)
    )


async def get_post_locked_for_counters(
    post_id: PathId, access: OptionalAuth, session: SessionDep
) -> Post:
    if access is not None:
        # Before the post, as when they leave: what they are about to add refers to them.
        me = select(User.id).where(col(User.id) == access.user.id)
        await session.exec(me.with_for_update(read=True, key_share=True))
    return await find_post(
        session,
        lock_post_for_counters(col(Post.id) == post_id, is_visible_to(get_reader_id(access))),
    )


PostLockedForCounters = Annotated[Post, Depends(get_post_locked_for_counters)]


VISIBLE_POSTS = (
    select_posts(PostDetail)
    .add_columns(col(Post.version))
    .where(is_visible_to(bindparam("reader_id", type_=Integer)))
)


POST_BY_ID = NamedQuery(VISIBLE_POSTS.where(col(Post.id) == bindparam("post_id", type_=Integer)))


POST_BY_SLUG = NamedQuery(
    VISIBLE_POSTS.join(Slug, col(Slug.post_id) == col(Post.id)).where(
        col(Slug.slug) == bindparam("slug", type_=String)
    )
)


async def find_visible_post(session: AsyncSession, access: Auth | None, post_id: int) -> PostRow:
    """A post that the reader may see; raises PostNotFound."""
    values = {"post_id": post_id, "reader_id": get_reader_id(access)}
    posts = await execute_query(session, POST_BY_ID, values)
    if not posts:
        raise PostNotFound
    return posts[0]


async def find_visible_post_by_slug(
    session: AsyncSession, access: Auth | None, slug: str
) -> PostRow:
    """The same, of a post that has or had this slug; raises PostGone for one that was deleted."""
    values = {"slug": slug, "reader_id": get_reader_id(access)}
    posts = await execute_query(session, POST_BY_SLUG, values)
    if posts:
        return posts[0]
    of_deleted = select(Slug).where(col(Slug.slug) == slug, col(Slug.post_id).is_(None))
    raise PostNotFound if (await session.exec(of_deleted)).first() is None else PostGone
