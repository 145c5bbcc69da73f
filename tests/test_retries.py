"""Clients that retry with an `Idempotency-Key`, against two workers."""

import asyncio
import json
import random
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, request_with_retry, sign_up
from tests.support.processes import Server

pytestmark = pytest.mark.processes

CREATED = 200
AT_ONCE = 10


async def read(client: AsyncClient, path: str) -> dict[str, Any]:
    response = await request_with_retry(client, "GET", path)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


@pytest.mark.parametrize("kind", ["posts", "comments"])
async def test_one_of_fifty_concurrent_requests_with_one_key_creates(server: Server, kind: str):
    body = {"title": "Fifty", "content": "World"}
    headers = {"Idempotency-Key": "fifty"}
    async with server.client() as client:
        await sign_up(client, f"Fifty-{kind}")
        path, shown_at = "/posts", "/users/me/posts"
        if kind == "comments":
            post = await request_with_retry(client, "POST", "/posts", json=body)
            path = shown_at = f"/posts/{post.json()['id']}/comments"
            body = {"content": "Hi"}

        responses = await asyncio.gather(
            *(
                request_with_retry(client, "POST", path, json=body, headers=headers)
                for _ in range(50)
            )
        )
        shown = await read(client, shown_at)

    first, *others = responses
    assert shown["total_count"] == 1
    assert [one["id"] for one in shown["results"]] == [first.json()["id"]]
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


async def send_and_hang_up(
    server: Server, path: str, headers: dict[str, str], body: dict[str, Any], seconds: float
) -> None:
    """Send a request, and close the connection after some time without reading the response."""
    host, _, port = server.address.removeprefix("http://").partition(":")
    content = json.dumps(body, separators=(",", ":")).encode()
    lines = {
        "Host": f"{host}:{port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + b"\r\n" + content)
    await writer.drain()
    await asyncio.sleep(seconds)
    writer.close()
    await writer.wait_closed()


async def create_over_a_bad_line(
    server: Server, client: AsyncClient, key: str, path: str, body: dict[str, Any]
) -> Response:
    """Send a request, lose up to three responses, and retry until one arrives."""
    headers = {"Idempotency-Key": key, "Authorization": client.headers["Authorization"]}
    chance = random.Random(key)
    for _ in range(chance.randint(1, 3)):
        await send_and_hang_up(server, path, headers, body, chance.uniform(0, 0.05))
    while True:
        response = await request_with_retry(client, "POST", path, json=body, headers=headers)
        if response.status_code != 409:
            return response
        await asyncio.sleep(float(response.headers.get("Retry-After", "0.1")))


async def test_each_of_two_hundred_posts_is_created_once_although_responses_are_lost(
    server: Server,
):
    slots = asyncio.Semaphore(AT_ONCE)

    async with server.client() as client:
        await sign_up(client, "Mobile")

        async def create(number: int) -> Response:
            body = {"title": f"Lost {number}", "content": "*Hi* " * (number % 7 * 100 + 1)}
            async with slots:
                return await create_over_a_bad_line(server, client, f"k-{number}", "/posts", body)

        responses = await asyncio.gather(*(create(number) for number in range(CREATED)))
        posts = [
            post
            for page in (1, 2, 3)
            for post in (await read(client, f"/users/me/posts?size=100&page={page}"))["results"]
        ]

    assert {response.status_code for response in responses} == {201}
    ids = {response.json()["id"] for response in responses}
    assert len(ids) == len(posts) == CREATED
    assert {post["id"] for post in posts} == ids
    assert {post["title"] for post in posts} == {f"Lost {number}" for number in range(CREATED)}
    replayed = sum("Idempotency-Replayed" in response.headers for response in responses)
    # Otherwise no response was lost.
    assert replayed > CREATED / 4
