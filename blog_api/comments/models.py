"""Model family of comments."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, StrictInt
from sqlalchemy import Index
from sqlmodel import AutoString, Field, Relationship, SQLModel, col

from blog_api.accounts.models import AuthorRead, User
from blog_api.core.characters import VISIBLE_TEXT_PATTERN
from blog_api.core.fields import (
    MAX_INT32,
    RequestBody,
    SchemaDefaults,
    check_visible_text,
    schema_example,
)
from blog_api.db.base import Invalidates, ReadModel, VersionedModel
from blog_api.web.pagination import Page

MAX_THREAD_DEPTH = 8
# A comment's path is the ids from the thread's first comment down, zero-padded to sort as text.
ID_DIGITS = len(str(MAX_INT32))


MAX_COMMENT_LENGTH = 10_000

CommentText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_COMMENT_LENGTH),
    SchemaDefaults("Plain text.", "Well said.", pattern=VISIBLE_TEXT_PATTERN),
    AfterValidator(check_visible_text),
]


class CommentState(StrEnum):
    """Whether a comment waits for approval."""

    waiting = "waiting"
    approved = "approved"


class Approver(StrEnum):
    """Role of the user who approved a comment."""

    author = "author"
    admin = "admin"


class CommentBase(SQLModel):
    content: str | None = Field(max_length=10_000)
    """Plain text. Null: the comment was deleted."""


class CommentCreate(RequestBody):
    """A new comment as plain text."""

    content: CommentText
    parent_id: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_INT32,
        description="The comment to answer.",
        schema_extra=schema_example(None),
    )


class CommentUpdate(RequestBody):
    """The new text of a comment."""

    content: CommentText


class Comment(CommentBase, VersionedModel, table=True):
    """A comment. A deleted one with answers stays without content and user."""

    __tablename__ = "comments"
    invalidates: ClassVar = Invalidates.ROWS
    # The counters of the post do, unless the comment waits and is not public.
    insert_invalidates: ClassVar = Invalidates.NOTHING
    __table_args__ = (
        Index("ix_comments_post_id_parent_id_id", "post_id", "parent_id", "id"),
        Index("ix_comments_thread_id_path", "thread_id", "path"),
        {"sqlite_autoincrement": True},
    )

    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE")
    parent_id: int | None = Field(default=None, foreign_key="comments.id", index=True)
    # The first comment of the thread, and the place below it.
    thread_id: int | None = None
    path: str = Field(default="", max_length=ID_DIGITS * (MAX_THREAD_DEPTH + 1))
    user_id: int | None = Field(
        default=None, foreign_key="users.id", ondelete="SET NULL", index=True
    )
    deleted_at: datetime | None = None
    # Seen by its author, the author of the post and administrators only. Versions without the
    # column insert comments that do not wait.
    is_waiting: bool = False
    # The user is trusted for it: on posts of the same author, or everywhere.
    approved_by: Approver | None = Field(default=None, sa_type=AutoString(10))
    # All direct answers, and those of them that only those involved see.
    stored_answer_count: int = Field(default=0, sa_column_kwargs={"name": "answer_count"})
    hidden_answer_count: int = 0
    user: User | None = Relationship(sa_relationship_kwargs={"lazy": "joined"})

    @property
    def user_name(self) -> str | None:
        return self.user.name if self.user else None

    @property
    def author(self) -> User | None:
        return self.user

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @property
    def is_approved(self) -> bool:
        return not self.is_waiting

    @property
    def answer_count(self) -> int:
        return self.stored_answer_count - self.hidden_answer_count

    @property
    def is_shown(self) -> bool:
        """Return whether everybody sees its text, or a placeholder above public answers."""
        return self.answer_count > 0 or not (self.is_deleted or self.is_waiting)

    @property
    def depth(self) -> int:
        return len(self.path) // ID_DIGITS - 1


IS_WAITING = col(Comment.is_waiting)
IS_APPROVAL = col(Comment.approved_by).is_not(None)


def make_index(name: str, where: Any, *columns: Any) -> None:
    """Index the comments that fulfill a condition."""
    Index(f"ix_comments_{name}", *columns, postgresql_where=where, sqlite_where=where)


make_index("waiting_id", IS_WAITING, col(Comment.id))
make_index("waiting_post_id_user_id", IS_WAITING, col(Comment.post_id), col(Comment.user_id))
make_index("user_id_approved_by", IS_APPROVAL, col(Comment.user_id), col(Comment.approved_by))


class CommentRead(ReadModel, CommentBase):
    """A comment. A deleted one with answers stays in its place."""

    post_id: int
    """Id of the post."""
    parent_id: int | None
    """Id of the answered comment. Null: a comment on the post itself."""
    depth: int = Field(description="Depth in the thread; 0 for a comment on the post itself.")
    user_id: int | None
    """Id of the author. Null: the comment or the account was deleted."""
    user_name: str | None
    """Name of the author."""
    author: AuthorRead | None
    """The author. Null: the comment or the account was deleted."""
    is_deleted: bool
    """Whether the comment was deleted, or waits for approval again and is not the reader's."""
    is_approved: bool
    """Whether the comment is public. False: it waits for approval."""
    answer_count: int = Field(description="Number of direct answers that are public.")


MAX_NESTED_ANSWERS = 20


class CommentThread(CommentRead):
    """A comment on a post with the first answers below it."""

    answers: list[CommentRead] = Field(
        description=f"At most {MAX_NESTED_ANSWERS} answers in depth-first order, fewer if "
        "they are long. `/comments/{comment_id}/answers` has all."
    )


class ThreadPage(Page[CommentThread]):
    """A page of the comments on a post."""


class CommentPage(Page[CommentRead]):
    """A page of comments."""
