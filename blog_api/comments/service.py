"""Insert, find, lock and remove comments."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    String,
    bindparam,
    cast,
    delete,
    func,
    insert,
    inspect,
    update,
)
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.comments.counts import (
    count_hidden_answer,
    recount_hidden_answers,
)
from blog_api.comments.errors import CommentNotFound, ThreadTooDeep
from blog_api.comments.models import ID_DIGITS, MAX_THREAD_DEPTH, Comment
from blog_api.comments.visibility import is_shown_to, is_text_visible_to
from blog_api.core.fields import utc_now
from blog_api.db.base import preserve_updated_at
from blog_api.db.functions import next_id, utf8_length
from blog_api.db.queries import BATCH_SIZE, NamedQuery, Write, execute_query, execute_together
from blog_api.posts.counters import (
    CountedPost,
    change_counters,
    lock_post_for_counters,
    lock_posts_for_counters,
    make_counters_write,
    update_counters,
)
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import MAX_LISTED_BYTES, Post
from blog_api.posts.queries import is_visible_to

NEW_ID = select_columns(next_id("comments").label("id")).subquery("new")
PADDED_ID = func.substr(cast(cast(NEW_ID.c.id, BigInteger) + 10**ID_DIGITS, String), 2)
COLUMNS: dict[str, ColumnElement[Any]] = {
    one.columns[0].name: bindparam(one.key, type_=one.columns[0].type)
    for one in inspect(Comment).column_attrs
}
# The place of a comment in its thread is made of its id.
COLUMNS |= {
    "id": NEW_ID.c.id,
    "path": COLUMNS["path"] + PADDED_ID,
    "thread_id": func.coalesce(COLUMNS["thread_id"], NEW_ID.c.id),
}
INSERT_COMMENT = NamedQuery(
    insert(Comment)
    .from_select([*COLUMNS], select_columns(*COLUMNS.values()))
    .returning(col(Comment.id), col(Comment.path), col(Comment.thread_id))
)

# Of posts that are deleted together.
MAX_DELETED_COMMENTS = 2_000


async def insert_comment(session: AsyncSession, post: CountedPost, comment: Comment) -> None:
    """Insert a comment on a post that is locked, or an answer to its `parent_id`.

    Raises ThreadTooDeep, and CommentNotFound unless the user sees the text to answer.
    """
    parent = None if comment.parent_id is None else await session.get(Comment, comment.parent_id)
    if parent is not None:
        if parent.post_id != post.id or parent.is_deleted:
            raise CommentNotFound
        if not is_text_visible_to(comment.user_id, parent, post.user_id):
            raise CommentNotFound
        if parent.depth >= MAX_THREAD_DEPTH:
            raise ThreadTooDeep
        parent.stored_answer_count += 1
        parent.hidden_answer_count += 1
        preserve_updated_at(parent)
    elif comment.parent_id is not None:
        raise CommentNotFound
    await count_hidden_answer(session, comment, was_shown=False)
    comment.updated_at = comment.created_at
    above = {"thread_id": parent.thread_id, "path": parent.path} if parent else {"path": ""}
    insertion = Write(INSERT_COMMENT, comment.model_dump() | above)
    if comment.is_waiting:
        [inserted] = await execute_query(session, *insertion)
    else:
        counters = make_counters_write(post, comments=1)
        [inserted], _ = await execute_together(session, insertion, counters)
    comment.sqlmodel_update(inserted)


async def find_comment(session: AsyncSession, query: SelectOfScalar[Comment]) -> Comment:
    """Return the comment of a query. Raises CommentNotFound."""
    comment = (await session.exec(query)).first()
    if comment is None:
        raise CommentNotFound
    return comment


def visible_comment(comment_id: int, reader_id: int | None) -> SelectOfScalar[Comment]:
    """Select a comment that this user sees on a post that this user may see."""
    is_shown = is_shown_to(reader_id, post_of_comment(comment_id))
    return comment_with_post(comment_id).where(is_visible_to(reader_id), is_shown)


def visible_or_own_comment(comment_id: int, reader_id: int | None) -> SelectOfScalar[Comment]:
    """Select a comment that this user sees or wrote.

    Its author keeps access to it while the post is hidden.
    """
    # A comment without a user is not that of an anonymous reader.
    is_own = and_(col(Comment.user_id) == reader_id, col(Comment.user_id).is_not(None))
    is_shown = is_shown_to(reader_id, post_of_comment(comment_id))
    is_shown = and_(is_visible_to(reader_id), is_shown)
    return comment_with_post(comment_id).where(or_(is_shown, is_own))


def post_of_comment(comment_id: int) -> ScalarSelect[int]:
    commented = aliased(Comment)
    return select(commented.post_id).where(col(commented.id) == comment_id).scalar_subquery()


def comment_with_post(comment_id: int) -> SelectOfScalar[Comment]:
    query = select(Comment).join(Post, col(Post.id) == col(Comment.post_id))
    return query.where(col(Comment.id) == comment_id)


async def lock_comment(session: AsyncSession, comment: Comment) -> CountedPost:
    """Lock the post, then the comment; return the post. Raises CommentNotFound if deleted."""
    try:
        post = await lock_post_for_counters(session, comment.post_id)
    except PostNotFound:
        # Deleted meanwhile, with its comments.
        raise CommentNotFound from None
    query = select(Comment).where(col(Comment.id) == comment.id).with_for_update(of=Comment)
    await find_comment(session, query.execution_options(populate_existing=True))
    if comment.is_deleted:
        raise CommentNotFound
    return post


async def lock_visible_comment(
    session: AsyncSession, user_id: int, comment_id: int
) -> tuple[CountedPost, Comment]:
    """Lock and return a comment whose text this user sees, and its post. Raises CommentNotFound."""
    comment = await find_comment(session, visible_or_own_comment(comment_id, user_id))
    post = await lock_comment(session, comment)
    if not is_text_visible_to(user_id, comment, post.user_id):
        raise CommentNotFound
    return post, comment


async def remove_comment(session: AsyncSession, post: CountedPost, comment: Comment) -> None:
    """Delete a comment; one with answers stays without content and user."""
    if not comment.is_waiting:
        await change_counters(session, post, comments=-1)
    was_shown = comment.is_shown
    comment.user = None
    comment.content = None
    comment.deleted_at = utc_now()
    comment.is_waiting = False
    await count_hidden_answer(session, comment, was_shown=was_shown)
    if comment.stored_answer_count:
        return
    await session.delete(comment)
    while comment.parent_id is not None:
        parent = await session.get_one(Comment, comment.parent_id)
        # Without answers it is hidden.
        parent.stored_answer_count -= 1
        parent.hidden_answer_count -= 1
        preserve_updated_at(parent)
        if not parent.is_deleted or parent.stored_answer_count:
            break
        # The deleted parent stayed for this answer only.
        await session.flush()
        await session.delete(parent)
        comment = parent


async def delete_some_posts(session: AsyncSession, user_id: int) -> bool:
    """Delete a batch of a user's posts with their comments; return whether more may be left.

    A batch has a bounded number of comments and bytes, which take most of the time. Comments that
    wait or were deleted count too: `Post.comment_count` has only the public ones.
    """
    query = select(Post.id, utf8_length(Post.content)).where(col(Post.user_id) == user_id)
    locked = query.order_by(col(Post.id)).limit(BATCH_SIZE).with_for_update(of=Post)
    found = (await session.exec(locked)).all()
    post_id = col(Comment.post_id)
    counted = select(post_id).where(post_id.in_([one for one, _ in found])).order_by(post_id)
    # The post of the first comment that is too many.
    end = (await session.exec(counted.offset(MAX_DELETED_COMMENTS).limit(1))).first()
    sizes = accumulate(size for _, size in found)
    fitting = sum(
        size <= MAX_LISTED_BYTES and (end is None or one < end)
        for size, (one, _) in zip(sizes, found, strict=True)
    )
    ids = [one for one, _ in found][: max(1, fitting)]
    await session.exec(delete(Post).where(col(Post.id).in_(ids)))
    return len(ids) == BATCH_SIZE or len(ids) < len(found)


async def anonymize_some_comments(session: AsyncSession, user_id: int) -> bool:
    """Delete a batch of a user's comments; return whether more may be left.

    Those with answers stay without content and user.
    """
    is_own = and_(col(Comment.user_id) == user_id, col(Comment.deleted_at).is_(None))
    query = select(Comment.id, Comment.post_id, Comment.user_id, Comment.is_waiting)
    found = (await session.exec(query.where(is_own).limit(BATCH_SIZE))).all()
    await lock_posts_for_counters(session, col(Post.id).in_({post_id for _, post_id, *_ in found}))
    # Another request may have changed some of them before their posts were locked.
    again = query.where(col(Comment.id).in_([comment_id for comment_id, *_ in found]))
    own = [row for row in await session.exec(again) if row[2] == user_id]
    public = (post_id for _, post_id, _, is_waiting in own if not is_waiting)
    for count, post_ids in group_by_count(public):
        counter = col(Post.comment_count) - count
        await update_counters(session, col(Post.id).in_(post_ids), comment_count=counter)
    # By their ids alone: counting them within the statements takes longer the more a post has.
    is_found = col(Comment.id).in_([comment_id for comment_id, *_ in own])
    threads = select(Comment.thread_id).where(is_found)
    waiting = select(Comment.thread_id).where(
        col(Comment.is_waiting), col(Comment.thread_id).in_(threads)
    )
    threads_with_hidden = (await session.exec(waiting.distinct())).all()
    await delete_unanswered_comments(session, is_found)
    values = {"content": None, "user_id": None, "deleted_at": utc_now(), "is_waiting": False}
    await session.exec(update(Comment).where(is_found).values(values))
    # In other threads nothing is hidden.
    await recount_hidden_answers(session, threads_with_hidden)
    return len(found) == BATCH_SIZE


def group_by_count(ids: Iterable[int]) -> Iterable[tuple[int, list[int]]]:
    """Return the ids that occur once, twice and so on, after that number."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for one, count in Counter(ids).items():
        groups[count].append(one)
    return groups.items()


async def delete_unanswered_comments(session: AsyncSession, which: ColumnElement[bool]) -> None:
    """Delete those of the comments that have no answers, also once their answers are deleted.

    A deleted comment that stayed for one of them is deleted too.
    """
    is_removed = or_(which, col(Comment.deleted_at).is_not(None))
    is_unanswered = col(Comment.stored_answer_count) == 0
    query = select(Comment.id, Comment.parent_id)
    unanswered = list(await session.exec(query.where(which, is_unanswered)))
    while unanswered:
        above: list[tuple[int, int | None]] = []
        for start in range(0, len(unanswered), BATCH_SIZE):
            batch = unanswered[start : start + BATCH_SIZE]
            ids = [comment_id for comment_id, _ in batch]
            await session.exec(delete(Comment).where(col(Comment.id).in_(ids)))
            for count, parent_ids in group_by_count(parent for _, parent in batch if parent):
                is_parent = col(Comment.id).in_(parent_ids)
                values = {
                    "stored_answer_count": col(Comment.stored_answer_count) - count,
                    "updated_at": col(Comment.updated_at),
                }
                await session.exec(update(Comment).where(is_parent).values(values))
                above += await session.exec(query.where(is_parent, is_removed, is_unanswered))
        unanswered = above
