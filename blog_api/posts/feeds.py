"""Feeds of the newest posts: `/feed.json`, `/feed.atom`, `/feed.rss`.

They have an ETag but no `Last-Modified`: a post that leaves a feed changes no date in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import SAME_FOR_ALL
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.settings import Settings
from blog_api.db.queries import execute_query
from blog_api.db.session import SessionDep, acquire_expensive_slot, connection_released
from blog_api.posts.feed_formats import (
    ATOM_EXAMPLE,
    MAX_HTML_LENGTH,
    RSS_EXAMPLE,
    AtomFeed,
    Feed,
    FeedEntry,
    JSONFeed,
    RSSFeed,
    make_json_feed,
)
from blog_api.posts.filters import PostFilter, PostSort
from blog_api.posts.lists import SORTS, get_sorts, published_ids, search_ids
from blog_api.posts.models import Post
from blog_api.posts.search import get_kind, get_search_values
from blog_api.text.search_terms import parse_terms
from blog_api.web.links import append_query, make_link, make_self_link
from blog_api.web.pagination import MAX_PAGE_SIZE

router = APIRouter(
    tags=["feeds"],
    responses=problem_responses(ServiceUnavailable, *OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)

# Of uvicorn.
DEFAULT_PORT = 8000


class FeedQuery(PostFilter):
    """Filters and size of a feed."""

    size: int = Field(
        default=20, ge=1, le=MAX_PAGE_SIZE, description="Maximum number of posts.", examples=[20]
    )


class JSONFeedResponse(JSONResponse):
    media_type = "application/feed+json"


class AtomResponse(Response):
    media_type = "application/atom+xml"


class RSSResponse(Response):
    media_type = "application/rss+xml"


def example_response(response_class: type[Response], example: str) -> dict[int | str, Any]:
    return {200: {"content": {response_class.media_type: {"example": example}}}}


def limit_by_length(posts: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """Yield the ids of the first posts that fit into a feed, at least one."""
    total = 0
    for post in posts:
        total += post["length"]
        if total > max(MAX_HTML_LENGTH, post["length"]):
            return
        yield post["id"]


async def find_posts(session: AsyncSession, query: FeedQuery) -> Sequence[Post]:
    """Return the newest published posts that match the filters and fit into a feed."""
    values = query.values()
    names = frozenset(values)
    if query.q and query.q.strip():
        terms = parse_terms(query.q)
        kind = get_kind(session, terms, is_ranked=False, is_filtered=bool(names))
        matching, newest, _ = search_ids(names, kind, PostSort.newest)
        values |= get_search_values(kind, terms)
    else:
        matching, newest = published_ids(names), get_sorts(names)[PostSort.newest]
    ids = matching.order_by(*newest.order_by(newest.columns)).limit(query.size).subquery()
    order = SORTS[PostSort.newest].order_by(SORTS[PostSort.newest].columns)
    lengths = (
        select(Post.id, func.length(Post.content_html).label("length"))
        .join(ids, ids.c.id == col(Post.id))
        .order_by(*order)
    )
    await acquire_expensive_slot(session)
    rows = await execute_query(session, lengths, values)
    fitting = list(limit_by_length(rows))
    posts = await session.exec(select(Post).where(col(Post.id).in_(fitting)).order_by(*order))
    return posts.all()


def make_post_url(request: Request, settings: Settings, origin: str, post: Post) -> str:
    """Return the link to a post: `BLOG_POST_URL` filled in, or the route of its slug."""
    if settings.post_url is None:
        return origin + make_link(request, f"/posts/slug/{post.slug}")
    return settings.post_url.replace("{slug}", quote(post.slug)).replace("{id}", str(post.id))


def make_origin(request: Request, settings: Settings) -> str:
    """Return the start of absolute links; empty if `BLOG_PUBLIC_URL` is part of each link.

    The port is that of the socket: a client may send any `Host`.
    """
    if settings.public_url:
        return ""
    _, port = request.scope.get("server") or ("", None)
    return f"http://127.0.0.1:{port or DEFAULT_PORT}"


async def get_feed(
    query: Annotated[FeedQuery, Query()], session: SessionDep, request: Request
) -> Feed:
    settings: Settings = request.app.state.settings
    # Without the prefix of the request path: a feed reader shows a post with another id as new.
    base = f"{settings.public_url}/posts/" if settings.public_url else "urn:blog-api:post:"
    sent = query.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    origin = make_origin(request, settings)
    link = append_query(make_self_link(request), urlencode(sent))
    return Feed(
        id=link if settings.public_url else f"urn:blog-api:feed:{quote(link, '')}",
        title=settings.title,
        public_url=settings.public_url,
        home_url=settings.public_url or f"{origin}/",
        service_url=settings.public_url or origin,
        url=origin + link,
        entries=[
            FeedEntry(
                id=f"{base}{post.id}",
                url=make_post_url(request, settings, origin, post),
                post=post,
                content_html=post.content_html,
            )
            for post in await find_posts(session, query)
        ],
    )


FeedDep = Annotated[Feed, Depends(get_feed)]


@router.get("/feed.json", response_model=JSONFeed, response_class=JSONFeedResponse)
async def read_json_feed(feed: FeedDep, session: SessionDep) -> JSONFeed:
    """Get the newest posts as JSON Feed 1.1."""
    async with connection_released(session):
        return await anyio.to_thread.run_sync(make_json_feed, feed)


@router.get(
    "/feed.atom",
    response_class=AtomResponse,
    responses=example_response(AtomResponse, ATOM_EXAMPLE),
)
async def read_atom_feed(feed: FeedDep, session: SessionDep) -> Response:
    """Get the newest posts as Atom (RFC 4287)."""
    async with connection_released(session):
        content = await anyio.to_thread.run_sync(AtomFeed.write_xml, feed)
    return AtomResponse(content)


@router.get(
    "/feed.rss",
    response_class=RSSResponse,
    responses=example_response(RSSResponse, RSS_EXAMPLE),
)
async def read_rss_feed(feed: FeedDep, session: SessionDep) -> Response:
    """Get the newest posts as RSS 2.0."""
    async with connection_released(session):
        content = await anyio.to_thread.run_sync(RSSFeed.write_xml, feed)
    return RSSResponse(content)
