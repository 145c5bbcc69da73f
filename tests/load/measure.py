"""Measuring: a load, sent by wrk, and what it costs."""

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
# It takes its time for what waits longer for an error, and that time is what is measured.
TIMEOUT = "60s"
END_SECONDS = 90
END_AGAIN_SECONDS = 0.5
LONGEST_SECONDS = 10


@dataclass(frozen=True)
class Request:
    """One that wrk sends."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True)
class Load:
    """Requests that are sent in turn, under the name that the report gives them."""

    name: str
    requests: Sequence[Request]


@dataclass(frozen=True)
class Figures:
    """What one run gave, or the medians of several."""

    requests: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: float
    # Of a core, for each request; of Postgres, None where it runs elsewhere or is not used.
    cpu_us: float
    postgres_us: float | None

    @property
    def all_cpu_us(self) -> float:
        return self.cpu_us + (self.postgres_us or 0)


def get(path: str, token: str | None = None, **query: object) -> Request:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return Request(f"{path}?{urlencode(query)}" if query else path, headers=headers)


def post(path: str, token: str, body: dict[str, Any]) -> Request:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return Request(path, "POST", headers, json.dumps(body))


def write_load(load: Load, file: Path) -> None:
    """For wrk, in Lua, where a string is written as in JSON as long as it is ASCII.

    `@run@` is another word for each run, so that what has to be new is new.
    """
    rows = []
    for one in load.requests:
        values = {"method": one.method, "path": one.path, "body": one.body}
        words = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value]
        headers = ", ".join(
            f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in one.headers.items()
        )
        rows.append(f"  {{ {', '.join(words)}, headers = {{ {headers} }} }},\n")
    text = "".join(rows).replace("@run@", secrets.token_hex(4))
    assert text.isascii() and "\\u" not in text
    file.write_text(f"return {{\n{text}}}\n")


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start what is ended by SIGINT, and do not let one that comes too early kill it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pinned(LOAD_CORES):
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def run_wrk(url: str, load: Load, connections: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Let wrk send a load for so long; returns what `wrk.lua` prints."""
    file = folder / "requests.lua"
    write_load(load, file)
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--timeout", TIMEOUT]
    # It counts in whole seconds, so it is ended by us.
    command += ["--duration", f"{END_SECONDS}s", "--script", str(SCRIPT), url, "--", str(file)]
    wrk = start(command)
    try:
        with suppress(subprocess.TimeoutExpired):
            wrk.wait(timeout=seconds)
        while wrk.poll() is None:
            # Again, if it was not listening yet.
            wrk.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                wrk.wait(timeout=END_AGAIN_SECONDS)
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
    """One run. Whatever else Postgres does meanwhile is counted too."""
    pids = [pid, *([] if postgres_pid is None else [postgres_pid])]
    while True:
        before = [cpu_seconds(one) for one in pids]
        found = run_wrk(url, load, connections, seconds, folder)
        spent = [cpu_seconds(one) - start for one, start in zip(pids, before, strict=True)]
        if found["requests"] > 0 or seconds > LONGEST_SECONDS:
            break
        # On a busy machine a short round ends before its first request does.
        seconds *= 4
    # What has failed at once is no request that was served.
    requests = max(1, found["requests"])
    cpu, *of_postgres = (1e6 * one / requests for one in spent)
    return Figures(
        requests=found["requests"],
        requests_per_second=found["requests"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        errors=found["errors"] + (found["requests"] == 0),
        cpu_us=cpu,
        postgres_us=of_postgres[0] if of_postgres else None,
    )


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure; errors are added up."""
    values: dict[str, Any] = {}
    for one in fields(Figures):
        found = [getattr(run, one.name) for run in runs]
        values[one.name] = None if None in found else median(found)
    return Figures(**{**values, "errors": sum(run.errors for run in runs)})
