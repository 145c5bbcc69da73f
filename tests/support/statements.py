"""The statements of SQL that the application executes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fastapi import FastAPI
from sqlalchemy import event


class Execution(NamedTuple):
    """A statement, and the values that are bound in it."""

    statement: str
    values: Any


@contextmanager
def executions(app: FastAPI) -> Iterator[list[Execution]]:
    """Those of the time within, all of which go by SQLAlchemy then: it tells of each."""
    found: list[Execution] = []
    database = app.state.database

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        found.append(Execution(statement, values))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    database.uses_driver_queries = False
    yield found
    database.uses_driver_queries = True
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
