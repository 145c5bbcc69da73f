"""The index of posts by tag."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Integer, String, Subquery, bindparam, delete, insert
from sqlmodel import UTCDateTime, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import tag_key
from blog_api.db.base import NOW
from blog_api.db.functions import json_values
from blog_api.db.list_query import AnySelect, FoundRows
from blog_api.db.queries import (
    NamedQuery,
    Write,
    execute_both,
    execute_query,
    insert_if_missing,
)
from blog_api.posts.models import Post, PostTag, Tag

# The id of the tag with the bound key `tag`.
TAG_ID = select(Tag.id).where(col(Tag.key) == bindparam("tag", type_=String)).scalar_subquery()

POST_ID = bindparam("post", type_=Integer)

ADD_TAGS = NamedQuery(
    insert(PostTag)
    .from_select(
        ["tag_id", "post_id", "published_at", "updated_at"],
        select(
            Tag.id,
            POST_ID,
            bindparam("published_at", type_=UTCDateTime()),
            bindparam("updated_at", type_=UTCDateTime()),
        ).where(
            col(Tag.key).op("IN")(json_values(bindparam("keys", type_=String), type_=String)),
            col(Tag.id).not_in(select(PostTag.tag_id).where(col(PostTag.post_id) == POST_ID)),
        ),
    )
    .returning(col(PostTag.tag_id))
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
    together_with: Write | None = None,
) -> None:
    """Index a post by these tags, with the times of the post."""
    values = {
        "post": post_id,
        "keys": to_json([tag_key(name) for name in names]).decode(),
        "published_at": published_at,
        "updated_at": updated_at,
    }
    write = Write(ADD_TAGS, values)
    if together_with is None:
        added = await execute_query(session, *write)
    else:
        added = await execute_both(session, write, together_with)
    # Most tags exist, and trying to insert them takes longer.
    if len(added) < len(names):
        await insert_missing_tags(session, names)
        await execute_query(session, *write)


async def remove_tags(session: AsyncSession, post_id: int) -> None:
    """Remove a post from the index."""
    await session.exec(delete(PostTag).where(col(PostTag.post_id) == post_id))


def select_found_tags(found: FoundRows) -> tuple[AnySelect, Subquery]:
    """Select the tags of a page, each with all tags of the first of its published posts.

    A draft or a scheduled post must not decide how others see a tag.
    """
    ids = found.ids
    first_post = (
        select(Post.tags)
        .join(PostTag, col(PostTag.post_id) == col(Post.id))
        .where(col(PostTag.tag_id) == ids.c.id, col(PostTag.published_at) <= NOW)
        .order_by(col(PostTag.post_id))
        .limit(1)
        .scalar_subquery()
    )
    query = select(Tag.key, ids.c.key_0.label("post_count"), first_post.label("spellings"))
    return query.join(ids, ids.c.id == col(Tag.id)), ids


def show_tag(row: dict[str, Any]) -> dict[str, Any]:
    """Return a tag in the spelling of its first published post."""
    names = (name for name in row["spellings"] or () if tag_key(name) == row["key"])
    return {"name": next(names, row["key"]), "post_count": row["post_count"]}
