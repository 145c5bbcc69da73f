"""Create and change posts."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import Auth, CanWritePosts, connection_released_for
from blog_api.core.errors import Conflict
from blog_api.core.fields import PathId, RequestBody
from blog_api.db.base import save_changes
from blog_api.db.queries import (
    Write,
    execute_together,
    insert_row_if_missing,
    make_insert_if_missing,
    unique_savepoint,
)
from blog_api.db.session import SessionDep, mark_expensive
from blog_api.posts.errors import NotYourPost, SlugTaken
from blog_api.posts.excerpts import make_columns
from blog_api.posts.models import Post, PostCreate, Slug
from blog_api.posts.queries import find_post, is_visible_to
from blog_api.posts.slugs import GIVE_SLUG, change_slug, claim_given_slug
from blog_api.posts.tags import index_missing_tags, index_tags, make_tags_write, remove_tags
from blog_api.posts.words import (
    MadeWords,
    get_word_source,
    make_word_source,
    make_words,
    make_words_write,
    save_words,
)
from blog_api.text.markdown import Source
from blog_api.text.renderer import MAX_SHORT_LENGTH, Renderer, RendererDep, is_inexpensive
from blog_api.web.conditional import Precondition, PreconditionDep, set_etag_row


async def lock_own_post(
    session: AsyncSession, auth: Auth, post_id: int, precondition: Precondition
) -> Post:
    """Lock and return a post of the user.

    Raises PostNotFound, NotYourPost and PreconditionFailed.
    """
    query = select(Post).where(col(Post.id) == post_id, is_visible_to(auth.user.id))
    post = await find_post(
        session, query.with_for_update(of=Post).execution_options(populate_existing=True)
    )
    if post.user_id != auth.user.id:
        raise NotYourPost
    precondition.check(post)
    return post


@dataclass(frozen=True)
class PostEdit:
    """An author's change of a post: lock it, check the owner and `If-Match`, save it."""

    session: AsyncSession
    auth: Auth
    post_id: int
    precondition: Precondition
    renderer: Renderer
    request: Request

    async def lock_post(self) -> Post:
        return await lock_own_post(self.session, self.auth, self.post_id, self.precondition)

    async def save(self, changes: RequestBody) -> Post:
        """Save the fields that were sent; return the post. Sets the version of the ETag."""
        post = await self.lock_post()
        values = changes.model_dump(exclude_unset=True)
        sent = dict(values)
        values.pop("slug", None)
        if "summary" in values:
            values["given_summary"] = values.pop("summary")
        made: dict[str, Any] = {}
        rendered, words = None, None
        owner = self.auth.user.id
        # The post may change while the connection is released: one request changes the content,
        # the other its type.
        while True:
            source = make_source(post, values)
            is_rendered = source in (rendered, make_source(post))
            known = values | made if source == rendered else values
            of_words = make_word_source(post, known)
            if is_rendered and of_words in (words and words.source, make_word_source(post)):
                break
            async with connection_released_to_render(self.session, self.auth, source):
                if not is_rendered:
                    made = await render_post(self.renderer, source, owner=owner)
                    rendered, of_words = source, make_word_source(post, values | made)
                words = await make_words(self.renderer, of_words, owner=owner)
            post = await self.lock_post()
        values = known
        if words is not None and words.source != of_words:
            words = None
        if words is not None:
            values |= words.columns
        values |= await change_slug(self.session, post, sent)
        if values.get("tags", post.tags) != post.tags:
            await remove_tags(self.session, post.id)
            await index_tags(self.session, post, values["tags"])
        if values.get("slug", post.slug) == post.slug:
            await save_changes(self.session, post, values)
        else:
            async with unique_savepoint(self.session, or_raise=SlugTaken):
                await save_changes(self.session, post, values)
        if words is not None:
            await save_words(self.session, post, words)
        set_etag_row(self.request, post)
        return post


async def get_post_edit(
    auth: CanWritePosts,
    post_id: PathId,
    precondition: PreconditionDep,
    session: SessionDep,
    renderer: RendererDep,
    request: Request,
) -> PostEdit:
    return PostEdit(session, auth, post_id, precondition, renderer, request)


PostEditDep = Annotated[PostEdit, Depends(get_post_edit)]


def make_source(post: Post, values: Mapping[str, Any] = MappingProxyType({})) -> Source:
    """Return the source of a post, or what it is after a change to these values."""
    return Source(
        values.get("content", post.content), values.get("content_type", post.content_type)
    )


@asynccontextmanager
async def connection_released_to_render(
    session: AsyncSession, auth: Auth, source: Source
) -> AsyncIterator[None]:
    """Release the connection while a text is rendered, unless that takes less than the release.

    Raises the problems of `connection_released_for()`.
    """
    if is_inexpensive(source):
        yield
        return
    if len(source.content) > MAX_SHORT_LENGTH:
        # Leave connections to others while the text is indexed for search, up to a second.
        mark_expensive(session)
    async with connection_released_for(session, auth):
        yield


async def render_post(
    renderer: Renderer, source: Source, *, owner: int | None = None
) -> dict[str, Any]:
    """Return the columns that are made of a source. Called within
    `connection_released_to_render()`, or without a transaction.

    Raises ServiceUnavailable if too many texts wait.
    """
    return await make_columns(source, await renderer.render(source, owner=owner))


async def render_new_post(
    renderer: Renderer, new: PostCreate, source: Source, *, owner: int
) -> tuple[dict[str, Any], MadeWords]:
    """Return what `render_post()` returns, for a new post, and its words."""
    made = await render_post(renderer, source, owner=owner)
    of_words = get_word_source({**new.model_dump(), **made})
    return made, await make_words(renderer, of_words, owner=owner)


async def render_posts(renderer: Renderer, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the columns that are made of each source. The caller holds no transaction."""
    html = await renderer.render_all(sources)
    return [await make_columns(*pair) for pair in zip(sources, html, strict=True)]


async def index_post(session: AsyncSession, post: Post, slug: Write, words: MadeWords) -> bool:
    """Write the slug of a new post, its words and its tags; return whether the slug was written."""
    of_words, of_tags = make_words_write(session, post, words), make_tags_write(post, post.tags)
    slugs, numbers = await execute_together(session, slug, of_words, of_tags)
    if slugs and numbers[1] < len(post.tags):
        await index_missing_tags(session, post, post.tags)
    return bool(slugs)


async def insert_post(
    session: AsyncSession, post: Post, slugs: Iterable[str], words: MadeWords
) -> None:
    """Insert a post with the first of these slugs that no post ever had. Raises Conflict.

    The post is not added to the session, which would take more statements.
    """
    at = post.created_at
    for slug in slugs:
        post_id = await insert_post_row(session, post, slug, words)
        if post_id is None:
            continue
        row = Slug(slug=slug, post_id=post_id, created_at=at, updated_at=at)
        new = make_insert_if_missing(session, Slug, row.model_dump(exclude={"id"}))
        if await index_post(session, post, new, words):
            return
        # The slug is a former one of another post.
        await session.exec(delete(Post).where(col(Post.id) == post_id))
    raise Conflict


async def insert_post_with_given_slug(
    session: AsyncSession, post: Post, slug: str, words: MadeWords
) -> None:
    """Insert a post with the slug that its author chose. Raises SlugTaken."""
    await claim_given_slug(session, slug)
    post.given_slug = slug
    post_id = await insert_post_row(session, post, slug, words)
    if post_id is None:
        raise SlugTaken
    given = Write(GIVE_SLUG, {"given_slug": slug, "new_post": post_id})
    await index_post(session, post, given, words)


async def insert_post_row(
    session: AsyncSession, post: Post, slug: str, words: MadeWords
) -> int | None:
    """Insert a post and set its id; return None if another post has the slug."""
    post.slug = slug
    post.updated_at = post.created_at
    values = post.model_dump(exclude={"id"}) | words.columns
    inserted = await insert_row_if_missing(session, Post, values)
    if inserted is None:
        return None
    post.id = inserted["id"]
    return post.id
