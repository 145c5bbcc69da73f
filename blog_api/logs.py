"""Logs: on standard error, a line each."""

import logging
import threading
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any, TextIO

FLUSH_SECONDS = 0.1


class LineFormatter(logging.Formatter):
    """With a time that is written once a second: thousands of lines have the same."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._write_second = lru_cache(maxsize=2)(self.write_second)

    def write_second(self, second: int) -> str:
        record = logging.makeLogRecord({"created": second})
        return super().formatTime(record, self.default_time_format)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{self._write_second(int(record.created))},{int(record.msecs):03d}"


def line_formatter() -> LineFormatter:
    """For a process whose log says neither in which thread nor where in the code it is written:
    then nobody has to find that out.

    https://docs.python.org/3/howto/logging.html#optimization
    """
    logging._srcfile = None
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
    return LineFormatter()


class AccessHandler(logging.StreamHandler[TextIO]):
    """Writes ten times a second.

    A write for each line would take longer than an answer that is kept in memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._is_closed = threading.Event()
        threading.Thread(target=self._flush_now_and_then, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def flush(self) -> None:
        # Where standard error is closed, nobody reads it.
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join([*lines, ""]))
                super().flush()

    def close(self) -> None:
        self._is_closed.set()
        super().close()

    def _flush_now_and_then(self) -> None:
        while not self._is_closed.wait(FLUSH_SECONDS):
            self.flush()


def flush_access_log() -> None:
    """Write what was not written yet: a server may end without a word to its handlers."""
    for handler in logging.getLogger("blog_api.access").handlers:
        handler.flush()


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": line_formatter}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "access": {"()": AccessHandler, "formatter": "line"},
    },
    "loggers": {
        name: {"handlers": [handler], "level": "INFO", "propagate": False}
        for name, handler in (
            ("blog_api", "stderr"),
            ("blog_api.access", "access"),
            ("uvicorn", "stderr"),
            ("alembic.runtime.migration", "stderr"),
        )
    },
}
