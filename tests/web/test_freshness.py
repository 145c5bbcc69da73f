"""Cached responses are never stale: two processes, many writers, and cut connections."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy import URL

from tests.support.clients import publish, sign_up
from tests.support.databases import execute_on_server
from tests.support.processes import Server

pytestmark = pytest.mark.processes

# A larger number finds rarer races.
WRITES = int(os.environ.get("FRESHNESS_WRITES", "240"))
WRITERS = 8
CUTS = 10
# The maximum age of a cached response, and a margin for a request.
MAX_AGE_SECONDS = 1.0
REQUEST_SECONDS = 2.0


@asynccontextmanager
async def two_servers(folder: Path, url: URL) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
    """Run two servers on one database; yield a client of each."""
    async with AsyncExitStack() as stack:
        servers = [Server(folder / name, url) for name in ("one", "other")]
        for server in servers:
            server.folder.mkdir()
        await asyncio.gather(
            *(asyncio.to_thread(stack.enter_context, server) for server in servers)
        )
        one, other = [await stack.enter_async_context(server.client()) for server in servers]
        yield one, other


async def wait_until_shown(client: AsyncClient, path: str, content: str | None) -> float:
    """Wait for the new content of a post, None for a 404; return the seconds until then."""
    start = time.monotonic()
    while True:
        requested_at = time.monotonic() - start
        response = await client.get(path)
        shown = response.json()["content"] if response.status_code == 200 else None
        assert response.status_code in (200, 404), response.text
        if shown == content:
            return requested_at
        assert requested_at < MAX_AGE_SECONDS + REQUEST_SECONDS, (
            f"{path} still shows {shown}, not {content}"
        )
        await asyncio.sleep(0)


async def cut_listening_connections(url: URL) -> int:
    """Close the connections that listen, except those that are being reopened; return how many."""
    terminated = await execute_on_server(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'blog-api listener'",
    )
    assert all(terminated)
    return len(terminated)


async def test_a_write_is_shown_at_once_by_its_process_and_soon_by_the_other(
    tmp_path: Path, shared_url: URL
):
    delays: list[float] = []
    written = cut = 0
    is_postgres = shared_url.get_backend_name() == "postgresql"

    async def write(writer: AsyncClient, one: AsyncClient, other: AsyncClient) -> None:
        nonlocal written, cut
        post = await publish(writer)
        path = f"/posts/{post['id']}"
        for number in range(WRITES // WRITERS):
            is_hidden = number % 5 == 4
            content = f"Change {number}"
            body = {"content": content, "published_at": None if is_hidden else post["published_at"]}
            headers = writer.headers
            response = await one.patch(path, json=body, headers=headers)
            assert response.status_code == 200, response.text
            written += 1
            if is_postgres and written % (WRITES // (CUTS + 1)) == 0:
                cut += await cut_listening_connections(shared_url)
            expected = None if is_hidden else content
            shown = await one.get(path)
            assert (shown.json()["content"] if shown.status_code == 200 else None) == expected
            if is_hidden:
                # The author's response must not be cached for others.
                assert (await one.get(path, headers=headers)).status_code == 200
                assert (await one.get(path)).status_code == 404
            delays.append(await wait_until_shown(other, path, expected))

    async with two_servers(tmp_path, shared_url) as (one, other):
        writers = []
        for number in range(WRITERS):
            writer = AsyncClient(base_url=one.base_url, timeout=60, trust_env=False)
            await sign_up(writer, f"Writer{number}")
            writers.append(writer)
        await asyncio.gather(*(write(writer, one, other) for writer in writers))
        for writer in writers:
            await writer.aclose()

    delays.sort()
    print(
        f"{written} writes; shown by the other process after {delays[len(delays) // 2] * 1000:.1f} "
        f"ms (median), {delays[len(delays) * 99 // 100] * 1000:.1f} ms (99th percentile), "
        f"{delays[-1] * 1000:.1f} ms (at most)"
    )
    assert (cut > 0) is is_postgres
    assert written == WRITES // WRITERS * WRITERS
