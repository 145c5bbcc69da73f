"""Numbers of published posts: of all authors, of one author, of a tag.

`post_counts` holds what triggers counted: published and scheduled posts. Subtracting the scheduled
ones, which are few, gives the number at any moment without counting all rows.
"""

from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Integer, ScalarSelect, bindparam, func, literal_column
from sqlmodel import UTCDateTime, col, select
from sqlmodel.sql.expression import Select

from blog_api.core.fields import utc_now
from blog_api.db.base import NOW
from blog_api.posts.models import NOT_TAKEN_DOWN, Post, PostCount, PostTag, Tag
from blog_api.posts.queries import IS_SCHEDULED
from blog_api.posts.tags import TAG_ID

# A constant bound in the recent past: Postgres estimates that few posts are later. Wrong only if
# the clock is set back by more than a day.
YESTERDAY = literal_column(f"'{utc_now() - timedelta(days=1):%Y-%m-%d}'", UTCDateTime())


def sum_counts(user_id: Any, tag_id: Any) -> ScalarSelect[int]:
    """Return the number of one author (or 0: of all) and one tag (or 0: of all)."""
    which = (col(PostCount.user_id) == user_id, col(PostCount.tag_id) == tag_id)
    return select(func.coalesce(func.sum(col(PostCount.delta)), 0)).where(*which).scalar_subquery()


def count_scheduled(published_at: Any, *which: ColumnElement[bool]) -> ScalarSelect[int]:
    """Return the number of scheduled posts.

    For a bound time Postgres estimates that a third of all posts are later, and plans each
    execution anew, which takes longer than the query: the constant bound prevents that.
    """
    which = (published_at > NOW, published_at > YESTERDAY, *which)
    return select(func.count()).where(*which).scalar_subquery()


def total_count(names: AbstractSet[str]) -> ColumnElement[int] | None:
    """Return the number of published posts with filters of these names.

    None if only counting the posts themselves can tell.
    """
    if not names:
        return sum_counts(0, 0) - count_scheduled(col(Post.published_at), NOT_TAKEN_DOWN)
    if names == {"tag"}:
        return sum_counts(0, TAG_ID) - count_scheduled(
            col(PostTag.published_at), col(PostTag.tag_id) == TAG_ID
        )
    if names <= {"author", "user"} and len(names) == 1:
        author = bindparam(next(iter(names)), type_=Integer)
        return sum_counts(author, 0) - count_scheduled(
            col(Post.published_at), NOT_TAKEN_DOWN, col(Post.user_id) == author
        )
    return None


def used_tags() -> Select[str, int]:
    """Select the name of each tag and its number of published posts as `post_count`."""
    counted = (
        select(PostCount.tag_id, func.sum(col(PostCount.delta)).label("count"))
        .where(col(PostCount.user_id) == 0, col(PostCount.tag_id) > 0)
        .group_by(col(PostCount.tag_id))
        .subquery()
    )
    coming = (
        select(PostTag.tag_id, func.count().label("count"))
        .join(Post, col(Post.id) == col(PostTag.post_id))
        .where(IS_SCHEDULED)
        .group_by(col(PostTag.tag_id))
        .subquery()
    )
    post_count = (counted.c.count - func.coalesce(coming.c.count, 0)).label("post_count")
    return (
        select(Tag.name, post_count)
        .join(counted, counted.c.tag_id == col(Tag.id))
        .join(coming, coming.c.tag_id == col(Tag.id), isouter=True)
        .where(post_count > 0)
    )
