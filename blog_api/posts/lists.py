"""Lists of posts, filtered, searched and sorted; the list of tags.

The statements of a list depend on the names of its filters alone: each combination is built once,
and the values are bound.
"""

from collections.abc import Set as AbstractSet
from functools import cache, partial
from typing import Any, NamedTuple

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter
from sqlalchemy import ColumnElement, Integer, Subquery, bindparam, case, func
from sqlmodel import UTCDateTime, col, false, select
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import SAME_FOR_ALL, CanReadDrafts
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SCOPE_PROBLEMS, UserNotFound
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.db.base import NOW
from blog_api.db.list_query import AnySelect, FoundRows, ListQuery, Sort
from blog_api.db.session import connection_released
from blog_api.posts.bodies import PostBody
from blog_api.posts.counts import total_count, used_tags
from blog_api.posts.filters import BookmarkQuery, OwnPostParams, PostParams, PostQuery, PostSort
from blog_api.posts.models import (
    OwnPostPage,
    OwnPostRead,
    Post,
    PostPage,
    PostRead,
    PostTag,
    TagPage,
)
from blog_api.posts.queries import (
    AUTHOR_IDS,
    IS_PUBLISHED,
    complete_post,
    list_of_posts,
    select_found_posts,
)
from blog_api.posts.search import SearchKind, get_kind, get_search_values, matching_posts
from blog_api.posts.tags import TAG_ID, select_found_tags, show_tag
from blog_api.profiles.follows import FOLLOWED_IDS
from blog_api.profiles.users import UserFromKey
from blog_api.text.excerpts import cut_html, extract_text
from blog_api.text.search_terms import parse_terms
from blog_api.text.snippets import Highlighter
from blog_api.web.conditional import mark_rows
from blog_api.web.pagination import (
    MAX_PAGE_SIZE,
    Page,
    PageParams,
    Paginator,
    PaginatorDep,
    parse_ids,
)

router = APIRouter(tags=["posts"], responses=problem_responses(ServiceUnavailable))


def make_publication_sorts(published_at: Any, post_id: Any) -> dict[PostSort, Sort]:
    """Return the orders of posts by the time of publication."""
    columns = (published_at, post_id)
    return {
        PostSort.newest: Sort("-published_at", columns, is_descending=True),
        PostSort.oldest: Sort("published_at", columns),
    }


def make_sorts(published_at: Any, updated_at: Any, post_id: Any) -> dict[PostSort, Sort]:
    """Return the orders of posts by columns of `posts` or of `post_tags`."""
    updated = (updated_at, post_id)
    # All rows fulfill it; it makes them a range of the index.
    is_past = updated_at <= NOW
    return {
        **make_publication_sorts(published_at, post_id),
        PostSort.last_updated: Sort(
            "-updated_at", updated, is_descending=True, index_condition=is_past
        ),
        PostSort.first_updated: Sort("updated_at", updated, index_condition=is_past),
    }


SORTS = make_sorts(col(Post.published_at), col(Post.updated_at), col(Post.id))

TAG_SORTS = make_sorts(col(PostTag.published_at), col(PostTag.updated_at), col(PostTag.post_id))

USED_TAG_IDS, NUMBER_OF_USED_TAGS = used_tags()

MOST_USED = Sort(
    "-post_count",
    (USED_TAG_IDS.selected_columns.post_count, USED_TAG_IDS.selected_columns.id),
    is_descending=True,
    id_ascends=True,
    has_cursors=False,
)

USED_TAGS = ListQuery(USED_TAG_IDS, total=NUMBER_OF_USED_TAGS, select_rows=select_found_tags)

NEWEST_CREATED_FIRST = Sort("-created_at", (col(Post.created_at), col(Post.id)), is_descending=True)

# In characters, of one text and of all on a page: searching them holds the interpreter's lock.
MAX_SNIPPET_TEXT = 20_000
MAX_SNIPPET_TEXTS = 200_000

# Conditions on the author by the name of the bound parameter.
AUTHOR_CONDITIONS = {
    **{name: col(Post.user_id) == author for name, author in AUTHOR_IDS.items()},
    "follower": col(Post.user_id).in_(FOLLOWED_IDS),
}


def get_sorts(names: AbstractSet[str]) -> dict[PostSort, Sort]:
    return TAG_SORTS if "tag" in names else SORTS


def filtered_ids(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """Select the ids of posts by the filters of these names, except those on times.

    The posts of a tag are read from `post_tags`, which has them in order.
    """
    if "tag" in names:
        ids: SelectOfScalar[int] = select(col(PostTag.post_id).label("id"))
        ids = ids.where(col(PostTag.tag_id) == TAG_ID)
        if names & AUTHOR_CONDITIONS.keys():
            ids = ids.join(Post, col(Post.id) == col(PostTag.post_id))
    else:
        ids = select(Post.id)
    return ids.where(*(condition for name, condition in AUTHOR_CONDITIONS.items() if name in names))


def publication_conditions(
    names: AbstractSet[str], column: Any = None
) -> list[ColumnElement[bool]]:
    """Return the conditions on the publication of listed posts, the narrowest bound first.

    `column` is the time of publication, null for a post that is in no list.
    """
    if column is None and "tag" in names:
        column = col(PostTag.published_at)
    published_at = col(Post.published_at) if column is None else column
    bounds = {
        "since": published_at >= bindparam("since", type_=UTCDateTime()),
        "until": published_at < bindparam("until", type_=UTCDateTime()),
    }
    is_published = IS_PUBLISHED if column is None else published_at <= NOW
    return [*(bound for name, bound in bounds.items() if name in names), is_published]


def published_ids(names: AbstractSet[str]) -> SelectOfScalar[int]:
    """Select the ids of the published posts by the filters of these names."""
    return filtered_ids(names).where(*publication_conditions(names))


@cache
def published_posts(names: frozenset[str], body: PostBody) -> ListQuery:
    return list_of_posts(
        filtered_ids(names),
        PostRead,
        body,
        where=publication_conditions(names),
        total=total_count(names),
    )


class FoundIds(NamedTuple):
    """The ids of posts that match a search, and their order."""

    ids: SelectOfScalar[int]
    order: Sort
    # Their number; None if the ids are to be counted.
    total: ColumnElement[int] | None = None


def search_ids(names: AbstractSet[str], kind: SearchKind | None, sort: PostSort | None) -> FoundIds:
    """Select the ids of the published posts that match a search.

    Without a sort they are ordered by rank. Without a kind no post matches.
    """
    if kind is None:
        order = get_sorts(names)[sort or PostSort.newest]
        return FoundIds(published_ids(names).where(false()), order)
    found = matching_posts(kind).c
    if names & {"tag", *AUTHOR_CONDITIONS} or sort in (
        PostSort.last_updated,
        PostSort.first_updated,
    ):
        sorts = get_sorts(names)
        post_id = sorts[PostSort.newest].columns[-1]
        ids = published_ids(names).join(found.id.table, found.id == post_id)
    else:
        # The rows of the posts are long, and those of the index have what is needed.
        sorts, post_id = make_publication_sorts(found.published_at, found.id), found.id
        ids = select(found.id).where(*publication_conditions(names, found.published_at))
    if sort is not None:
        return FoundIds(ids, sorts[sort])
    by_rank = Sort("rank", (found.rank, post_id), is_descending=True, has_cursors=False)
    if not kind.is_counted:
        return FoundIds(ids, by_rank)
    number = select(func.coalesce(func.max(found.number), 0)).scalar_subquery()
    return FoundIds(ids, by_rank, number)


@cache
def found_posts(
    names: frozenset[str], kind: SearchKind | None, sort: PostSort | None, body: PostBody
) -> tuple[ListQuery, Sort]:
    """Return the list of the posts that match a search, with the beginnings of their texts."""
    select_rows = select_found_posts(PostRead, body)
    beginning = func.substr(
        col(Post.content_html), 1, bindparam("snippet_length", type_=Integer)
    ).label("beginning")

    def select_with_beginning(found: FoundRows) -> tuple[AnySelect, Subquery]:
        query, sized = select_rows(found)
        return query.add_columns(beginning), sized

    found_ids = search_ids(names, kind, sort)
    posts = ListQuery(
        found_ids.ids,
        total=found_ids.total,
        select_rows=select_with_beginning,
        complete_row=complete_post,
    )
    return posts, found_ids.order


@cache
def posts_of_author(names: frozenset[str], body: PostBody) -> ListQuery:
    return list_of_posts(filtered_ids(names), OwnPostRead, body)


async def paginate_posts(paginator: Paginator, params: PostQuery, **author: int) -> Page[Any]:
    """Return a page of published posts: filtered, searched, sorted, with snippets."""
    values = params.values() | author
    names = frozenset(values)
    if params.ids is not None:
        return await read_posts_by_ids(paginator, published_ids(names), params, **values)
    q = (params.q or "").strip()
    if not q:
        sort = get_sorts(names)[params.sort or PostSort.newest]
        page = await paginator.paginate(published_posts(names, params.body), params, sort, **values)
        mark_shown_posts(paginator, page)
        return page
    terms = parse_terms(q)
    kind = get_kind(
        paginator.session, terms, is_ranked=params.sort is None, is_filtered=bool(names)
    )
    posts, sort = found_posts(names, kind, params.sort, params.body)
    values |= get_search_values(kind, terms)
    values["snippet_length"] = min(MAX_SNIPPET_TEXT, MAX_SNIPPET_TEXTS // params.size)
    page = await paginator.paginate(posts, params, sort, **values)
    mark_shown_posts(paginator, page)
    highlighter = Highlighter(terms)
    # One at a time: threads that search texts take turns with the event loop.
    limiter: CapacityLimiter = paginator.request.app.state.snippet_thread
    async with connection_released(paginator.session):
        return await anyio.to_thread.run_sync(
            page.map, partial(add_snippet, highlighter), limiter=limiter
        )


def mark_shown_posts(paginator: Paginator, page: Page[Any]) -> None:
    mark_rows(paginator.request, "posts", (post["id"] for post in page.results))


async def read_posts_by_ids(
    paginator: Paginator,
    query: SelectOfScalar[int],
    params: PostQuery | BookmarkQuery,
    **values: int,
) -> Page[Any]:
    """Return the posts of a query that have the requested ids, in the order of these."""
    assert params.ids is not None
    ids = parse_ids(params.ids)
    places = {post_id: place for place, post_id in enumerate(ids)}
    order = Sort("ids", (case(places, value=col(Post.id)), col(Post.id)), has_cursors=False)
    found_ids = query.where(col(Post.id).in_(ids))
    posts = list_of_posts(found_ids, PostRead, params.body, is_reusable=False)
    found = await posts.fetch_page(paginator.session, order, values, size=MAX_PAGE_SIZE)
    return Page[Any].model_construct(
        total_count=found.total_count, results=found.rows, next_cursor=None
    )


def add_snippet(highlighter: Highlighter, post: dict[str, Any]) -> dict[str, Any]:
    html = post["beginning"]
    return {**post, "snippet": highlighter.snippet(extract_text(cut_html(html, len(html))))}


@router.get(
    "/posts",
    response_model=PostPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def list_posts(params: PostParams, paginator: PaginatorDep) -> Page[Any]:
    """List the published posts, newest first, or search them by relevance."""
    return await paginate_posts(paginator, params)


@router.get(
    "/users/me/feed",
    response_model=PostPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_feed(user: CanReadDrafts, params: PostParams, paginator: PaginatorDep) -> Page[Any]:
    """List the published posts of the followed authors, newest first."""
    return await paginate_posts(paginator, params, follower=user.id)


@router.get(
    "/users/me/posts",
    response_model=OwnPostPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_own_posts(
    user: CanReadDrafts, params: OwnPostParams, paginator: PaginatorDep
) -> Page[Any]:
    """List the user's own posts, including drafts, newest first."""
    values = params.values() | {"user": user.id}
    return await paginator.paginate(
        posts_of_author(frozenset(values), params.body), params, NEWEST_CREATED_FIRST, **values
    )


@router.get(
    "/users/{user_id}/posts",
    response_model=PostPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def list_posts_of_user(
    user: UserFromKey, params: PostParams, paginator: PaginatorDep
) -> Page[Any]:
    """List the published posts of a user, by id or username, newest first."""
    return await paginate_posts(paginator, params, user=user.id)


@router.get(
    "/tags",
    response_model=TagPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def list_tags(params: PageParams, paginator: PaginatorDep) -> Page[Any]:
    """List the tags of published posts, most used first. There are no cursors."""
    page = await paginator.paginate(USED_TAGS, params, MOST_USED)
    return page.map(show_tag)
