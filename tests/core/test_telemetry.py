"""Traces by FastAPI's OpenTelemetry integration, configured by environment variables."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import URL
from typer.testing import CliRunner

from blog_api.cli.commands import cli
from tests.support.clients import PASSWORD, sign_up
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
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with Server(tmp_path, shared_url, variables=variables) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
            await client.get("/posts")
        # The server exports the remaining spans when it stops.
        server.stop()

    names, texts = set(), ""
    for path, body in collector.bodies:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                names |= {(scope.scope.name, span.name.split()[0]) for span in scope.spans}
        texts += body.decode("latin-1")
    libraries = {library for library, _ in names}
    assert "opentelemetry.instrumentation.sqlalchemy" in libraries
    assert any("fastapi" in library for library in libraries)
    assert "SELECT" in {name for _, name in names}
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


def test_telemetry_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setattr("blog_api.cli.serve.find_spec", lambda _: None)

    result = CliRunner().invoke(cli, ["serve"])

    assert result.exit_code == 2
    assert result.stderr == (
        "blog-api: FASTAPI_OTEL_AUTO_CONFIGURE: needs pip install '.[telemetry]'\n"
    )
