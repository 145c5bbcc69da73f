"""Logs: on standard error, a line each."""

import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread

from blog_api.core.background import in_background

WRITE_INTERVAL_SECONDS = 0.1


access_log = logging.getLogger("blog_api.access")


class AccessLogWriter:
    """A line for each request, that leaves out where somebody might have put a secret.

    Lines are written ten times a second, all of them as one record: a record for each would take
    longer than an answer that is kept in memory.
    """

    def __init__(self) -> None:
        self._requests: deque[tuple[float, str, str, str, int, float, str]] = deque()

    def add(
        self, client: str, method: str, path: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Note a request that has been answered just now."""
        self._requests.append((time.time(), client, method, path, status, seconds, request_id))

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[None]:
        """Within, what is noted is soon written; at the end, all of it."""
        try:
            async with in_background(self._keep_writing()):
                yield
        finally:
            self._write()

    async def _keep_writing(self) -> None:
        while True:
            await anyio.sleep(WRITE_INTERVAL_SECONDS)
            if self._requests:
                # Whoever reads them may be slow.
                await anyio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        lines = []
        while self._requests:
            at, client, method, path, status, seconds, request_id = self._requests.popleft()
            lines.append(
                f"{format_time(int(at * 1000))} INFO {access_log.name}: "
                f"{quote_field(client)} {method} {quote_field(path)} {status} "
                f"{seconds * 1000:.1f}ms {request_id}"
            )
        if lines:
            access_log.info("\n".join(lines))


@lru_cache(maxsize=2)
def format_time(milliseconds: int) -> str:
    """A time as all other lines of the log have it; where it matters, many have the same."""
    second, rest = divmod(milliseconds, 1000)
    text = time.strftime(logging.Formatter.default_time_format, time.localtime(second))
    return f"{text},{rest:03d}"


@lru_cache(maxsize=1_000)
def quote_field(text: str) -> str:
    """What nobody takes for another line of the log, or another field."""
    return quote(text, safe="/:.")


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "lines": {"format": "%(message)s"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "access": {"class": "logging.StreamHandler", "formatter": "lines"},
    },
    "loggers": {
        name: {"handlers": [handler], "level": "INFO", "propagate": False}
        for name, handler in (
            ("blog_api", "stderr"),
            (access_log.name, "access"),
            ("uvicorn", "stderr"),
            ("alembic.runtime.migration", "stderr"),
        )
    },
}
