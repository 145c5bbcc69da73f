"""Bookmarks: posts that somebody wants to find again."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Integer, bindparam, delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import AccountReader, AccountWriter
from blog_api.accounts.errors import USER_PROBLEMS
from blog_api.core.errors import Conflict, NotFound, ServiceUnavailable, ValidationFailed, raises
from blog_api.core.fields import PathId
from blog_api.db.base import keep_updated_at
from blog_api.db.list_query import Collection, Sort
from blog_api.db.queries import insert_if_missing
from blog_api.db.session import SessionDep
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import Bookmark, Post, PostPage, PostRead
from blog_api.posts.queries import IS_PUBLISHED, CountedPost, change_counts, counted, found_as
from blog_api.web.pagination import Page, PagesDep, Paging

router = APIRouter(
    prefix="/users/me/bookmarks", tags=["bookmarks"], responses=raises(ServiceUnavailable)
)


BOOKMARKED = Collection(
    select(Post.id)
    .join(Bookmark, col(Bookmark.post_id) == col(Post.id))
    .where(col(Bookmark.user_id) == bindparam("user", type_=Integer), IS_PUBLISHED),
    rows_of=found_as(PostRead),
)


LATEST = Sort("-id", (col(Bookmark.id),), is_descending=True)


@router.get("", response_model=PostPage, responses=raises(*USER_PROBLEMS, ValidationFailed))
async def list_bookmarks(user: AccountReader, paging: Paging, pages: PagesDep) -> Page[Any]:
    """List the posts that one has bookmarked, the latest bookmark first.

    One that is not published is left out until it is.
    """
    return await pages.show(BOOKMARKED, paging, LATEST, user=user.id)


@router.put(
    "/{post_id:int}",
    status_code=204,
    responses=raises(*USER_PROBLEMS, PostNotFound, Conflict, ValidationFailed),
)
async def bookmark_post(access: AccountWriter, post: CountedPost, session: SessionDep) -> None:
    """Bookmark a post. Once more makes no difference."""
    bookmark = {"user_id": access.user.id, "post_id": post.id}
    if await insert_if_missing(session, Bookmark, bookmark):
        post.bookmark_count += 1
        keep_updated_at(post)


@router.delete(
    "/{post_id:int}", status_code=204, responses=raises(*USER_PROBLEMS, NotFound, ValidationFailed)
)
async def unbookmark_post(access: AccountWriter, post_id: PathId, session: SessionDep) -> None:
    """Take a bookmark away. Once more makes no difference."""
    # Be there a bookmark or not: one that comes between counting and deleting would stay counted.
    await session.exec(counted(col(Post.id) == post_id))
    await remove_bookmarks(session, access.user.id, post_id)


async def remove_bookmarks(session: AsyncSession, user_id: int, post_id: int | None = None) -> None:
    """Take away a user's bookmark of a post, or all of theirs."""
    which = [col(Bookmark.user_id) == user_id]
    if post_id is not None:
        which.append(col(Bookmark.post_id) == post_id)
    await change_counts(
        session,
        select(Bookmark.post_id).where(*which),
        bookmark_count=col(Post.bookmark_count) - 1,
    )
    await session.exec(delete(Bookmark).where(*which))
