"""Save the contents of a database, compare them, and restore them."""

import sqlite3
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from sqlalchemy import URL

from blog_api.core.urls import get_sqlite_path
from blog_api.models import metadata
from tests.support.databases import connect_by_driver
from tests.support.faults import WAIT_SECONDS, wait_until

TABLES = [table.name for table in metadata.sorted_tables]


class Contents(NamedTuple):
    """Number of rows of a table, and a digest of them."""

    rows: int
    digest: str


State = dict[str, Contents]


def find_changes(before: State, after: State) -> dict[str, int]:
    """Return by how many rows each changed table grew.

    How many rows a count of posts has depends on chance.
    """
    return {
        table: 0 if table == "post_counts" else after[table].rows - before[table].rows
        for table in before
        if before[table] != after[table]
    }


class SavedDatabase(Protocol):
    async def read(self) -> State:
        """Return the state that is committed."""

    async def restore(self) -> None:
        """Bring back what was saved. Fails if the database or one of the rows is locked."""

    async def count_open_transactions(self) -> int: ...

    async def close(self) -> None: ...


class SavedFile:
    """A SQLite file."""

    def __init__(self, url: URL) -> None:
        file = get_sqlite_path(url)
        assert file is not None
        self._live = sqlite3.connect(file, timeout=0, isolation_level=None)
        self._saved = sqlite3.connect(":memory:")
        self._live.backup(self._saved)

    async def read(self) -> State:
        state = {}
        for table in TABLES:
            rows = sorted(map(repr, self._live.execute(f"SELECT * FROM {table}")))
            state[table] = Contents(len(rows), sha256("\n".join(rows).encode()).hexdigest())
        return state

    async def restore(self) -> None:
        # `backup()` would wait for a lock for ever. The thread of a connection that was closed
        # takes one once more for a BEGIN that it had received before.
        await wait_until(self._is_unlocked)
        self._saved.backup(self._live)

    async def _is_unlocked(self) -> bool:
        return not await self.count_open_transactions()

    async def count_open_transactions(self) -> int:
        """Return 1 if the file is locked."""
        try:
            self._live.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return 1
        self._live.execute("ROLLBACK")
        return 0

    async def close(self) -> None:
        self._live.close()
        self._saved.close()


class SavedPostgres:
    """A database on Postgres; the copies are in a schema of their own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._columns: dict[str, str] = {}

    @classmethod
    async def save(cls, url: URL) -> "SavedPostgres":
        self = cls(await connect_by_driver(url))
        await self._connection.execute("CREATE SCHEMA saved")
        for table in TABLES:
            await self._connection.execute(f"CREATE TABLE saved.{table} AS TABLE {table}")
        await self._connection.execute("SET session_replication_role = replica")
        await self._connection.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        columns = await self._connection.fetch(
            "SELECT table_name, string_agg(quote_ident(column_name), ', ') AS names "
            "FROM information_schema.columns "
            "WHERE table_schema = 'public' AND is_generated = 'NEVER' GROUP BY 1"
        )
        self._columns = {name: names for name, names in columns}
        return self

    async def read(self) -> State:
        rows = await self._connection.fetch(
            " UNION ALL ".join(
                f"SELECT '{table}', count(*), "
                f"coalesce(md5(string_agg(one::text, '' ORDER BY one::text)), '') FROM {table} one"
                for table in TABLES
            )
        )
        return {table: Contents(count, digest) for table, count, digest in rows}

    async def restore(self) -> None:
        await self._connection.execute(
            ";".join(
                f"DELETE FROM {table}; INSERT INTO {table} ({self._columns[table]}) "
                f"SELECT {self._columns[table]} FROM saved.{table}"
                for table in TABLES
            )
        )

    async def count_open_transactions(self) -> int:
        count: int = await self._connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )
        return count

    async def close(self) -> None:
        await self._connection.close()


async def save_database(url: URL) -> SavedDatabase:
    is_file = get_sqlite_path(url) is not None
    return SavedFile(url) if is_file else await SavedPostgres.save(url)
