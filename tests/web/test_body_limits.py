"""Limits of request and response bodies."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from httpx import AsyncClient
from starlette.types import Message

from blog_api.web import body_limits, cache, large_responses
from tests.support.clients import (
    CHEAP_HASHING,
    assert_problem,
    bearer,
    client_of,
    make_settings,
    running,
    sign_up,
)

KIB = 1024
MIB = 1024 * KIB
JSON = {"Content-Type": "application/json"}


async def stream(body: bytes, size: int = 64 * KIB) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def fill(unit: str, size: int = 8 * MIB - KIB) -> str:
    return ",".join([unit] * (size // (len(unit) + 1)))


def make_body(content: str, *, ensure_ascii: bool = True) -> bytes:
    body = {"title": "Hello", "content": content}
    return json.dumps(body, ensure_ascii=ensure_ascii).encode()


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_token_is_verified_before_more_than_64_kib_are_read(
    anonymous: AsyncClient, is_chunked: bool
):
    sent = 0

    async def send_body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(7 * 1024):
            sent += KIB
            yield b" " * KIB

    headers = JSON | bearer("made-up")
    if not is_chunked:
        headers |= {"Content-Length": str(7 * MIB)}
    response = await anonymous.post("/posts", content=send_body(), headers=headers)

    assert_problem(response, 401)
    assert sent <= (65 * KIB if is_chunked else KIB)


@pytest.mark.parametrize(
    "body",
    [
        f"[{fill('{}')}]".encode(),
        f"[{fill('[]')}]".encode(),
        f"[{fill('0')}]".encode(),
        b"[" + fill('""').encode() + b"]",
        b"[" * 7 * MIB,
        b'"' * 7 * MIB,
        ("{" + ",".join(f'"{number}":1' for number in range(500_000)) + "}").encode(),
        make_body("") + b" " * 7 * MIB,
        f"[{fill('{}', MIB)}]".encode("utf-16"),
        f"[{fill('{}', MIB)}]".encode("utf-32-be"),
        make_body("a" * 2_000_000),
        make_body("\N{GRINNING FACE}" + "a" * 7 * MIB, ensure_ascii=False),
    ],
    ids=lambda body: repr(body[:12] + body[-12:]),
)
async def test_json_that_takes_long_to_parse_is_rejected(ann: AsyncClient, body: bytes):
    response = await ann.post("/posts", content=body, headers=JSON)

    assert_problem(response, 413)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 64 * KIB])
async def test_brackets_quotes_and_backslashes_of_a_text_do_not_count(ann: AsyncClient, size: int):
    # The title is invalid, so that the text need not be rendered.
    body = json.dumps({"title": "", "content": '[{"\\"\\\\' * 20_000}).encode()

    response = await ann.post("/posts", content=stream(body, size), headers=JSON)

    assert_problem(response, 422)
    assert [error["loc"] for error in response.json()["errors"]] == [["body", "title"]]


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("character", ["\N{GRINNING FACE}", "я", "\n", '"', "\\", "a", "[{,"])
async def test_the_longest_text_is_accepted_in_every_encoding(
    ann: AsyncClient, character: str, ensure_ascii: bool
):
    draft = (await ann.post("/posts", json={"title": "A", "content": "B"})).json()
    # One character too many: the size of the body is accepted, and nothing is rendered.
    content = (character * 500_001)[:500_001]

    body = make_body(content, ensure_ascii=ensure_ascii)
    response = await ann.patch(f"/posts/{draft['id']}", content=body, headers=JSON)

    assert_problem(response, 422)
    assert [error["type"] for error in response.json()["errors"]] == ["string_too_long"]


async def test_a_body_that_does_not_arrive_is_a_408(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def send_start() -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.Event().wait()

    monkeypatch.setattr(body_limits, "LARGE_BODY_SECONDS", 0)
    headers = JSON | {"Content-Length": str(MIB)}

    response = await ann.post("/posts", content=send_start(), headers=headers)

    assert_problem(response, 408)


async def test_large_request_bodies_have_a_total_bound(ann: AsyncClient, empty_app: FastAPI):
    arrived, may_finish = asyncio.Semaphore(0), asyncio.Event()
    body = make_body("a" * 100_000)

    async def send_slowly() -> AsyncIterator[bytes]:
        yield body[:KIB]
        arrived.release()
        await may_finish.wait()
        yield body[KIB:] + b" " * (8 * MIB - len(body))

    headers = JSON | {"Content-Length": str(8 * MIB)}
    async with asyncio.TaskGroup() as tasks:
        # A quarter of 128 MiB.
        slow = [
            tasks.create_task(ann.post("/posts", content=send_slowly(), headers=headers))
            for _ in range(4)
        ]
        for _ in slow:
            await arrived.acquire()
        rejected = await ann.post("/posts", content=body, headers=JSON)
        small = await ann.post("/posts", json={"title": "Small", "content": "body"})
        async with client_of(empty_app, "192.0.2.1") as elsewhere:
            elsewhere.headers.update(ann.headers)
            accepted = await elsewhere.post("/posts", content=body, headers=JSON)
        may_finish.set()

    assert_problem(rejected, 503)
    assert rejected.headers["Retry-After"]
    assert small.status_code == accepted.status_code == 201
    # 8 MiB of spaces are no post, but they no longer count.
    assert {task.result().status_code for task in slow} == {413}
    assert (await ann.post("/posts", content=body, headers=JSON)).status_code == 201


async def test_clients_of_four_networks_cannot_occupy_all_memory(
    ann: AsyncClient, empty_app: FastAPI
):
    body = make_body("a" * 100_000)
    assert (await ann.post("/posts", content=body, headers=JSON)).status_code == 201
    waiting: set[int] = set()
    may_finish = asyncio.Event()

    async def upload(number: int) -> int:
        async def send_slowly() -> AsyncIterator[bytes]:
            waiting.add(number)
            await may_finish.wait()
            yield b" " * 8 * MIB

        async with client_of(empty_app, f"192.0.2.{number % 4}") as client:
            headers = JSON | {"Content-Length": str(8 * MIB)} | dict(ann.headers)
            response = await client.post("/posts", content=send_slowly(), headers=headers)
            return response.status_code

    async with asyncio.TaskGroup() as tasks:
        for number in range(16):
            task = tasks.create_task(upload(number))
            while number not in waiting and not task.done():
                await checkpoint()
        async with client_of(empty_app, "198.51.100.1") as elsewhere:
            elsewhere.headers.update(ann.headers)
            listed = await elsewhere.get("/users/me/posts")
            written = await elsewhere.post("/posts", content=body, headers=JSON)
        may_finish.set()

    assert len(waiting) >= 4
    assert listed.status_code == 200
    assert written.status_code == 201


class SlowReader:
    """An ASGI client that reads the headers of a response, and its body after `may_read`."""

    def __init__(self, path: str, authorization: str = "", query: str = "size=100") -> None:
        self.status = 0
        self.sizes: list[int] = []
        self.has_started, self.may_read = asyncio.Event(), asyncio.Event()
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            # Of httpx: `Accept` belongs to the key of a cached response.
            "headers": [(b"accept", b"*/*"), (b"host", b"test")],
            "client": ("127.0.0.1", 1),
        }
        if authorization:
            self.scope["headers"] += [(b"authorization", authorization.encode())]

    async def receive(self) -> Message:
        """Wait until the connection is closed, which it is not."""
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.has_started.set()
            await self.may_read.wait()
            self.sizes.append(len(message["body"]))


async def publish_large_posts(client: AsyncClient) -> int:
    """Return the size in bytes of their list."""
    for number in range(4):
        body = {"title": f"Large {number}", "content": '"' * 490_000}
        assert (await client.post("/posts", json=body)).status_code == 201
    response = await client.get("/users/me/posts?size=100")
    assert response.status_code == 200
    return len(response.content)


async def test_large_responses_have_a_total_bound():
    settings = make_settings(database_url="sqlite://", body_memory_bytes=32 * MIB, **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        size = await publish_large_posts(ann)
        reader_count = 8 * MIB // size
        readers = [
            SlowReader("/users/me/posts", ann.headers["Authorization"]) for _ in range(reader_count)
        ]
        async with asyncio.TaskGroup() as tasks:
            transport: Any = ann._transport
            for reader in readers:
                tasks.create_task(transport.app(reader.scope, reader.receive, reader.send))
                await reader.has_started.wait()
            rejected = await ann.get("/users/me/posts?size=100")
            small = await ann.get("/users/me/posts?size=100&body=none")
            # The transaction has been committed: the client has to know.
            written = await ann.patch("/posts/1", json={"title": "Changed"})
            async with client_of(app, "192.0.2.1") as elsewhere:
                elsewhere.headers.update(ann.headers)
                accepted = await elsewhere.get("/users/me/posts?size=100")
            for reader in readers:
                reader.may_read.set()
        after = await ann.get("/users/me/posts?size=100")

    assert reader_count >= 2
    assert_problem(rejected, 503)
    assert small.status_code == written.status_code == accepted.status_code == 200
    assert after.status_code == 200
    for reader in readers:
        assert reader.status == 200
        assert sum(reader.sizes) == size
        assert max(reader.sizes) == 64 * KIB


async def test_slow_readers_of_cached_responses_have_a_total_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "MAX_AGE_SECONDS", 3600)
    settings = make_settings(database_url="sqlite://", body_memory_bytes=32 * MIB, **CHEAP_HASHING)
    async with (
        running(settings) as app,
        client_of(app) as ann,
        client_of(app) as here,
        client_of(app, "192.0.2.1") as elsewhere,
    ):
        await sign_up(ann, "Ann")
        reader_count = 8 * MIB // await publish_large_posts(ann)
        transport: Any = ann._transport
        readers = []
        async with asyncio.TaskGroup() as tasks:
            # Two readers of one cached body count once.
            for size in [*range(10, 10 + reader_count), 10]:
                assert (await elsewhere.get(f"/posts?size={size}")).status_code == 200
                readers.append(reader := SlowReader("/posts", query=f"size={size}"))
                tasks.create_task(transport.app(reader.scope, reader.receive, reader.send))
                await reader.has_started.wait()
            rejected = await here.get("/posts?size=100")
            shared = await here.get("/posts?size=10")
            accepted = await elsewhere.get("/posts?size=100")
            for reader in readers:
                reader.may_read.set()
        after = await here.get("/posts?size=100")

    assert_problem(rejected, 503)
    assert shared.status_code == accepted.status_code == after.status_code == 200
    assert {reader.status for reader in readers} == {200}


async def test_simultaneous_exports_have_a_total_bound():
    settings = make_settings(database_url="sqlite://", body_memory_bytes=32 * MIB, **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        reader = SlowReader("/users/me/export", ann.headers["Authorization"])
        transport: Any = ann._transport
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(transport.app(reader.scope, reader.receive, reader.send))
            await reader.has_started.wait()
            rejected = await ann.get("/users/me/export")
            reader.may_read.set()
        accepted = await ann.get("/users/me/export")

    assert reader.status == accepted.status_code == 200
    assert_problem(rejected, 503)


async def test_an_export_reads_posts_as_fast_as_its_client(ann: AsyncClient):
    for number in range(10):
        draft = {"title": f"Post {number}", "content": "C", "published_at": None}
        assert (await ann.post("/posts", json=draft)).status_code == 201
    reader = SlowReader("/users/me/export", ann.headers["Authorization"])
    transport: Any = ann._transport
    posts = 0

    async def send(message: Message) -> None:
        nonlocal posts
        is_post = b'"type":"post"' in message.get("body", b"")
        posts += is_post
        if is_post and posts == 1:
            # Those that have not been read are not exported any more.
            listed = (await ann.get("/users/me/posts")).json()["results"]
            for post in listed:
                assert (await ann.delete(f"/posts/{post['id']}")).status_code == 204

    await transport.app(reader.scope, reader.receive, send)

    assert 1 <= posts < 10


async def test_a_client_without_room_does_not_affect_those_that_wait_for_the_same_response():
    settings = make_settings(database_url="sqlite://", body_memory_bytes=32 * MIB, **CHEAP_HASHING)
    async with (
        running(settings) as app,
        client_of(app) as ann,
        client_of(app) as here,
        client_of(app, "192.0.2.1") as elsewhere,
    ):
        await sign_up(ann, "Ann")
        reader_count = 8 * MIB // await publish_large_posts(ann)
        transport: Any = ann._transport
        async with asyncio.TaskGroup() as tasks:
            readers = [
                SlowReader("/users/me/posts", ann.headers["Authorization"])
                for _ in range(reader_count)
            ]
            for reader in readers:
                tasks.create_task(transport.app(reader.scope, reader.receive, reader.send))
                await reader.has_started.wait()
            first, second = await asyncio.gather(
                here.get("/posts?size=100"), elsewhere.get("/posts?size=100")
            )
            for reader in readers:
                reader.may_read.set()

    assert_problem(first, 503)
    assert second.status_code == 200


@pytest.mark.parametrize("end", ["disconnect", "timeout", "rejection", "cancellation", "send"])
async def test_a_body_that_ends_early_leaves_no_memory_reserved(
    end: str, monkeypatch: pytest.MonkeyPatch
):
    settings = make_settings(database_url="sqlite://", body_memory_bytes=32 * MIB, **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        is_reserved = asyncio.Event()
        # The quarter of one network.
        body = make_body("a").ljust(8 * MIB)

        async def receive() -> Message:
            is_reserved.set()
            if end == "disconnect":
                return {"type": "http.disconnect"}
            if end in ("timeout", "cancellation"):
                await asyncio.Event().wait()
            sent = b"[" * 70_000 if end == "rejection" else b'{"title":"A","content":"B"}'
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(_message: Message) -> None:
            if end == "send":
                raise OSError

        scope = SlowReader("/posts", ann.headers["Authorization"]).scope | {"method": "POST"}
        scope["headers"] += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        transport: Any = ann._transport
        with monkeypatch.context() as patch:
            if end == "timeout":
                patch.setattr(body_limits, "LARGE_BODY_SECONDS", 0.1)
            request = asyncio.create_task(transport.app(scope, receive, send))
            await is_reserved.wait()
            if end == "cancellation":
                request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        response = await ann.post("/posts", content=body, headers=JSON)

    # 8 MiB of spaces are no post, but there was room for them.
    assert_problem(response, 413)


async def test_a_client_that_stops_reading_is_disconnected(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    await publish_large_posts(ann)
    monkeypatch.setattr(large_responses, "SLICE_SECONDS", 0)
    reader = SlowReader("/users/me/posts", ann.headers["Authorization"])
    transport: Any = ann._transport

    await transport.app(reader.scope, reader.receive, reader.send)

    assert reader.status == 200
    assert reader.sizes == []
