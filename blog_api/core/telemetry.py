"""OpenTelemetry beside the spans and metrics of FastAPI: spans of SQL statements, and a meter."""

import os
from importlib.metadata import version

from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter, NoOpMeterProvider
from sqlalchemy.ext.asyncio import AsyncEngine

# Providers of the API itself: they record nothing.
UNCONFIGURED_METERS = "opentelemetry.metrics"


def has_tracer() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def get_meter() -> Meter | None:
    """Return the meter of the service if another library has set up a provider, or FastAPI has."""
    provider = metrics.get_meter_provider()
    if type(provider).__module__.startswith(UNCONFIGURED_METERS):
        return None
    return provider.get_meter("blog_api", version("blog-api"))


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
    # Its own metric has an outdated name, and counts idle connections of readers as used.
    SQLAlchemyInstrumentor().instrument(
        engine=engine.sync_engine, skip_dep_check=True, meter_provider=NoOpMeterProvider()
    )
    return True
