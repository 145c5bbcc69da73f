"""PgBouncer between the service and Postgres, pooling transactions without prepared statements."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from blog_api.db import invalidation
from blog_api.db.cache_version import CacheVersion
from tests.support.clients import (
    MINIMUM_HASHING,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.databases import TEST_DATABASE_URL, execute_on_server
from tests.support.faults import wait_until
from tests.support.processes import Server
from tests.support.proxies import running_pgbouncer

pytestmark = [
    pytest.mark.pgbouncer,
    pytest.mark.skipif(TEST_DATABASE_URL is None, reason="PgBouncer needs a Postgres"),
]

POOL_SIZE = 3
WORKERS = 4
REQUESTS = int(os.environ.get("TEST_REQUESTS", "1000"))
CLIENTS = 20
# A busy machine can make a request wait for more than a second.
MAX_ATTEMPTS = 30


@pytest.fixture
def pooled_url(tmp_path: Path, migrated_url: URL) -> Iterator[URL]:
    with running_pgbouncer(tmp_path, migrated_url, POOL_SIZE) as url:
        yield url


async def test_no_request_fails_without_prepared_statements(
    tmp_path: Path, migrated_url: URL, pooled_url: URL
):
    url = pooled_url.update_query_dict({"prepared_statement_cache_size": "0"})
    sent = 0

    with Server(tmp_path, url, workers=WORKERS) as server:
        async with server.client() as client:
            await sign_up(client, "Ann")
            posts = [await publish(client, title=f"Post {number}") for number in range(CLIENTS)]

            async def send(method: str, path: str, **options: Any) -> Any:
                """Return the body of a successful response. Repeat the request after a 503."""
                for _ in range(MAX_ATTEMPTS):
                    response = await client.request(method, path, **options)
                    if response.status_code != 503:
                        break
                assert response.status_code == 200, response.text
                return response.json()

            async def read_and_write(number: int) -> None:
                """Every response shows what was requested, and not what another client did."""
                nonlocal sent
                post = posts[number]
                path = f"/posts/{post['id']}"
                while sent < REQUESTS:
                    sent += 4
                    assert (await send("GET", path))["title"] == post["title"]
                    assert (await send("GET", "/users/me"))["name"] == "Ann"
                    listed = await send("GET", "/posts?size=1&body=none")
                    assert listed["total_count"] == CLIENTS
                    written = await send("PATCH", path, json={"content": f"World {sent}"})
                    assert written["id"] == post["id"]

            await asyncio.gather(*map(read_and_write, range(CLIENTS)))
        server.stop()

    assert sent >= REQUESTS
    assert "Traceback" not in server.log
    assert "prepared statement" not in server.log


@pytest.mark.parametrize("is_direct", [True, False])
async def test_responses_are_cached_only_if_notifications_arrive(
    migrated_url: URL,
    pooled_url: URL,
    is_direct: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(invalidation, "PROBE_TIMEOUT_SECONDS", 0.5)
    caplog.set_level("INFO", "blog_api.db.invalidation")
    url = pooled_url.update_query_dict({"prepared_statement_cache_size": "0"})
    listening = migrated_url if is_direct else None
    settings = make_settings(database_url=url, listen_database_url=listening, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann, client_of(app) as anonymous:
        await sign_up(ann, "Ann")
        path = f"/posts/{(await publish(ann))['id']}"

        async def has_logged() -> bool:
            return "The response cache is" in caplog.text

        await wait_until(has_logged)
        current_version = app.state.invalidation.current_version
        titles = []
        for number in range(20):
            await anonymous.get(path)
            title, before = f"Title {number}", current_version()

            async def is_notified(before: CacheVersion | None = before) -> bool:
                is_changed: bool = current_version() != before
                return is_changed

            await execute_on_server(migrated_url, f"UPDATE posts SET title = '{title}'")
            if is_direct:
                await wait_until(is_notified)
            titles.append((await anonymous.get(path)).json()["title"])
        version = current_version()

    assert titles == [f"Title {number}" for number in range(20)]
    assert (version is not None) == is_direct
    assert ("BLOG_LISTEN_DATABASE_URL" in caplog.text) != is_direct
