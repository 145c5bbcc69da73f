"""Derive again what is stored of posts: HTML, excerpts, slugs, tags and counters."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, exists, func, literal, union_all
from sqlalchemy import cast as cast_type
from sqlalchemy import select as select_columns
from sqlmodel import and_, col, delete, insert, or_, select, union, update
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.core.fields import tag_key
from blog_api.db.queries import insert_if_missing
from blog_api.db.rebuild import Derived, Span, find_by_query
from blog_api.db.session import Database
from blog_api.posts.counters import lock_posts_for_counters, update_counters
from blog_api.posts.models import NOT_TAKEN_DOWN, Bookmark, Post, PostCount, PostTag, Slug, Tag
from blog_api.posts.service import make_source, render_posts
from blog_api.posts.tags import index_tags, insert_missing_tags, remove_tags
from blog_api.text.markdown import Source
from blog_api.text.renderer import Renderer

log = logging.getLogger("blog_api")

# While a transaction has this advisory lock, no trigger merges counters: see the migrations.
MERGING_LOCK = 6_274_104

# As the triggers count.
IS_COUNTED = and_(col(Post.published_at).is_not(None), NOT_TAKEN_DOWN)

POST_IDS = select(Post.id)


def make_html(renderer: Renderer) -> Derived:
    """Return what is made of the content: HTML, excerpt, and the text that the search reads.

    The version and `updated_at` stay.
    """

    async def find_wrong(
        database: Database, span: Span
    ) -> dict[int, tuple[Source, dict[str, Any]]]:
        """Return the source and the columns to change by id."""
        async with database.session(writes=False) as session:
            query = select(Post).where(span.contains(Post.id)).order_by(col(Post.id))
            posts = (await session.exec(query)).all()
        made = await render_posts(renderer, [make_source(post) for post in posts])
        wrong = {}
        for post, values in zip(posts, made, strict=True):
            # Other columns stay out of the statement: it would index the post again.
            changes = {name: one for name, one in values.items() if getattr(post, name) != one}
            if changes:
                wrong[post.id] = (make_source(post), changes)
        return wrong

    return Derived("html", POST_IDS, find_wrong, save_html, size=50)


async def save_html(
    session: AsyncSession, wrong: Mapping[int, tuple[Source, dict[str, Any]]]
) -> None:
    for post_id, (source, changes) in wrong.items():
        # Skip a post whose content changed meanwhile: it has been rendered.
        is_same = (
            col(Post.content) == source.content,
            col(Post.content_type) == source.content_type,
        )
        statement = update(Post).where(col(Post.id) == post_id, *is_same)
        await session.exec(statement.values({**changes, "updated_at": col(Post.updated_at)}))


def posts_without_slug(which: ColumnElement[bool]) -> Any:
    has_slug = exists().where(col(Slug.slug) == col(Post.slug), col(Slug.post_id) == col(Post.id))
    return select(Post.id).where(which, ~has_slug)


async def add_slugs(session: AsyncSession, post_ids: Collection[int]) -> None:
    """Add the current slugs of posts. None that a post has or had is changed or removed."""
    is_affected = col(Post.id).in_(post_ids)
    await lock_posts_for_counters(session, is_affected)
    posts = (await session.exec(select(Post.id, Post.slug).where(is_affected))).all()
    rows = [{"slug": slug, "post_id": post_id} for post_id, slug in posts]
    if rows:
        await insert_if_missing(session, Slug, *rows)
    owner = select(Post.id).where(col(Post.slug) == col(Slug.slug)).scalar_subquery()
    is_lost = (col(Slug.slug).in_([slug for _, slug in posts]), col(Slug.post_id).is_(None))
    await session.exec(update(Slug).where(*is_lost).values(post_id=owner))
    for post_id in await session.exec(posts_without_slug(is_affected)):
        log.warning("Post %s: another post had its slug, and keeps it", post_id)


SLUGS = Derived(
    "slugs", POST_IDS, find_by_query(lambda span: posts_without_slug(span.contains(Post.id))),
    add_slugs,
)  # fmt: skip


async def find_wrong_tags(database: Database, span: Span) -> Collection[int]:
    """Return the posts that are not indexed by exactly their tags, with their times."""
    query: Any = (
        select_columns(
            col(Post.id),
            col(Post.tags),
            case((NOT_TAKEN_DOWN, col(Post.published_at))),
            col(Post.updated_at),
            col(Tag.key),
            col(PostTag.published_at),
            col(PostTag.updated_at),
        )
        .outerjoin(PostTag, col(PostTag.post_id) == col(Post.id))
        .outerjoin(Tag, col(Tag.id) == col(PostTag.tag_id))
        .where(span.contains(Post.id))
    )
    right: dict[int, set[Any]] = {}
    stored = defaultdict(set)
    async with database.session(writes=False) as session:
        for post_id, tags, *times, key, published_at, updated_at in await session.exec(query):
            right[post_id] = {(tag_key(tag), *times) for tag in tags}
            if key is not None:
                stored[post_id].add((key, published_at, updated_at))
    return [post_id for post_id, rows in right.items() if rows != stored[post_id]]


async def index_tags_again(session: AsyncSession, post_ids: Collection[int]) -> None:
    query = select(Post).where(col(Post.id).in_(post_ids)).order_by(col(Post.id))
    posts = (await session.exec(query.with_for_update(of=Post, key_share=True))).all()
    # All at once, so that no two transactions deadlock. The spelling of the first post counts.
    await insert_missing_tags(session, [tag for post in reversed(posts) for tag in post.tags])
    for post in posts:
        await remove_tags(session, post.id)
        await index_tags(session, post, post.tags)


TAGS = Derived("tags", POST_IDS, find_wrong_tags, index_tags_again)


BOOKMARKS = (
    select(func.count()).where(col(Bookmark.post_id) == col(Post.id)).correlate(Post)
).scalar_subquery()


def find_wrong_bookmark_counts(span: Span) -> Any:
    return select(Post.id).where(span.contains(Post.id), col(Post.bookmark_count) != BOOKMARKS)


async def count_bookmarks_again(session: AsyncSession, post_ids: Collection[int]) -> None:
    is_affected = col(Post.id).in_(post_ids)
    await lock_posts_for_counters(session, is_affected)
    await update_counters(session, is_affected, bookmark_count=BOOKMARKS)


BOOKMARK_COUNTS = Derived(
    "bookmark-counts", POST_IDS, find_by_query(find_wrong_bookmark_counts), count_bookmarks_again
)


def count_authors(is_included: Any) -> list[Any]:
    """Select a row for each post that counts: the id of its author, and 0 for all authors."""
    return [
        select_columns(col(Post.user_id).label("id")).where(
            IS_COUNTED, is_included(col(Post.user_id))
        ),
        select_columns(literal(0, Integer).label("id"))
        .select_from(Post)
        .where(IS_COUNTED, is_included(literal(0, Integer))),
    ]


def count_tags(is_included: Any) -> list[Any]:
    """Select a row for each tag of a post that counts: its id."""
    return [
        select_columns(col(PostTag.tag_id).label("id")).where(
            col(PostTag.published_at).is_not(None), is_included(col(PostTag.tag_id))
        )
    ]


def make_post_counts(name: str, ids: Any, key: Any, is_kind: Any, select_counted: Any) -> Derived:
    """Return the counters of `post_counts` of one kind, whose ids are in the column `key`."""

    def find(span: Span) -> Any:
        rows = union_all(
            select_columns(
                key.label("id"),
                col(PostCount.delta).label("delta"),
                cast_type(col(PostCount.is_total), Integer).label("totals"),
            ).where(is_kind, span.contains(key)),
            *(
                select_columns(counted.subquery().c.id, literal(-1, Integer), literal(0, Integer))
                for counted in select_counted(span.contains)
            ),
        ).subquery()
        # A second total would be added to the first one by some queries, and not by others.
        is_wrong = or_(func.sum(rows.c.delta) != 0, func.sum(rows.c.totals) > 1)
        return select(rows.c.id).group_by(rows.c.id).having(is_wrong)

    async def repair(session: AsyncSession, wrong: Collection[int]) -> None:
        """Replace the rows of the counters by one total.

        Other transactions only add rows, in the statement that writes what they count: the rows
        that one statement sees always match the posts that it sees. So on Postgres it has to be one
        statement. On SQLite there is one writer at a time.
        """
        counted = union_all(*select_counted(lambda column: column.in_(wrong))).subquery()
        none = literal(0, Integer)
        ids = (counted.c.id, none) if key.key == "user_id" else (none, counted.c.id)
        totals = select_columns(*ids, func.count(), literal(True)).group_by(counted.c.id)
        remove = delete(PostCount).where(is_kind, key.in_(wrong))
        names = ["user_id", "tag_id", "delta", "is_total"]
        statement = insert(PostCount).from_select(names, totals)
        if session.get_bind().dialect.name == "sqlite":
            await session.exec(remove)
        else:
            await session.exec(select(func.pg_advisory_xact_lock(MERGING_LOCK)))
            statement = statement.add_cte(remove.cte("removed"))
        await session.exec(statement)

    return Derived(name, ids, find_by_query(find), repair, size=1_000)


AUTHOR_COUNTS = make_post_counts(
    "post-counts of authors",
    union(
        select(User.id),
        select(col(PostCount.user_id)).where(col(PostCount.tag_id) == 0),
        select_columns(literal(0, Integer)),
    ),
    col(PostCount.user_id),
    col(PostCount.tag_id) == 0,
    count_authors,
)
TAG_COUNTS = make_post_counts(
    "post-counts of tags",
    union(select(Tag.id), select(col(PostCount.tag_id)).where(col(PostCount.tag_id) > 0)),
    col(PostCount.tag_id),
    and_(col(PostCount.user_id) == 0, col(PostCount.tag_id) > 0),
    count_tags,
)
