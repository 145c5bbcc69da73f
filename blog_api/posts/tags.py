"""The index of posts by tag."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Integer, String, bindparam, delete, insert
from sqlmodel import UTCDateTime, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import tag_key
from blog_api.db.queries import execute_write, insert_if_missing
from blog_api.posts.models import PostTag, Tag

# The id of the tag with the bound key `tag`.
TAG_ID = select(Tag.id).where(col(Tag.key) == bindparam("tag", type_=String)).scalar_subquery()

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
    """Insert the tags that do not exist, sorted, so that no two transactions deadlock."""
    tags = {tag_key(name): name for name in names}
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
    """Index a post by these tags, with the times of the post."""
    if not names:
        return
    values = {
        "post": post_id,
        "keys": [tag_key(name) for name in names],
        "published_at": published_at,
        "updated_at": updated_at,
    }
    # Most tags exist, and trying to insert them takes longer.
    if await execute_write(session, ADD_TAGS, values) < len(names):
        await insert_missing_tags(session, names)
        await execute_write(session, ADD_TAGS, values)


async def remove_tags(session: AsyncSession, post_id: int) -> None:
    """Remove a post from the index."""
    await session.exec(delete(PostTag).where(col(PostTag.post_id) == post_id))
