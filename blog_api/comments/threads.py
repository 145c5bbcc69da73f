"""Lists of comments: the threads of a post, the answers to a comment."""

from collections import defaultdict

from fastapi import APIRouter
from sqlalchemy import Integer, String, bindparam, func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import OptionalAuth, get_reader_id
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS
from blog_api.comments.errors import READ_PROBLEMS
from blog_api.comments.models import (
    ID_DIGITS,
    MAX_NESTED_ANSWERS,
    Comment,
    CommentPage,
    CommentThread,
    ThreadPage,
)
from blog_api.comments.service import find_comment, visible_comment
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import PathId
from blog_api.db.functions import utf8_length
from blog_api.db.list_query import ListQuery, Sort
from blog_api.posts.errors import PostNotFound
from blog_api.posts.models import MAX_LISTED_BYTES
from blog_api.posts.queries import find_visible_post
from blog_api.web.pagination import Page, PageParams, PaginatorDep

router = APIRouter(tags=["comments"], responses=problem_responses(ServiceUnavailable))

OLDEST_FIRST = Sort("id", (col(Comment.id),))

THREAD_ORDER = Sort("path", (col(Comment.path),))

# Comments on the post itself.
COMMENTS = ListQuery(
    select(Comment).where(
        col(Comment.post_id) == bindparam("post", type_=Integer), col(Comment.parent_id).is_(None)
    )
)

# All answers below a comment, at any depth.
ANSWERS = ListQuery(
    select(Comment).where(
        col(Comment.thread_id) == bindparam("thread", type_=Integer),
        col(Comment.path) > bindparam("above", type_=String),
        col(Comment.path) < bindparam("below", type_=String),
    )
)


async def find_first_answers(
    session: AsyncSession, comments: list[Comment]
) -> dict[int | None, list[Comment]]:
    """Return the first answers below each of these comments, by the id of the thread.

    Together with the comments they have at most MAX_LISTED_BYTES of content; the last ones are
    left out.
    """
    used = sum(len((comment.content or "").encode()) for comment in comments)
    position = func.row_number().over(
        partition_by=col(Comment.thread_id), order_by=col(Comment.path)
    )
    numbered = (
        select(Comment.id, Comment.path, Comment.content, position.label("position"))
        .where(
            col(Comment.thread_id).in_([comment.id for comment in comments]),
            col(Comment.parent_id).is_not(None),
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
    answers = defaultdict(list)
    for answer in await session.exec(query):
        answers[answer.thread_id].append(answer)
    return answers


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
    page = await paginator.paginate(COMMENTS, params, OLDEST_FIRST, post=post["id"])
    answers = await find_first_answers(paginator.session, page.results)
    return page.map(
        lambda comment: CommentThread.model_validate(
            comment, update={"answers": answers.get(comment.id, [])}
        )
    )


@router.get(
    "/comments/{comment_id:int}/answers",
    response_model=CommentPage,
    responses=problem_responses(*READ_PROBLEMS),
)
async def list_answers(
    comment_id: PathId, auth: OptionalAuth, params: PageParams, paginator: PaginatorDep
) -> Page[Comment]:
    """List all answers below a comment in depth-first order."""
    query = visible_comment(comment_id, get_reader_id(auth))
    comment = await find_comment(paginator.session, query)
    return await paginator.paginate(
        ANSWERS,
        params,
        THREAD_ORDER,
        thread=comment.thread_id,
        above=comment.path,
        below=comment.path + "9" * ID_DIGITS,
    )
