"""Feeds: the newest posts as JSON Feed 1.1, Atom (RFC 4287) and RSS 2.0."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from pydantic import Field as SchemaField
from sqlalchemy import func
from sqlmodel import Field, SQLModel, col, select

from blog_api.accounts.auth import get_optional_auth
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.settings import Settings
from blog_api.db.queries import execute_query
from blog_api.db.session import SessionDep, connection_released
from blog_api.posts.filters import PostFilter, PostSort
from blog_api.posts.lists import SORTS, get_sorts, published_ids, search_ids
from blog_api.posts.models import Post
from blog_api.web.links import append_query, make_link, make_self_link
from blog_api.web.pagination import MAX_PAGE_SIZE

router = APIRouter(
    tags=["feeds"],
    responses=problem_responses(ServiceUnavailable, *OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)


# Of a feed with nothing in it, which has to be updated some time.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# The generator changes the locale of the process, and back.
ONE_AT_A_TIME = CapacityLimiter(1)


# How much HTML there is in a feed, in characters; one post may have more.
MAX_HTML_LENGTH = 2_000_000


class FeedQuery(PostFilter):
    """Which posts, and how many."""

    size: int = Field(default=20, ge=1, le=MAX_PAGE_SIZE, description="How many there are at most.")


class FeedAuthor(SQLModel):
    """Who wrote it."""

    name: str


class FeedItem(SQLModel):
    """A post."""

    id: str
    url: str
    title: str
    content_html: str
    date_published: datetime
    date_modified: datetime
    authors: list[FeedAuthor]
    tags: list[str]


class JSONFeed(SQLModel):
    """A feed by https://www.jsonfeed.org/version/1.1/."""

    version: Literal["https://jsonfeed.org/version/1.1"] = "https://jsonfeed.org/version/1.1"
    title: str
    home_page_url: str | None = SchemaField(
        default=None, exclude_if=lambda url: url is None, description="Where `BLOG_PUBLIC_URL` is."
    )
    feed_url: str
    items: list[FeedItem]


class JSONFeedResponse(JSONResponse):
    media_type = "application/feed+json"


class AtomResponse(Response):
    media_type = "application/atom+xml"


class RSSResponse(Response):
    media_type = "application/rss+xml"


@dataclass(frozen=True)
class FeedEntry:
    """A post in a feed."""

    id: str
    url: str
    post: Post

    @property
    def published_at(self) -> datetime:
        # Only published posts come here.
        return self.post.published_at or self.post.created_at

    @property
    def updated_at(self) -> datetime:
        """A post that was scheduled is news when it comes out."""
        return max(self.post.updated_at, self.published_at)


@dataclass(frozen=True)
class Feed:
    """What all formats tell. Links are absolute where `BLOG_PUBLIC_URL` is set."""

    title: str
    public_url: str | None
    url: str
    entries: Sequence[FeedEntry]

    @property
    def updated_at(self) -> datetime | None:
        return max((entry.updated_at for entry in self.entries), default=None)

    def headers(self) -> dict[str, str]:
        if self.updated_at is None:
            return {}
        return {"Last-Modified": format_datetime(self.updated_at, usegmt=True)}


def limit_by_length(sizes: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """The ids of as many as a feed has room for, at least of one."""
    length = 0
    for size in sizes:
        length += size["length"]
        if length > max(MAX_HTML_LENGTH, size["length"]):
            return
        yield size["id"]


def make_post_url(request: Request, settings: Settings, post: Post) -> str:
    """Where a reader of the feed goes on."""
    if settings.post_url is None:
        return make_link(request, f"/posts/slug/{post.slug}")
    return settings.post_url.replace("{slug}", quote(post.slug)).replace("{id}", str(post.id))


async def get_feed(
    filter: Annotated[FeedQuery, Query()], session: SessionDep, request: Request
) -> Feed:
    """The newest posts that the filters leave."""
    settings: Settings = request.app.state.settings
    values = filter.values()
    if filter.q and filter.q.strip():
        posts, _ = search_ids(session, values.keys(), filter.q)
    else:
        posts = published_ids(values.keys())
    newest = get_sorts(values.keys())[PostSort.newest]
    found = posts.order_by(*newest.order_by(newest.columns)).limit(filter.size).subquery()
    order = SORTS[PostSort.newest].order_by(SORTS[PostSort.newest].columns)
    sizes = (
        select(Post.id, func.length(Post.content_html).label("length"))
        .join(found, found.c.id == col(Post.id))
        .order_by(*order)
    )
    ids = list(limit_by_length(await execute_query(session, sizes, values)))
    entries = select(Post).where(col(Post.id).in_(ids)).order_by(*order)
    sent = filter.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    base = f"{settings.public_url}/posts/" if settings.public_url else "urn:blog-api:post:"
    return Feed(
        title=settings.title,
        public_url=settings.public_url,
        url=append_query(make_self_link(request), urlencode(sent)),
        entries=[
            FeedEntry(
                # It stays the same whatever prefix the feed is asked for under.
                id=f"{base}{post.id}",
                url=make_post_url(request, settings, post),
                post=post,
            )
            for post in await session.exec(entries)
        ],
    )


FeedDep = Annotated[Feed, Depends(get_feed)]


def build_feed(feed: Feed) -> Any:
    """A feed, to be written in XML."""
    # With lxml it takes five megabytes, which not every blog needs.
    from feedgen.feed import FeedGenerator

    generator = FeedGenerator()
    # RSS has no room for an author without an address: an element of Dublin Core names them.
    generator.load_extension("dc", atom=False)
    generator.id(feed.url if feed.public_url else f"urn:blog-api:feed:{quote(feed.url, '')}")
    generator.title(feed.title)
    generator.description(feed.title)
    # The last link is the one of RSS.
    generator.link(href=feed.url, rel="self")
    generator.link(href=feed.public_url or "/", rel="alternate")
    generator.updated(feed.updated_at or EPOCH)
    for entry in feed.entries:
        item = generator.add_entry(order="append")
        item.id(entry.id)
        item.guid(entry.id, permalink=False)
        item.title(entry.post.title)
        item.link(href=entry.url)
        item.author(name=entry.post.user_name)
        item.dc.dc_creator(entry.post.user_name)
        item.published(entry.published_at)
        item.updated(entry.updated_at)
        item.content(entry.post.content_html, type="html")
        item.category([{"term": tag} for tag in entry.post.tags])
    return generator


def write_atom(feed: Feed) -> bytes:
    return bytes(build_feed(feed).atom_str())


def write_rss(feed: Feed) -> bytes:
    return bytes(build_feed(feed).rss_str())


@router.get("/feed.json", response_model=JSONFeed, response_class=JSONFeedResponse)
async def read_json_feed(feed: FeedDep, response: Response) -> JSONFeed:
    """The newest posts as JSON Feed."""
    response.headers.update(feed.headers())
    return JSONFeed(
        title=feed.title,
        home_page_url=feed.public_url,
        feed_url=feed.url,
        items=[
            FeedItem(
                id=entry.id,
                url=entry.url,
                title=entry.post.title,
                content_html=entry.post.content_html,
                date_published=entry.published_at,
                date_modified=entry.updated_at,
                authors=[FeedAuthor(name=entry.post.user_name)],
                tags=entry.post.tags,
            )
            for entry in feed.entries
        ],
    )


@router.get("/feed.atom", response_class=AtomResponse)
async def read_atom_feed(feed: FeedDep, session: SessionDep) -> Response:
    """The newest posts as Atom."""
    async with connection_released(session):
        content = await anyio.to_thread.run_sync(write_atom, feed, limiter=ONE_AT_A_TIME)
    return AtomResponse(content, headers=feed.headers())


@router.get("/feed.rss", response_class=RSSResponse)
async def read_rss_feed(feed: FeedDep, session: SessionDep) -> Response:
    """The newest posts as RSS."""
    async with connection_released(session):
        content = await anyio.to_thread.run_sync(write_rss, feed, limiter=ONE_AT_A_TIME)
    return RSSResponse(content, headers=feed.headers())
