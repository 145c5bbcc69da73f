"""Listings: posts filtered, searched and sorted; and which tags there are."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Security
from pydantic import Field as SchemaField
from sqlalchemy import func, text
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select, SelectOfScalar

from blog_api.database import released
from blog_api.errors import ServiceUnavailable, ValidationFailed, raises
from blog_api.fields import LARGEST_INT, Input, TagName, Time
from blog_api.follows import followed_ids
from blog_api.paging import Page, PageQuery, Pages, PagesDep, Paging, Sort
from blog_api.posts import OwnPostRead, Post, PostRead, is_published, listed_posts
from blog_api.search import QUERY_LENGTH, found_posts, make_marker
from blog_api.snippets import Marker
from blog_api.tags import PostTag, Tag, tagged_ids
from blog_api.tokens import READER_PROBLEMS, USER_PROBLEMS, DraftReader, get_reader
from blog_api.users import UserFromPath, UserNotFound

router = APIRouter(tags=["posts"], responses=raises(ServiceUnavailable))


class PostSort(StrEnum):
    """By publication or by the last change; with a minus the latest come first."""

    newest = "-published_at"
    oldest = "published_at"
    last_updated = "-updated_at"
    first_updated = "updated_at"


class TagFilter(Input):
    """Posts of one tag, or of all."""

    tag: TagName | None = Field(default=None, description="A tag; case makes no difference.")


class PostFilter(TagFilter):
    """Which posts; filters combine."""

    author: int | None = Field(
        default=None, ge=1, le=LARGEST_INT, description="The id of a user, whose posts they are."
    )
    since: Time | None = Field(default=None, description="Published at this time or later.")
    until: Time | None = Field(default=None, description="Published before this time.")
    q: str | None = Field(
        default=None,
        max_length=QUERY_LENGTH,
        description="Words that they have, whole or in their beginning, in title, tags or "
        "content; in quotation marks, side by side.",
    )


class PostQuery(PostFilter, PageQuery):
    """Which posts, in which order, and which page of them."""

    sort: PostSort | None = Field(
        default=None,
        description="Left out: the newest first; with `q` the best first, and no cursors.",
    )


class OwnPostQuery(TagFilter, PageQuery):
    """Which of one's own posts, and which page of them."""


PostListing = Annotated[PostQuery, Query()]
OwnPostListing = Annotated[OwnPostQuery, Query()]


class ListedPost(PostRead):
    """A post in a list."""

    snippet: str | None = SchemaField(
        default=None,
        exclude_if=lambda snippet: snippet is None,
        description="With `q` alone: where the words stand, as HTML with `<mark>`.",
    )


class PostPage(Page[ListedPost]):
    """A page of posts, and how many there are on all pages."""


class OwnPostPage(Page[OwnPostRead]):
    """A page of posts, and how many there are on all pages."""


class TagRead(SQLModel):
    """A tag."""

    name: str
    post_count: int = Field(description="Of published posts.")


class TagPage(Page[TagRead]):
    """A page of tags, and how many there are on all pages."""


BY_PUBLICATION = (col(Post.published_at), col(Post.id))
BY_UPDATE = (col(Post.updated_at), col(Post.id))
SORTS = {
    PostSort.newest: Sort("-published_at", BY_PUBLICATION, is_descending=True),
    PostSort.oldest: Sort("published_at", BY_PUBLICATION),
    PostSort.last_updated: Sort("-updated_at", BY_UPDATE, is_descending=True),
    PostSort.first_updated: Sort("updated_at", BY_UPDATE),
}
LAST_BEGUN = Sort("-created_at", (col(Post.created_at), col(Post.id)), is_descending=True)


def published(posts: SelectOfScalar[Post], filter: PostFilter) -> SelectOfScalar[Post]:
    """Those of these posts that readers see and a filter leaves, before they are searched."""
    query = tagged(posts, filter).where(is_published())
    if filter.author is not None:
        query = query.where(col(Post.user_id) == filter.author)
    if filter.since is not None:
        query = query.where(col(Post.published_at) >= filter.since)
    if filter.until is not None:
        query = query.where(col(Post.published_at) < filter.until)
    return query


def tagged(posts: SelectOfScalar[Post], filter: TagFilter) -> SelectOfScalar[Post]:
    if filter.tag is None:
        return posts
    return posts.where(col(Post.id).in_(tagged_ids(filter.tag)))


def searched(session: AsyncSession, posts: SelectOfScalar[Post], q: str) -> SelectOfScalar[Post]:
    """Those that have the words of a search; `rank` says how well."""
    found = found_posts(session, q)
    return posts.join(found, col(Post.id) == found.c.id)


def used_tags() -> Select[str, int]:
    """Each tag's name and how many published posts have it, the most used first."""
    count = func.count().label("post_count")
    return (
        select(Tag.name, count)
        .join(PostTag, col(PostTag.tag_id) == col(Tag.id))
        .join(Post, col(Post.id) == col(PostTag.post_id))
        .where(is_published())
        .group_by(col(Tag.id), col(Tag.name))
        .order_by(count.desc(), col(Tag.id))
    )


async def show_posts(
    pages: Pages, posts: SelectOfScalar[Post], listing: PostQuery
) -> Page[Post] | Page[ListedPost]:
    """The page of published posts that is asked for: searched, sorted, with snippets."""
    sort = SORTS[listing.sort or PostSort.newest]
    q = (listing.q or "").strip()
    if not q:
        return await pages.show(posts, listing, sort)
    posts = searched(pages.session, posts, q)
    if listing.sort is None:
        page = await pages.show(posts.order_by(text("rank DESC"), col(Post.id).desc()), listing)
    else:
        page = await pages.show(posts, listing, sort)
    marker = await make_marker(pages.session, q)
    if marker is None:
        return page
    async with released(pages.session):
        return await anyio.to_thread.run_sync(page.of, partial(with_snippet, marker))


def with_snippet(marker: Marker, post: Post) -> ListedPost:
    return ListedPost.model_validate(post, update={"snippet": marker.snippet(post.content)})


@router.get(
    "/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_reader)],
)
async def list_posts(listing: PostListing, pages: PagesDep) -> Page[Post] | Page[ListedPost]:
    """List the published posts, the newest first, or search them, the best first."""
    return await show_posts(pages, published(listed_posts(), listing), listing)


@router.get(
    "/users/{user_id:int}/posts",
    response_model=PostPage,
    responses=raises(*READER_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[Security(get_reader)],
)
async def list_posts_of_user(
    user: UserFromPath, listing: PostListing, pages: PagesDep
) -> Page[Post] | Page[ListedPost]:
    """List a user's published posts, the newest first."""
    posts = published(listed_posts(), listing).where(col(Post.user_id) == user.id)
    return await show_posts(pages, posts, listing)


@router.get(
    "/users/me/feed",
    response_model=PostPage,
    responses=raises(*USER_PROBLEMS, ValidationFailed),
)
async def list_feed(
    user: DraftReader, listing: PostListing, pages: PagesDep
) -> Page[Post] | Page[ListedPost]:
    """List the published posts of the authors whom one follows, the newest first."""
    posts = published(listed_posts(), listing).where(col(Post.user_id).in_(followed_ids(user)))
    return await show_posts(pages, posts, listing)


@router.get(
    "/users/me/posts",
    response_model=OwnPostPage,
    responses=raises(*USER_PROBLEMS, ValidationFailed),
)
async def list_own_posts(user: DraftReader, listing: OwnPostListing, pages: PagesDep) -> Page[Post]:
    """List the posts of the user who asks, drafts too, the last begun first."""
    posts = tagged(listed_posts(), listing).where(col(Post.user_id) == user.id)
    return await pages.show(posts, listing, LAST_BEGUN)


@router.get(
    "/tags",
    response_model=TagPage,
    responses=raises(*READER_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_reader)],
)
async def list_tags(paging: Paging, pages: PagesDep) -> Page[Any]:
    """List the tags of published posts, the most used first, by page numbers alone."""
    return await pages.show(used_tags(), paging)
