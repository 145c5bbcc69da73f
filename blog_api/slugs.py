"""Slugs: names for posts in addresses."""

import secrets
from collections.abc import Iterator

from slugify import slugify
from sqlmodel import Field

from blog_api.database import Row
from blog_api.fields import SLUG_LENGTH


class Slug(Row, table=True):
    """A slug that a post has or had. It goes to no other post, not even after that one's end."""

    __tablename__ = "slugs"

    slug: str = Field(max_length=SLUG_LENGTH, unique=True)
    post_id: int | None = Field(
        default=None, foreign_key="posts.id", ondelete="SET NULL", index=True
    )


def possible_slugs(title: str) -> Iterator[str]:
    """The title in Latin letters; then, should that be taken, with a random end."""
    slug = slugify(title, max_length=SLUG_LENGTH - 9, word_boundary=True) or "post"
    yield slug
    for _ in range(5):
        yield f"{slug}-{secrets.token_hex(4)}"
