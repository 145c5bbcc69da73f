"""Format of all logs: standard error, one record a line, UTC, with the id of the request.

As text, line breaks in a message or a traceback are written as `\\n`, and the record of a request
ends with its id. With `BLOG_LOG_FORMAT=json` each line is an object: `time`, `level`, `logger`,
`message`, and where there are such, `request_id` and `exception`.
"""

import json
import logging
from asyncio import CancelledError
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from blog_api.core.settings import Settings

ACCESS_LOGGER = "blog_api.access"
LOGGERS = ("blog_api", ACCESS_LOGGER, "uvicorn", "alembic.runtime.migration")

# Of the request whose task this is, or empty.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


@lru_cache(maxsize=2)
def format_time(milliseconds: int) -> str:
    """Format a time since 1970 as RFC 3339. Under load many requests share a millisecond."""
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time.isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return format_time(round(record.created * 1000))

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record).replace("\r", "\\r").replace("\n", "\\n")
        return f"{line} {REQUEST_ID.get()}".rstrip()


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": format_time(round(record.created * 1000)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            values["request_id"] = request_id
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


class CancelledFilter(logging.Filter):
    """Drop the tracebacks of requests that uvicorn cancels when it stops; it logs their number."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], CancelledError))


def make_log_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of all logs for `logging.config.dictConfig()`."""
    formatter = {
        "text": {"()": TextFormatter, "fmt": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": JSONFormatter},
    }[settings.log_format]
    stream = {"class": "logging.StreamHandler"}
    level = settings.log_level.upper()
    loggers = {
        name: {"handlers": ["stderr"], "level": level, "propagate": False} for name in LOGGERS
    }
    # Its records are complete lines.
    loggers[ACCESS_LOGGER]["handlers"] = ["lines"]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"cancelled": {"()": CancelledFilter}},
        "handlers": {
            "stderr": {**stream, "formatter": "line", "filters": ["cancelled"]},
            "lines": stream,
        },
        "loggers": loggers,
    }
