"""Lists of comments: the threads of a post, the answers to a comment, all on one's own posts."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, Integer, String, bindparam, func
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import CanReadDrafts, OptionalAuth, get_reader_id
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SCOPE_PROBLEMS
from blog_api.comments.errors import READ_PROBLEMS
from blog_api.comments.models import (
    ID_DIGITS,
    MAX_NESTED_ANSWERS,
    Comment,
    CommentPage,
    CommentRead,
    CommentState,
    CommentThread,
    ThreadPage,
)
from blog_api.comments.service import find_comment, visible_comment
from blog_api.comments.visibility import IS_CURRENT, is_shown_to, show_comments
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import PathId
from blog_api.db.functions import utf8_length
from blog_api.db.list_query import ListQuery, Sort
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import MAX_LISTED_BYTES, Post
from blog_api.posts.queries import find_visible_post
from blog_api.web.pagination import Page, PageParams, PageQuery, PaginatorDep

router = APIRouter(tags=["comments"], responses=problem_responses(ServiceUnavailable))

OLDEST_FIRST = Sort("id", (col(Comment.id),))

THREAD_ORDER = Sort("path", (col(Comment.path),))

NEWEST_FIRST = Sort("-id", (col(Comment.id),), is_descending=True)

POST_ID = bindparam("post", type_=Integer)


def make_list(*conditions: ColumnElement[bool]) -> dict[bool, ListQuery]:
    """Return the list of comments that everybody sees, and the one with those of a user."""
    query = select(Comment).where(*conditions)
    readers = {False: None, True: bindparam("reader", type_=Integer)}
    return {
        is_user: ListQuery(query.where(is_shown_to(reader_id, POST_ID)))
        for is_user, reader_id in readers.items()
    }


# Comments on the post itself.
COMMENTS = make_list(col(Comment.post_id) == POST_ID, col(Comment.parent_id).is_(None))

# All answers below a comment, at any depth.
ANSWERS = make_list(
    col(Comment.thread_id) == bindparam("thread", type_=Integer),
    col(Comment.path) > bindparam("above", type_=String),
    col(Comment.path) < bindparam("below", type_=String),
)


# The text of none of these was deleted.
CURRENT_COMMENTS = {
    None: select(Comment).where(IS_CURRENT),
    CommentState.waiting: select(Comment).where(IS_CURRENT, col(Comment.is_waiting)),
    CommentState.approved: select(Comment).where(IS_CURRENT, ~col(Comment.is_waiting)),
}

IS_ON_OWN_POST = col(Comment.post_id).in_(
    select(Post.id).where(col(Post.user_id) == bindparam("user", type_=Integer))
)
ON_OWN_POSTS = {
    state: ListQuery(query.where(IS_ON_OWN_POST)) for state, query in CURRENT_COMMENTS.items()
}


class CommentStateQuery(PageQuery):
    """Page and state of a list of comments."""

    state: CommentState | None = Field(
        default=None, description="`waiting` for approval, or `approved`: public. Default: both."
    )


async def find_first_answers(
    session: AsyncSession, comments: Sequence[Comment], reader_id: int | None
) -> list[Comment]:
    """Return the first answers below each of these comments that a user sees, in thread order.

    Together with the comments they have at most MAX_LISTED_BYTES of content; the last ones are
    left out.
    """
    if not comments:
        return []
    used = sum(len((comment.content or "").encode()) for comment in comments)
    position = func.row_number().over(
        partition_by=col(Comment.thread_id), order_by=col(Comment.path)
    )
    numbered = (
        select(Comment.id, Comment.path, Comment.content, position.label("position"))
        .where(
            col(Comment.thread_id).in_([comment.id for comment in comments]),
            col(Comment.parent_id).is_not(None),
            is_shown_to(reader_id, comments[0].post_id),
        )
        .subquery()
    )
    size = func.coalesce(utf8_length(numbered.c.content), 0)
    total = func.sum(size).over(order_by=numbered.c.path, rows=(None, 0))
    measured = (
        select(numbered.c.id, total.label("total"))
        .where(numbered.c.position <= MAX_NESTED_ANSWERS)
        .subquery()
    )
    query = (
        select(Comment)
        .join(measured, col(Comment.id) == measured.c.id)
        .where(measured.c.total <= MAX_LISTED_BYTES - used)
        .order_by(col(Comment.path))
    )
    return [*await session.exec(query)]


@router.get(
    "/posts/{post_id:int}/comments",
    response_model=ThreadPage,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, PostNotFound, ValidationFailed),
)
async def list_comments(
    post_id: PathId, auth: OptionalAuth, params: PageParams, paginator: PaginatorDep
) -> Page[CommentThread]:
    """List the comments on a post, oldest first, each with its first answers."""
    post = await find_visible_post(paginator.session, auth, post_id)
    reader_id = get_reader_id(auth)
    page = await paginator.paginate(
        COMMENTS[reader_id is not None], params, OLDEST_FIRST, post=post["id"], reader=reader_id
    )
    found = await find_first_answers(paginator.session, page.results, reader_id)
    shown = await show_comments(paginator.session, [*page.results, *found], reader_id)
    answers = defaultdict(list)
    for answer in found:
        answers[answer.thread_id].append(shown[answer.id])
    return page.map(
        lambda comment: CommentThread.model_validate(
            shown[comment.id], update={"answers": answers.get(comment.id, [])}
        )
    )


@router.get(
    "/comments/{comment_id:int}/answers",
    response_model=CommentPage,
    responses=problem_responses(*READ_PROBLEMS),
)
async def list_answers(
    comment_id: PathId, auth: OptionalAuth, params: PageParams, paginator: PaginatorDep
) -> Page[Comment | CommentRead]:
    """List all answers below a comment in depth-first order."""
    reader_id = get_reader_id(auth)
    comment = await find_comment(paginator.session, visible_comment(comment_id, reader_id))
    page = await paginator.paginate(
        ANSWERS[reader_id is not None],
        params,
        THREAD_ORDER,
        thread=comment.thread_id,
        above=comment.path,
        below=comment.path + "9" * ID_DIGITS,
        post=comment.post_id,
        reader=reader_id,
    )
    shown = await show_comments(paginator.session, page.results, reader_id)
    return page.map(lambda answer: shown[answer.id])


@router.get(
    "/users/me/posts/comments",
    response_model=CommentPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_comments_on_own_posts(
    user: CanReadDrafts,
    query: Annotated[CommentStateQuery, Query()],
    paginator: PaginatorDep,
) -> Page[Comment]:
    """List the comments on one's own posts, newest first: what waits for approval, or all."""
    posts = ON_OWN_POSTS[query.state]
    return await paginator.paginate(posts, query, NEWEST_FIRST, user=user.id)
