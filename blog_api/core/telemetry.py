"""OpenTelemetry spans of SQL statements, beside the spans of FastAPI."""

import os

from opentelemetry import trace
from sqlalchemy.ext.asyncio import AsyncEngine


def has_tracer() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def is_telemetry_enabled() -> bool:
    """Return whether another library has set up a tracer, or FastAPI will."""
    return has_tracer() or os.environ.get("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"


def instrument_sql(engine: AsyncEngine) -> bool:
    """Trace the statements of an engine, without their parameters, if there is a tracer.

    Return whether they are traced; the extra `telemetry` may be missing.
    """
    if not has_tracer():
        return False
    try:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    except ImportError:
        return False
    # It declares support up to SQLAlchemy 2.0; test_telemetry.py shows that it works with 2.1.
    SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine, skip_dep_check=True)
    return True
