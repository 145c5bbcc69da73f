"""Access log, and the configuration of all logs: standard error, one entry a line.

Requests are buffered and written ten times a second, all of them as one log record, in a thread: a
record for each would take longer than a cache hit, and a slow reader of standard error would stop
the event loop. A line has the client, the method, the path, the status, the duration and the
request id: `2026-01-31 09:00:00,123 INFO blog_api.access: 192.0.2.1 GET /posts 200 1.8ms 6f1c…`.
Queries, headers and bodies may contain secrets and are never logged.
"""

import logging
import time
from collections import deque
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread

WRITE_INTERVAL_SECONDS = 0.1
# No route has a longer path, and Python refuses to parse an id of 5,000 digits. The log has the
# start of a longer one.
MAX_PATH_LENGTH = 1_000

access_log = logging.getLogger("blog_api.access")


class AccessLogWriter:
    """Buffer of requests that are not written yet."""

    def __init__(self) -> None:
        self._requests: deque[tuple[float, str, str, str, int, float, str]] = deque()

    def append(
        self, client: str, method: str, path: str, status: int, seconds: float, request_id: str
    ) -> None:
        path = path[:MAX_PATH_LENGTH]
        self._requests.append((time.time(), client, method, path, status, seconds, request_id))

    async def write_periodically(self) -> None:
        """Write the buffered lines every `WRITE_INTERVAL_SECONDS` until cancelled."""
        while True:
            await anyio.sleep(WRITE_INTERVAL_SECONDS)
            if self._requests:
                await anyio.to_thread.run_sync(self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
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
    """Format a time as `logging` does. Under load many requests share a millisecond."""
    second, rest = divmod(milliseconds, 1000)
    text = time.strftime(logging.Formatter.default_time_format, time.localtime(second))
    return f"{text},{rest:03d}"


@lru_cache(maxsize=1_000)
def quote_field(text: str) -> str:
    """Percent-encode spaces and line breaks, so that a client cannot forge fields or lines."""
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
