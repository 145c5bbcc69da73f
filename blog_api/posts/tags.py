"""Tags: what posts are about."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Integer, String, bindparam, delete, insert
from sqlmodel import UTCDateTime, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import casefold_key
from blog_api.db.queries import execute_write, insert_if_missing
from blog_api.posts.models import PostTag, Tag

# The tag whose key is bound as `tag`.
TAG_ID = select(Tag.id).where(col(Tag.key) == bindparam("tag", type_=String)).scalar_subquery()


# Whatever of these tags there is, and the post has not, becomes the post's.
POST_ID = bindparam("post", type_=Integer)


ADD_TAGS = insert(PostTag).from_select(
    ["tag_id", "post_id", "published_at", "updated_at"],
    select(
        Tag.id,
        POST_ID,
        bindparam("published_at", type_=UTCDateTime()),
        bindparam("updated_at", type_=UTCDateTime()),
    ).where(
        col(Tag.key).in_(bindparam("keys", expanding=True)),
        col(Tag.id).not_in(select(PostTag.tag_id).where(col(PostTag.post_id) == POST_ID)),
    ),
)


async def insert_missing_tags(session: AsyncSession, names: Iterable[str]) -> None:
    """Make those of these tags that are not there, in one order: no two wait for each other's."""
    tags = {casefold_key(name): name for name in names}
    if tags:
        rows = [{"name": name, "key": key} for key, name in sorted(tags.items())]
        await insert_if_missing(session, Tag, *rows)


async def add_tags(
    session: AsyncSession,
    post_id: int,
    names: Sequence[str],
    *,
    published_at: datetime | None,
    updated_at: datetime,
) -> None:
    """Let a post, which has none, be found by these tags; it has the times."""
    if not names:
        return
    values = {
        "post": post_id,
        "keys": [casefold_key(name) for name in names],
        "published_at": published_at,
        "updated_at": updated_at,
    }
    # Mostly they are there already, and to try to insert them takes longer.
    if await execute_write(session, ADD_TAGS, values) < len(names):
        await insert_missing_tags(session, names)
        await execute_write(session, ADD_TAGS, values)


async def remove_tags(session: AsyncSession, post_id: int) -> None:
    """Let a post be found by no tag."""
    await session.exec(delete(PostTag).where(col(PostTag.post_id) == post_id))
