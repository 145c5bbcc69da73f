"""Tables of the search."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index, SmallInteger
from sqlmodel import Field, col

from blog_api.db.base import Invalidates, TableBase


class PostWords(TableBase, table=True):
    """The words of a post, which the index of the search has (see `search`).

    A trigger copies the time of publication; it is null while the post is in no list.
    """

    __tablename__ = "post_words"
    invalidates: ClassVar = Invalidates.NOTHING  # The post does.

    post_id: int = Field(foreign_key="posts.id", ondelete="CASCADE", primary_key=True)
    published_at: datetime | None = None
    title_length: int = Field(sa_type=SmallInteger)
    # There are more lexemes than the index holds.
    is_cut: bool = False
    # Separated by spaces (see `text.lexemes`).
    lexemes: str
    # The normalized text, in which phrases are looked up.
    folded: str


IS_CUT = col(PostWords.is_cut)
Index("ix_post_words_cut", col(PostWords.post_id), sqlite_where=IS_CUT, postgresql_where=IS_CUT)


class WordsLease(TableBase, table=True):
    """One row: until when a process indexes posts for the search, as no other one does then."""

    __tablename__ = "words_leases"
    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}
    invalidates: ClassVar = Invalidates.NOTHING

    id: int = Field(primary_key=True)
    until: datetime
