"""The contenders: servers of the same posts, and how each is started."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.load.databases import Loaded, render_plain_url
from tests.load.machine import SERVER_CORES, listening_port, pinned
from tests.support.processes import make_environment

HERE = Path(__file__).parent
START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05
BASELINE = "baseline"
# As the documentation of Gunicorn recommends for one core: twice the cores and one.
GUNICORN = ("--workers", "3", "--worker-class", "gthread", "--threads", "4")


@dataclass(frozen=True)
class Contender:
    """A server and its command; it listens on a free port."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    loaded: Loaded | None = None
    # The working folder; by default one without a `.env` file.
    folder: Path | None = None
    cores: frozenset[int] = frozenset(SERVER_CORES)

    @property
    def uses_postgres(self) -> bool:
        return self.loaded is not None and not self.loaded.is_sqlite


def uvicorn(app: str, folder: Path = HERE) -> tuple[str, ...]:
    """Return the command, without an access log, which favors the other contenders."""
    options = ("--port", "0", "--no-access-log", "--log-level", "warning", "--app-dir", str(folder))
    return (sys.executable, "-m", "uvicorn", app, *options)


def blog_api(
    loaded: Loaded, *, cache: bool = True, workers: int = 1, cores: frozenset[int] | None = None
) -> Contender:
    """The service with its default settings and its access log, but without rate limits."""
    # None selects the default instead of the cheaper hashing of the tests.
    defaults = {f"ARGON2_{name}": None for name in ("MEMORY_KIB", "PASSES", "LANES")}
    given = defaults if cache else {**defaults, "CACHE_BYTES": "0"}
    serve = (sys.executable, "-m", "blog_api", "serve", "--port", "0")
    database = "SQLite" if loaded.is_sqlite else "Postgres"
    suffix = "" if workers == 1 else f", {workers} workers"
    return Contender(
        name=f"blog-api, {database}" + ("" if cache else ", no cache") + suffix,
        command=(*serve, "--workers", str(workers)),
        variables=make_environment(loaded.url, given),
        loaded=loaded,
        cores=frozenset(SERVER_CORES) if cores is None else cores,
    )


def baseline(loaded: Loaded) -> Contender:
    """The service as another checkout has it, with the packages that are installed here."""
    assert loaded.checkout is not None
    ours = blog_api(loaded)
    path = {"PYTHONPATH": str(loaded.checkout)}
    return replace(ours, name=BASELINE, variables={**ours.variables, **path})


def tutorial(loaded: Loaded, kind: str) -> Contender:
    """The blog as a tutorial writes it: `async` or `sync`."""
    return Contender(
        name=f"tutorial, {kind}",
        command=uvicorn(f"tutorial.in_{kind}:app"),
        variables={"DATABASE_URL": render_plain_url(loaded.url)},
        loaded=loaded,
    )


def rest_framework(loaded: Loaded) -> Contender:
    """The blog in Django REST framework on Gunicorn; the package `drf` says how it is set up."""
    options = ("--bind", "127.0.0.1:0", "--no-control-socket", *GUNICORN)
    return Contender(
        name="Django REST framework",
        command=(
            sys.executable,
            "-m",
            "gunicorn",
            *options,
            "django.core.wsgi:get_wsgi_application()",
        ),
        variables={
            "DATABASE_URL": render_plain_url(loaded.url),
            "DJANGO_SETTINGS_MODULE": "load.drf.settings",
            "PYTHONPATH": str(HERE.parent),
        },
        loaded=loaded,
    )


def bare(responses: Path) -> Contender:
    """An application that only sends the responses recorded in a file."""
    return Contender(
        name="bare ASGI", command=uvicorn("bare:app"), variables={"RESPONSES": str(responses)}
    )


def fastify(loaded: Loaded, folder: Path, *, count: str) -> Contender:
    labels = {"exact": "count(*)", "counter": "a counter"}
    return Contender(
        name=f"Fastify, {labels[count]}",
        command=("node", "server.js"),
        variables={
            "DATABASE_URL": render_plain_url(loaded.url),
            "COUNT": count,
            "NODE_ENV": "production",
        },
        loaded=loaded,
        folder=folder,
    )


def install_fastify(folder: Path) -> str | None:
    """Install Fastify in a folder; return the error, or None."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js is not installed"
    folder.mkdir(exist_ok=True)
    for name in ("server.js", "package.json"):
        shutil.copy(HERE / "fastify" / name, folder)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefer-offline")
    process = subprocess.run(
        ["npm", "install", *options], cwd=folder, capture_output=True, text=True, check=False
    )
    lines = (process.stderr + process.stdout).strip().splitlines()
    return None if process.returncode == 0 else f"npm install fails: {' '.join(lines[:3])}"


def client_of(running: "Running", *, max_keepalive: int = 100) -> httpx.Client:
    # Without `verify=False`, loading the certificates would take longer than most requests.
    return httpx.Client(
        base_url=running.url,
        timeout=START_SECONDS,
        limits=httpx.Limits(max_keepalive_connections=max_keepalive),
        trust_env=False,
        verify=False,
    )


class Running:
    """A contender between its first response and the end of the block."""

    def __init__(self, contender: Contender, folder: Path, log: Path | None = None) -> None:
        self.contender = contender
        self.folder = folder
        # By default the log is discarded; that of the service is the access log.
        self.log = log
        self.start_seconds = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        start = time.monotonic()
        with pinned(set(self.contender.cores)), open(self.log or os.devnull, "w") as log:
            self.process = subprocess.Popen(
                self.contender.command,
                cwd=self.contender.folder or self.folder,
                env={**os.environ, **self.contender.variables},
                stdout=log,
                stderr=log,
            )
        try:
            self.url = self.wait_for_port(start + START_SECONDS)
            # The socket is open before the workers are ready.
            with client_of(self) as client:
                client.get("/posts?page=1&size=10")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.start_seconds = time.monotonic() - start
        return self

    def wait_for_port(self, deadline: float) -> str:
        while (port := listening_port(self.pid)) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log.read_text()[-2_000:] if self.log else "--logs shows its log"
                raise RuntimeError(f"{self.contender.name} does not start: {log}")
            # Not every contender logs that it listens, so poll.
            time.sleep(POLL_SECONDS)
        return f"http://127.0.0.1:{port}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=STOP_SECONDS)
        finally:
            # It took too long, or the benchmark was interrupted.
            self.process.kill()
            self.process.wait()
