"""Insert the comments of imported posts, and read those of exported posts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import bindparam, insert, update
from sqlmodel import Field, col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.imported import Identity, make_author_key
from blog_api.comments.models import ID_DIGITS, MAX_THREAD_DEPTH, Comment, CommentText
from blog_api.core.fields import Name, RequestModel, Timestamp, Title
from blog_api.db.queries import execute_write

# In one statement: Postgres takes 32,767 values.
ROWS_PER_STATEMENT = 1_000
# In memory during an export.
COMMENTS_PER_QUERY = 2_000

INSERT = insert(Comment).returning(col(Comment.id), sort_by_parameter_order=True)
PLACE = (
    update(Comment)
    .where(col(Comment.id) == bindparam("comment_id"))
    .values(
        parent_id=bindparam("parent"),
        thread_id=bindparam("thread"),
        path=bindparam("place"),
        updated_at=col(Comment.updated_at),
    )
)


class CommentRecord(RequestModel):
    """A comment on a post; those that it answers come before it."""

    # The number of the answered comment in the list of the post, from 1.
    parent: Annotated[int, Field(ge=1)] | None = None
    author: Name | None = None
    author_key: Title | None = None
    created_at: Timestamp
    updated_at: Timestamp | None = None
    is_waiting: bool = False
    # Null: the comment was deleted, and has answers.
    content: CommentText | None = None
    # By it an import recognizes the author. Neither stored nor exported.
    address: str | None = Field(default=None, exclude=True)

    @property
    def identity(self) -> Identity:
        """Return by what the author is known: a name alone is a kind of address."""
        if self.author_key is not None:
            return Identity(self.author_key)
        return Identity(None, self.address or f"\n{self.author}")


def make_comment_records(comments: Sequence[Comment]) -> Iterator[CommentRecord]:
    numbers = {comment.id: number for number, comment in enumerate(comments, 1)}
    for comment in comments:
        is_edited = comment.updated_at != comment.created_at
        yield CommentRecord.model_construct(
            parent=None if comment.parent_id is None else numbers[comment.parent_id],
            author=comment.user_name,
            author_key=None if comment.user is None else make_author_key(comment.user),
            created_at=comment.created_at,
            updated_at=comment.updated_at if is_edited else None,
            is_waiting=comment.is_waiting,
            content=comment.content,
        )


@dataclass
class ImportedComment:
    """A comment of a new post; `parent` is the position in the list of the one it answers."""

    parent: int | None
    user_id: int | None
    content: str | None
    created_at: datetime
    updated_at: datetime
    is_waiting: bool = False
    answers: int = 0
    hidden_answers: int = 0
    depth: int = 0

    @property
    def is_public(self) -> bool:
        return self.content is not None and not self.is_waiting


def resolve_comments(
    records: Sequence[CommentRecord],
    authors: Mapping[Identity, int],
    *,
    post_author: tuple[str | None, int],
) -> list[ImportedComment]:
    """Return comments with the ids of their authors. The author of the post has a key and an id."""
    key, author_id = post_author
    ids = {**authors, Identity(key): author_id} if key else authors
    return [
        ImportedComment(
            parent=None if one.parent is None else one.parent - 1,
            user_id=ids.get(one.identity),
            content=one.content,
            created_at=one.created_at,
            updated_at=one.updated_at or one.created_at,
            is_waiting=one.is_waiting,
        )
        for one in records
    ]


def count_public(comments: Sequence[ImportedComment]) -> int:
    return sum(comment.is_public for comment in comments)


def count_answers(comments: Sequence[ImportedComment]) -> None:
    """Count the answers to each comment, and move up those that are too deep."""
    for comment in comments:
        while comment.parent is not None and comments[comment.parent].depth >= MAX_THREAD_DEPTH:
            comment.parent = comments[comment.parent].parent
        if comment.parent is not None:
            comment.depth = comments[comment.parent].depth + 1
    for comment in reversed(comments):
        if comment.parent is not None:
            parent = comments[comment.parent]
            parent.answers += 1
            is_shown = comment.is_public or comment.answers > comment.hidden_answers
            parent.hidden_answers += not is_shown


async def insert_imported_comments(
    session: AsyncSession, post_id: int, comments: Sequence[ImportedComment]
) -> None:
    """Insert the comments of a post that has none, in their order."""
    count_answers(comments)
    ids: list[int] = []
    places: list[tuple[int, str]] = []
    for start in range(0, len(comments), ROWS_PER_STATEMENT):
        batch = comments[start : start + ROWS_PER_STATEMENT]
        rows = [
            {
                "post_id": post_id,
                "user_id": comment.user_id if comment.content is not None else None,
                "content": comment.content,
                "created_at": comment.created_at,
                "updated_at": comment.updated_at,
                "deleted_at": comment.updated_at if comment.content is None else None,
                "is_waiting": comment.is_waiting and comment.content is not None,
                "stored_answer_count": comment.answers,
                "hidden_answer_count": comment.hidden_answers,
                "path": "",
                "version": 1,
            }
            for comment in batch
        ]
        new = list((await session.exec(INSERT, params=rows)).scalars())
        ids += new
        for comment, comment_id in zip(batch, new, strict=True):
            thread, above = (comment_id, "") if comment.parent is None else places[comment.parent]
            places.append((thread, f"{above}{comment_id:0{ID_DIGITS}}"))
        values = [
            {
                "comment_id": ids[n],
                "parent": None if comments[n].parent is None else ids[comments[n].parent or 0],
                "thread": places[n][0],
                "place": places[n][1],
            }
            for n in range(start, len(ids))
        ]
        await execute_write(session, PLACE, values)


async def split_by_comments(session: AsyncSession, post_ids: Sequence[int]) -> list[list[int]]:
    """Split posts, in their order, into parts that have at most COMMENTS_PER_QUERY comments.

    A post that has more is a part of its own.
    """
    query = (
        select(Comment.post_id, func.count())
        .where(col(Comment.post_id).in_(post_ids))
        .group_by(col(Comment.post_id))
    )
    counts = dict((await session.exec(query)).all())
    parts: list[list[int]] = []
    total = 0
    for post_id in post_ids:
        count = counts.get(post_id, 0)
        total += count
        if not parts or total > COMMENTS_PER_QUERY:
            parts.append([])
            total = count
        parts[-1].append(post_id)
    return parts


async def find_exported_comments(
    session: AsyncSession, post_ids: Collection[int]
) -> dict[int, list[Comment]]:
    """Return the comments on posts with their authors, those that are answered first."""
    query = select(Comment).where(col(Comment.post_id).in_(post_ids)).order_by(col(Comment.id))
    found: dict[int, list[Comment]] = {post_id: [] for post_id in post_ids}
    for comment in await session.exec(query):
        found[comment.post_id].append(comment)
    return found
