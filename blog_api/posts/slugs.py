"""Slugs of posts: made from the title or chosen by the author, and unique.

A slug under which a post was public goes to no other post, even after the post is deleted. One that
a post had only while it was hidden stays with it until the post is deleted, or until an author
chooses it for another post.

A chosen slug is claimed in `slugs` before it is written to `posts`, and both have a unique
constraint: of two posts that claim one slug at the same time, one gets it.
"""

import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from slugify import slugify
from sqlalchemy import Integer, String, bindparam, delete, update
from sqlmodel import col, exists, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Conflict
from blog_api.core.fields import MAX_SLUG_LENGTH
from blog_api.db.queries import (
    NamedQuery,
    insert_if_missing,
    insert_row_if_missing,
    unique_savepoint,
)
from blog_api.posts.errors import SlugTaken
from blog_api.posts.models import Post, Slug

# Random bytes of the suffix that is added to a slug that is taken.
SUFFIX_BYTES = 4

MAX_ATTEMPTS = 5

# To a new post: a slug that was claimed.
GIVE_SLUG = NamedQuery(
    update(Slug)
    .where(col(Slug.slug) == bindparam("given_slug", type_=String))
    .values(post_id=bindparam("new_post", type_=Integer))
    .returning(col(Slug.id))
)


def slugify_title(title: str) -> str:
    """Transliterate a title to a slug that leaves room for a suffix."""
    length = MAX_SLUG_LENGTH - 1 - 2 * SUFFIX_BYTES
    return slugify(title, max_length=length, word_boundary=True) or "post"


def generate_slugs(title: str, own: Sequence[str] = ()) -> Iterator[str]:
    """Yield the slug of a title, then the post's own slugs with a suffix, then new ones."""
    slug = slugify_title(title)
    yield slug
    suffix = f"-[0-9a-f]{{{2 * SUFFIX_BYTES}}}"
    yield from (one for one in own if re.fullmatch(re.escape(slug) + suffix, one))
    for _ in range(MAX_ATTEMPTS):
        yield f"{slug}-{secrets.token_hex(SUFFIX_BYTES)}"


def number_slugs(slug: str) -> Iterator[str]:
    """Yield `hello`, `hello-2`, `hello-3` and so on."""
    yield slug
    for number in count(2):
        end = f"-{number}"
        yield f"{slug[: MAX_SLUG_LENGTH - len(end)]}{end}"


async def add_old_slugs(
    session: AsyncSession, slugs: Mapping[str, str], *, dry_run: bool
) -> list[str]:
    """Let old slugs lead to the posts of other slugs; return those of other posts."""
    query = select(Slug.slug, Slug.post_id).where(col(Slug.slug).in_({*slugs, *slugs.values()}))
    post_ids = dict((await session.exec(query)).all())
    rows = [
        {"slug": old, "post_id": post_ids[slug], "was_public": True}
        for old, slug in sorted(slugs.items())
        if old not in post_ids and slug in post_ids
    ]
    if rows and not dry_run:
        await insert_if_missing(session, Slug, *rows)
    return [
        old
        for old, slug in slugs.items()
        if old in post_ids and post_ids[old] != post_ids.get(slug)
    ]


async def lock_own_slug(session: AsyncSession, post_id: int, slug: str) -> bool:
    """Lock a slug that the post has or had; return whether it is still the post's."""
    # An UPDATE: SQLite has no other lock, and it fails if another post takes the slug meanwhile.
    statement = (
        update(Slug)
        .where(col(Slug.slug) == slug, col(Slug.post_id) == post_id)
        .values(post_id=post_id, updated_at=col(Slug.updated_at))
    )
    return (await session.exec(statement)).rowcount > 0


async def claim_generated_slug(session: AsyncSession, post_id: int, title: str) -> str:
    """Return a slug of this title: one that the post had, or one that no post ever had.

    Raises Conflict if none is found.
    """
    query = select(Slug.slug).where(col(Slug.post_id) == post_id).order_by(col(Slug.id))
    own = (await session.exec(query)).all()
    for slug in generate_slugs(title, own):
        if slug in own and await lock_own_slug(session, post_id, slug):
            return slug
        with suppress(SlugTaken):
            async with unique_savepoint(session, or_raise=SlugTaken):
                session.add(Slug(slug=slug, post_id=post_id))
            return slug
    raise Conflict


async def claim_given_slug(session: AsyncSession, slug: str, post_id: int | None = None) -> None:
    """Claim the slug that an author chose; None for a post that is not inserted yet.

    Raises SlugTaken if another post has it or was public under it.
    """
    if post_id is not None and await lock_own_slug(session, post_id, slug):
        return
    # Of a deleted post that was never public nothing is left, so one without a post was public.
    is_free = (
        col(Slug.slug) == slug,
        col(Slug.was_public).is_(False),
        col(Slug.post_id).is_not(None),
        ~exists().where(col(Post.slug) == slug),
    )
    await session.exec(delete(Slug).where(*is_free))
    row = {"slug": slug, "post_id": post_id}
    if await insert_row_if_missing(session, Slug, row) is None:
        raise SlugTaken


async def find_public_old_slugs(
    session: AsyncSession, posts: Collection[Post]
) -> dict[int, list[str]]:
    """Return the former slugs under which posts were public, sorted, by the ids of the posts."""
    current = {post.slug for post in posts}
    query = select(Slug.slug, Slug.post_id).where(
        col(Slug.post_id).in_([post.id for post in posts]), col(Slug.was_public)
    )
    found: dict[int, list[str]] = {post.id: [] for post in posts}
    # Sorted here: the order of text in Postgres depends on the database's locale.
    for slug, post_id in sorted(await session.exec(query)):
        if post_id is not None and slug not in current:
            found[post_id].append(slug)
    return found


async def change_slug(session: AsyncSession, post: Post, changes: dict[str, Any]) -> dict[str, Any]:
    """Claim the slug that a change of the post requires; return the columns to set.

    Raises SlugTaken and Conflict.
    """
    is_given = post.given_slug == post.slug
    title = changes.get("title", post.title)
    given = changes.get("slug")
    if given is not None:
        if given != post.slug:
            await claim_given_slug(session, given, post.id)
        return {"slug": given, "given_slug": given}
    is_reset = is_given and "slug" in changes
    if is_reset or (not is_given and slugify_title(title) != slugify_title(post.title)):
        slug = await claim_generated_slug(session, post.id, title)
        return {"slug": slug, "given_slug": None}
    return {}
