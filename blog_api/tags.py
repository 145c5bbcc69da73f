"""Tags: what posts are about."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, literal
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.database import Base, Row, insert_if_missing
from blog_api.fields import TAG_LENGTH, fold


class Tag(Row, table=True):
    """A tag, named as it was written first; case makes no difference."""

    __tablename__ = "tags"

    name: str = Field(max_length=TAG_LENGTH)
    key: str = Field(max_length=TAG_LENGTH, unique=True)


class PostTag(Base, table=True):
    """That a post has a tag: by this, posts are found. How its author wrote it, the post knows."""

    __tablename__ = "post_tags"

    tag_id: int = Field(foreign_key="tags.id", ondelete="CASCADE", primary_key=True)
    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE", primary_key=True, index=True)


async def set_tags(session: AsyncSession, post_id: int, names: Sequence[str]) -> None:
    """Let a post be found by these tags and no others."""
    await session.exec(delete(PostTag).where(col(PostTag.post_id) == post_id))
    if not names:
        return
    # In one order, so that no two requests wait for each other's tags.
    tags = [
        {"name": name, "key": key} for key, name in sorted((fold(name), name) for name in names)
    ]
    await insert_if_missing(session, Tag, *tags)
    ids = select(Tag.id, literal(post_id)).where(col(Tag.key).in_([tag["key"] for tag in tags]))
    await session.exec(insert(PostTag).from_select(["tag_id", "post_id"], ids))


def tagged_ids(name: str) -> SelectOfScalar[int]:
    """The ids of the posts that have a tag."""
    is_tag = (col(PostTag.tag_id) == col(Tag.id)) & (col(Tag.key) == fold(name))
    return select(PostTag.post_id).join(Tag, is_tag)
