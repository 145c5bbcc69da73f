"""The index of posts by tag."""

from collections.abc import Iterable, Sequence
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


def make_tags_write(post: Post, names: Sequence[str]) -> Write:
    """Return what indexes a post by those of these tags that exist, with the times of the post."""
    values = {
        "post": post.id,
        "keys": to_json([tag_key(name) for name in names]).decode(),
        "published_at": None if post.taken_down_at else post.published_at,
        "updated_at": post.updated_at,
    }
    return Write(ADD_TAGS, values)


async def index_tags(session: AsyncSession, post: Post, names: Sequence[str]) -> None:
    """Index a post by these tags."""
    added = await execute_query(session, *make_tags_write(post, names))
    # Most tags exist, and trying to insert them takes longer.
    if len(added) < len(names):
        await index_missing_tags(session, post, names)


async def index_missing_tags(session: AsyncSession, post: Post, names: Sequence[str]) -> None:
    await insert_missing_tags(session, names)
    await execute_query(session, *make_tags_write(post, names))


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
