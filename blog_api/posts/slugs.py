"""Slugs: names for posts in addresses, each for good."""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress

from slugify import slugify
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Conflict
from blog_api.core.fields import SLUG_LENGTH
from blog_api.db.queries import attempt
from blog_api.posts.models import Slug

# Of the random end of a slug that was taken, in bytes.
END_BYTES = 4


TRIES = 5


class SlugTaken(Exception):
    """Some other post has or had it."""


def slug_of(title: str) -> str:
    """The title in Latin letters, with room for a random end."""
    length = SLUG_LENGTH - 1 - 2 * END_BYTES
    return slugify(title, max_length=length, word_boundary=True) or "post"


def possible_slugs(title: str, own: Sequence[str] = ()) -> Iterator[str]:
    """The title in Latin letters; then, should that be taken, with a random end: one of its
    post's own first."""
    slug = slug_of(title)
    yield slug
    end = f"-[0-9a-f]{{{2 * END_BYTES}}}"
    yield from (one for one in own if re.fullmatch(re.escape(slug) + end, one))
    for _ in range(TRIES):
        yield f"{slug}-{secrets.token_hex(END_BYTES)}"


async def claim_slug(session: AsyncSession, post_id: int, title: str) -> str:
    """A slug of this title for a post: one that it had before, or else one that nobody ever had.

    Raises Conflict where none is found.
    """
    query = select(Slug.slug).where(col(Slug.post_id) == post_id).order_by(col(Slug.id))
    own = (await session.exec(query)).all()
    for slug in possible_slugs(title, own):
        if slug in own:
            return slug
        with suppress(SlugTaken):
            async with attempt(session, or_raise=SlugTaken):
                session.add(Slug(slug=slug, post_id=post_id))
            return slug
    raise Conflict
