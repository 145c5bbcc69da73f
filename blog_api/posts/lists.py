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

from blog_api.accounts.auth import CanReadDrafts, get_optional_auth
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SCOPE_PROBLEMS, UserNotFound
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.db.base import NOW
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import connection_released
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
from blog_api.posts.queries import IS_PUBLISHED, select_found_posts
from blog_api.posts.search import make_highlighter, matching_posts
from blog_api.posts.tags import TAG_ID
from blog_api.profiles.follows import FOLLOWED_IDS
from blog_api.profiles.users import UserFromPath
from blog_api.text.snippets import Highlighter
from blog_api.web.pagination import Page, PageParams, Paginator, PaginatorDep

router = APIRouter(tags=["posts"], responses=problem_responses(ServiceUnavailable))


def make_sorts(published_at: Any, updated_at: Any, post_id: Any) -> dict[PostSort, Sort]:
    """The orders of posts, by columns of theirs or of their tags."""
    published, updated = (published_at, post_id), (updated_at, post_id)
    ever = updated_at <= NOW
    return {
        PostSort.newest: Sort("-published_at", published, is_descending=True),
        PostSort.oldest: Sort("published_at", published),
        PostSort.last_updated: Sort(
            "-updated_at", updated, is_descending=True, index_condition=ever
        ),
        PostSort.first_updated: Sort("updated_at", updated, index_condition=ever),
    }


SORTS = make_sorts(col(Post.published_at), col(Post.updated_at), col(Post.id))


TAG_SORTS = make_sorts(col(PostTag.published_at), col(PostTag.updated_at), col(PostTag.post_id))


# Of those that are used as much the first comes first.
TAG_QUERY = used_tags()


MOST_USED = Sort(
    "-post_count",
    (TAG_QUERY.selected_columns.post_count, -col(Tag.id)),
    is_descending=True,
    has_cursors=False,
)


USED_TAGS = ListQuery(TAG_QUERY)


NEWEST_CREATED_FIRST = Sort("-created_at", (col(Post.created_at), col(Post.id)), is_descending=True)


# Whose posts, by the name under which a value is bound.
AUTHOR_CONDITIONS = {
    "author": col(Post.user_id) == bindparam("author", type_=Integer),
    "user": col(Post.user_id) == bindparam("user", type_=Integer),
    "follower": col(Post.user_id).in_(FOLLOWED_IDS),
}


def get_sorts(names: AbstractSet[str]) -> dict[PostSort, Sort]:
    return TAG_SORTS if "tag" in names else SORTS


def filtered_ids(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """The ids of the posts that the filters of these names leave, but for those of times.

    Those of a tag are found by it, in their order: it has their times.
    """
    if "tag" in names:
        ids: SelectOfScalar[int] = select(col(PostTag.post_id).label("id"))
        ids = ids.where(col(PostTag.tag_id) == TAG_ID)
        if names & AUTHOR_CONDITIONS.keys():
            ids = ids.join(Post, col(Post.id) == col(PostTag.post_id))
    else:
        ids = select(Post.id)
    return ids.where(*(condition for name, condition in AUTHOR_CONDITIONS.items() if name in names))


def publication_conditions(names: AbstractSet[str]) -> list[ColumnElement[bool]]:
    """When a post is published that readers see and these filters leave: the narrowest first."""
    published_at = col(PostTag.published_at) if "tag" in names else col(Post.published_at)
    bounds = {
        "since": published_at >= bindparam("since", type_=UTCDateTime()),
        "until": published_at < bindparam("until", type_=UTCDateTime()),
    }
    is_shown = published_at <= NOW if "tag" in names else IS_PUBLISHED
    return [*(bound for name, bound in bounds.items() if name in names), is_shown]


def published_ids(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """The ids of the posts that readers see and the filters of these names leave."""
    return filtered_ids(names).where(*publication_conditions(names))


@cache
def published_posts(names: frozenset[str]) -> ListQuery:
    return ListQuery(
        filtered_ids(names),
        where=publication_conditions(names),
        total=total_count(names),
        select_rows=select_found_posts(PostRead),
    )


def search_ids(
    session: AsyncSession, names: AbstractSet[str], q: str
) -> tuple[SelectOfScalar[int], Sort]:
    """Those of the published posts that have the words of a search; and the best first."""
    ids, sort = published_ids(names), get_sorts(names)[PostSort.newest]
    post_id = sort.columns[-1]
    found = matching_posts(session, q)
    best = Sort("rank", (found.c.rank, post_id), is_descending=True, has_cursors=False)
    return ids.join(found, found.c.id == post_id), best


@cache
def posts_of_author(names: frozenset[str]) -> ListQuery:
    return ListQuery(filtered_ids(names), select_rows=select_found_posts(OwnPostRead))


async def paginate_posts(paginator: Paginator, listing: PostQuery, **whose: int) -> Page[Any]:
    """The page of published posts that is asked for: searched, sorted, with snippets."""
    values = listing.values() | whose
    names = frozenset(values)
    sort = get_sorts(names)[listing.sort or PostSort.newest]
    q = (listing.q or "").strip()
    if not q:
        return await paginator.paginate(published_posts(names), listing, sort, **values)
    ids, best = search_ids(paginator.session, names, q)
    posts = ListQuery(ids, select_rows=select_found_posts(PostRead), is_reusable=False)
    page = await paginator.paginate(posts, listing, sort if listing.sort else best, **values)
    marker = await make_highlighter(paginator.session, q)
    if marker is None:
        return page
    async with connection_released(paginator.session):
        return await anyio.to_thread.run_sync(page.map, partial(add_snippet, marker))


def add_snippet(marker: Highlighter, post: dict[str, Any]) -> dict[str, Any]:
    return {**post, "snippet": marker.snippet(post["content"])}


@router.get(
    "/posts",
    response_model=PostPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)
async def list_posts(listing: PostListing, paginator: PaginatorDep) -> Page[Any]:
    """List the published posts, the newest first, or search them, the best first."""
    return await paginate_posts(paginator, listing)


@router.get(
    "/users/{user_id:int}/posts",
    response_model=PostPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)
async def list_posts_of_user(
    user: UserFromPath, listing: PostListing, paginator: PaginatorDep
) -> Page[Any]:
    """List a user's published posts, the newest first."""
    return await paginate_posts(paginator, listing, user=user.id)


@router.get(
    "/users/me/feed",
    response_model=PostPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_feed(
    user: CanReadDrafts, listing: PostListing, paginator: PaginatorDep
) -> Page[Any]:
    """List the published posts of the authors whom one follows, the newest first."""
    return await paginate_posts(paginator, listing, follower=user.id)


@router.get(
    "/users/me/posts",
    response_model=OwnPostPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_own_posts(
    user: CanReadDrafts, listing: OwnPostListing, paginator: PaginatorDep
) -> Page[Any]:
    """List the posts of the user who asks, drafts too, the last begun first."""
    values = listing.values() | {"user": user.id}
    return await paginator.paginate(
        posts_of_author(frozenset(values)), listing, NEWEST_CREATED_FIRST, **values
    )


@router.get(
    "/tags",
    response_model=TagPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)
async def list_tags(paging: PageParams, paginator: PaginatorDep) -> Page[Any]:
    """List the tags of published posts, the most used first, by page numbers alone."""
    return await paginator.paginate(USED_TAGS, paging, MOST_USED)
