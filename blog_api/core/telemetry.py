"""Spans of SQL beside FastAPI's own spans, where OpenTelemetry is set up."""

import os

from opentelemetry import trace
from sqlalchemy.ext.asyncio import AsyncEngine


def has_tracer() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def is_telemetry_enabled() -> bool:
    """Whether somebody wants to know: another library has set it up, or FastAPI will."""
    return has_tracer() or os.environ.get("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"


def instrument_sql(engine: AsyncEngine) -> bool:
    """Give each statement that goes by SQLAlchemy a span, without its parameters, if there is a
    tracer to take it; returns whether there is.

    FastAPI has set that up by `FASTAPI_OTEL_AUTO_CONFIGURE` before, or another library has.
    """
    if not has_tracer():
        return False
    try:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    except ImportError:
        return False
    # It has not been told of SQLAlchemy 2.1, and works with it: a test looks at its spans.
    SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine, skip_dep_check=True)
    return True
