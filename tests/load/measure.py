"""Measure a server under a load from wrk."""

import json
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from tests.load.machine import LOAD_CORES, cpu_seconds, pinned

SCRIPT = Path(__file__).with_name("wrk.lua")
# Longer than any response takes, since wrk counts slow responses as errors.
TIMEOUT = "60s"
MAX_SECONDS = 90
SIGNAL_SECONDS = 0.5
LONGEST_ROUND_SECONDS = 10
MEASURED_APART = ("writes_per_second", "read_p50_ms", "read_p99_ms", "write_p50_ms", "write_p99_ms")


@dataclass(frozen=True)
class Request:
    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True)
class Load:
    """Requests that are sent in turn, and their name in the report."""

    name: str
    requests: Sequence[Request]
    # The requests of one of the connections, which does not send the others.
    writer: Sequence[Request] = ()
    # Whether reads and writes are also measured apart. Each connection costs a thread of wrk then.
    is_apart: bool = False


@dataclass(frozen=True)
class Figures:
    """The figures of one run, or the medians of several."""

    requests: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: float
    # CPU time of a request in the server and in Postgres, if that is used and runs here.
    cpu_us: float
    postgres_us: float | None
    # None unless reads and writes are measured apart.
    writes_per_second: float | None = None
    read_p50_ms: float | None = None
    read_p99_ms: float | None = None
    write_p50_ms: float | None = None
    write_p99_ms: float | None = None

    @property
    def all_cpu_us(self) -> float:
        return self.cpu_us + (self.postgres_us or 0)


def get(path: str, token: str | None = None, **query: object) -> Request:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return Request(f"{path}?{urlencode(query)}" if query else path, headers=headers)


def put(path: str, token: str) -> Request:
    return Request(path, "PUT", {"Authorization": f"Bearer {token}"})


def delete(path: str, token: str) -> Request:
    return Request(path, "DELETE", {"Authorization": f"Bearer {token}"})


def post(path: str, token: str, body: dict[str, Any]) -> Request:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return Request(path, "POST", headers, json.dumps(body))


def format_requests(requests: Sequence[Request]) -> str:
    """Return requests as a Lua table; ASCII strings are the same in Lua and JSON."""
    rows = []
    for one in requests:
        values = {"method": one.method, "path": one.path, "body": one.body}
        assignments = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value]
        headers = ", ".join(
            f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in one.headers.items()
        )
        rows.append(f"  {{ {', '.join(assignments)}, headers = {{ {headers} }} }},\n")
    return f"{{\n{''.join(rows)}}}"


def write_load(load: Load, connections: int, file: Path) -> None:
    """Write a load as Lua for wrk.

    `@run@` is replaced by a word of this run, so that titles are new in each run.
    """
    values = {
        "requests": format_requests(load.requests),
        "writer": format_requests(load.writer) if load.writer else "nil",
        "is_apart": json.dumps(load.is_apart),
        "connections": str(connections),
    }
    text = ",\n".join(f"{name} = {value}" for name, value in values.items())
    text = text.replace("@run@", secrets.token_hex(4))
    assert text.isascii() and "\\u" not in text
    file.write_text(f"return {{\n{text}\n}}\n")


def start_wrk(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start wrk with SIGINT ignored, so that an early one does not kill it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pinned(LOAD_CORES):
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def run_wrk(url: str, load: Load, connections: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Send a load for a time; return the figures that `wrk.lua` prints."""
    file = folder / "requests.lua"
    write_load(load, connections, file)
    threads = str(connections) if load.is_apart else "1"
    command = ["wrk", "--threads", threads, "--connections", str(connections), "--timeout", TIMEOUT]
    # wrk accepts whole seconds only, so it is interrupted below.
    command += ["--duration", f"{MAX_SECONDS}s", "--script", str(SCRIPT), url, "--", str(file)]
    wrk = start_wrk(command)
    try:
        with suppress(subprocess.TimeoutExpired):
            wrk.wait(timeout=seconds)
        while wrk.poll() is None:
            # Repeat the signal, in case wrk did not handle it yet.
            wrk.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                wrk.wait(timeout=SIGNAL_SECONDS)
        output, _ = wrk.communicate()
    finally:
        wrk.kill()
    if wrk.returncode != 0 or not output.strip():
        raise RuntimeError(f"wrk ended with status {wrk.returncode}: {output}")
    figures: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return figures


def measure(
    url: str,
    load: Load,
    *,
    pid: int,
    postgres_pid: int | None,
    connections: int,
    seconds: float,
    folder: Path,
) -> Figures:
    """Measure one run. Other work of Postgres is counted too."""
    pids = [pid, *([] if postgres_pid is None else [postgres_pid])]
    while True:
        before = [cpu_seconds(one) for one in pids]
        output = run_wrk(url, load, connections, seconds, folder)
        spent = [cpu_seconds(one) - start for one, start in zip(pids, before, strict=True)]
        if output["requests"] > 0 or seconds > LONGEST_ROUND_SECONDS:
            break
        # On a busy machine, a short round ends before its first response.
        seconds *= 4
    # Avoid dividing by zero if all requests failed.
    requests = max(1, output["requests"])
    cpu, *of_postgres = (1e6 * one / requests for one in spent)
    return Figures(
        requests=output["requests"],
        requests_per_second=output["requests"] / output["seconds"],
        p50_ms=output["p50_ms"],
        p99_ms=output["p99_ms"],
        errors=output["errors"] + (output["requests"] == 0),
        cpu_us=cpu,
        postgres_us=of_postgres[0] if of_postgres else None,
        **{name: output[name] for name in MEASURED_APART},
    )


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure, and the sum of the errors."""
    values: dict[str, Any] = {}
    for one in fields(Figures):
        found = [getattr(run, one.name) for run in runs]
        values[one.name] = None if None in found else median(found)
    return Figures(**{**values, "errors": sum(run.errors for run in runs)})
