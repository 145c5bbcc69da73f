"""Rate limits of writing, and the number of personal tokens."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import URL

from tests.support.clients import (
    add_comment,
    bearer,
    client_of,
    id_of,
    log_in,
    publish,
    running,
    sign_up,
)
from tests.support.limits import assert_limited, make_limited_settings
from tests.support.processes import Server

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


class Request(NamedTuple):
    method: str
    path: str
    body: dict[str, Any] | None = None


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture
async def limited_app() -> AsyncGenerator[FastAPI]:
    async with running(make_limited_settings()) as app:
        yield app


@pytest.fixture
async def ann(limited_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(limited_app) as client:
        await sign_up(client, "Ann")
        yield client


@pytest.fixture
async def bob(limited_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(limited_app) as client:
        await sign_up(client, "Bob")
        yield client


async def send(client: AsyncClient, request: Request) -> Response:
    return await client.request(request.method, request.path, json=request.body)


@pytest.fixture
async def writes(ann: AsyncClient, bob: AsyncClient) -> dict[str, list[Request]]:
    """The requests that count by each limit; they change posts and comments of Ann."""
    post = await publish(ann)
    comment = await add_comment(ann, post)
    author = await id_of(bob)
    text = {"title": "Hello", "content": "World"}
    return {
        "posts": [
            Request("POST", "/posts", text),
            Request("PUT", f"/posts/{post['id']}", text),
            Request("PATCH", f"/posts/{post['id']}", {"title": "Hello again"}),
        ],
        "comments": [
            Request("POST", f"/posts/{post['id']}/comments", {"content": "Hi"}),
            Request("PATCH", f"/comments/{comment['id']}", {"content": "Hi again"}),
        ],
        "follows-and-bookmarks": [
            Request("PUT", f"/users/me/following/{author}"),
            Request("PUT", f"/users/me/bookmarks/{post['id']}"),
            Request("DELETE", f"/users/me/following/{author}"),
            Request("DELETE", f"/users/me/bookmarks/{post['id']}"),
        ],
        "previews": [Request("POST", "/preview", {"content": "Hello"})],
        "profile-changes": [Request("PATCH", "/users/me", {"name": "Anna"})],
        "tokens": [Request("POST", "/users/me/tokens", {"name": "Script"})],
    }


@pytest.mark.parametrize(
    ("name", "amount", "window"),
    [
        ("posts", 60, 60),
        ("comments", 60, 60),
        ("follows-and-bookmarks", 60, 60),
        ("previews", 60, 60),
        ("profile-changes", 60, 60),
        ("tokens", 20, 3600),
    ],
)
async def test_writing_is_limited_per_account(
    ann: AsyncClient,
    bob: AsyncClient,
    writes: dict[str, list[Request]],
    name: str,
    amount: int,
    window: int,
):
    requests = writes.pop(name)
    with time_machine.travel(NOON + timedelta(minutes=5), tick=False):
        for n in range(amount):
            response = await send(ann, requests[n % len(requests)])
            assert response.status_code in (200, 201, 204), response.text

        for request in requests:
            response = await send(ann, request)
            assert_limited(response, name, amount, window)
            # Others are not limited, and neither is what Ann writes otherwise.
            assert (await send(bob, request)).status_code != 429
        for request, *_ in writes.values():
            assert (await send(ann, request)).status_code != 429
        wait = timedelta(minutes=5, seconds=int(response.headers["Retry-After"]))

    with time_machine.travel(NOON + wait + timedelta(microseconds=1), tick=False):
        assert (await send(ann, requests[0])).status_code in (200, 201, 204)


async def test_all_tokens_of_an_account_share_its_limits(ann: AsyncClient):
    token = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()["access_token"]
    for _ in range(60):
        await publish(ann)
    await log_in(ann, "ann@example.com", scope="")
    text = {"title": "Hello", "content": "World"}

    assert_limited(await ann.post("/posts", json=text), "posts", 60, 60)
    assert_limited(await ann.post("/posts", json=text, headers=bearer(token)), "posts", 60, 60)


async def test_over_the_limits_a_user_can_still_read_and_delete(ann: AsyncClient):
    token = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()
    post = await publish(ann)
    comment = await add_comment(ann, post)
    for _ in range(60):
        await ann.post("/posts", json={"title": "Hello", "content": "World"})
        await ann.patch(f"/comments/{comment['id']}", json={"content": "Hi"})
        await ann.post("/users/me/tokens", json={"name": "Script"})

    assert (await ann.get(f"/posts/{post['id']}")).status_code == 200
    assert (await ann.delete(f"/comments/{comment['id']}")).status_code == 204
    assert (await ann.delete(f"/posts/{post['id']}")).status_code == 204
    assert (await ann.delete(f"/users/me/tokens/{token['id']}")).status_code == 204
    assert (await ann.delete("/users/me/tokens")).status_code == 204


async def test_the_limits_of_writing_can_be_configured():
    settings = make_limited_settings(rate_limit_writes="1/day", rate_limit_tokens="2/day")
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann)
        response = await ann.post("/posts", json={"title": "Hello", "content": "World"})
        tokens = [await ann.post("/users/me/tokens", json={"name": "Script"}) for _ in range(3)]

    assert_limited(response, "posts", 1, 86_400)
    assert_limited(tokens[2], "tokens", 2, 86_400)


@pytest.mark.redis
async def test_workers_share_the_limits_of_writing_in_redis(
    tmp_path: Path, shared_url: URL, redis_url: str
):
    limits = {
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_STORAGE": redis_url,
        "RATE_LIMIT_WRITES": "10/hour",
    }
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(tmp_path, shared_url, settings=limits)) for _ in range(2)
        ]
        async with servers[0].client() as one, servers[1].client() as two:
            await sign_up(one, "Ann")
            two.headers.update(one.headers)
            responses = [
                await client.post("/posts", json={"title": "Hello", "content": "World"})
                for client in [one, two] * 6
            ]

    assert [response.status_code for response in responses] == [201] * 10 + [429] * 2
    assert_limited(responses[-1], "posts", 10, 3600)


async def test_a_replayed_response_counts(ann: AsyncClient):
    body = {"title": "Hello", "content": "World"}
    headers = {"Idempotency-Key": "a"}

    responses = [await ann.post("/posts", json=body, headers=headers) for _ in range(61)]

    assert {response.status_code for response in responses[:60]} == {201}
    assert len({response.content for response in responses[:60]}) == 1
    assert_limited(responses[60], "posts", 60, 60)
