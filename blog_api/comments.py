"""Comments: what readers say to a post, and to each other."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, StrictInt
from pydantic_core import PydanticCustomError
from sqlalchemy import Index, func, update
from sqlmodel import Field, Relationship, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.characters import SHOWN_TEXT
from blog_api.conditional import (
    PreconditionDep,
    PreconditionFailed,
    Versioned,
    revise,
    show_version,
)
from blog_api.database import SessionDep
from blog_api.errors import (
    BODY_PROBLEMS,
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import LARGEST_INT, Body, PathId, check_text, shown_as, utc_now
from blog_api.posts import (
    CountedPost,
    Post,
    PostNotFound,
    change_counts,
    counted,
    find_post,
    is_visible_to,
)
from blog_api.tables import RowRead, keep_updated_at
from blog_api.tokens import READER_PROBLEMS, USER_PROBLEMS, PresentedAccess, Writer, reader_id_of
from blog_api.users import User

router = APIRouter(tags=["comments"], responses=raises(ServiceUnavailable))

# How deep answers go below a comment on a post.
MAX_DEPTH = 8
# A place in a thread is the ids from the top down, each of as many digits as the largest has.
DIGITS = len(str(LARGEST_INT))


def check_remark(value: str) -> str:
    if not check_text(value).strip():
        raise PydanticCustomError("blank", "There must be a character that is not a space")
    return value


Remark = Annotated[
    str,
    Field(min_length=1, max_length=10_000, schema_extra=shown_as("Well said.", pattern=SHOWN_TEXT)),
    AfterValidator(check_remark),
]


class CommentCreate(Body):
    """A new comment: plain text."""

    content: Remark
    parent_id: StrictInt | None = Field(
        default=None,
        ge=1,
        le=LARGEST_INT,
        description="The comment that it answers.",
        schema_extra=shown_as(None),
    )


class CommentUpdate(Body):
    """Another text for a comment."""

    content: Remark


class Comment(Versioned, table=True):
    __tablename__ = "comments"
    __table_args__ = (
        Index("ix_comments_post_id_parent_id_id", "post_id", "parent_id", "id"),
        Index("ix_comments_thread_id_path", "thread_id", "path"),
        {"sqlite_autoincrement": True},
    )

    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE")
    parent_id: int | None = Field(default=None, foreign_key="comments.id", index=True)
    # The comment on the post that all this goes back to, and the place below it.
    thread_id: int | None = None
    path: str = Field(default="", max_length=DIGITS * (MAX_DEPTH + 1))
    # Nobody's, without a text, once it was deleted while there were answers to it.
    user_id: int | None = Field(
        default=None, foreign_key="users.id", ondelete="SET NULL", index=True
    )
    content: str | None = Field(default=None, max_length=10_000)
    deleted_at: datetime | None = None
    answer_count: int = 0
    user: User | None = Relationship(sa_relationship_kwargs={"lazy": "joined"})

    @property
    def user_name(self) -> str | None:
        return self.user.name if self.user else None

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @property
    def depth(self) -> int:
        return len(self.path) // DIGITS - 1


class CommentRead(RowRead):
    """A comment. One that was deleted keeps its place while there are answers to it."""

    post_id: int
    parent_id: int | None
    depth: int = Field(description="0: it is on the post itself.")
    user_id: int | None
    user_name: str | None
    content: str | None = Field(description="Null: it was deleted.")
    is_deleted: bool
    answer_count: int = Field(description="Of direct answers.")


class CommentNotFound(NotFound):
    detail = "Comment not found"


class NotYourComment(Forbidden):
    detail = "You don't have access to modify this comment"


class ThreadTooDeep(BadRequest):
    detail = f"Answers go {MAX_DEPTH} deep at most"


READ_PROBLEMS = (*READER_PROBLEMS, CommentNotFound, ValidationFailed)
CHANGE_PROBLEMS = (
    *USER_PROBLEMS,
    CommentNotFound,
    NotYourComment,
    PreconditionFailed,
    ValidationFailed,
)


async def find_comment(session: AsyncSession, query: SelectOfScalar[Comment]) -> Comment:
    """The one comment of a query; raises CommentNotFound."""
    comment = (await session.exec(query)).first()
    if comment is None:
        raise CommentNotFound
    return comment


def visible_comment(comment_id: int, reader_id: int | None) -> SelectOfScalar[Comment]:
    """A comment of a post that this reader may see."""
    return (
        select(Comment)
        .join(Post, col(Post.id) == col(Comment.post_id))
        .where(col(Comment.id) == comment_id, is_visible_to(reader_id))
    )


async def lock_comment(session: AsyncSession, comment: Comment) -> Post:
    """Lock a comment and its post, which is returned, until the request ends.

    The post first, as everybody does. Raises CommentNotFound for one that was deleted.
    """
    post = await find_post(session, counted(col(Post.id) == comment.post_id))
    query = select(Comment).where(col(Comment.id) == comment.id).with_for_update(of=Comment)
    await find_comment(session, query.execution_options(populate_existing=True))
    if comment.is_deleted:
        raise CommentNotFound
    return post


async def remove_comment(session: AsyncSession, post: Post, comment: Comment) -> None:
    """Remove a comment; one with answers keeps its place, with no text and no name."""
    post.comment_count -= 1
    keep_updated_at(post)
    if comment.answer_count:
        comment.user = None
        comment.content = None
        comment.deleted_at = utc_now()
        return
    await session.delete(comment)
    while comment.parent_id is not None:
        parent = await session.get_one(Comment, comment.parent_id)
        parent.answer_count -= 1
        keep_updated_at(parent)
        if not parent.is_deleted or parent.answer_count:
            break
        # Nothing keeps its place any more.
        await session.flush()
        await session.delete(parent)
        comment = parent


async def forget_comments(session: AsyncSession, user: User) -> None:
    """Take text and name off all comments of a user who leaves. They stay."""
    own = (col(Comment.user_id) == user.id, col(Comment.deleted_at).is_(None))
    count = select(func.count()).where(col(Comment.post_id) == col(Post.id), *own)
    await change_counts(
        session,
        select(Comment.post_id).where(*own),
        comment_count=col(Post.comment_count) - count.scalar_subquery(),
    )
    forgotten = {"content": None, "user_id": None, "deleted_at": utc_now()}
    await session.exec(update(Comment).where(*own).values(forgotten))


async def get_comment(comment_id: PathId, access: PresentedAccess, session: SessionDep) -> Comment:
    return await find_comment(session, visible_comment(comment_id, reader_id_of(access)))


CommentFromPath = Annotated[Comment, Depends(get_comment)]


@router.post(
    "/posts/{post_id:int}/comments",
    status_code=201,
    response_model=CommentRead,
    responses=raises(*BODY_PROBLEMS, *USER_PROBLEMS, PostNotFound, CommentNotFound, ThreadTooDeep),
)
async def create_comment(
    new: CommentCreate, access: Writer, post: CountedPost, session: SessionDep, request: Request
) -> CommentRead:
    """Comment on a post, or answer a comment on it."""
    parent = None if new.parent_id is None else await session.get(Comment, new.parent_id)
    if parent is not None:
        if parent.post_id != post.id or parent.is_deleted:
            raise CommentNotFound
        if parent.depth >= MAX_DEPTH:
            raise ThreadTooDeep
        parent.answer_count += 1
        keep_updated_at(parent)
    elif new.parent_id is not None:
        raise CommentNotFound
    post.comment_count += 1
    keep_updated_at(post)
    comment = Comment.model_validate(new, update={"post_id": post.id, "user_id": access.user.id})
    session.add(comment)
    await session.flush()
    comment.path = f"{parent.path if parent else ''}{comment.id:0{DIGITS}}"
    comment.thread_id = parent.thread_id if parent else comment.id
    keep_updated_at(comment)
    show_version(request, comment.version)
    return CommentRead.model_validate(comment, update={"user_name": access.user.name})


@router.get(
    "/comments/{comment_id:int}", response_model=CommentRead, responses=raises(*READ_PROBLEMS)
)
async def read_comment(comment: CommentFromPath, request: Request) -> Comment:
    """Show a comment."""
    show_version(request, comment.version)
    return comment


@router.patch(
    "/comments/{comment_id:int}",
    response_model=CommentRead,
    responses=raises(*BODY_PROBLEMS, *CHANGE_PROBLEMS),
)
async def update_comment(
    changes: CommentUpdate,
    access: Writer,
    comment_id: PathId,
    precondition: PreconditionDep,
    session: SessionDep,
    request: Request,
) -> Comment:
    """Change the text of one's own comment."""
    query = visible_comment(comment_id, access.user.id).with_for_update(of=Comment)
    comment = await find_comment(session, query)
    if comment.is_deleted:
        raise CommentNotFound
    if comment.user_id != access.user.id:
        raise NotYourComment
    precondition.check(comment)
    await revise(session, comment, changes.model_dump())
    show_version(request, comment.version)
    return comment


@router.delete(
    "/comments/{comment_id:int}", status_code=204, responses=raises(*CHANGE_PROBLEMS, Conflict)
)
async def delete_comment(
    access: Writer, comment_id: PathId, precondition: PreconditionDep, session: SessionDep
) -> None:
    """Delete one's own comment, or one on one's own post."""
    comment = await find_comment(session, visible_comment(comment_id, access.user.id))
    post = await lock_comment(session, comment)
    if access.user.id not in (comment.user_id, post.user_id):
        raise NotYourComment
    precondition.check(comment)
    await remove_comment(session, post, comment)
