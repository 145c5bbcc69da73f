"""Approval of comments: whose comments wait, and who is trusted.

Trust is not stored: who has a comment that the author of a post approved is trusted on all posts of
that author, and who has one that an administrator approved is trusted everywhere. Example: with
`BLOG_COMMENTS=approved` Bob's first comment on a post of Ann's waits, Ann approves it, and Bob's
next one on another post of hers is public at once.
"""

from fastapi import Request
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import AuthenticatedUser
from blog_api.comments.counts import set_waiting
from blog_api.comments.errors import CommentsClosed
from blog_api.comments.models import IS_APPROVAL, Approver, Comment
from blog_api.core.settings import Settings
from blog_api.db.base import preserve_updated_at
from blog_api.posts.counters import CountedPost
from blog_api.posts.models import Post


async def is_trusted(session: AsyncSession, user: AuthenticatedUser, post: CountedPost) -> bool:
    """Return whether the comments of a user on a post need no approval."""
    if user.is_admin or user.id == post.user_id:
        return True
    by_author = and_(col(Comment.approved_by) == Approver.author, col(Post.user_id) == post.user_id)
    query = (
        select(Comment.id)
        .join(Post, col(Post.id) == col(Comment.post_id))
        .where(col(Comment.user_id) == user.id, IS_APPROVAL)
        .where(or_(col(Comment.approved_by) == Approver.admin, by_author))
    )
    return (await session.exec(query.limit(1))).first() is not None


async def must_wait(
    session: AsyncSession, request: Request, user: AuthenticatedUser, post: CountedPost
) -> bool:
    """Return whether a new text of a user on a post waits for approval. Raises CommentsClosed."""
    settings: Settings = request.app.state.settings
    if settings.comments == "closed" or not post.comments_open:
        raise CommentsClosed
    return settings.comments == "approved" and not await is_trusted(session, user, post)


async def approve(
    session: AsyncSession, post: CountedPost, comment: Comment, approver: Approver
) -> bool:
    """Approve a locked comment; return whether that changes anything.

    An administrator's approval stays one when the author of the post approves, too.
    """
    if comment.approved_by in (approver, Approver.admin):
        return False
    comment.approved_by = approver
    preserve_updated_at(comment)
    await set_waiting(session, post, comment, False)
    return True


async def withdraw_approval(session: AsyncSession, post: CountedPost, comment: Comment) -> bool:
    """Let a locked comment wait again; return whether that changes anything."""
    if comment.is_waiting:
        return False
    comment.approved_by = None
    await set_waiting(session, post, comment, True)
    return True
