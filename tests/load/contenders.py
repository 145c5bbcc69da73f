"""The contenders: who serves the same posts, and how each is started."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.load.databases import Loaded, plain
from tests.load.machine import SERVER_CORES, listening_port, pinned
from tests.support.processes import make_environment

HERE = Path(__file__).parent
START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Contender:
    """A server, and how it is started. It takes any free port."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    loaded: Loaded | None = None
    # Where it runs; None is where no `.env` lies.
    folder: Path | None = None
    cores: frozenset[int] = frozenset(SERVER_CORES)

    @property
    def uses_postgres(self) -> bool:
        return self.loaded is not None and not self.loaded.is_sqlite


def uvicorn(app: str, folder: Path = HERE) -> tuple[str, ...]:
    """With no access log, which is in favour of whoever is not ours."""
    options = ("--port", "0", "--no-access-log", "--log-level", "warning", "--app-dir", str(folder))
    return (sys.executable, "-m", "uvicorn", app, *options)


def ours(
    loaded: Loaded, *, cache: bool = True, workers: int = 1, cores: frozenset[int] | None = None
) -> Contender:
    """The service as it comes, with its access log; only the limits on guessing are off."""
    # None is the default: what the tests choose for speed is not for here.
    settings = {f"ARGON2_{name}": None for name in ("MEMORY_KIB", "PASSES", "LANES")}
    given = settings if cache else {**settings, "CACHE_BYTES": "0"}
    serve = (sys.executable, "-m", "blog_api", "serve", "--port", "0")
    database = "SQLite" if loaded.is_sqlite else "Postgres"
    several = "" if workers == 1 else f", {workers} workers"
    return Contender(
        name=f"blog-api, {database}" + ("" if cache else ", no cache") + several,
        command=(*serve, "--workers", str(workers)),
        variables=make_environment(loaded.url, given),
        loaded=loaded,
        cores=frozenset(SERVER_CORES) if cores is None else cores,
    )


def tutorial(loaded: Loaded, kind: str) -> Contender:
    """The blog as tutorials write it: `async` or `sync`."""
    return Contender(
        name=f"tutorial, {kind}",
        command=uvicorn(f"tutorial.in_{kind}:app"),
        variables={"DATABASE_URL": plain(loaded.url)},
        loaded=loaded,
    )


def bare(answers: Path) -> Contender:
    """The limit: what was recorded in a file, from an application that does nothing else."""
    return Contender(
        name="bare ASGI", command=uvicorn("bare:app"), variables={"ANSWERS": str(answers)}
    )


def fastify(loaded: Loaded, folder: Path, *, count: str) -> Contender:
    words = {"exact": "count(*)", "counter": "a counter"}
    return Contender(
        name=f"Fastify, {words[count]}",
        command=("node", "server.js"),
        variables={"DATABASE_URL": plain(loaded.url), "COUNT": count, "NODE_ENV": "production"},
        loaded=loaded,
        folder=folder,
    )


def install_fastify(folder: Path) -> str | None:
    """Put Fastify into a folder; returns why it cannot be there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no Node.js"
    folder.mkdir(exist_ok=True)
    for name in ("server.js", "package.json"):
        shutil.copy(HERE / "fastify" / name, folder)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefer-offline")
    done = subprocess.run(
        ["npm", "install", *options], cwd=folder, capture_output=True, text=True, check=False
    )
    lines = (done.stderr + done.stdout).strip().splitlines()
    return None if done.returncode == 0 else f"npm install fails: {' '.join(lines[:3])}"


def client_of(running: "Running", *, kept: int = 100) -> httpx.Client:
    """A client that keeps so many connections open between requests."""
    # Reading the certificates that nobody needs here takes longer than most answers do.
    return httpx.Client(
        base_url=running.url,
        timeout=START_SECONDS,
        limits=httpx.Limits(max_keepalive_connections=kept),
        trust_env=False,
        verify=False,
    )


class Running:
    """A contender from its first answer until the end of the block."""

    def __init__(self, contender: Contender, folder: Path, log: Path | None = None) -> None:
        self.contender = contender
        self.folder = folder
        # Of ours that is the access log. Whoever measures writes it nowhere.
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
            # One worker has the socket before any of them answers.
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
                seen = self.log.read_text()[-2_000:] if self.log else "--logs tells why"
                raise RuntimeError(f"{self.contender.name} does not start: {seen}")
            # A contender of another language tells nobody that it listens.
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
            # Whether it takes too long or we are interrupted.
            self.process.kill()
            self.process.wait()
