"""Numbers of public comments on posts, and of answers that are hidden.

`Post.comment_count` counts the comments that are neither deleted nor waiting.
`Comment.hidden_answer_count` counts the direct answers that only those involved see:
they wait or are placeholders, and have no public answers below. All are changed under the lock of
the post.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.comments.models import ID_DIGITS, MAX_THREAD_DEPTH, Comment
from blog_api.db.base import preserve_updated_at
from blog_api.db.queries import BATCH_SIZE
from blog_api.db.rebuild import Derived, Span, find_by_query
from blog_api.posts.counters import (
    CountedPost,
    change_counters,
    lock_posts_for_counters,
    update_counters,
)
from blog_api.posts.models import Post

Answer = aliased(Comment)
IS_ANSWER = col(Answer.parent_id) == col(Comment.id)
IS_HIDDEN = and_(
    or_(col(Answer.deleted_at).is_not(None), col(Answer.is_waiting)),
    col(Answer.stored_answer_count) <= col(Answer.hidden_answer_count),
)
# The direct answers to a comment, and those of them that are hidden.
ANSWERS = select(func.count()).where(IS_ANSWER).correlate(Comment).scalar_subquery()
HIDDEN_ANSWERS = (
    select(func.count()).where(IS_ANSWER, IS_HIDDEN).correlate(Comment).scalar_subquery()
)


async def count_hidden_answer(session: AsyncSession, comment: Comment, *, was_shown: bool) -> None:
    """Update the counts of the comments above one that was shown before, or was not."""
    while comment.parent_id is not None and comment.is_shown != was_shown:
        parent = await session.get_one(Comment, comment.parent_id)
        parent_was_shown = parent.is_shown
        parent.hidden_answer_count += 1 if was_shown else -1
        preserve_updated_at(parent)
        comment, was_shown = parent, parent_was_shown


async def set_waiting(
    session: AsyncSession, post: CountedPost, comment: Comment, is_waiting: bool
) -> None:
    """Hide a comment from the public or show it; the post and the comment are locked."""
    if comment.is_waiting == is_waiting:
        return
    was_shown = comment.is_shown
    comment.is_waiting = is_waiting
    preserve_updated_at(comment)
    await change_counters(session, post, comments=-1 if is_waiting else 1)
    await count_hidden_answer(session, comment, was_shown=was_shown)


async def recount_hidden_answers(session: AsyncSession, thread_ids: Sequence[int | None]) -> None:
    """Count the hidden answers in threads anew, from the deepest answers up."""
    for start in range(0, len(thread_ids), BATCH_SIZE):
        is_in_threads = col(Comment.thread_id).in_(thread_ids[start : start + BATCH_SIZE])
        for depth in reversed(range(MAX_THREAD_DEPTH)):
            statement = update(Comment).where(
                is_in_threads,
                func.length(Comment.path) == ID_DIGITS * (depth + 1),
                col(Comment.hidden_answer_count) != HIDDEN_ANSWERS,
            )
            values = {"hidden_answer_count": HIDDEN_ANSWERS, "updated_at": col(Comment.updated_at)}
            statement = statement.values(values)
            await session.exec(statement.execution_options(synchronize_session=False))


PUBLIC_COMMENTS = (
    select(func.count())
    .where(col(Comment.post_id) == col(Post.id))
    .where(col(Comment.deleted_at).is_(None), ~col(Comment.is_waiting))
    .correlate(Post)
    .scalar_subquery()
)


def find_wrong_counts(span: Span) -> Any:
    return select(Post.id).where(span.contains(Post.id), col(Post.comment_count) != PUBLIC_COMMENTS)


async def count_comments_again(session: AsyncSession, post_ids: Collection[int]) -> None:
    is_affected = col(Post.id).in_(post_ids)
    await lock_posts_for_counters(session, is_affected)
    await update_counters(session, is_affected, comment_count=PUBLIC_COMMENTS)


def find_wrong_threads(span: Span) -> Any:
    """Select the threads in which a number of answers is wrong, by their first comments."""
    is_wrong = or_(
        col(Comment.stored_answer_count) != ANSWERS,
        col(Comment.hidden_answer_count) != HIDDEN_ANSWERS,
    )
    return select(Comment.thread_id).where(span.contains(Comment.thread_id), is_wrong).distinct()


async def count_answers_again(session: AsyncSession, thread_ids: Sequence[int]) -> None:
    is_in_threads = col(Comment.thread_id).in_(thread_ids)
    await lock_posts_for_counters(
        session, col(Post.id).in_(select(Comment.post_id).where(is_in_threads))
    )
    values = {"stored_answer_count": ANSWERS, "updated_at": col(Comment.updated_at)}
    statement = update(Comment).where(is_in_threads, col(Comment.stored_answer_count) != ANSWERS)
    await session.exec(statement.values(values).execution_options(synchronize_session=False))
    await recount_hidden_answers(session, thread_ids)


COMMENT_COUNTS = Derived(
    "comment-counts", select(Post.id), find_by_query(find_wrong_counts), count_comments_again
)
ANSWER_COUNTS = Derived(
    "answer-counts",
    select(Comment.id).where(col(Comment.parent_id).is_(None)),
    find_by_query(find_wrong_threads),
    count_answers_again,
)
