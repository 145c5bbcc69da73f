"""Access log: one line a request, except for health checks that succeed.

Requests are buffered and written ten times a second, all of them as one log record, in a thread: a
record for each would take longer than a cache hit, and a slow reader of standard error would stop
the event loop. A line has the client, the method, the path, the status, the duration and the
request id: `2026-01-31T09:00:00.123+00:00 INFO blog_api.access: 192.0.2.1 GET / 200 1.8ms 6f1c…`.
Queries, headers and bodies may contain secrets and are never logged.
"""

import json
import logging
import time
from collections import deque
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette import status as codes

from blog_api.core.logs import ACCESS_LOGGER, format_time
from blog_api.core.settings import Settings
from blog_api.web.links import HEALTH_PATHS

WRITE_INTERVAL_SECONDS = 0.1
# No route has a longer path, and Python refuses to parse an id of 5,000 digits. The log has the
# start of a longer one.
MAX_PATH_LENGTH = 1_000

log = logging.getLogger(ACCESS_LOGGER)


class Entry(NamedTuple):
    time: float
    client: str
    method: str
    path: str
    status: int
    seconds: float
    request_id: str

    def to_text(self) -> str:
        return (
            f"{format_time(round(self.time * 1000))} INFO {ACCESS_LOGGER}: "
            f"{quote_field(self.client)} {self.method} {quote_field(self.path)} {self.status} "
            f"{self.seconds * 1000:.1f}ms {self.request_id}"
        )

    def to_json(self) -> str:
        values = {
            "time": format_time(round(self.time * 1000)),
            "level": "INFO",
            "logger": ACCESS_LOGGER,
            "client": self.client,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "duration_ms": round(self.seconds * 1000, 1),
            "request_id": self.request_id,
        }
        return json.dumps(values, ensure_ascii=False)


class AccessLogWriter:
    """Buffer of requests that are not written yet."""

    def __init__(self, settings: Settings) -> None:
        self._is_enabled = settings.access_log
        self._logs_probes = settings.log_level == "debug"
        self._format = Entry.to_json if settings.log_format == "json" else Entry.to_text
        self._entries: deque[Entry] = deque()

    def append(
        self, client: str, method: str, path: str, status: int, seconds: float, request_id: str
    ) -> None:
        is_probe = status == codes.HTTP_200_OK and path.endswith(HEALTH_PATHS)
        if self._is_enabled and (self._logs_probes or not is_probe):
            path = path[:MAX_PATH_LENGTH]
            entry = Entry(time.time(), client, method, path, status, seconds, request_id)
            self._entries.append(entry)

    async def write_periodically(self) -> None:
        """Write the buffered lines every `WRITE_INTERVAL_SECONDS` until cancelled."""
        while True:
            await anyio.sleep(WRITE_INTERVAL_SECONDS)
            if self._entries:
                await anyio.to_thread.run_sync(self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        lines = []
        while self._entries:
            lines.append(self._format(self._entries.popleft()))
        if lines:
            log.info("\n".join(lines))


@lru_cache(maxsize=1_000)
def quote_field(text: str) -> str:
    """Percent-encode spaces and line breaks, so that a client cannot forge fields or lines."""
    return quote(text, safe="/:.")
