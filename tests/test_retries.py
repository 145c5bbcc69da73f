"""Clients that retry with an `Idempotency-Key`, against two workers."""

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after
from httpx import AsyncClient, Response, TransportError
from sqlalchemy import URL

from tests.support.clients import PASSWORD, request_with_retry, sign_up
from tests.support.lossy_proxy import lossy_proxy
from tests.support.processes import Server

pytestmark = pytest.mark.processes

CREATED = 400
AT_ONCE = 10
LOST_SHARE = 0.3
# A client that hangs. In seconds; the test takes 20 to 40.
DEADLINE = 300


async def read(client: AsyncClient, path: str) -> dict[str, Any]:
    response = await request_with_retry(client, "GET", path)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


@pytest.mark.parametrize("kind", ["posts", "comments"])
async def test_one_of_fifty_concurrent_requests_with_one_key_creates(server: Server, kind: str):
    body = {"title": "Fifty", "content": "World"}
    headers = {"Idempotency-Key": "fifty"}
    async with server.client() as client, server.client() as stranger:
        await sign_up(client, f"Fifty-{kind}")
        await sign_up(stranger, f"Stranger-{kind}")
        path, shown_at = "/posts", "/users/me/posts"
        if kind == "comments":
            post = await request_with_retry(client, "POST", "/posts", json=body)
            path = shown_at = f"/posts/{post.json()['id']}/comments"
            body = {"content": "Hi"}

        senders = [client] * 50 + [stranger] * 2
        responses = await asyncio.gather(
            *(
                request_with_retry(sender, "POST", path, json=body, headers=headers)
                for sender in senders
            )
        )
        ids = {one["id"] for one in (await read(client, shown_at))["results"]}
        ids |= {one["id"] for one in (await read(stranger, shown_at))["results"]}

    *responses, of_stranger, again = responses
    assert of_stranger.status_code == 201
    assert of_stranger.content == again.content
    first, *others = responses
    assert ids == {first.json()["id"], of_stranger.json()["id"]}
    assert len(ids) == 2
    for response in others:
        assert response.status_code == first.status_code == 201
        assert response.content == first.content
        assert response.headers["ETag"] == first.headers["ETag"]
    replayed = [one for one in responses if one.headers.get("Idempotency-Replayed") == "true"]
    assert len(replayed) == 49


async def test_an_account_can_be_deleted_while_it_creates_with_keys(server: Server):
    body = {"title": "Bye", "content": "World"}
    async with server.client() as author, server.client() as client:
        await sign_up(author, "Staying")
        post = await request_with_retry(author, "POST", "/posts", json=body)
        path = f"/posts/{post.json()['id']}/comments"

        for number in range(5):
            await sign_up(client, f"Leaving{number}")

            def send(key: int) -> asyncio.Future[Response]:
                headers = {"Idempotency-Key": str(key % 3)}
                target = path if key % 2 else "/posts"
                values = {"content": "Bye"} if key % 2 else body
                return asyncio.ensure_future(
                    request_with_retry(client, "POST", target, json=values, headers=headers)
                )

            before = [send(key) for key in range(6)]
            await asyncio.sleep(number * 0.01)
            deletion = request_with_retry(
                client, "DELETE", "/users/me", json={"current_password": PASSWORD}
            )
            deleted, *others = await asyncio.gather(
                deletion, *before, *(send(key) for key in range(12))
            )

            assert deleted.status_code == 204
            assert {response.status_code for response in others} <= {201, 401, 409}
        shown = await read(author, path)

    assert shown["results"] == []


async def create_over_a_bad_line(client: AsyncClient, key: str, body: dict[str, Any]) -> Response:
    """Send a request again until its response arrives and is final."""
    while True:
        try:
            response = await client.post("/posts", json=body, headers={"Idempotency-Key": key})
        except TransportError:
            continue
        if response.status_code not in (409, 503):
            return response
        await asyncio.sleep(float(response.headers["Retry-After"]))


async def test_many_posts_are_created_once_although_responses_and_a_worker_are_lost(
    tmp_path: Path, shared_url: URL
):
    slots = asyncio.Semaphore(AT_ONCE)

    with Server(tmp_path, shared_url, workers=2) as server:
        victim, _ = map(int, re.findall(r"Started server process \[(\d+)\]", server.log))
        async with (
            server.client() as client,
            lossy_proxy(int(server.address.rpartition(":")[2]), LOST_SHARE) as proxy,
            AsyncClient(base_url=proxy.address, timeout=60, trust_env=False) as mobile,
        ):
            await sign_up(client, "Mobile")
            mobile.headers.update({**client.headers, "Connection": "close"})

            async def create(number: int) -> Response:
                body = {"title": f"Lost {number}", "content": "*Hi* " * (number % 7 * 100 + 1)}
                async with slots:
                    if number == CREATED // 2:
                        os.kill(victim, signal.SIGKILL)
                    return await create_over_a_bad_line(mobile, f"k-{number}", body)

            with fail_after(DEADLINE):
                responses = await asyncio.gather(*map(create, range(CREATED)))
            posts = [
                post
                for page in range(1, CREATED // 100 + 1)
                for post in (await read(client, f"/users/me/posts?body=none&size=100&page={page}"))[
                    "results"
                ]
            ]
            total = (await read(client, "/users/me/posts?size=1"))["total_count"]
        server.stop()

    assert {response.status_code for response in responses} == {201}
    ids = {response.json()["id"] for response in responses}
    assert len(ids) == len(posts) == total == CREATED
    assert {post["id"] for post in posts} == ids
    assert {post["title"] for post in posts} == {f"Lost {number}" for number in range(CREATED)}
    assert proxy.lost > CREATED * LOST_SHARE
    replayed = sum("Idempotency-Replayed" in response.headers for response in responses)
    assert replayed > CREATED * LOST_SHARE / 2
    assert "Traceback" not in server.log
    assert server.log.count("Started server process") == 3
