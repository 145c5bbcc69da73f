"""Numbers of public comments on posts, and of answers that are hidden.

`Post.comment_count` counts the comments that are neither deleted nor waiting.
`Comment.hidden_answer_count` counts the direct answers that are shown to nobody but those involved:
they wait or are placeholders, and have no public answers below. All are changed under the lock of
the post.
"""

from collections.abc import Sequence

from sqlalchemy import func, update
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.comments.models import ID_DIGITS, MAX_THREAD_DEPTH, Comment
from blog_api.db.base import preserve_updated_at
from blog_api.db.queries import BATCH_SIZE
from blog_api.posts.models import Post


def count_comment(post: Post, change: int) -> None:
    post.comment_count += change
    preserve_updated_at(post)


async def count_hidden_answer(session: AsyncSession, comment: Comment, *, was_shown: bool) -> None:
    """Update the counts of the comments above one that was shown before, or was not."""
    while comment.parent_id is not None and comment.is_shown != was_shown:
        parent = await session.get_one(Comment, comment.parent_id)
        parent_was_shown = parent.is_shown
        parent.hidden_answer_count += 1 if was_shown else -1
        preserve_updated_at(parent)
        comment, was_shown = parent, parent_was_shown


async def set_waiting(
    session: AsyncSession, post: Post, comment: Comment, is_waiting: bool
) -> None:
    """Hide a comment from the public or show it; the post and the comment are locked."""
    if comment.is_waiting == is_waiting:
        return
    was_shown = comment.is_shown
    comment.is_waiting = is_waiting
    preserve_updated_at(comment)
    count_comment(post, -1 if is_waiting else 1)
    await count_hidden_answer(session, comment, was_shown=was_shown)


async def recount_hidden_answers(session: AsyncSession, thread_ids: Sequence[int | None]) -> None:
    """Count the hidden answers in threads anew, from the deepest answers up."""
    answer = aliased(Comment)
    is_hidden = and_(
        or_(col(answer.deleted_at).is_not(None), col(answer.is_waiting)),
        col(answer.stored_answer_count) <= col(answer.hidden_answer_count),
    )
    count = select(func.count()).where(col(answer.parent_id) == col(Comment.id), is_hidden)
    hidden = count.correlate(Comment).scalar_subquery()
    for start in range(0, len(thread_ids), BATCH_SIZE):
        is_in_threads = col(Comment.thread_id).in_(thread_ids[start : start + BATCH_SIZE])
        for depth in reversed(range(MAX_THREAD_DEPTH)):
            statement = update(Comment).where(
                is_in_threads,
                func.length(Comment.path) == ID_DIGITS * (depth + 1),
                col(Comment.hidden_answer_count) != hidden,
            )
            values = {"hidden_answer_count": hidden, "updated_at": col(Comment.updated_at)}
            statement = statement.values(values)
            await session.exec(statement.execution_options(synchronize_session=False))
