"""Counts: how many posts there are, of all authors, of one, and of a tag."""

from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    ScalarSelect,
    bindparam,
    func,
    literal_column,
)
from sqlmodel import UTCDateTime, col, select
from sqlmodel.sql.expression import Select

from blog_api.core.fields import utc_now
from blog_api.db.base import NOW
from blog_api.posts.models import NOT_TAKEN_DOWN, Post, PostCount, PostTag, Tag
from blog_api.posts.queries import IS_SCHEDULED
from blog_api.posts.tags import TAG_ID

# Past, unless the clock is set back by a day, and so late that few posts are later: a constant, of
# which Postgres knows how many.
YESTERDAY = literal_column(f"'{utc_now() - timedelta(days=1):%Y-%m-%d}'", UTCDateTime())


def sum_counts(user_id: Any, tag_id: Any) -> ScalarSelect[int]:
    """One of the numbers."""
    which = (col(PostCount.user_id) == user_id, col(PostCount.tag_id) == tag_id)
    return select(func.coalesce(func.sum(col(PostCount.delta)), 0)).where(*which).scalar_subquery()


def count_scheduled(published_at: Any, *which: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many posts will come out, which are counted already. They are few.

    Of a time that is bound, Postgres expects a third of all to be later. It would rather make a
    plan for each execution, then, which takes longer than the rest.
    """
    which = (published_at > NOW, published_at > YESTERDAY, *which)
    return select(func.count()).where(*which).scalar_subquery()


def total_count(names: AbstractSet[str]) -> ColumnElement[int] | None:
    """How many posts readers see with filters of these names, whose values are bound.

    None where that takes counting the posts themselves.
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
    """Each tag's name, and as `post_count` how many posts readers see that have it."""
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
