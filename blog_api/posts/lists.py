"""Listings: posts filtered, searched and sorted; and which tags there are."""

from collections.abc import Set as AbstractSet
from functools import cache, partial
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Security
from sqlalchemy import ColumnElement, Integer, bindparam
from sqlmodel import UTCDateTime, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import DraftReader, get_access
from blog_api.accounts.errors import READER_PROBLEMS, USER_PROBLEMS, UserNotFound
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, raises
from blog_api.db.base import NOW
from blog_api.db.list_query import Collection, Sort
from blog_api.db.session import released
from blog_api.posts.counts import total_count, used_tags
from blog_api.posts.filters import OwnPostListing, PostListing, PostQuery, PostSort
from blog_api.posts.models import (
    OwnPostPage,
    OwnPostRead,
    Post,
    PostPage,
    PostRead,
    PostTag,
    Tag,
    TagPage,
)
from blog_api.posts.queries import IS_PUBLISHED, found_as
from blog_api.posts.search import found_posts, make_marker
from blog_api.posts.tags import TAG_ID
from blog_api.profiles.follows import FOLLOWED_IDS
from blog_api.profiles.users import UserFromPath
from blog_api.text.snippets import Marker
from blog_api.web.pagination import Page, Pages, PagesDep, Paging

router = APIRouter(tags=["posts"], responses=raises(ServiceUnavailable))


def sorts_by(published_at: Any, updated_at: Any, post_id: Any) -> dict[PostSort, Sort]:
    """The orders of posts, by columns of theirs or of their tags."""
    published, updated = (published_at, post_id), (updated_at, post_id)
    ever = updated_at <= NOW
    return {
        PostSort.newest: Sort("-published_at", published, is_descending=True),
        PostSort.oldest: Sort("published_at", published),
        PostSort.last_updated: Sort("-updated_at", updated, is_descending=True, within=ever),
        PostSort.first_updated: Sort("updated_at", updated, within=ever),
    }


SORTS = sorts_by(col(Post.published_at), col(Post.updated_at), col(Post.id))


SORTS_OF_TAG = sorts_by(col(PostTag.published_at), col(PostTag.updated_at), col(PostTag.post_id))


# Of those that are used as much the first comes first.
TAGS = used_tags()


MOST_USED = Sort(
    "-post_count",
    (TAGS.selected_columns.post_count, -col(Tag.id)),
    is_descending=True,
    has_cursors=False,
)


USED_TAGS = Collection(TAGS)


LAST_BEGUN = Sort("-created_at", (col(Post.created_at), col(Post.id)), is_descending=True)


# Whose posts, by the name under which a value is bound.
WHOSE = {
    "author": col(Post.user_id) == bindparam("author", type_=Integer),
    "user": col(Post.user_id) == bindparam("user", type_=Integer),
    "follower": col(Post.user_id).in_(FOLLOWED_IDS),
}


def sorts(names: AbstractSet[str]) -> dict[PostSort, Sort]:
    return SORTS_OF_TAG if "tag" in names else SORTS


def ids_by(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """The ids of the posts that the filters of these names leave, but for those of times.

    Those of a tag are found by it, in their order: it has their times.
    """
    if "tag" in names:
        ids: SelectOfScalar[int] = select(col(PostTag.post_id).label("id"))
        ids = ids.where(col(PostTag.tag_id) == TAG_ID)
        if names & WHOSE.keys():
            ids = ids.join(Post, col(Post.id) == col(PostTag.post_id))
    else:
        ids = select(Post.id)
    return ids.where(*(condition for name, condition in WHOSE.items() if name in names))


def times(names: AbstractSet[str]) -> list[ColumnElement[bool]]:
    """When a post is published that readers see and these filters leave: the narrowest first."""
    published_at = col(PostTag.published_at) if "tag" in names else col(Post.published_at)
    bounds = {
        "since": published_at >= bindparam("since", type_=UTCDateTime()),
        "until": published_at < bindparam("until", type_=UTCDateTime()),
    }
    is_shown = published_at <= NOW if "tag" in names else IS_PUBLISHED
    return [*(bound for name, bound in bounds.items() if name in names), is_shown]


def published(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """The ids of the posts that readers see and the filters of these names leave."""
    return ids_by(names).where(*times(names))


@cache
def published_posts(names: frozenset[str]) -> Collection:
    return Collection(
        ids_by(names),
        where=times(names),
        total=total_count(names),
        rows_of=found_as(PostRead),
    )


def searched(
    session: AsyncSession, names: AbstractSet[str], q: str
) -> tuple[SelectOfScalar[int], Sort]:
    """Those of the published posts that have the words of a search; and the best first."""
    ids, sort = published(names), sorts(names)[PostSort.newest]
    post_id = sort.columns[-1]
    found = found_posts(session, q)
    best = Sort("rank", (found.c.rank, post_id), is_descending=True, has_cursors=False)
    return ids.join(found, found.c.id == post_id), best


@cache
def own_posts(names: frozenset[str]) -> Collection:
    return Collection(ids_by(names), rows_of=found_as(OwnPostRead))


async def show_posts(pages: Pages, listing: PostQuery, **whose: int) -> Page[Any]:
    """The page of published posts that is asked for: searched, sorted, with snippets."""
    values = listing.values() | whose
    names = frozenset(values)
    sort = sorts(names)[listing.sort or PostSort.newest]
    q = (listing.q or "").strip()
    if not q:
        return await pages.show(published_posts(names), listing, sort, **values)
    ids, best = searched(pages.session, names, q)
    posts = Collection(ids, rows_of=found_as(PostRead), is_named=False)
    page = await pages.show(posts, listing, sort if listing.sort else best, **values)
    marker = await make_marker(pages.session, q)
    if marker is None:
        return page
    async with released(pages.session):
        return await anyio.to_thread.run_sync(page.of, partial(with_snippet, marker))


def with_snippet(marker: Marker, post: dict[str, Any]) -> dict[str, Any]:
    return {**post, "snippet": marker.snippet(post["content"])}


@router.get(
    "/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_access)],
)
async def list_posts(listing: PostListing, pages: PagesDep) -> Page[Any]:
    """List the published posts, the newest first, or search them, the best first."""
    return await show_posts(pages, listing)


@router.get(
    "/users/{user_id:int}/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[Security(get_access)],
)
async def list_posts_of_user(
    user: UserFromPath, listing: PostListing, pages: PagesDep
) -> Page[Any]:
    """List a user's published posts, the newest first."""
    return await show_posts(pages, listing, user=user.id)


@router.get(
    "/users/me/feed",
    response_model=PostPage,
    responses=raises(*USER_PROBLEMS, ValidationFailed),
)
async def list_feed(user: DraftReader, listing: PostListing, pages: PagesDep) -> Page[Any]:
    """List the published posts of the authors whom one follows, the newest first."""
    return await show_posts(pages, listing, follower=user.id)


@router.get(
    "/users/me/posts",
    response_model=OwnPostPage,
    responses=raises(*USER_PROBLEMS, ValidationFailed),
)
async def list_own_posts(user: DraftReader, listing: OwnPostListing, pages: PagesDep) -> Page[Any]:
    """List the posts of the user who asks, drafts too, the last begun first."""
    values = listing.values() | {"user": user.id}
    return await pages.show(own_posts(frozenset(values)), listing, LAST_BEGUN, **values)


@router.get(
    "/tags",
    response_model=TagPage,
    responses=raises(*READER_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_access)],
)
async def list_tags(paging: Paging, pages: PagesDep) -> Page[Any]:
    """List the tags of published posts, the most used first, by page numbers alone."""
    return await pages.show(USED_TAGS, paging, MOST_USED)
