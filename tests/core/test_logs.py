"""Formats and levels of the log."""

import json
import logging
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from blog_api.core.logs import ACCESS_LOGGER, REQUEST_ID, JSONFormatter, TextFormatter
from blog_api.web.access_log import AccessLogWriter
from tests.support.clients import make_settings
from tests.support.processes import Server


def log_error(formatter: logging.Formatter) -> str:
    """Return the log record of an error with a traceback within a request."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("blog_api.test")
    logger.addHandler(handler)
    token = REQUEST_ID.set("6f1c")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logger.exception("Failed:\r\n%s", "é")
    finally:
        REQUEST_ID.reset(token)
    return stream.getvalue()


def test_a_record_is_one_line_of_text_with_the_id_of_the_request():
    line = log_error(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    time, level, name, rest = line.split(" ", 3)
    assert datetime.fromisoformat(time).utcoffset() == timedelta(0)
    assert (level, name) == ("ERROR", "blog_api.test:")
    assert rest.startswith("Failed:\\r\\né\\nTraceback ")
    assert rest.endswith("ValueError: first\\nsecond 6f1c\n")
    assert line.count("\n") == 1


def test_a_record_is_one_json_object_with_the_id_of_the_request():
    line = log_error(JSONFormatter())
    values = json.loads(line)

    assert line.count("\n") == 1
    assert datetime.fromisoformat(values.pop("time")).utcoffset() == timedelta(0)
    assert values.pop("exception").endswith("ValueError: first\nsecond")
    assert values == {
        "level": "ERROR",
        "logger": "blog_api.test",
        "message": "Failed:\r\né",
        "request_id": "6f1c",
    }


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({}, ["/health/ready 503", "/posts 200"]),
        ({"log_level": "debug"}, ["/health/live 200", "/health/ready 503", "/posts 200"]),
        ({"access_log": False}, []),
    ],
)
def test_probes_that_succeed_are_logged_at_the_level_debug(
    values: dict[str, Any], paths: list[str], caplog: pytest.LogCaptureFixture
):
    writer = AccessLogWriter(make_settings(log_format="json", **values))
    for path, status in (("/health/live", 200), ("/health/ready", 503), ("/posts", 200)):
        writer.append("192.0.2.1", "GET", path, status, 0.0123, "6f1c")
    with caplog.at_level("INFO", logger=ACCESS_LOGGER):
        writer.flush()

    entries = [json.loads(line) for line in "\n".join(caplog.messages).splitlines()]
    assert [f"{one['path']} {one['status']}" for one in entries] == paths
    assert all(one["duration_ms"] == 12.3 and one["request_id"] == "6f1c" for one in entries)


@pytest.mark.processes
async def test_all_lines_of_a_server_have_the_same_format(tmp_path: Path, shared_url: URL):
    given = {"LOG_FORMAT": "json", "MAIL_URL": ""}
    with Server(tmp_path, shared_url, workers=2, settings=given) as server:
        async with server.client() as client:
            shown = await client.get("/posts")
        server.stop()

    records = [json.loads(line) for line in server.log.splitlines() if line != "end of log"]
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in records)
    assert {one["logger"] for one in records} >= {"blog_api", ACCESS_LOGGER, "uvicorn.error"}
    ids = [one["request_id"] for one in records if one["logger"] == ACCESS_LOGGER]
    assert ids == [shown.headers["X-Request-ID"]]


def test_a_level_that_does_not_exist_is_rejected():
    with pytest.raises(ValueError, match="log_level"):
        make_settings(log_level="loud")
