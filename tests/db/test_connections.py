"""Connections to the database: at most as many as slots, and lost ones are replaced."""

import asyncio
from typing import Any

import pytest
from anyio import fail_after
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import Conflict, ServiceUnavailable
from blog_api.db import session
from blog_api.db.cache_version import CacheVersion
from blog_api.db.driver import commit_transaction, roll_back_transaction
from blog_api.db.list_query import ListQuery
from blog_api.db.migrate import migrate
from blog_api.db.queries import Rows, execute_query
from tests.support.clients import (
    MINIMUM_HASHING,
    client_of,
    make_settings,
    publish,
    request_with_retry,
    running,
    sign_up,
)
from tests.support.databases import execute_on_server

HELLO = {"title": "Hello", "content": "World"}
LONG = {"title": "Hello", "content": "word " * 5_000}

POOL_SIZE = 2
# A leaked connection would hang `request_with_retry()`, which repeats a request while it is 503.
TIMEOUT_SECONDS = 60


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for a connection, and for other writers on SQLite."""
    monkeypatch.setattr(session, "SLOT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(session, "STATEMENT_TIMEOUT_SECONDS", 0.2)


async def query_connections(url: URL, expression: str) -> list[int]:
    """Return the value of an expression for each other connection to a database on Postgres."""
    return await execute_on_server(
        url,
        f"SELECT {expression} FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'",
    )


async def test_concurrent_readers_and_writers_share_the_connections(migrated_url: URL):
    settings = make_settings(
        database_url=migrated_url, pool_size=POOL_SIZE, cache_bytes=0, **MINIMUM_HASHING
    )
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        for _ in range(3):
            reads = [
                request_with_retry(ann, "GET", path)
                for path in ("/posts", "/users/me", "/users") * 2
            ]
            missing = [request_with_retry(ann, "GET", "/posts/999") for _ in range(2)]
            writes = [request_with_retry(ann, "POST", "/posts", json=HELLO) for _ in range(3)]
            with fail_after(TIMEOUT_SECONDS):
                responses = await asyncio.gather(*reads, *missing, *writes)

            statuses = [response.status_code for response in responses]
            assert statuses == [200] * 6 + [404] * 2 + [201] * 3
        if not settings.is_sqlite:
            assert len(await query_connections(migrated_url, "pid")) <= POOL_SIZE

        assert (await ann.get("/posts")).json()["total_count"] == 9


@pytest.mark.usefixtures("short_waits")
async def test_lists_leave_connections_to_other_requests(
    migrated_url: URL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    settings = make_settings(database_url=migrated_url, pool_size=3, **MINIMUM_HASHING)
    started, may_finish = asyncio.Semaphore(0), asyncio.Event()
    fetch = ListQuery._fetch

    async def pause(query: ListQuery, *values: Any) -> list[Any]:
        started.release()
        await may_finish.wait()
        return await fetch(query, *values)

    monkeypatch.setattr(ListQuery, "_fetch", pause)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        post = await publish(ann)
        lists = [asyncio.ensure_future(ann.get("/users/me/posts")) for _ in range(2)]
        for _ in lists:
            await started.acquire()
        with fail_after(TIMEOUT_SECONDS):
            rejected = await ann.get("/users/me/posts")
        read = await ann.get(f"/posts/{post['id']}")
        written = await ann.patch(f"/posts/{post['id']}", json=HELLO)
        may_finish.set()

        assert {response.status_code for response in await asyncio.gather(*lists)} == {200}
        assert rejected.status_code == 503
        assert "wait for the connections of BLOG_POOL_SIZE" in caplog.text
        assert read.status_code == written.status_code == 200
        assert (await ann.get("/users/me/posts")).json()["total_count"] == 1


@pytest.mark.usefixtures("short_waits")
async def test_searches_and_long_texts_leave_connections_to_all_other_requests(
    empty_url: URL, monkeypatch: pytest.MonkeyPatch
):
    has_connection, may_finish = asyncio.Event(), asyncio.Event()

    async def search_slowly(*args: Any) -> Rows:
        has_connection.set()
        await may_finish.wait()
        return await execute_query(*args)

    monkeypatch.setattr("blog_api.db.list_query.execute_query", search_slowly)
    settings = make_settings(
        database_url=empty_url, pool_size=POOL_SIZE, cache_bytes=0, **MINIMUM_HASHING
    )
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        with fail_after(TIMEOUT_SECONDS):
            search = asyncio.create_task(ann.get("/posts?q=word"))
            await has_connection.wait()
            rejected = [await ann.get(path) for path in ("/posts?q=word", "/feed.json?q=word")]
            others = [await ann.get("/users/me"), await ann.post("/posts", json=HELLO)]
            # Indexing a long text takes long too.
            rejected.append(await ann.post("/posts", json=LONG))
            rejected.append(await ann.put("/posts/1", json=LONG))
            may_finish.set()
            responses = [await search, *[await ann.get("/posts?q=word") for _ in range(3)]]

    assert [response.status_code for response in rejected] == [503] * 4
    assert [response.status_code for response in others] == [200, 201]
    assert {response.status_code for response in responses} == {200}


@pytest.mark.usefixtures("short_waits")
async def test_waiting_writers_leave_a_connection_to_readers(
    empty_url: URL, monkeypatch: pytest.MonkeyPatch
):
    started, may_finish = asyncio.Semaphore(0), asyncio.Event()
    commit = session.Database.commit

    async def commit_slowly(database: session.Database, transaction: AsyncSession) -> None:
        if transaction.info["writes"]:
            started.release()
            await may_finish.wait()
        await commit(database, transaction)

    settings = make_settings(
        database_url=empty_url, pool_size=POOL_SIZE, cache_bytes=0, **MINIMUM_HASHING
    )
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann)
        monkeypatch.setattr(session.Database, "commit", commit_slowly)
        with fail_after(TIMEOUT_SECONDS):
            writes = [asyncio.create_task(ann.post("/posts", json=HELLO)) for _ in range(3)]
            await started.acquire()
            reads = [await ann.get(path) for path in ("/posts/1", "/users/me")]
            may_finish.set()
            statuses = sorted([(await write).status_code for write in writes])

    assert [response.status_code for response in reads] == [200, 200]
    assert statuses[0] == 201


async def test_a_connection_closed_by_the_database_is_replaced(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, pool_size=POOL_SIZE, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await asyncio.gather(
            *(request_with_retry(ann, "GET", "/users/me") for _ in range(POOL_SIZE))
        )
        if not settings.is_sqlite:
            assert (
                len(await query_connections(migrated_url, "pg_terminate_backend(pid)")) >= POOL_SIZE
            )

        for _ in range(POOL_SIZE + 1):
            assert (await request_with_retry(ann, "GET", "/users/me")).status_code == 200
        assert (await publish(ann))["title"] == "Hello"


async def test_connections_that_are_cut_during_requests_become_503_and_are_replaced(
    migrated_url: URL,
):
    settings = make_settings(database_url=migrated_url, cache_bytes=0, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann)

        async def read_repeatedly() -> set[int]:
            paths = ("/posts", "/posts/1", "/users/me") * 20
            return {(await request_with_retry(ann, "GET", path)).status_code for path in paths}

        async def write_repeatedly() -> set[int]:
            return {
                (await request_with_retry(ann, "POST", "/posts", json=HELLO)).status_code
                for _ in range(20)
            }

        async def cut_connections() -> None:
            if not settings.is_sqlite:
                for _ in range(20):
                    await query_connections(migrated_url, "pg_terminate_backend(pid)")

        with fail_after(TIMEOUT_SECONDS):
            reads, writes, _ = await asyncio.gather(
                asyncio.gather(*(read_repeatedly() for _ in range(8))),
                asyncio.gather(*(write_repeatedly() for _ in range(2))),
                cut_connections(),
            )

        unavailable = set() if settings.is_sqlite else {503}
        assert {200} <= set().union(*reads) <= {200} | unavailable
        assert {201} <= set().union(*writes) <= {201} | unavailable
        for _ in range(settings.pool_size + 1):
            assert (await request_with_retry(ann, "GET", "/users/me")).status_code == 200


async def test_closing_waits_for_connections_that_are_being_released(
    migrated_url: URL, monkeypatch: pytest.MonkeyPatch
):
    database = session.Database(make_settings(database_url=migrated_url, **MINIMUM_HASHING))
    is_releasing, may_finish = asyncio.Event(), asyncio.Event()

    async def roll_back_slowly(connection: AsyncConnection) -> None:
        is_releasing.set()
        await may_finish.wait()
        await roll_back_transaction(connection)

    async def reject() -> None:
        async with database.session(writes=True):
            raise Conflict

    monkeypatch.setattr(session, "roll_back_transaction", roll_back_slowly)
    with fail_after(TIMEOUT_SECONDS):
        request = asyncio.create_task(reject())
        await is_releasing.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        closing = asyncio.create_task(database.close())
        may_finish.set()
        await closing

    assert not database._releases
    assert not database._idle_connections
    assert database.count_connections() == (0, 0)


async def test_a_commit_that_ends_after_its_timeout_invalidates_cached_responses(
    empty_app: FastAPI, ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    database: session.Database = empty_app.state.database
    post = await publish(ann)
    versions: list[CacheVersion] = []

    async def time_out(_: object) -> None:
        raise ServiceUnavailable

    async def wait_for_commit(connection: AsyncConnection) -> None:
        versions.append(database.cache_version)
        await commit_transaction(connection)

    with monkeypatch.context() as patch:
        patch.setattr(session, "commit_transaction", time_out)
        patch.setattr(session, "roll_back_transaction", wait_for_commit)
        response = await ann.put(f"/users/me/bookmarks/{post['id']}")

    assert response.status_code == 503
    [version] = versions
    assert database.cache_version.rows > version.rows
    assert (await ann.get(f"/posts/{post['id']}")).json()["bookmark_count"] == 1
