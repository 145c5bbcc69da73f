"""Moderation of comments: `/admin/comments`, and approval by administrators and authors."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlmodel import Field, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import Admin, Auth, Moderator
from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.accounts.scopes import Scope
from blog_api.admin.audit import record_audit_entry
from blog_api.admin.models import AuditAction
from blog_api.comments.approval import approve, withdraw_approval
from blog_api.comments.errors import CHANGE_PROBLEMS, NotYourComment
from blog_api.comments.models import Approver, Comment, CommentPage, CommentRead
from blog_api.comments.service import find_comment, lock_comment, lock_visible_comment
from blog_api.comments.threads import CURRENT_COMMENTS, NEWEST_FIRST, CommentStateQuery
from blog_api.core.errors import Conflict, ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import MAX_INT32, PathId, SearchText
from blog_api.db.functions import text_position
from blog_api.db.list_query import ListQuery
from blog_api.db.session import SessionDep
from blog_api.posts.counters import CountedPost
from blog_api.web.conditional import PreconditionDep, set_etag_row
from blog_api.web.pagination import Page, PaginatorDep

router = APIRouter(responses=problem_responses(ServiceUnavailable))


class AdminCommentQuery(CommentStateQuery):
    """Filters and page of all comments."""

    user: int | None = Field(default=None, ge=1, le=MAX_INT32, description="Id of a user.")
    q: SearchText | None = Field(
        default=None,
        description="Text of the comment, as it is sent, in lowercase, in capitals or capitalized. "
        "Several words need not be adjacent.",
    )


@router.get(
    "/admin/comments",
    tags=["admin"],
    response_model=CommentPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_all_comments(
    _: Admin, query: Annotated[AdminCommentQuery, Query()], paginator: PaginatorDep
) -> Page[Comment]:
    """List the comments of all users that were not deleted, newest first."""
    found = CURRENT_COMMENTS[query.state]
    if query.user is not None:
        found = found.where(col(Comment.user_id) == query.user)
    for word in (query.q or "").split():
        spellings = {word, word.lower(), word.upper(), word.capitalize()}
        positions = (text_position(col(Comment.content), one) for one in sorted(spellings))
        found = found.where(or_(*(position > 0 for position in positions)))
    return await paginator.paginate(ListQuery(found), query, NEWEST_FIRST)


@dataclass(frozen=True)
class Moderation:
    """A comment that a moderator approves or not, locked together with its post."""

    session: AsyncSession
    auth: Auth
    post: CountedPost
    comment: Comment

    @property
    def is_by_admin(self) -> bool:
        return Scope.admin in self.auth.scopes

    def record(self, action: AuditAction) -> None:
        """Add an audit entry if an administrator acts."""
        if self.is_by_admin:
            record_audit_entry(
                self.session,
                self.auth.user,
                action,
                user_id=self.comment.user_id,
                post_id=self.post.id,
                comment_id=self.comment.id,
            )


async def get_moderation(
    comment_id: PathId,
    auth: Moderator,
    precondition: PreconditionDep,
    session: SessionDep,
    request: Request,
) -> Moderation:
    """Lock any comment for an administrator, or one on the user's own post.

    Raises CommentNotFound, NotYourComment and PreconditionFailed. Sets the row of the ETag.
    """
    if Scope.admin in auth.scopes:
        query = select(Comment).where(col(Comment.id) == comment_id)
        comment = await find_comment(session, query)
        post = await lock_comment(session, comment)
    else:
        post, comment = await lock_visible_comment(session, auth.user.id, comment_id)
        if auth.user.id != post.user_id:
            raise NotYourComment
    precondition.check(comment)
    set_etag_row(request, comment)
    return Moderation(session, auth, post, comment)


ModerationDep = Annotated[Moderation, Depends(get_moderation)]


@router.put(
    "/comments/{comment_id:int}/approval",
    tags=["comments"],
    response_model=CommentRead,
    responses=problem_responses(*CHANGE_PROBLEMS, Conflict),
)
async def approve_comment(moderation: ModerationDep) -> Comment:
    """Approve a comment: show it to everybody, and trust its author from now on. Idempotent.

    The author of the post trusts them on all own posts; an administrator, with the scope `admin`,
    everywhere. Send the ETag that was read in `If-Match`: the comment may have changed since.
    """
    approver = Approver.admin if moderation.is_by_admin else Approver.author
    if await approve(moderation.session, moderation.post, moderation.comment, approver):
        moderation.record(AuditAction.approve_comment)
    return moderation.comment


@router.delete(
    "/comments/{comment_id:int}/approval",
    tags=["comments"],
    response_model=CommentRead,
    responses=problem_responses(*CHANGE_PROBLEMS, Conflict),
)
async def withdraw_comment_approval(moderation: ModerationDep) -> Comment:
    """Let a comment wait for approval again. Idempotent.

    Its author is no longer trusted for this comment, but for other approved ones.
    """
    if await withdraw_approval(moderation.session, moderation.post, moderation.comment):
        moderation.record(AuditAction.withdraw_approval)
    return moderation.comment
