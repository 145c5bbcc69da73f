"""Server processes on free ports."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import httpx
import pytest
from sqlalchemy import URL

from tests.support.clients import MINIMUM_HASHING, SECRET_KEY

# A server that hangs. Far longer than it takes: the disk of a busy machine may stall for long.
START_SECONDS = 120
STOP_SECONDS = 120
# Read after the last line of the server's log.
END_OF_LOG = "end of log"


def make_environment(url: URL, settings: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a child process: ours, but with these settings only."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BLOG_")}
    given: dict[str, str | None] = {
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "SECRET_KEY": SECRET_KEY,
        **{name.upper(): str(value) for name, value in MINIMUM_HASHING.items()},
        "RATE_LIMIT_ENABLED": "false",
        **settings,
    }
    return ours | {f"BLOG_{name}": value for name, value in given.items() if value is not None}


class Server:
    """`blog-api serve` in a folder of its own, running until the end of the block.

    By default it listens on a free port. Its address is read from its own log.
    """

    def __init__(
        self,
        folder: Path,
        url: URL,
        *,
        workers: int = 1,
        port: int = 0,
        settings: Mapping[str, str | None] = MappingProxyType({}),
        variables: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.url = url
        self.workers = workers
        command = [sys.executable, "-m", "blog_api", "serve", "--port", str(port)]
        self.command = [*command, "--workers", str(workers)]
        self.environment = make_environment(url, settings) | (variables or {})
        self.log = ""
        self.address = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.address = self.wait_for_log(r"running on (http://127\.0\.0\.1:\d+)")
        while self.log.count("startup complete") < self.workers:
            self._append_line()
        return self

    def wait_for_log(self, pattern: str) -> str:
        """Wait until the log matches a pattern; return its group."""
        while not (found := re.search(pattern, self.log)):
            self._append_line()
        return found[1]

    def _append_line(self) -> None:
        self.log += self._lines.get(timeout=START_SECONDS)
        assert END_OF_LOG not in self.log, self.log

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(END_OF_LOG)

    def read_log(self) -> str:
        """Return the log so far."""
        while not self._lines.empty():
            self.log += self._lines.get_nowait()
        return self.log

    def read_mail(self, recipient: str, subject: str) -> str:
        """Wait for the first mail with this subject to a recipient; return its text."""
        mail = re.compile(rf"--- To: {recipient}\n--- .*{subject}.*\n\n((?:.*\n)*?.*)---\n")
        while not (found := mail.search(self.read_log())):
            self.log += self._lines.get(timeout=START_SECONDS)
        return found[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> None:
        """Terminate the server; afterwards `log` is complete."""
        self.process.terminate()
        self._wait()

    def kill(self) -> None:
        """Kill the server and its workers, like a power failure."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail(f"The server hangs:\n{self.read_log()}")
        self._reader.join(timeout=STOP_SECONDS)
        self.read_log()
        assert self.process.stderr is not None
        self.process.stderr.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        # Drop idle connections before the server does, or a request may hit one that it closes.
        limits = httpx.Limits(max_connections=100, keepalive_expiry=1)
        async with httpx.AsyncClient(
            base_url=self.address, timeout=60, limits=limits, trust_env=False, verify=False
        ) as client:
            yield client
