"""Slugs: names for posts in addresses, each for good."""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress

from slugify import slugify
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Conflict
from blog_api.core.fields import MAX_SLUG_LENGTH
from blog_api.db.queries import unique_savepoint
from blog_api.posts.models import Slug

# Of the random end of a slug that was taken, in bytes.
SUFFIX_BYTES = 4


MAX_ATTEMPTS = 5


class SlugTaken(Exception):
    """Some other post has or had it."""


def slugify_title(title: str) -> str:
    """The title in Latin letters, with room for a random end."""
    length = MAX_SLUG_LENGTH - 1 - 2 * SUFFIX_BYTES
    return slugify(title, max_length=length, word_boundary=True) or "post"


def generate_slugs(title: str, own: Sequence[str] = ()) -> Iterator[str]:
    """The title in Latin letters; then, should that be taken, with a random end: one of its
    post's own first."""
    slug = slugify_title(title)
    yield slug
    end = f"-[0-9a-f]{{{2 * SUFFIX_BYTES}}}"
    yield from (one for one in own if re.fullmatch(re.escape(slug) + end, one))
    for _ in range(MAX_ATTEMPTS):
        yield f"{slug}-{secrets.token_hex(SUFFIX_BYTES)}"


async def claim_slug(session: AsyncSession, post_id: int, title: str) -> str:
    """A slug of this title for a post: one that it had before, or else one that nobody ever had.

    Raises Conflict where none is found.
    """
    query = select(Slug.slug).where(col(Slug.post_id) == post_id).order_by(col(Slug.id))
    own = (await session.exec(query)).all()
    for slug in generate_slugs(title, own):
        if slug in own:
            return slug
        with suppress(SlugTaken):
            async with unique_savepoint(session, or_raise=SlugTaken):
                session.add(Slug(slug=slug, post_id=post_id))
            return slug
    raise Conflict
