"""Moderation of posts and comments: `/admin/posts`, `/admin/comments`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import true
from sqlmodel import Field, and_, col, select
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import Admin
from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.admin.audit import record_audit_entry
from blog_api.admin.models import AuditAction, PostState, TakedownUpdate
from blog_api.comments.errors import CommentNotFound
from blog_api.comments.models import Comment, CommentRead
from blog_api.comments.service import find_comment, lock_comment, remove_comment
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId, utc_now
from blog_api.db.base import preserve_updated_at
from blog_api.db.list_query import Sort
from blog_api.db.session import SessionDep
from blog_api.posts.bodies import PostBody, ReadBody, make_body_response
from blog_api.posts.errors import PostNotFound
from blog_api.posts.filters import PostPageQuery
from blog_api.posts.models import OwnPostDetail, OwnPostPage, OwnPostRead, Post
from blog_api.posts.queries import IS_PUBLISHED, IS_SCHEDULED, find_post, list_of_posts
from blog_api.web.conditional import PreconditionDep, PreconditionFailed, set_etag_row
from blog_api.web.pagination import Page, PaginatorDep

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=problem_responses(ServiceUnavailable, *SCOPE_PROBLEMS),
)


class AdminPostQuery(PostPageQuery):
    state: PostState | None = Field(default=None, description="Default: all states.")


NEWEST_FIRST = Sort("-id", (col(Post.id),), is_descending=True)

WITHOUT_REASON = TakedownUpdate()

POST_PROBLEMS = (PostNotFound, ValidationFailed)
POST_CHANGE_PROBLEMS = (*POST_PROBLEMS, PreconditionFailed)

COMMENT_PROBLEMS = (CommentNotFound, ValidationFailed)

IS_NOT_TAKEN_DOWN = col(Post.taken_down_at).is_(None)

# A post that was taken down is in that state only.
STATE_CONDITIONS = {
    None: true(),
    PostState.draft: and_(IS_NOT_TAKEN_DOWN, col(Post.published_at).is_(None)),
    PostState.scheduled: IS_SCHEDULED,
    PostState.published: IS_PUBLISHED,
    PostState.taken_down: col(Post.taken_down_at).is_not(None),
}

POSTS_BY_STATE = {
    (state, body): list_of_posts(select(Post.id).where(condition), OwnPostRead, body)
    for state, condition in STATE_CONDITIONS.items()
    for body in PostBody
}


def post_by_id(post_id: int) -> SelectOfScalar[Post]:
    return select(Post).where(col(Post.id) == post_id)


async def get_any_post(post_id: PathId, session: SessionDep, request: Request) -> Post:
    """Return a post in any state. Raises PostNotFound. Sets the row of the ETag."""
    post = await find_post(session, post_by_id(post_id))
    set_etag_row(request, post)
    return post


async def get_locked_post(
    post_id: PathId, precondition: PreconditionDep, session: SessionDep, request: Request
) -> Post:
    """Lock and return a post in any state. Sets the row of the ETag.

    Raises PostNotFound and PreconditionFailed.
    """
    post = await find_post(session, post_by_id(post_id).with_for_update(of=Post))
    precondition.check(post)
    set_etag_row(request, post)
    return post


AnyPost = Annotated[Post, Depends(get_any_post)]

LockedPost = Annotated[Post, Depends(get_locked_post)]


@router.get("/posts", response_model=OwnPostPage, responses=problem_responses(ValidationFailed))
async def list_all_posts(
    _: Admin, query: Annotated[AdminPostQuery, Query()], paginator: PaginatorDep
) -> Page[Any]:
    """List the posts of one state, by default of all, newest first."""
    return await paginator.paginate(POSTS_BY_STATE[query.state, query.body], query, NEWEST_FIRST)


@router.get(
    "/posts/{post_id:int}",
    response_model=OwnPostDetail,
    responses=problem_responses(*POST_PROBLEMS),
)
async def read_any_post(
    _: Admin, post: AnyPost, response: Response, body: ReadBody = PostBody.both
) -> Post | Response:
    """Return a post in any state."""
    if body is PostBody.both:
        return post
    return make_body_response(post, body, response, model=OwnPostDetail)


@router.delete(
    "/posts/{post_id:int}",
    status_code=204,
    responses=problem_responses(*POST_CHANGE_PROBLEMS, Conflict),
)
async def delete_any_post(admin: Admin, post: LockedPost, session: SessionDep) -> None:
    """Delete a post of any author."""
    record_audit_entry(session, admin, AuditAction.delete_post, post_id=post.id)
    await session.delete(post)


@router.put(
    "/posts/{post_id:int}/takedown",
    response_model=OwnPostRead,
    responses=problem_responses(*POST_CHANGE_PROBLEMS, *BODY_PROBLEMS, *SCOPE_PROBLEMS),
)
async def take_down_post(
    admin: Admin,
    post: LockedPost,
    session: SessionDep,
    update: TakedownUpdate = WITHOUT_REASON,
) -> Post:
    """Take a post down: only its author still sees it, and cannot undo that. Idempotent.

    The reason is shown to the author and to administrators.
    """
    reason = update.model_dump(exclude_unset=True).get("reason", post.takedown_reason)
    if post.taken_down_at is None or reason != post.takedown_reason:
        post.taken_down_at = post.taken_down_at or utc_now()
        post.takedown_reason = reason
        preserve_updated_at(post)
        record_audit_entry(
            session, admin, AuditAction.take_down_post, post_id=post.id, reason=reason
        )
    return post


@router.delete(
    "/posts/{post_id:int}/takedown",
    response_model=OwnPostRead,
    responses=problem_responses(*POST_CHANGE_PROBLEMS),
)
async def restore_post(admin: Admin, post: LockedPost, session: SessionDep) -> Post:
    """Undo a takedown, and delete its reason. Idempotent."""
    if post.taken_down_at is not None:
        post.taken_down_at = post.takedown_reason = None
        preserve_updated_at(post)
        record_audit_entry(session, admin, AuditAction.restore_post, post_id=post.id)
    return post


async def get_any_comment(comment_id: PathId, session: SessionDep) -> Comment:
    """Return a comment on a post in any state. Raises CommentNotFound."""
    return await find_comment(session, select(Comment).where(col(Comment.id) == comment_id))


AnyComment = Annotated[Comment, Depends(get_any_comment)]


@router.get(
    "/comments/{comment_id:int}",
    response_model=CommentRead,
    responses=problem_responses(*COMMENT_PROBLEMS),
)
async def read_any_comment(_: Admin, comment: AnyComment, request: Request) -> Comment:
    """Return a comment on a post in any state."""
    set_etag_row(request, comment)
    return comment


@router.delete(
    "/comments/{comment_id:int}",
    status_code=204,
    responses=problem_responses(*COMMENT_PROBLEMS, PreconditionFailed, Conflict),
)
async def delete_any_comment(
    admin: Admin, comment: AnyComment, precondition: PreconditionDep, session: SessionDep
) -> None:
    """Delete a comment of any user."""
    post = await lock_comment(session, comment)
    precondition.check(comment)
    record_audit_entry(
        session,
        admin,
        AuditAction.delete_comment,
        user_id=comment.user_id,
        post_id=post.id,
        comment_id=comment.id,
    )
    await remove_comment(session, post, comment)
