"""A revoked token reads nothing from the next request on, in any worker."""

import asyncio
import os
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy import URL

from tests.support.clients import PASSWORD, bearer, publish, sign_up
from tests.support.processes import Server

pytestmark = pytest.mark.processes

# A larger number finds rarer races.
READS = int(os.environ.get("REVOKED_READS", "400"))
WORKERS = 4
# Each has a connection of its own, so that all workers get requests.
CLIENTS = 16


async def read_all(clients: list[AsyncClient], paths: list[str], token: str) -> set[int]:
    """Read with all clients at the same time; return the status codes."""
    reads = zip(clients, islice(cycle(paths), len(clients)), strict=True)
    headers = bearer(token)
    responses = await asyncio.gather(*(one.get(path, headers=headers) for one, path in reads))
    return {response.status_code for response in responses}


async def test_a_revoked_token_reads_nothing_in_any_worker(tmp_path: Path, shared_url: URL):
    tries = 0
    with Server(tmp_path, shared_url, workers=WORKERS) as server:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.client()) for _ in range(CLIENTS)]
            ann = await stack.enter_async_context(server.client())
            await sign_up(ann, "Ann")
            post = await publish(ann, tags=["Python"])
            paths = [f"/posts/{post['id']}", "/posts", "/tags", "/users/me", "/feed.json"]
            form = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
            while tries < READS:
                for log_in in ("/auth", "/token"):
                    response = await clients[0].post(log_in, data=form)
                    assert response.status_code == 200, response.text
                    token = response.json()["access_token"]
                    before = await read_all(clients, paths, token)
                    revoked = await clients[0].delete("/auth", headers=bearer(token))
                    after = await read_all(clients, paths, token)
                    assert (before, revoked.status_code, after) == ({200}, 204, {401})
                    tries += CLIENTS
    print(f"{tries} reads with revoked tokens, all rejected")
