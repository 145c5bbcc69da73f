"""Index posts for the search that another version has written, and check the index."""

import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, DatabaseError, connect
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from sqlalchemy import Integer, bindparam, case, text
from sqlalchemy import select as select_columns
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Conflict, ServiceUnavailable
from blog_api.core.fields import utc_now
from blog_api.core.urls import get_sqlite_path
from blog_api.db.queries import count_rows, insert_row_if_missing
from blog_api.db.rebuild import Batch, Derived, Span
from blog_api.db.session import Database
from blog_api.posts.models import NOT_TAKEN_DOWN, Post
from blog_api.posts.search_models import PostWords, WordsLease
from blog_api.posts.words import (
    MadeWords,
    get_word_source,
    make_words_of_all,
    save_words,
)
from blog_api.text import tokenizer
from blog_api.text.renderer import Renderer

log = logging.getLogger("blog_api")

# Of the posts that are indexed at once: their number, and their characters; a longer one is alone.
BATCH_POSTS = 20
BATCH_LENGTH = 100_000
# Until the process that indexes posts is taken for dead.
LEASE = timedelta(seconds=60)
# Between looks for posts that a version without this index has written.
POLL_SECONDS = 30.0
# Of the time; requests have the rest.
INDEXING_SHARE = 0.5

IS_PENDING = or_(col(Post.words_version).is_(None), col(Post.words_version) < tokenizer.VERSION)
TEXT_LENGTH = func.length(func.coalesce(col(Post.content_text), col(Post.content)))
# Named as when an object is updated, so that other posts stay in the cache.
SAVED_ID = bindparam("posts_id", type_=Integer)
SAVED_COLUMNS: Any = (Post.id, Post.title, Post.published_at, Post.taken_down_at)
SOURCE_COLUMNS: Any = (
    Post.id,
    Post.version,
    Post.title,
    Post.tags,
    Post.content,
    Post.content_text,
)

# Compared with what they should be: the columns of the post, the time and the words.
HAS_RIGHT_TIME = col(PostWords.published_at).is_not_distinct_from(
    case((NOT_TAKEN_DOWN, col(Post.published_at)))
)
STORED_COLUMNS: Any = (
    Post.id,
    Post.words_version,
    Post.words_from,
    HAS_RIGHT_TIME,
    col(PostWords.title_length) == func.length(Post.title),
    PostWords.lexemes,
    PostWords.folded,
    PostWords.is_cut,
)

# Of the index on SQLite, which has the lexemes of `post_words`.
CHECK = "INSERT INTO post_search_words (post_search_words, rank) VALUES ('integrity-check', 1)"
FILL = "INSERT INTO post_search_words (post_search_words) VALUES ('rebuild')"


class PendingPost(NamedTuple):
    """A post to index, unless its version has changed meanwhile."""

    id: int
    version: int
    made: MadeWords

    @property
    def expected(self) -> tuple[Any, ...]:
        """Values of `STORED_COLUMNS` if the post is indexed."""
        return (*self.made.columns.values(), True, True, *self.made.words)


async def fill_index(connection: AsyncConnection) -> None:
    """Fill the index of a database whose rows were inserted without triggers."""
    if connection.dialect.name == "sqlite":
        await connection.execute(text(FILL))


async def split_by_length(session: AsyncSession, ids: Sequence[int]) -> list[list[int]]:
    """Split the ids of posts so that the words of each group are made in a moment."""
    query: Any = (
        select_columns(col(Post.id), TEXT_LENGTH)
        .where(col(Post.id).in_(ids))
        .order_by(col(Post.id))
    )
    groups: list[list[int]] = []
    total = BATCH_LENGTH
    for post_id, size in await session.exec(query):
        total += size
        if total > BATCH_LENGTH or not groups:
            groups.append([])
            total = size
        groups[-1].append(post_id)
    return groups


async def make_words_of_posts(
    database: Database, renderer: Renderer, ids: Sequence[int]
) -> list[PendingPost]:
    """Return the words of posts as they are now."""
    found = []
    async with database.background_session(writes=False) as session:
        groups = await split_by_length(session, ids)
    for group in groups:
        query: Any = select_columns(*SOURCE_COLUMNS).where(col(Post.id).in_(group))
        async with database.background_session(writes=False) as session:
            rows = [row._asdict() for row in await session.exec(query.order_by(col(Post.id)))]
        made = await make_words_of_all(renderer, [get_word_source(row) for row in rows])
        found += [
            PendingPost(row["id"], row["version"], one) for row, one in zip(rows, made, strict=True)
        ]
    return found


async def save_pending(session: AsyncSession, posts: Collection[PendingPost]) -> None:
    """Index posts in the order of their ids, but none that has changed meanwhile."""
    for pending in posts:
        changed: Any = (
            update(Post)
            .where(col(Post.id) == SAVED_ID, col(Post.version) == pending.version)
            .values(**pending.made.columns, updated_at=col(Post.updated_at))
            .returning(*SAVED_COLUMNS)
        )
        post: Any = (await session.exec(changed, params={SAVED_ID.key: pending.id})).first()
        if post is not None:
            await save_words(session, post, pending.made)


class PendingIndex:
    """Indexes the posts that the version before has written, one process and a few at a time."""

    def __init__(self, database: Database, renderer: Renderer) -> None:
        self._database = database
        self._renderer = renderer

    async def index_continuously(self) -> None:
        after = 0
        while True:
            started = anyio.current_time()
            try:
                ids = await self._find_pending(after)
                if ids and not await self._claim():
                    ids = []
                await self._index(ids)
            except (ServiceUnavailable, Conflict) as error:
                log.warning("Indexing for the search waits: %s", error.detail)
                ids = []
            after = ids[-1] if ids else 0
            spent = anyio.current_time() - started
            pause = spent / INDEXING_SHARE - spent if ids else POLL_SECONDS
            await anyio.sleep(pause)

    async def _find_pending(self, after: int) -> Sequence[int]:
        query = select(Post.id).where(IS_PENDING, col(Post.id) > after)
        query = query.order_by(col(Post.id)).limit(BATCH_POSTS)
        async with self._database.background_session(writes=False) as session:
            return (await session.exec(query)).all()

    async def _claim(self) -> bool:
        """Return whether this process indexes the next posts."""
        now = utc_now()
        async with self._database.background_session(writes=True) as session:
            await insert_row_if_missing(session, WordsLease, {"id": 1, "until": now})
            is_free = col(WordsLease.until) <= now
            claim = update(WordsLease).where(is_free).values(until=now + LEASE)
            return (await session.exec(claim)).rowcount == 1

    async def _index(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        posts = await make_words_of_posts(self._database, self._renderer, ids)
        async with self._database.background_session(writes=True) as session:
            await save_pending(session, posts)
            await session.exec(update(WordsLease).values(until=utc_now()))


class SearchIndex:
    """The words of the posts and, on SQLite, the index of them, which is a table of its own."""

    name = "search"

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._words = Derived(
            self.name, select(Post.id), self._find_wrong, save_pending, size=BATCH_POSTS
        )

    async def count(self, database: Database) -> int:
        return await count_rows(database, Post)

    async def run(self, database: Database, *, repairs: bool) -> AsyncIterator[Batch]:
        file = get_sqlite_path(database.engine.url)
        is_right = file is None or await anyio.to_thread.run_sync(is_index_right, file)
        if not is_right:
            yield Batch(0, 1)
            if repairs:
                async with database.session(writes=True) as session:
                    await (await session.connection()).execute(text(FILL))
        async for batch in self._words.run(database, repairs=repairs):
            yield batch

    async def _find_wrong(self, database: Database, span: Span) -> list[PendingPost]:
        query = select(Post.id).where(span.contains(Post.id)).order_by(col(Post.id))
        async with database.session(writes=False) as session:
            ids = (await session.exec(query)).all()
        made = await make_words_of_posts(database, self._renderer, ids)
        stored_words: Any = select_columns(*STORED_COLUMNS).outerjoin(
            PostWords, col(PostWords.post_id) == col(Post.id)
        )
        async with database.session(writes=False) as session:
            rows = await session.exec(stored_words.where(col(Post.id).in_(ids)))
            stored = {post_id: tuple(row) for post_id, *row in rows}
        return [post for post in made if stored.get(post.id, ()) != post.expected]


def is_index_right(file: Path) -> bool:
    """Check a copy of the database beside the file: the check would make writers wait."""
    with (
        TemporaryDirectory(prefix=f"{file.name}.", dir=file.parent) as folder,
        closing(connect(file)) as blog,
        closing(connect(Path(folder) / "copy.db")) as copy,
    ):
        blog.backup(copy)
        try:
            copy.execute(CHECK)
        except DatabaseError as error:
            # SQLITE_CORRUPT_VTAB
            if error.sqlite_errorcode & 0xFF != SQLITE_CORRUPT:
                raise
            return False
    return True
