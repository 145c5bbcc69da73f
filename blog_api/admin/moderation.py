"""Moderation: what administrators do to posts and comments."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import true
from sqlmodel import and_, col, select
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import Admin
from blog_api.accounts.errors import USER_PROBLEMS
from blog_api.admin.audit import record
from blog_api.admin.models import AuditAction, PostState
from blog_api.comments.errors import CommentNotFound
from blog_api.comments.models import Comment, CommentRead
from blog_api.comments.service import find_comment, lock_comment, remove_comment
from blog_api.core.errors import Conflict, ServiceUnavailable, ValidationFailed, raises
from blog_api.core.fields import PathId, utc_now
from blog_api.db.base import keep_updated_at
from blog_api.db.list_query import Collection, Sort
from blog_api.db.session import SessionDep
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import OwnPostPage, OwnPostRead, Post
from blog_api.posts.queries import IS_PUBLISHED, IS_SCHEDULED, find_post, found_as
from blog_api.web.pagination import Page, PageQuery, PagesDep

router = APIRouter(
    prefix="/admin", tags=["admin"], responses=raises(ServiceUnavailable, *USER_PROBLEMS)
)


class AdminPostQuery(PageQuery):
    state: PostState | None = None


LATEST = Sort("-id", (col(Post.id),), is_descending=True)


POST_PROBLEMS = (PostNotFound, ValidationFailed)


COMMENT_PROBLEMS = (CommentNotFound, ValidationFailed)


IS_LEFT = col(Post.taken_down_at).is_(None)


# A post that was taken down is in no other state.
STATES = {
    None: true(),
    PostState.draft: and_(IS_LEFT, col(Post.published_at).is_(None)),
    PostState.scheduled: IS_SCHEDULED,
    PostState.published: IS_PUBLISHED,
    PostState.taken_down: col(Post.taken_down_at).is_not(None),
}


POSTS = {
    state: Collection(select(Post.id).where(is_in), rows_of=found_as(OwnPostRead))
    for state, is_in in STATES.items()
}


def any_post(post_id: int) -> SelectOfScalar[Post]:
    return select(Post).where(col(Post.id) == post_id)


async def get_any_post(post_id: PathId, session: SessionDep) -> Post:
    """The post, whatever its state."""
    return await find_post(session, any_post(post_id))


async def get_locked_post(post_id: PathId, session: SessionDep) -> Post:
    """The post, whatever its state, locked until the request ends."""
    return await find_post(session, any_post(post_id).with_for_update(of=Post))


AnyPost = Annotated[Post, Depends(get_any_post)]


LockedPost = Annotated[Post, Depends(get_locked_post)]


@router.get("/posts", response_model=OwnPostPage, responses=raises(ValidationFailed))
async def list_all_posts(
    _: Admin, query: Annotated[AdminPostQuery, Query()], pages: PagesDep
) -> Page[Any]:
    """List posts of all states, or of one, the last begun first."""
    return await pages.show(POSTS[query.state], query, LATEST)


@router.get("/posts/{post_id:int}", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS))
async def read_any_post(_: Admin, post: AnyPost) -> Post:
    """Show a post, whatever its state."""
    return post


@router.delete("/posts/{post_id:int}", status_code=204, responses=raises(*POST_PROBLEMS, Conflict))
async def delete_any_post(admin: Admin, post: LockedPost, session: SessionDep) -> None:
    """Delete anybody's post."""
    record(session, admin, AuditAction.delete_post, post_id=post.id)
    await session.delete(post)


@router.put(
    "/posts/{post_id:int}/takedown", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS)
)
async def take_down_post(admin: Admin, post: LockedPost, session: SessionDep) -> Post:
    """Hide a post from everybody but its author, who cannot undo that."""
    if post.taken_down_at is None:
        post.taken_down_at = utc_now()
        keep_updated_at(post)
        record(session, admin, AuditAction.take_down_post, post_id=post.id)
    return post


@router.delete(
    "/posts/{post_id:int}/takedown", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS)
)
async def restore_post(admin: Admin, post: LockedPost, session: SessionDep) -> Post:
    """Show a post again that was taken down, if its author has it published."""
    if post.taken_down_at is not None:
        post.taken_down_at = None
        keep_updated_at(post)
        record(session, admin, AuditAction.restore_post, post_id=post.id)
    return post


async def get_any_comment(comment_id: PathId, session: SessionDep) -> Comment:
    """The comment, whatever the state of its post."""
    return await find_comment(session, select(Comment).where(col(Comment.id) == comment_id))


AnyComment = Annotated[Comment, Depends(get_any_comment)]


@router.get(
    "/comments/{comment_id:int}", response_model=CommentRead, responses=raises(*COMMENT_PROBLEMS)
)
async def read_any_comment(_: Admin, comment: AnyComment) -> Comment:
    """Show a comment, whatever the state of its post."""
    return comment


@router.delete(
    "/comments/{comment_id:int}",
    status_code=204,
    responses=raises(*COMMENT_PROBLEMS, Conflict),
)
async def delete_any_comment(admin: Admin, comment: AnyComment, session: SessionDep) -> None:
    """Delete anybody's comment."""
    post = await lock_comment(session, comment)
    record(
        session,
        admin,
        AuditAction.delete_comment,
        user_id=comment.user_id,
        post_id=post.id,
        comment_id=comment.id,
    )
    await remove_comment(session, post, comment)
