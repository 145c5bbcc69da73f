"""Check and fill the index of the full-text search, which triggers keep up to date."""

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, DatabaseError, connect
from tempfile import TemporaryDirectory

import anyio.to_thread
from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.urls import get_sqlite_path
from blog_api.db.queries import BATCH_SIZE, count_rows
from blog_api.db.rebuild import Batch, iterate_ids
from blog_api.db.session import Database
from blog_api.posts.models import Post
from blog_api.posts.queries import lock_posts_for_counters

# Of the texts that are indexed by one statement, in characters; a longer text is indexed alone.
MAX_INDEXED_LENGTH = 100_000

FILL_ON_SQLITE = "INSERT INTO post_search (post_search) VALUES ('rebuild')"
VECTOR = "post_search_vector(title, tags, coalesce(content_text, content))"
FILL_ON_POSTGRES = f"INSERT INTO post_search (post_id, vector) SELECT id, {VECTOR} FROM posts"


def with_ids(sql: str) -> TextClause:
    return text(sql).bindparams(bindparam("ids", expanding=True))


INDEX_ON_POSTGRES = with_ids(
    f"{FILL_ON_POSTGRES} WHERE id IN :ids "
    "ON CONFLICT (post_id) DO UPDATE SET vector = excluded.vector"
)
FIND_ON_POSTGRES = with_ids(
    f"SELECT id FROM posts LEFT JOIN post_search ON post_id = id "
    f"WHERE id IN :ids AND (vector = {VECTOR}) IS NOT TRUE"
)
# FTS5 has a row for each text that it has indexed in this table.
HAS_INDEXED = "IN (SELECT id FROM post_search_docsize)"
INDEX_ON_SQLITE = with_ids(
    "INSERT INTO post_search (rowid, title, tags, content) "
    f"SELECT id, title, tags, content FROM post_texts WHERE id IN :ids AND id NOT {HAS_INDEXED}"
)
FIND_ON_SQLITE = f"SELECT id FROM posts WHERE id NOT {HAS_INDEXED} ORDER BY id"
CHECK_ON_SQLITE = "INSERT INTO post_search (post_search, rank) VALUES ('integrity-check', 1)"


async def index_all_posts(connection: AsyncConnection) -> None:
    """Fill the empty index of a database that is not in use."""
    is_sqlite = connection.dialect.name == "sqlite"
    await connection.execute(text(FILL_ON_SQLITE if is_sqlite else FILL_ON_POSTGRES))


async def split_by_length(session: AsyncSession, ids: Sequence[int]) -> list[list[int]]:
    """Split the ids of posts so that each group is indexed in a fraction of a second."""
    length = func.length(func.coalesce(col(Post.content_text), col(Post.content)))
    query = select(Post.id, length).where(col(Post.id).in_(ids)).order_by(col(Post.id))
    groups: list[list[int]] = []
    total = MAX_INDEXED_LENGTH
    for post_id, size in await session.exec(query):
        total += size
        if total > MAX_INDEXED_LENGTH or not groups:
            groups.append([])
            total = size
        groups[-1].append(post_id)
    return groups


class SearchIndex:
    """The index of the search. Each text that it has indexed has to be the one of the post."""

    name = "search"

    async def count(self, database: Database) -> int:
        return await count_rows(database, Post)

    def run(self, database: Database, *, repairs: bool) -> AsyncIterator[Batch]:
        file = get_sqlite_path(database.engine.url)
        if file is None:
            return check_vectors(database, repairs=repairs)
        return check_file(database, file, repairs=repairs)


async def check_vectors(database: Database, *, repairs: bool) -> AsyncIterator[Batch]:
    """Compare the vector of each post on Postgres with a new one, and replace those that differ."""
    async for ids in iterate_ids(database, select(Post.id), BATCH_SIZE):
        async with database.session(writes=False) as session:
            groups = await split_by_length(session, ids)
        for group in groups:
            async with database.session(writes=False) as session:
                connection = await session.connection()
                found = await connection.execute(FIND_ON_POSTGRES, {"ids": group})
                wrong = found.scalars().all()
            if wrong and repairs:
                await index_posts(database, INDEX_ON_POSTGRES, wrong)
            yield Batch(len(group), len(wrong))


async def index_posts(database: Database, statement: TextClause, ids: Sequence[int]) -> None:
    """Lock posts, and index their texts."""
    async with database.session(writes=True) as session:
        await lock_posts_for_counters(session, col(Post.id).in_(ids))
        await (await session.connection()).execute(statement, {"ids": ids})


async def check_file(database: Database, file: Path, *, repairs: bool) -> AsyncIterator[Batch]:
    """Check the index on SQLite, and fill it.

    Texts that are missing are added. FTS5 can remove a text only if it is told exactly what it has
    indexed, so an index that is wrong in another way is filled anew in one transaction.
    """
    total = await count_rows(database, Post)
    if await anyio.to_thread.run_sync(is_index_right, file):
        yield Batch(total, 0)
        return
    async with database.session(writes=False) as session:
        found = await (await session.connection()).execute(text(FIND_ON_SQLITE))
        missing = found.scalars().all()
    # Without missing texts, the number of texts that are wrong is unknown.
    yield Batch(total - len(missing), 0 if missing else 1)
    for start in range(0, len(missing), BATCH_SIZE):
        ids = missing[start : start + BATCH_SIZE]
        if repairs:
            async with database.session(writes=False) as session:
                groups = await split_by_length(session, ids)
            for group in groups:
                await index_posts(database, INDEX_ON_SQLITE, group)
        yield Batch(len(ids), len(ids))
    is_right = bool(missing) and await anyio.to_thread.run_sync(is_index_right, file)
    if repairs and not is_right:
        async with database.session(writes=True) as session:
            await (await session.connection()).execute(text(FILL_ON_SQLITE))


def is_index_right(file: Path) -> bool:
    """Check a copy of the database beside the file: the check would make writers wait."""
    with (
        TemporaryDirectory(prefix=f"{file.name}.", dir=file.parent) as folder,
        closing(connect(file)) as blog,
        closing(connect(Path(folder) / "copy.db")) as copy,
    ):
        blog.backup(copy)
        try:
            copy.execute(CHECK_ON_SQLITE)
        except DatabaseError as error:
            # SQLITE_CORRUPT_VTAB
            if error.sqlite_errorcode & 0xFF != SQLITE_CORRUPT:
                raise
            return False
    return True
