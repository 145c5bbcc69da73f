"""OpenTelemetry metrics of the connections and statements, by the names of its conventions.

The pool is observed when the metrics are collected; each statement is timed.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from sqlalchemy import ExceptionContext, event
from sqlalchemy.ext.asyncio import AsyncEngine

from blog_api.db.session import Database

POOL = {"db.client.connection.pool.name": "blog_api"}
STATE = "db.client.connection.state"
# Upper bounds in seconds; `STATEMENT_TIMEOUT_SECONDS` is 5.
DURATION_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
NO_ERROR: Mapping[str, str] = MappingProxyType({})

OPERATION = re.compile(r"\s*(\w+)")
TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE) +(?:ONLY +)?\"?(\w+)", re.IGNORECASE)

Observe = Callable[[CallbackOptions], Iterable[Observation]]


def observe_pool(database: Database, meter: Meter) -> None:
    def observe(read: Callable[[], int]) -> list[Observe]:
        return [lambda _: [Observation(read(), POOL)]]

    def observe_connections(_: CallbackOptions) -> Iterable[Observation]:
        for state, count in zip(("used", "idle"), database.count_connections(), strict=True):
            yield Observation(count, POOL | {STATE: state})

    prefix = "db.client.connection"
    meter.create_observable_up_down_counter(
        f"{prefix}.count", [observe_connections], "{connection}", "Open connections by state."
    )
    meter.create_observable_up_down_counter(
        f"{prefix}.max",
        observe(lambda: database.pool_size),
        "{connection}",
        "Connections of BLOG_POOL_SIZE.",
    )
    meter.create_observable_up_down_counter(
        f"{prefix}.pending_requests",
        observe(lambda: database.waiting_requests),
        "{request}",
        "Requests that wait for a connection.",
    )
    meter.create_observable_counter(
        f"{prefix}.timeouts",
        observe(lambda: database.connection_timeouts),
        "{timeout}",
        "Requests that waited too long for a connection, and became 503.",
    )


@lru_cache(maxsize=1_000)
def summarize_statement(sql: str) -> str:
    """Return the operation and the first table, such as `SELECT posts`."""
    found = (OPERATION.match(sql), TABLE.search(sql))
    return " ".join(one[1] for one in found if one)


def time_statements(engine: AsyncEngine, meter: Meter) -> None:
    """Record how long each statement takes, by operation and table; not one of the driver alone."""
    durations = meter.create_histogram(
        "db.client.operation.duration",
        "s",
        "Duration of statements.",
        explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
    )
    system = {"db.system.name": engine.dialect.name}

    def start(_connection: object, _cursor: object, _statement: str, *values: Any) -> None:
        _parameters, context, _executemany = values
        context.started_at = time.perf_counter()

    def record(context: Any, statement: str, attributes: Mapping[str, str] = NO_ERROR) -> None:
        started_at: float | None = getattr(context, "started_at", None)
        if started_at is not None:
            summary = {"db.query.summary": summarize_statement(statement)}
            durations.record(time.perf_counter() - started_at, {**system, **summary, **attributes})

    def finish(_connection: object, _cursor: object, statement: str, *values: Any) -> None:
        _parameters, context, _executemany = values
        record(context, statement)

    def fail(context: ExceptionContext) -> None:
        error = {"error.type": type(context.original_exception).__name__}
        record(context.execution_context, context.statement or "", error)

    event.listen(engine.sync_engine, "before_cursor_execute", start)
    event.listen(engine.sync_engine, "after_cursor_execute", finish)
    event.listen(engine.sync_engine, "handle_error", fail)


def observe_database(database: Database, meter: Meter) -> None:
    observe_pool(database, meter)
    time_statements(database.engine, meter)
    # SQLAlchemy executes all statements, and calls what times them.
    database.uses_driver_queries = False
