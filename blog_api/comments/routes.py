"""One comment: create, read, update, delete."""

from fastapi import APIRouter, Depends, Request

from blog_api.accounts.auth import CanWrite, OptionalAuth, get_reader_id
from blog_api.accounts.errors import WRITE_PROBLEMS
from blog_api.accounts.idempotency import CREATE_ONCE, IDEMPOTENCY_PROBLEMS, IdempotentRoute
from blog_api.accounts.write_limits import limit_comments
from blog_api.comments.approval import must_wait
from blog_api.comments.counts import set_waiting
from blog_api.comments.errors import (
    CHANGE_PROBLEMS,
    READ_PROBLEMS,
    CommentNotFound,
    CommentsClosed,
    NotYourComment,
    ThreadTooDeep,
)
from blog_api.comments.models import Comment, CommentCreate, CommentRead, CommentUpdate
from blog_api.comments.service import (
    find_comment,
    insert_comment,
    lock_visible_comment,
    remove_comment,
    visible_or_own_comment,
)
from blog_api.comments.visibility import show_comments
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import PathId
from blog_api.db.base import save_changes
from blog_api.db.session import SessionDep
from blog_api.posts.counters import PostLockedForCounters
from blog_api.posts.errors import PostNotFound
from blog_api.web.conditional import PreconditionDep, set_etag_row

router = APIRouter(
    tags=["comments"],
    responses=problem_responses(ServiceUnavailable),
    route_class=IdempotentRoute,
)


@router.post(
    "/posts/{post_id:int}/comments",
    status_code=201,
    response_model=CommentRead,
    responses=problem_responses(
        *BODY_PROBLEMS,
        *WRITE_PROBLEMS,
        *IDEMPOTENCY_PROBLEMS,
        PostNotFound,
        CommentNotFound,
        CommentsClosed,
        ThreadTooDeep,
        TooManyRequests,
    ),
    dependencies=[Depends(limit_comments), CREATE_ONCE],
)
async def create_comment(
    new: CommentCreate,
    auth: CanWrite,
    post: PostLockedForCounters,
    session: SessionDep,
    request: Request,
) -> CommentRead:
    """Comment on a post, or answer a comment on it.

    With `is_approved` false it waits for approval: only the user, the author of the post and
    administrators see it.
    """
    is_waiting = await must_wait(session, request, auth.user, post)
    own = {"post_id": post.id, "user_id": auth.user.id, "is_waiting": is_waiting}
    comment = Comment.model_validate(new, update=own)
    await insert_comment(session, post, comment)
    set_etag_row(request, comment)
    return CommentRead.model_validate(
        comment, update={"user_name": auth.user.name, "author": auth.user}
    )


@router.get(
    "/comments/{comment_id:int}",
    response_model=CommentRead,
    responses=problem_responses(*READ_PROBLEMS),
)
async def read_comment(
    comment_id: PathId, auth: OptionalAuth, session: SessionDep, request: Request
) -> Comment | CommentRead:
    """Return a comment."""
    reader_id = get_reader_id(auth)
    comment = await find_comment(session, visible_or_own_comment(comment_id, reader_id))
    shown = (await show_comments(session, [comment], reader_id))[comment.id]
    if shown is comment:
        set_etag_row(request, comment)
    return shown


@router.patch(
    "/comments/{comment_id:int}",
    response_model=CommentRead,
    responses=problem_responses(*BODY_PROBLEMS, *CHANGE_PROBLEMS, CommentsClosed, TooManyRequests),
    dependencies=[Depends(limit_comments)],
)
async def update_comment(
    changes: CommentUpdate,
    auth: CanWrite,
    comment_id: PathId,
    precondition: PreconditionDep,
    session: SessionDep,
    request: Request,
) -> Comment:
    """Change the text of one's own comment. It may have to wait for approval again."""
    post, comment = await lock_visible_comment(session, auth.user.id, comment_id)
    if auth.user.id != comment.user_id:
        raise NotYourComment
    precondition.check(comment)
    is_waiting = await must_wait(session, request, auth.user, post)
    is_changed = changes.content != comment.content
    await save_changes(session, comment, changes.model_dump())
    if is_changed and is_waiting:
        await set_waiting(session, post, comment, True)
    set_etag_row(request, comment)
    return comment


@router.delete(
    "/comments/{comment_id:int}",
    status_code=204,
    responses=problem_responses(*CHANGE_PROBLEMS, Conflict),
)
async def delete_comment(
    auth: CanWrite, comment_id: PathId, precondition: PreconditionDep, session: SessionDep
) -> None:
    """Delete one's own comment, or a comment on one's own post."""
    post, comment = await lock_visible_comment(session, auth.user.id, comment_id)
    if auth.user.id not in (comment.user_id, post.user_id):
        raise NotYourComment
    precondition.check(comment)
    await remove_comment(session, post, comment)
