"""Traces and metrics of OpenTelemetry. FastAPI configures them by environment variables."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from anyio import wait_all_tasks_blocked
from opentelemetry import metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import URL, text
from typer.testing import CliRunner

from blog_api.cli.commands import cli
from blog_api.core.errors import ServiceUnavailable
from blog_api.db import session
from blog_api.db.metrics import summarize_statement
from blog_api.db.session import Database
from tests.support.clients import (
    MINIMUM_HASHING,
    PASSWORD,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.processes import Server


class Collector(ThreadingHTTPServer):
    """Record the bodies of exported traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.bodies: list[tuple[str, bytes]] = []


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.mark.processes
async def test_requests_and_statements_are_traced(
    tmp_path: Path, shared_url: URL, collector: Collector
):
    variables = {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_SERVICE_NAME": "blog",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with Server(tmp_path, shared_url, variables=variables) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
            await client.get("/posts")
        # The server exports the metrics and the remaining spans when it stops.
        server.stop()

    names, texts, measured = set(), "", set()
    for path, body in collector.bodies:
        texts += body.decode("latin-1")
        if path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    measured |= {metric.name for metric in scope.metrics}
            continue
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                names |= {(scope.scope.name, span.name.split()[0]) for span in scope.spans}
    libraries = {library for library, _ in names}
    assert "opentelemetry.instrumentation.sqlalchemy" in libraries
    assert any("fastapi" in library for library in libraries)
    assert "SELECT" in {name for _, name in names}
    assert {"blog_api.cache.requests", "db.client.connection.count"} < measured
    assert {"db.client.operation.duration", "http.server.request.duration"} < measured
    assert "/posts" in texts
    assert "ann@example.com" not in texts
    assert PASSWORD not in texts


@pytest.mark.processes
async def test_without_otel_variables_nothing_is_traced(
    tmp_path: Path, shared_url: URL, collector: Collector
):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    with Server(tmp_path, shared_url, variables=variables) as server:
        async with server.client() as client:
            assert (await client.get("/posts")).status_code == 200
        server.stop()

    assert collector.bodies == []


@pytest.mark.processes
async def test_a_collector_that_does_not_respond_does_not_delay_the_stop(
    tmp_path: Path, shared_url: URL
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
        }
        settings = {"SHUTDOWN_SECONDS": "2"}
        with Server(tmp_path, shared_url, settings=settings, variables=variables) as server:
            async with server.client() as client:
                await client.get("/posts")
            await asyncio.to_thread(server.stop)

    assert "did not stop within BLOG_SHUTDOWN_SECONDS" in server.log


class Meters:
    """Metrics that OpenTelemetry has collected, by the names of the metrics."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, list[Any]]:
        """Return the data points of each metric."""
        found = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (found.resource_metrics if found else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def read(self, name: str, attribute: str = "") -> dict[object, int]:
        """Return the values of a metric by the value of one of its attributes."""
        return {one.attributes.get(attribute): one.value for one in self.collect()[name]}


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meters]:
    """The provider of applications that are started later; it can be set once in a process."""
    meters = Meters()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters.provider)
    yield meters
    meters.provider.shutdown()


async def test_the_connections_are_measured(
    migrated_url: URL, meters: Meters, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "SLOT_TIMEOUT_SECONDS", 60)
    settings = make_settings(database_url=migrated_url, pool_size=2, **MINIMUM_HASHING)

    def read() -> list[object]:
        states = meters.read("db.client.connection.count", "db.client.connection.state")
        names = ("pending_requests", "timeouts", "max")
        return [states, *(meters.read(f"db.client.connection.{one}")[None] for one in names)]

    async with running(settings) as app:
        database: Database = app.state.database
        async with database.session(writes=False), database.session(writes=False):
            waiting = asyncio.create_task(database.session(writes=False).__aenter__())
            await wait_all_tasks_blocked()
            busy = read()
            waiting.cancel()
            monkeypatch.setattr(session, "SLOT_TIMEOUT_SECONDS", 0.001)
            with pytest.raises(ServiceUnavailable):
                await database.session(writes=False).__aenter__()
        idle = read()

    assert busy == [{"used": 2, "idle": 0}, 1, 0, 2]
    assert idle == [{"used": 0, "idle": 2}, 0, 1, 2]


async def test_statements_are_timed_by_operation_and_table(migrated_url: URL, meters: Meters):
    settings = make_settings(database_url=migrated_url, cache_bytes=0, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        post = await publish(ann)
        await ann.get(f"/posts/{post['id']}")
        with pytest.raises(ServiceUnavailable):
            async with app.state.database.session(writes=False) as reader:
                await reader.exec(text("SELECT 1 FROM missing"))
        points = meters.collect()["db.client.operation.duration"]

    found = {
        (one.attributes["db.query.summary"], one.attributes.get("error.type")) for one in points
    }
    assert found >= {("INSERT users", None), ("INSERT posts", None), ("SELECT posts", None)}
    assert {summary for summary, error in found if error} == {"SELECT missing"}
    assert {one.attributes["db.system.name"] for one in points} == {migrated_url.get_backend_name()}
    assert all(0 < one.sum < 60 and max(one.explicit_bounds) == 10 for one in points)


@pytest.mark.parametrize(
    ("sql", "summary"),
    [
        ("SELECT posts.id \nFROM posts, users", "SELECT posts"),
        ("  INSERT INTO slugs (slug) VALUES (?)", "INSERT slugs"),
        ('UPDATE "users" SET name = ?', "UPDATE users"),
        ("DELETE FROM posts", "DELETE posts"),
        ("BEGIN IMMEDIATE", "BEGIN"),
        ("", ""),
    ],
)
def test_a_statement_is_summarized(sql: str, summary: str):
    assert summarize_statement(sql) == summary


async def test_the_cache_is_measured(migrated_url: URL, meters: Meters):
    settings = make_settings(database_url=migrated_url, cache_bytes=40_000, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        await client.get("/posts?size=1")
        while meters.read("blog_api.cache.responses")[None] == 0:
            # On Postgres nothing is cached until the notifications arrive.
            await client.get("/posts?size=1")
        before = meters.read("blog_api.cache.requests", "result")
        await client.get("/posts?size=1")
        await client.get("/users/me")
        hit = meters.read("blog_api.cache.requests", "result")
        for size in range(2, 30):
            await client.get(f"/posts?size={size}")
        full = meters.collect()

    assert hit == {"hit": before["hit"] + 1, "miss": before["miss"] + 1}
    (responses,), (evictions,), (size,) = (
        full[f"blog_api.cache.{name}"] for name in ("responses", "evictions", "size")
    )
    assert responses.value + evictions.value == 29
    assert 0 < responses.value < 29
    assert 20_000 < size.value <= 40_000


def test_telemetry_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setattr("blog_api.cli.serve.find_spec", lambda _: None)

    result = CliRunner().invoke(cli, ["serve"])

    assert result.exit_code == 2
    assert result.stderr == (
        "blog-api: FASTAPI_OTEL_AUTO_CONFIGURE: needs pip install '.[telemetry]'\n"
    )
