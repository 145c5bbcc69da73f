"""Insert the comments of imported posts, and read those of exported posts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.comments.models import ID_DIGITS, MAX_THREAD_DEPTH, Comment
from blog_api.db.queries import execute_write

# In one statement: Postgres takes 32,767 values.
ROWS_PER_STATEMENT = 1_000

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


async def find_exported_comments(session: AsyncSession, post_id: int) -> Sequence[Comment]:
    """Return the comments on a post with their authors, those that are answered first."""
    query = select(Comment).where(col(Comment.post_id) == post_id).order_by(col(Comment.id))
    return (await session.exec(query)).all()
