"""Slugs of posts: made from the title, unique, never given to another post."""

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

# Random bytes of the suffix that is added to a slug that is taken.
SUFFIX_BYTES = 4

MAX_ATTEMPTS = 5


class SlugTaken(Exception):
    """Another post has or had the slug."""


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


async def claim_slug(session: AsyncSession, post_id: int, title: str) -> str:
    """Return a slug of this title: one that the post had, or one that no post ever had.

    Raises Conflict if none is found.
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
