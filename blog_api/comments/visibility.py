"""Waiting comments: seen by their author, the author of the post and administrators only.

To everybody else a waiting comment is like a deleted one: a placeholder while there are public
answers below it, and otherwise nothing. Example: Bob's comment has an answer of Ann's, and Bob's
edit has to wait for approval. Then others see Ann's answer below a placeholder.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, literal
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, exists, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.comments.models import ID_DIGITS, Comment, CommentRead
from blog_api.posts.models import Post

IS_CURRENT = col(Comment.deleted_at).is_(None)

# As `Comment.is_shown`.
IS_SHOWN = or_(
    and_(IS_CURRENT, ~col(Comment.is_waiting)),
    col(Comment.stored_answer_count) > col(Comment.hidden_answer_count),
)

HIDDEN_VALUES = {
    "content": None,
    "user_id": None,
    "user_name": None,
    "author": None,
    "is_deleted": True,
    "is_approved": True,
}


def is_shown_to(reader_id: Any) -> ColumnElement[bool]:
    """Return the condition of comments that a user sees on a post that the user may see.

    Their own waiting comments, with placeholders above them, and all on their own posts.
    """
    below = aliased(Comment)
    reader = literal(reader_id, Integer) if reader_id is None else reader_id
    is_own = and_(col(Comment.is_waiting), col(Comment.user_id) == reader)
    is_on_own_post = exists().where(
        col(Post.id) == col(Comment.post_id), col(Post.user_id) == reader
    )
    # A range of the index of threads: the answers of one user may be many.
    has_own_below = exists().where(
        col(below.thread_id) == col(Comment.thread_id),
        col(below.path) > col(Comment.path),
        col(below.path) < col(Comment.path) + "9" * ID_DIGITS,
        col(below.user_id) == reader,
        col(below.is_waiting),
    )
    return or_(
        IS_SHOWN, is_own, is_on_own_post.correlate(Comment), has_own_below.correlate(Comment)
    )


def is_text_visible_to(reader_id: int | None, comment: Comment, post_author_id: int) -> bool:
    is_involved = reader_id is not None and reader_id in (comment.user_id, post_author_id)
    return is_involved or not comment.is_waiting


def make_placeholder(comment: Comment) -> CommentRead:
    """Return a waiting comment as others see it. The time of its last edit is hidden, too."""
    hidden = {**HIDDEN_VALUES, "updated_at": comment.created_at}
    return CommentRead.model_validate(comment, update=hidden)


async def show_comments(
    session: AsyncSession, comments: Sequence[Comment], reader_id: int | None
) -> dict[int, Comment | CommentRead]:
    """Return comments on one post by their ids, as a user sees them."""
    waiting = [comment for comment in comments if comment.is_waiting]
    author_id = 0
    if waiting and reader_id is not None:
        query = select(Post.user_id).where(col(Post.id) == waiting[0].post_id)
        author_id = (await session.exec(query)).one()
    hidden = {one.id for one in waiting if not is_text_visible_to(reader_id, one, author_id)}
    return {one.id: make_placeholder(one) if one.id in hidden else one for one in comments}
