"""Numbers of published posts: of all authors, of one author, of a tag.

`post_counts` holds what triggers counted: published and scheduled posts. Subtracting the scheduled
ones, which are few, gives the number at any moment without counting all rows.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    ScalarSelect,
    bindparam,
    cast,
    func,
    literal_column,
    union_all,
)
from sqlalchemy.orm import aliased
from sqlmodel import UTCDateTime, and_, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select

from blog_api.core.fields import utc_now
from blog_api.db.base import NOW
from blog_api.posts.models import IS_TOTAL_OF_TAG, NOT_TAKEN_DOWN, Post, PostCount, PostTag
from blog_api.posts.queries import AUTHOR_IDS, IS_SCHEDULED
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
    if names <= AUTHOR_IDS.keys() and len(names) == 1:
        author = AUTHOR_IDS[next(iter(names))]
        return sum_counts(author, 0) - count_scheduled(
            col(Post.published_at), NOT_TAKEN_DOWN, col(Post.user_id) == author
        )
    return None


async def count_posts_of_authors(session: AsyncSession, user_ids: Sequence[int]) -> dict[int, int]:
    """Return the numbers of published posts by the ids of the authors who have any."""
    is_author = (col(PostCount.user_id).in_(user_ids), col(PostCount.tag_id) == 0)
    counted = select(PostCount.user_id, PostCount.delta).where(*is_author)
    scheduled = select(Post.user_id, literal_column("-1", Integer).label("delta")).where(
        col(Post.user_id).in_(user_ids), IS_SCHEDULED, col(Post.published_at) > YESTERDAY
    )
    rows = union_all(counted, scheduled).subquery()
    number = func.sum(rows.c.delta)
    query = select(rows.c.user_id, number).group_by(rows.c.user_id).having(number > 0)
    return dict((await session.exec(query)).all())


def tag_changes() -> CTE:
    """Select the tags whose number differs from their total, with the difference as `delta`."""
    pending = select(PostCount.tag_id, PostCount.delta).where(
        ~col(PostCount.is_total), col(PostCount.user_id) == 0, col(PostCount.tag_id) > 0
    )
    scheduled = (
        select(PostTag.tag_id, literal_column("-1", Integer).label("delta"))
        .join(Post, col(Post.id) == col(PostTag.post_id))
        .where(IS_SCHEDULED, col(Post.published_at) > YESTERDAY)
    )
    rows = union_all(pending, scheduled).subquery()
    changes = select(rows.c.tag_id, func.sum(rows.c.delta).label("delta"))
    return changes.group_by(rows.c.tag_id).cte("changes")


def used_tags() -> tuple[Select[int, int], ColumnElement[int]]:
    """Select the id and the number of published posts of each tag; return their number too.

    Totals are read in the order of their index; the few tags that differ from them are merged in.
    """
    changes = tag_changes()
    total = aliased(PostCount)
    before = func.coalesce(total.delta, 0)
    changed = select(
        changes.c.tag_id, (before + changes.c.delta).label("count"), before.label("before")
    ).join(
        total,
        and_(col(total.is_total), col(total.user_id) == 0, col(total.tag_id) == changes.c.tag_id),
        isouter=True,
    )
    is_used = (IS_TOTAL_OF_TAG, col(PostCount.delta) > 0)
    # As many as can be on the page or before it: Postgres would sort all of them otherwise.
    deepest = bindparam("offset", type_=Integer) + bindparam("limit", type_=Integer)
    unchanged = (
        select(PostCount.tag_id, col(PostCount.delta).label("count"))
        .where(*is_used, col(PostCount.tag_id).not_in(select(changes.c.tag_id)))
        .order_by(col(PostCount.delta).desc(), col(PostCount.tag_id))
        .limit(select(deepest).scalar_subquery())
        .subquery()
    )
    changed_counts = changed.subquery()
    found = union_all(
        select(unchanged.c.tag_id, unchanged.c.count),
        select(changed_counts.c.tag_id, changed_counts.c.count).where(changed_counts.c.count > 0),
    ).subquery()
    difference = select(
        func.coalesce(
            func.sum(
                cast(changed_counts.c.count > 0, Integer)
                - cast(changed_counts.c.before > 0, Integer)
            ),
            0,
        )
    ).scalar_subquery()
    number = select(func.count()).select_from(PostCount).where(*is_used).scalar_subquery()
    query = select(found.c.tag_id.label("id"), found.c.count.label("post_count"))
    return query, number + difference
