"""Bookmarks of the user: `/users/me/bookmarks`."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Depends
from sqlalchemy import Integer, bindparam, delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import CanWriteAccount, CurrentUser
from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.accounts.write_limits import limit_follows_and_bookmarks
from blog_api.core.errors import (
    Conflict,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId
from blog_api.db.list_query import Sort
from blog_api.db.queries import BATCH_SIZE, NamedQuery, execute_query, insert_row_if_missing
from blog_api.db.session import SessionDep
from blog_api.posts.bodies import PostBody
from blog_api.posts.counters import (
    CountedPost,
    PostLockedForCounters,
    change_counters,
    lock_post_for_counters,
    lock_posts_for_counters,
    update_counters,
)
from blog_api.posts.errors import PostNotFound
from blog_api.posts.filters import BookmarkParams
from blog_api.posts.lists import read_posts_by_ids
from blog_api.posts.models import Bookmark, Post, PostPage, PostRead
from blog_api.posts.queries import IS_PUBLISHED, list_of_posts
from blog_api.web.pagination import Page, PaginatorDep

router = APIRouter(
    prefix="/users/me/bookmarks",
    tags=["bookmarks"],
    responses=problem_responses(ServiceUnavailable),
)

BOOKMARKED_IDS = (
    select(Post.id)
    .join(Bookmark, col(Bookmark.post_id) == col(Post.id))
    .where(col(Bookmark.user_id) == bindparam("user", type_=Integer), IS_PUBLISHED)
)

BOOKMARKED_POSTS = {body: list_of_posts(BOOKMARKED_IDS, PostRead, body) for body in PostBody}

DELETE_BOOKMARK = NamedQuery(
    delete(Bookmark)
    .where(col(Bookmark.user_id) == bindparam("user", type_=Integer))
    .where(col(Bookmark.post_id) == bindparam("post", type_=Integer))
    .returning(col(Bookmark.id))
)

NEWEST_FIRST = Sort("-id", (col(Bookmark.id),), is_descending=True)


@router.get(
    "", response_model=PostPage, responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed)
)
async def list_bookmarks(
    user: CurrentUser, params: BookmarkParams, paginator: PaginatorDep
) -> Page[Any]:
    """List the bookmarked posts, newest bookmark first, or tell which of some are bookmarked.

    A post that is not published is left out until it is.
    """
    if params.ids is not None:
        return await read_posts_by_ids(paginator, BOOKMARKED_IDS, params, user=user.id)
    return await paginator.paginate(
        BOOKMARKED_POSTS[params.body], params, NEWEST_FIRST, user=user.id
    )


@router.get(
    "/{post_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, PostNotFound, ValidationFailed),
)
async def check_bookmarked(user: CurrentUser, post_id: PathId, session: SessionDep) -> None:
    """Return 204 if the user has bookmarked this post, and 404 if not or if it is hidden."""
    query = BOOKMARKED_IDS.where(col(Post.id) == post_id)
    if (await session.exec(query, params={"user": user.id})).first() is None:
        raise PostNotFound


@router.put(
    "/{post_id:int}",
    status_code=204,
    responses=problem_responses(
        *SCOPE_PROBLEMS, PostNotFound, Conflict, TooManyRequests, ValidationFailed
    ),
    dependencies=[Depends(limit_follows_and_bookmarks)],
)
async def bookmark_post(
    auth: CanWriteAccount, post: PostLockedForCounters, session: SessionDep
) -> None:
    """Bookmark a post. Idempotent."""
    await add_bookmark(session, auth.user.id, post)


@router.delete(
    "/{post_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, NotFound, TooManyRequests, ValidationFailed),
    dependencies=[Depends(limit_follows_and_bookmarks)],
)
async def unbookmark_post(auth: CanWriteAccount, post_id: PathId, session: SessionDep) -> None:
    """Remove a bookmark. Idempotent."""
    # Lock even without a bookmark: one that is added meanwhile would be deleted but not counted.
    with suppress(PostNotFound):
        post = await lock_post_for_counters(session, post_id)
        await remove_bookmark(session, auth.user.id, post)


async def add_bookmark(session: AsyncSession, user_id: int, post: CountedPost) -> None:
    """Bookmark a post that is locked, unless the user has."""
    row = {"user_id": user_id, "post_id": post.id}
    if await insert_row_if_missing(session, Bookmark, row) is not None:
        await change_counters(session, post, bookmarks=1)


async def remove_bookmark(session: AsyncSession, user_id: int, post: CountedPost) -> None:
    """Remove the bookmark of a post that is locked, if the user has one."""
    values = {"user": user_id, "post": post.id}
    if await execute_query(session, DELETE_BOOKMARK, values):
        await change_counters(session, post, bookmarks=-1)


async def remove_some_bookmarks(session: AsyncSession, user_id: int) -> bool:
    """Remove a batch of a user's bookmarks; return whether more may be left."""
    query = select(Bookmark.id).where(col(Bookmark.user_id) == user_id).limit(BATCH_SIZE)
    ids = (await session.exec(query)).all()
    which = col(Bookmark.id).in_(ids)
    is_bookmarked = col(Post.id).in_(select(Bookmark.post_id).where(which))
    await lock_posts_for_counters(session, is_bookmarked)
    await update_counters(session, is_bookmarked, bookmark_count=col(Post.bookmark_count) - 1)
    await session.exec(delete(Bookmark).where(which))
    return len(ids) == BATCH_SIZE
