"""Record the SQL statements that the application executes, by SQLAlchemy or by the driver alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import aiosqlite
import asyncpg
import pytest
from fastapi import FastAPI
from sqlalchemy import event


class Execution(NamedTuple):
    """A statement with the values bound in it."""

    statement: str
    values: tuple[Any, ...]
    is_by_driver: bool


@contextmanager
def executions(app: FastAPI) -> Iterator[list[Execution]]:
    """Record each statement that a request within the block executes.

    What the application does in the background, such as writing the last use of tokens, began in
    another context and is not recorded.

    SQLAlchemy has an event for its own statements. It does not call the methods of the drivers
    that are wrapped here; `fetch_records()` does.
    """
    executed: list[Execution] = []
    is_within = ContextVar("is_within", default=False)
    fetch_on_sqlite = aiosqlite.Connection.execute_fetchall
    fetch_on_postgres = asyncpg.Connection.fetch

    def add(sql: str, values: tuple[Any, ...], is_by_driver: bool) -> None:
        if is_within.get():
            executed.append(Execution(sql, values, is_by_driver))

    def record(_connection: object, _cursor: object, sql: str, values: Any, *_: object) -> None:
        add(sql, values, is_by_driver=False)

    def record_on_sqlite(driver: aiosqlite.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
        add(sql, tuple(values), is_by_driver=True)
        return fetch_on_sqlite(driver, sql, values)

    def record_on_postgres(driver: Any, sql: str, *values: Any) -> Any:
        add(sql, values, is_by_driver=True)
        return fetch_on_postgres(driver, sql, *values)

    engine = app.state.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    token = is_within.set(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiosqlite.Connection, "execute_fetchall", record_on_sqlite)
            patch.setattr(asyncpg.Connection, "fetch", record_on_postgres)
            yield executed
    finally:
        is_within.reset(token)
        event.remove(engine, "before_cursor_execute", record)
