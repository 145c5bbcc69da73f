"""What is kept is never old: two processes at one database, many writers, and cut connections."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from httpx import AsyncClient
from sqlalchemy import URL

from tests.support.clients import publish, sign_up
from tests.support.databases import execute_on_server as at_server
from tests.support.processes import Server

# How many writes there are; more take longer.
WRITES = int(os.environ.get("FRESHNESS_WRITES", "240"))
WRITERS = 8
CUTS = 10
# Nothing that is shown is older, in seconds; beside it, a request takes its time.
OLDEST = 1.0
REQUEST = 2.0


@asynccontextmanager
async def two_servers(folder: Path, url: URL) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
    """Two processes at one database, each with a client of its own."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("one", "other"):
            (folder / name).mkdir()
            server = stack.enter_context(Server(folder / name, url))
            clients.append(await stack.enter_async_context(server.client()))
        yield clients[0], clients[1]


async def until_shown(client: AsyncClient, path: str, content: str | None) -> float:
    """For how many seconds it still shows what was; None stands for a post that is not found."""
    start = time.monotonic()
    while True:
        asked_at = time.monotonic() - start
        response = await client.get(path)
        shown = response.json()["content"] if response.status_code == 200 else None
        assert response.status_code in (200, 404), response.text
        if shown == content:
            return asked_at
        assert asked_at < OLDEST + REQUEST, f"{path} still shows {shown}, not {content}"
        await asyncio.sleep(0)


async def cut(url: URL) -> None:
    """End the connections that listen."""
    await at_server(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'SELECT pg_notify(%'",
    )


async def test_a_write_is_seen_at_once_here_and_soon_elsewhere(tmp_path: Path, shared_url: URL):
    delays: list[float] = []
    written = 0
    is_postgres = shared_url.get_backend_name() == "postgresql"

    async def write(writer: AsyncClient, one: AsyncClient, other: AsyncClient) -> None:
        nonlocal written
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
                await cut(shared_url)
            expected = None if is_hidden else content
            shown = await one.get(path)
            assert (shown.json()["content"] if shown.status_code == 200 else None) == expected
            if is_hidden:
                # Its author sees it, and nobody else does because of that.
                assert (await one.get(path, headers=headers)).status_code == 200
                assert (await one.get(path)).status_code == 404
            delays.append(await until_shown(other, path, expected))

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
        f"{written} writes; seen by the other process after {delays[len(delays) // 2] * 1000:.1f} "
        f"ms (median), {delays[len(delays) * 99 // 100] * 1000:.1f} ms (99th percentile), "
        f"{delays[-1] * 1000:.1f} ms (at most)"
    )
    assert written == WRITES // WRITERS * WRITERS
