"""Model family of comments."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, StrictInt
from pydantic_core import PydanticCustomError
from sqlalchemy import Index
from sqlmodel import Field, Relationship

from blog_api.accounts.models import User
from blog_api.core.fields import (
    MAX_INT32,
    TEXT_PATTERN,
    RequestBody,
    check_text,
    schema_example,
)
from blog_api.db.base import ReadModel, VersionedModel
from blog_api.web.pagination import Page

# How deep answers go below a comment on a post.
MAX_THREAD_DEPTH = 8


# A place in a thread is the ids from the top down, each of as many digits as the largest has.
ID_DIGITS = len(str(MAX_INT32))


def check_comment_text(value: str) -> str:
    if not check_text(value).strip():
        raise PydanticCustomError("blank", "There must be a character that is not a space")
    return value


CommentText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=10_000,
        schema_extra=schema_example("Well said.", pattern=TEXT_PATTERN),
    ),
    AfterValidator(check_comment_text),
]


class CommentCreate(RequestBody):
    """A new comment: plain text."""

    content: CommentText
    parent_id: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_INT32,
        description="The comment that it answers.",
        schema_extra=schema_example(None),
    )


class CommentUpdate(RequestBody):
    """Another text for a comment."""

    content: CommentText


class Comment(VersionedModel, table=True):
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
    path: str = Field(default="", max_length=ID_DIGITS * (MAX_THREAD_DEPTH + 1))
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
        return len(self.path) // ID_DIGITS - 1


class CommentRead(ReadModel):
    """A comment. One that was deleted keeps its place while there are answers to it."""

    post_id: int
    parent_id: int | None
    depth: int = Field(description="0: it is on the post itself.")
    user_id: int | None
    user_name: str | None
    content: str | None = Field(description="Null: it was deleted.")
    is_deleted: bool
    answer_count: int = Field(description="Of direct answers.")


# How many answers a list shows below each comment on a post.
MAX_NESTED_ANSWERS = 20


class CommentThread(CommentRead):
    """A comment on a post, with the first of all answers below it."""

    answers: list[CommentRead] = Field(
        description=f"At most {MAX_NESTED_ANSWERS} answers in depth-first order. "
        " `/comments/{comment_id}/answers` has all."
    )


class ThreadPage(Page[CommentThread]):
    """A page of comments on a post, and how many there are on all pages."""


class CommentPage(Page[CommentRead]):
    """A page of comments, and how many there are on all pages."""
