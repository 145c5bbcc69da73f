"""Counters of posts: adding or removing a comment or a bookmark locks the post first.

So two of them never wait for each other, and neither is lost.
"""

from dataclasses import dataclass, fields
from typing import Annotated

from fastapi import Depends
from sqlalchemy import ColumnElement, Integer, bindparam, true, update
from sqlalchemy import select as select_columns
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import OptionalAuth, get_reader_id
from blog_api.accounts.models import User
from blog_api.core.fields import PathId
from blog_api.db.base import Invalidates
from blog_api.db.queries import NamedQuery, Rows, Write, execute_query
from blog_api.db.session import SessionDep
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import Post
from blog_api.posts.queries import is_visible_to


@dataclass(slots=True)
class CountedPost:
    """A post that is locked, so that its counters can change."""

    id: int
    user_id: int
    comments_open: bool
    comment_count: int
    bookmark_count: int


COUNTED_POST = select_columns(*(getattr(Post, field.name) for field in fields(CountedPost))).where(
    col(Post.id) == bindparam("post_id", type_=Integer)
)
LOCK_POST = NamedQuery(COUNTED_POST.with_for_update(of=Post, key_share=True))
LOCKED_USER = (
    select(User.id)
    .where(col(User.id) == bindparam("user_id", type_=Integer))
    .with_for_update(read=True, key_share=True)
    .cte("locked_user")
)
# Postgres joins before it locks the rows that it found: the user, then the post, in this order as
# when an account is deleted.
LOCK_VISIBLE_POST = NamedQuery(
    COUNTED_POST.join(LOCKED_USER, true(), isouter=True)
    .where(is_visible_to(bindparam("reader_id", type_=Integer)))
    .with_for_update(of=Post, key_share=True)
)
# The author changed nothing: `updated_at` stays.
SET_COUNTERS = NamedQuery(
    update(Post)
    .where(col(Post.id) == bindparam("posts_id", type_=Integer))
    .values(
        comment_count=bindparam("comments", type_=Integer),
        bookmark_count=bindparam("bookmarks", type_=Integer),
        updated_at=col(Post.updated_at),
    )
    .returning(col(Post.id)),
    # Lists are neither filtered nor ordered by them.
    invalidates=Invalidates.COUNTERS,
)


def make_counted_post(rows: Rows) -> CountedPost:
    if not rows:
        raise PostNotFound
    return CountedPost(**rows[0])


async def lock_post_for_counters(session: AsyncSession, post_id: int) -> CountedPost:
    """Lock and return a post before its counters change. Raises PostNotFound."""
    return make_counted_post(await execute_query(session, LOCK_POST, {"post_id": post_id}))


async def get_post_locked_for_counters(
    post_id: PathId, auth: OptionalAuth, session: SessionDep
) -> CountedPost:
    """Lock the user and a post that the user may see. Raises PostNotFound."""
    user_id = auth.user.id if auth else None
    values = {"post_id": post_id, "user_id": user_id, "reader_id": get_reader_id(auth)}
    return make_counted_post(await execute_query(session, LOCK_VISIBLE_POST, values))


PostLockedForCounters = Annotated[CountedPost, Depends(get_post_locked_for_counters)]


def make_counters_write(post: CountedPost, *, comments: int = 0, bookmarks: int = 0) -> Write:
    """Return what adds to the counters of a post that is locked."""
    post.comment_count += comments
    post.bookmark_count += bookmarks
    counters = {"comments": post.comment_count, "bookmarks": post.bookmark_count}
    return Write(SET_COUNTERS, {"posts_id": post.id, **counters})


async def change_counters(
    session: AsyncSession, post: CountedPost, *, comments: int = 0, bookmarks: int = 0
) -> None:
    """Add to the counters of a post that is locked."""
    write = make_counters_write(post, comments=comments, bookmarks=bookmarks)
    await execute_query(session, *write)


async def lock_posts_for_counters(session: AsyncSession, is_affected: ColumnElement[bool]) -> None:
    """Lock several posts in the order of their ids, before their counters change."""
    locked = select(Post.id).where(is_affected).order_by(col(Post.id))
    await session.exec(locked.with_for_update(key_share=True))


async def update_counters(
    session: AsyncSession, is_affected: ColumnElement[bool], **counters: ColumnElement[int]
) -> None:
    """Change counters of posts that are locked."""
    values = {**counters, "updated_at": col(Post.updated_at)}
    statement = update(Post).where(is_affected).values(values)
    await session.exec(statement.execution_options(synchronize_session=False))
