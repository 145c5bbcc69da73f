"""Waiting comments: seen by their author, the author of the post and administrators only.

To everybody else a waiting comment is like a deleted one: a placeholder while there are public
answers below it, and otherwise nothing. Example: Bob's comment has an answer of Ann's, and Bob's
edit has to wait for approval. Then others see Ann's answer below a placeholder.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.comments.models import Comment, CommentRead
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


def is_shown_to(reader_id: Any, post_id: Any) -> ColumnElement[bool]:
    """Return the condition of comments on a post that a user sees, who sees the post.

    Their own waiting comments, with placeholders above them, and all on their own posts. No
    subquery depends on the row: there may be many that are hidden.
    """
    if reader_id is None:
        return IS_SHOWN
    is_own = and_(col(Comment.is_waiting), col(Comment.user_id) == reader_id)
    author_id = select(Post.user_id).where(col(Post.id) == post_id).scalar_subquery()
    own, parent = aliased(Comment), aliased(Comment)
    above = (
        select(col(own.parent_id).label("id"))
        .where(col(own.post_id) == post_id, col(own.user_id) == reader_id, col(own.is_waiting))
        .cte("above", recursive=True)
    )
    next_above = select(col(parent.parent_id)).join(above, col(parent.id) == above.c.id)
    above = above.union(next_above)
    is_above_own = col(Comment.id).in_(select(above.c.id).where(above.c.id.is_not(None)))
    return or_(IS_SHOWN, is_own, author_id == reader_id, is_above_own)


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
