"""Find derived values that are wrong, such as counters, and derive them again.

Each kind walks over the ids of its rows in batches. A batch is checked by one query without locks,
whose snapshot is consistent, and only if something is wrong, repaired in a short transaction. That
one locks what the values are derived from, as the service does before it changes them, and reads it
again: what was changed meanwhile is right already.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement
from sqlmodel import and_, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.db.queries import BATCH_SIZE
from blog_api.db.session import Database


class Span(NamedTuple):
    """A range of ids without its beginning."""

    after: int
    last: int

    def contains(self, column: Any) -> ColumnElement[bool]:
        return and_(column > self.after, column <= self.last)


class Batch(NamedTuple):
    """Numbers of rows that were checked, and of those that were wrong."""

    checked: int
    wrong: int


class Rebuild(Protocol):
    """Derived values of one kind."""

    @property
    def name(self) -> str: ...

    async def count(self, database: Database) -> int:
        """Return the number of rows to check."""

    def run(self, database: Database, *, repairs: bool) -> AsyncIterator[Batch]:
        """Check all rows, and derive those again that are wrong."""


async def iterate_ids(database: Database, query: Any, size: int) -> AsyncIterator[Sequence[int]]:
    """Yield the ids that a query selects as `id`, in order and in batches."""
    ids = query.subquery()
    after = -1
    while True:
        batch = select(ids.c.id).where(ids.c.id > after).order_by(ids.c.id).limit(size)
        async with database.session(writes=False) as session:
            found = (await session.exec(batch)).all()
        if not found:
            return
        yield found
        after = found[-1]


FindWrong = Callable[[Database, Span], Awaitable[Collection[Any]]]
Repair = Callable[[AsyncSession, Any], Awaitable[None]]


@dataclass(frozen=True)
class Derived:
    """Derived values of rows that have an id."""

    name: str
    ids: Any
    """A query that selects all ids as `id`."""
    find_wrong: FindWrong
    """Returns the ids in a span whose values are wrong, perhaps with the right values."""
    repair: Repair
    """Locks the rows that `find_wrong` returned, and derives their values again."""
    size: int = BATCH_SIZE

    async def count(self, database: Database) -> int:
        query = select(func.count()).select_from(self.ids.subquery())
        async with database.session(writes=False) as session:
            return (await session.exec(query)).one()

    async def run(self, database: Database, *, repairs: bool) -> AsyncIterator[Batch]:
        after = -1
        async for ids in iterate_ids(database, self.ids, self.size):
            wrong = await self.find_wrong(database, Span(after, ids[-1]))
            if wrong and repairs:
                async with database.session(writes=True) as session:
                    await self.repair(session, wrong)
            yield Batch(len(ids), len(wrong))
            after = ids[-1]


def find_by_query(make_query: Callable[[Span], Any]) -> FindWrong:
    """Return a function that finds the ids which the query of a span selects."""

    async def find_wrong(database: Database, span: Span) -> Collection[int]:
        async with database.session(writes=False) as session:
            found: Sequence[int] = (await session.exec(make_query(span))).all()
        return found

    return find_wrong
