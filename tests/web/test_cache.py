"""The response cache: what it stores, for whom, and when it invalidates."""

import asyncio
import secrets
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
import time_machine
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import URL
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from blog_api.db.cache_version import CacheVersion
from blog_api.web.cache import OVERHEAD_BYTES, ResponseCache
from blog_api.web.cache_metrics import CacheStatistics
from blog_api.web.middleware import send_unavailable
from blog_api.web.query_parameters import find_query_parameters
from tests.support.clients import (
    MINIMUM_HASHING,
    add_comment,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.statements import executions

ORIGIN = "https://example.com"


async def wait_until_caching(app: FastAPI) -> None:
    """Wait until the service listens for notifications, which it needs on Postgres."""
    while app.state.invalidation.current_version() is None:
        await anyio.lowlevel.checkpoint()


async def wait_until_invalidated(app: FastAPI, before: CacheVersion) -> None:
    """Wait until the service has heard of a change of a row by another process."""
    with anyio.fail_after(60):
        while app.state.invalidation.current_version().rows == before.rows:
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def blog(url: URL, **values: object) -> AsyncIterator[tuple[FastAPI, AsyncClient]]:
    """Yield a separate application with these settings, and a client that is logged in."""
    settings = make_settings(database_url=url, **MINIMUM_HASHING, **values)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        yield app, ann


async def count_statements(app: FastAPI, client: AsyncClient, path: str, **headers: str) -> int:
    """Return the number of SQL statements that a request executes; 0 on a cache hit."""
    with executions(app) as executed:
        response = await client.get(path, headers=headers)
    assert response.status_code in (200, 304), response.text
    return len(executed)


async def make_public_paths(ann: AsyncClient) -> list[str]:
    post = await publish(ann, tags=["Python"])
    comment = await add_comment(ann, post)
    return [
        "/posts", "/posts?q=hello&tag=python", f"/posts/{post['id']}",
        f"/posts/slug/{post['slug']}", f"/posts/{post['id']}/comments",
        f"/comments/{comment['id']}", f"/comments/{comment['id']}/answers", "/tags", "/users",
        f"/users/{post['user_id']}", f"/users/{post['user_id']}/posts",
        "/feed.json", "/feed.atom", "/feed.rss",
    ]  # fmt: skip


async def test_a_public_response_is_served_from_the_cache_the_second_time(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    for path in await make_public_paths(ann):
        first = await anonymous.get(path)

        with executions(app) as executed:
            second = await anonymous.get(path)

        assert executed == [], path
        assert first.headers["Cache-Control"] == "public, no-cache", path
        assert second.content == first.content, path
        per_request = {"x-request-id", "x-process-time"}
        assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]
        assert {line for line in second.headers.items() if line[0] not in per_request} == {
            line for line in first.headers.items() if line[0] not in per_request
        }


async def test_a_cached_response_serves_head_and_conditional_requests(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    post = await publish(ann)
    path = f"/posts/{post['id']}"
    full = await anonymous.get(path)
    # Lists reject unknown parameters: all of them are one part of the key.
    await anonymous.get(f"{path}?utm_source=mail")

    with executions(app) as executed:
        head = await anonymous.head(path)
        matching = await anonymous.get(path, headers={"If-None-Match": full.headers["ETag"]})
        other_etag = await anonymous.get(path, headers={"If-None-Match": '"1-abc"'})
        other_query = await anonymous.get(f"{path}?utm_source=feed")

    assert executed == []
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(full.content))
    assert (matching.status_code, matching.content) == (304, b"")
    assert matching.headers["ETag"] == full.headers["ETag"]
    assert matching.headers["Vary"] == "Accept"
    assert "Content-Type" not in matching.headers
    assert [response.json() for response in (other_etag, other_query)] == [full.json()] * 2


async def test_accept_query_and_prefix_are_part_of_the_cache_key(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    post = await publish(ann, title="Hello", content="*World*")
    path = f"/posts/{post['id']}"
    for _ in range(2):
        shown = await anonymous.get(path)
        source = await anonymous.get(path, headers={"Accept": "text/markdown"})
        sizes = [(await anonymous.get(f"/posts?size={size}")).headers["Link"] for size in (1, 2)]
        prefixed = await anonymous.get("/api/v1/feed.json")
        feed = await anonymous.get("/feed.json")

        assert (shown.json()["title"], source.text) == ("Hello", "*World*")
        assert shown.headers["ETag"] != source.headers["ETag"]
        assert ["size=1" in sizes[0], "size=1" in sizes[1]] == [True, False]
        assert prefixed.json()["feed_url"] == "http://127.0.0.1:8000/api/v1/feed.json"
        assert feed.json()["feed_url"] == "http://127.0.0.1:8000/feed.json"


async def test_every_public_change_invalidates_the_cache_immediately(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    post = await publish(ann)
    path = f"/posts/{post['id']}"

    async def read(field: str) -> object:
        return (await anonymous.get(path)).json().get(field)

    assert await read("title") == "Hello"
    await ann.patch(path, json={"title": "Bye"})
    assert await read("title") == "Bye"
    await add_comment(bob, post)
    assert await read("comment_count") == 1
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    assert await read("bookmark_count") == 1
    await ann.patch("/users/me", json={"name": "Anna"})
    assert await read("user_name") == "Anna"
    await admin.put(f"/admin{path}/takedown")
    assert await read("type") == "urn:blog-api:post-not-found"
    await admin.delete(f"/admin{path}/takedown")
    assert await read("title") == "Bye"
    await ann.delete(path)
    assert await read("type") == "urn:blog-api:post-not-found"
    assert (await anonymous.get("/posts")).json()["total_count"] == 0


async def test_a_commit_without_public_changes_does_not_invalidate_the_cache(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    await anonymous.get("/posts")

    await ann.post("/users/me/tokens", json={"name": "Script"})

    assert await count_statements(app, anonymous, "/posts") == 0


async def test_a_new_post_invalidates_lists_but_not_single_resources(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    post = await publish(ann)
    comment = await add_comment(ann, post)
    rows = [f"/posts/{post['id']}", f"/posts/slug/{post['slug']}", f"/comments/{comment['id']}"]
    lists = [
        "/posts",
        "/posts?tag=new",
        f"/users/{post['user_id']}/posts",
        "/feed.json",
        "/tags",
    ]
    for path in (*rows, *lists):
        await anonymous.get(path)

    await publish(ann, tags=["New"])

    assert [await count_statements(app, anonymous, path) for path in rows] == [0, 0, 0]
    assert min([await count_statements(app, anonymous, path) for path in lists]) > 0


@pytest.mark.parametrize("action", ["comment", "answer", "bookmark", "unbookmark", "edit"])
async def test_a_change_of_one_post_leaves_the_others_in_the_cache(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient, action: str
):
    await wait_until_caching(app)
    other, post = await publish(ann), await publish(ann)
    comment = await add_comment(ann, post)
    bookmark = f"/users/me/bookmarks/{post['id']}"
    if action == "unbookmark":
        await ann.put(bookmark)
    paths = [f"/posts/{post['id']}", f"/posts/{other['id']}", "/posts", "/posts?size=1&page=2"]
    for path in paths:
        await anonymous.get(path)
    shown = (await anonymous.get(paths[-1])).json()["results"]
    assert [one["id"] for one in shown] == [other["id"]]

    match action:
        case "comment":
            await add_comment(ann, post)
        case "answer":
            await add_comment(ann, post, to=comment)
        case "bookmark":
            await ann.put(bookmark)
        case "unbookmark":
            await ann.delete(bookmark)
        case "edit":
            await ann.patch(paths[0], json={"content": "New"})

    computed = [await count_statements(app, anonymous, path) > 0 for path in paths]
    # Only counters of the post change with these.
    is_counted = action in ("comment", "bookmark", "unbookmark")
    assert computed == [True, False, True, not is_counted]


async def test_notifications_distinguish_inserts_from_updates_on_postgres(migrated_url: URL):
    """On SQLite, another process sees that something was committed, but not what."""
    async with blog(migrated_url) as (app, ann), running(app.state.settings) as other:
        await wait_until_caching(other)
        current_version = other.state.invalidation.current_version
        post = await publish(ann)
        with anyio.fail_after(60):
            before = current_version()
            await publish(ann, tags=["New"])
            while current_version().lists == before.lists:
                await anyio.lowlevel.checkpoint()
            are_rows_valid = current_version().rows == before.rows
            before = current_version()
            await ann.patch(f"/posts/{post['id']}", json={"title": "Bye"})
            while current_version().rows == before.rows:
                await anyio.lowlevel.checkpoint()
            are_others_valid = current_version().tables == before.tables
            are_lists_valid = []
            # A long content is stored outside of the row.
            for content in ("Short", secrets.token_hex(20_000)):
                before = current_version()
                await ann.patch(f"/posts/{post['id']}", json={"content": content})
                while current_version().members == before.members:
                    await anyio.lowlevel.checkpoint()
                of_lists = current_version().members
                for change in (
                    add_comment(ann, post),
                    ann.put(f"/users/me/bookmarks/{post['id']}"),
                    ann.delete(f"/users/me/bookmarks/{post['id']}"),
                ):
                    before = current_version()
                    await change
                    while current_version().rows == before.rows:
                        await anyio.lowlevel.checkpoint()
                are_lists_valid.append(current_version().members == of_lists)
            await ann.patch("/users/me", json={"name": "Anna"})
            while current_version().tables == before.tables:
                await anyio.lowlevel.checkpoint()

    is_named = migrated_url.get_backend_name() == "postgresql"
    assert (are_rows_valid, are_others_valid) == (is_named, is_named)
    assert are_lists_valid == [is_named] * 2


async def test_a_response_for_one_reader_is_not_cached(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    draft = await publish(ann, published_at=None)
    path = f"/posts/{draft['id']}"

    for _ in range(2):
        own = await ann.get(path)
        assert (own.status_code, own.headers["Cache-Control"]) == (200, "no-cache")
        for other in (bob, anonymous):
            assert (await other.get(path)).status_code == 404
        assert (await anonymous.get("/posts")).json()["total_count"] == 0
        bad = {"Authorization": "Bearer nonsense"}
        assert (await anonymous.get("/posts", headers=bad)).status_code == 401


async def test_a_not_found_response_is_not_cached(ann: AsyncClient, anonymous: AsyncClient):
    post = await publish(ann, published_at=None)
    path = f"/posts/{post['id']}"
    assert (await anonymous.get(path)).status_code == 404

    await ann.patch(path, json={"published_at": "2020-01-01T00:00:00Z"})

    assert (await anonymous.get(path)).status_code == 200


async def test_cached_responses_get_the_cors_headers_of_each_origin(migrated_url: URL):
    async with blog(migrated_url, cors_origins=(ORIGIN, f"{ORIGIN}:8443")) as (app, ann):
        await publish(ann)
        async with client_of(app) as client:
            responses = [
                await client.get("/posts", headers={"Origin": origin})
                for origin in (ORIGIN, f"{ORIGIN}:8443", "https://example.net")
            ]

    allowed = [response.headers.get("Access-Control-Allow-Origin") for response in responses]
    assert allowed == [ORIGIN, f"{ORIGIN}:8443", None]
    assert {response.text for response in responses} == {responses[0].text}


async def test_an_untrusted_host_is_rejected_on_a_cache_hit_too(migrated_url: URL):
    hosts = ("test", "good.example")
    async with blog(migrated_url, trusted_hosts=hosts) as (app, ann), client_of(app) as client:
        await publish(ann)
        good = {"Host": "good.example"}
        assert (await client.get("/posts", headers=good)).status_code == 200

        rejected = await client.get("/posts", headers={"Host": "evil.example"})

        assert rejected.status_code == 400
        assert rejected.json()["type"] == "urn:blog-api:untrusted-host"


async def test_a_cache_size_of_zero_disables_the_cache(migrated_url: URL):
    async with blog(migrated_url, cache_bytes=0) as (app, _), client_of(app) as client:
        assert await count_statements(app, client, "/posts") == 1
        assert await count_statements(app, client, "/posts") == 1


async def test_the_least_recently_used_response_is_evicted_first(migrated_url: URL):
    async with blog(migrated_url, cache_bytes=80_000) as (app, ann), client_of(app) as client:
        await wait_until_caching(app)
        await publish(ann)
        paths = [f"/posts?size={size}" for size in range(1, 100)]
        # Each response takes more than 3 KB.
        for path in paths[:10]:
            await client.get(path)
        assert await count_statements(app, client, paths[0]) == 0
        for path in paths[10:30]:
            await client.get(path)
            await client.get(paths[0])

        assert await count_statements(app, client, paths[0]) == 0
        assert await count_statements(app, client, paths[1]) > 0


@asynccontextmanager
async def two_processes(url: URL) -> AsyncIterator[tuple[AsyncClient, FastAPI, AsyncClient]]:
    """Yield a writer of one application, and another one on the same database with its reader."""
    async with (
        blog(url) as (app, ann),
        running(app.state.settings) as other,
        client_of(other) as reader,
    ):
        await wait_until_caching(other)
        yield ann, other, reader


async def test_commits_of_other_processes_invalidate_the_cache_before_it_expires(migrated_url: URL):
    async with two_processes(migrated_url) as (ann, other, reader):
        post = await publish(ann)
        for content in ("One", "Two", "Three"):
            before = other.state.invalidation.current_version()
            await ann.patch(f"/posts/{post['id']}", json={"content": content})
            await wait_until_invalidated(other, before)

            assert (await reader.get(f"/posts/{post['id']}")).json()["content"] == content


async def test_a_new_comment_is_shown_by_other_processes(migrated_url: URL):
    async with two_processes(migrated_url) as (ann, other, reader):
        post = await publish(ann, tags=["Python"])
        comments = f"/posts/{post['id']}/comments"
        for number in (1, 2, 3):
            await reader.get(comments)
            before = other.state.invalidation.current_version()
            await add_comment(ann, post)
            await wait_until_invalidated(other, before)

            assert (await reader.get(comments)).json()["total_count"] == number
            assert (await reader.get(f"/posts/{post['id']}")).json()["comment_count"] == number
            for path in ("/posts", "/posts?tag=python", f"/users/{post['user_id']}/posts"):
                (shown,) = (await reader.get(path)).json()["results"]
                assert shown["comment_count"] == number


async def test_a_withdrawn_comment_leaves_the_cache_of_other_processes(migrated_url: URL):
    async with two_processes(migrated_url) as (ann, other, reader):
        post = await publish(ann)
        comment = await add_comment(ann, post)
        paths = [f"/comments/{comment['id']}", f"/posts/{post['id']}/comments"]
        for method, status, number in (("DELETE", 404, 0), ("PUT", 200, 1)):
            before = other.state.invalidation.current_version()
            for path in paths:
                await reader.get(path)
            await ann.request(method, f"/comments/{comment['id']}/approval")
            await wait_until_invalidated(other, before)

            assert (await reader.get(paths[0])).status_code == status
            assert (await reader.get(paths[1])).json()["total_count"] == number
            assert (await reader.get(f"/posts/{post['id']}")).json()["comment_count"] == number


async def test_a_connection_lost_before_listening_is_retried(
    migrated_url: URL, monkeypatch: pytest.MonkeyPatch
):
    attempts: list[str] = []
    listen = asyncpg.Connection.add_listener

    async def fail_once(connection: Any, channel: str, callback: Any) -> None:
        attempts.append(channel)
        if len(attempts) == 1:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        await listen(connection, channel, callback)

    monkeypatch.setattr(asyncpg.Connection, "add_listener", fail_once)
    async with blog(migrated_url) as (app, _):
        with anyio.fail_after(60):
            await wait_until_caching(app)

    assert len(attempts) == (0 if migrated_url.get_backend_name() == "sqlite" else 2)


@pytest.mark.parametrize("what", ["query", "header"])
async def test_responses_to_overlong_requests_are_not_cached(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient, what: str
):
    await wait_until_caching(app)
    await publish(ann)
    path = "/posts?page=1" + "&page=1" * (200 if what == "query" else 1)
    headers = {"Accept": "application/json" + ",*/*" * (300 if what == "header" else 1)}

    for _ in range(2):
        assert await count_statements(app, anonymous, path, **headers) > 0


def test_the_cache_key_has_exactly_the_query_parameters_of_the_get_routes(app: FastAPI):
    found = set()
    for operations in app.openapi()["paths"].values():
        parameters = operations.get("get", {}).get("parameters", [])
        found |= {one["name"] for one in parameters if one["in"] == "query"}

    assert found == find_query_parameters(app.routes)


class FakeInvalidation:
    """A cache version that the test sets; None while notifications are unavailable."""

    def __init__(self) -> None:
        self.version: int | None = 0

    def current_version(self) -> CacheVersion | None:
        if self.version is None:
            return None
        number = self.version
        return CacheVersion(lists=number, rows=number, members=number, tables=number)


class Backend:
    """An application that numbers its requests and responds when the test sets `may_respond`."""

    def __init__(self) -> None:
        self.request_count = 0
        self.status = 200
        self.may_respond = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request_count += 1
        body = {"request": self.request_count}
        await self.may_respond.wait()
        headers = {"Cache-Control": "public, no-cache", "ETag": f'"{self.request_count}"'}
        response = JSONResponse(body, self.status, headers=headers)
        await response(scope, receive, send)


class RequestIds:
    """Add the request id, which the middleware around the cache sets."""

    def __init__(self, app: ResponseCache) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "state": {"request_id": "1"}}, receive, send)


async def accept_token(_token: str) -> str:
    return "the user"


def make_cache(
    backend: Backend, invalidation: FakeInvalidation, parameters: frozenset[str] = frozenset()
) -> ResponseCache:
    return ResponseCache(
        backend,
        get_version=invalidation.current_version,
        authenticate=accept_token,
        max_bytes=1_000_000,
        parameters=lambda: parameters,
        by_host=False,
        unavailable=send_unavailable,
        limit_send=lambda _scope, _receive, send: send,
        statistics=CacheStatistics(),
    )


@asynccontextmanager
async def cache_of(backend: Backend, invalidation: FakeInvalidation) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(RequestIds(make_cache(backend, invalidation)))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def start_requests(client: AsyncClient, number: int) -> list[asyncio.Task[object]]:
    """Start requests that wait for their responses, and let them reach the backend."""

    async def get() -> object:
        response = await client.get("/")
        return response.json().get("request", response.status_code)

    tasks = [asyncio.ensure_future(get()) for _ in range(number)]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def test_concurrent_requests_share_one_response():
    backend, invalidation = Backend(), FakeInvalidation()
    async with cache_of(backend, invalidation) as client:
        tasks = await start_requests(client, 20)
        backend.may_respond.set()

        assert await asyncio.gather(*tasks) == [1] * 20
        assert backend.request_count == 1


async def test_a_request_after_a_change_does_not_share_an_earlier_response():
    backend, invalidation = Backend(), FakeInvalidation()
    async with cache_of(backend, invalidation) as client:
        before = await start_requests(client, 2)
        invalidation.version = 1
        after = await start_requests(client, 2)
        backend.may_respond.set()

        assert await asyncio.gather(*before) == [1, 1]
        assert await asyncio.gather(*after) == [2, 2]
        assert await asyncio.gather(*await start_requests(client, 1)) == [2]


async def test_a_late_response_does_not_overwrite_a_newer_cached_one():
    backend, invalidation = Backend(), FakeInvalidation()
    async with cache_of(backend, invalidation) as client:
        before = await start_requests(client, 1)
        may_respond, backend.may_respond = backend.may_respond, asyncio.Event()
        backend.may_respond.set()
        invalidation.version = 1
        assert await asyncio.gather(*await start_requests(client, 1)) == [2]
        may_respond.set()

        assert await asyncio.gather(*before) == [1]
        assert await asyncio.gather(*await start_requests(client, 1)) == [2]


async def test_nothing_is_cached_while_notifications_are_unavailable():
    backend, invalidation = Backend(), FakeInvalidation()
    backend.may_respond.set()
    async with cache_of(backend, invalidation) as client:
        await client.get("/")
        invalidation.version = None
        assert [(await client.get("/")).json()["request"] for _ in range(2)] == [2, 3]
        invalidation.version = 1
        assert [(await client.get("/")).json()["request"] for _ in range(2)] == [4, 4]


@pytest.mark.parametrize(("status", "request_count"), [(404, 5), (503, 1)])
async def test_an_error_response_is_not_cached(status: int, request_count: int):
    """Requests that wait share a 503, so that they do not wait for the database once more."""
    backend, invalidation = Backend(), FakeInvalidation()
    backend.status = status
    async with cache_of(backend, invalidation) as client:
        tasks = await start_requests(client, 5)
        backend.may_respond.set()
        responses = await asyncio.gather(*tasks)

        assert backend.request_count == request_count
        assert len(responses) == 5
        await client.get("/")
        assert backend.request_count == request_count + 1


async def test_a_slow_client_does_not_delay_others_that_share_its_response():
    backend, invalidation = Backend(), FakeInvalidation()
    backend.may_respond.set()
    async with cache_of(backend, invalidation) as client:
        transport: Any = client._transport
        has_read = asyncio.Event()

        async def read_slowly(message: Message) -> None:
            await has_read.wait()

        async def receive() -> Message:
            return {"type": "http.request"}

        headers = [(b"accept", client.headers["Accept"].encode()), (b"host", b"test")]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": headers,
        }
        slow = asyncio.ensure_future(transport.app(scope, receive, read_slowly))
        try:
            assert await asyncio.gather(*await start_requests(client, 2)) == [1, 1]
        finally:
            has_read.set()
            await slow


async def test_repeated_parameters_share_the_entry_of_the_last_value(
    app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    await publish(ann, title="First")
    await publish(ann, title="Second")
    last = await anonymous.get("/posts?size=1")

    assert await count_statements(app, anonymous, "/posts?size=2&size=x&size=1") == 0
    assert (await anonymous.get("/posts?size=2&size=1")).json() == last.json()
    assert len((await anonymous.get("/posts?size=1&size=2")).json()["results"]) == 2


def test_no_query_parameter_of_a_get_route_is_a_list(app: FastAPI):
    """The cache key has one value of each."""
    for path, operations in app.openapi()["paths"].items():
        for one in operations.get("get", {}).get("parameters", []):
            schemas = [one["schema"], *one["schema"].get("anyOf", [])]

            assert all(schema.get("type") != "array" for schema in schemas), (path, one["name"])


async def test_keys_count_in_the_size_of_the_cache():
    backend = Backend()
    backend.may_respond.set()
    cache = make_cache(backend, FakeInvalidation(), parameters=frozenset({"tag"}))
    path = f"/{'x' * 400}"
    transport = ASGITransport(RequestIds(cache))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        with time_machine.travel(0, tick=False):
            for number in range(600):
                await client.get(path, params={"tag": f"{number:0400}"})
            for number in reversed(range(600)):
                await client.get(path, params={"tag": f"{number:0400}"})
                if backend.request_count > 600:
                    break

    cached = 599 - number
    assert cached > 100
    assert cached * (OVERHEAD_BYTES + len(path) + 400) < cache.max_bytes


async def test_parsed_queries_take_little_memory():
    cache = make_cache(Backend(), FakeInvalidation(), parameters=frozenset("abcdefghijklmno"))
    scope: Scope = {"headers": [(b"host", b"test")], "path": "/"}
    tracemalloc.start()
    for number in range(3_000):
        query = "&".join(f"{name}={number}" for name in "abcdefghijklmno") * 3
        for length in (200, 900):
            cache.make_key({**scope, "query_string": query[:length].encode()})
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert used < 2_000_000
