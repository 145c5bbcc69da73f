"""Connections to the database: no more than places, and none that is lost for good."""

import asyncio

from anyio import fail_after
from sqlalchemy import URL

from blog_api.db.migrate import migrate
from tests.support.clients import MINIMUM_HASHING as FLOOR
from tests.support.clients import client_of, make_settings, publish, running, sign_up
from tests.support.clients import request_with_retry as ask
from tests.support.databases import execute_on_server as at_server

HELLO = {"title": "Hello", "content": "World"}

PLACES = 2
# In seconds: who waits for a connection that nobody gives back is told to come again for ever.
LONGEST = 30


async def at_others(url: URL, what: str) -> list[int]:
    """What Postgres says of each connection to a database but the one that asks."""
    return await at_server(
        url,
        f"SELECT {what} FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'",
    )


async def test_readers_and_writers_at_once_share_the_connections(empty_url: URL):
    settings = make_settings(database_url=empty_url, pool_size=PLACES, cache_bytes=0, **FLOOR)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        for _ in range(3):
            reads = [ask(ann, "GET", path) for path in ("/posts", "/users/me", "/users") * 2]
            refusals = [ask(ann, "GET", "/posts/999") for _ in range(2)]
            writes = [ask(ann, "POST", "/posts", json=HELLO) for _ in range(3)]
            with fail_after(LONGEST):
                answers = await asyncio.gather(*reads, *refusals, *writes)

            found = [answer.status_code for answer in answers]
            assert found == [200] * 6 + [404] * 2 + [201] * 3
        if not settings.is_sqlite:
            assert len(await at_others(empty_url, "pid")) <= PLACES

        assert (await ann.get("/posts")).json()["total_count"] == 9


async def test_a_connection_that_the_database_closes_is_replaced(empty_url: URL):
    settings = make_settings(database_url=empty_url, pool_size=PLACES, **FLOOR)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await asyncio.gather(*(ask(ann, "GET", "/users/me") for _ in range(PLACES)))
        if not settings.is_sqlite:
            assert len(await at_others(empty_url, "pg_terminate_backend(pid)")) >= PLACES

        for _ in range(PLACES + 1):
            assert (await ask(ann, "GET", "/users/me")).status_code == 200
        assert (await publish(ann))["title"] == "Hello"


async def test_connections_that_are_cut_amid_requests_are_told_and_replaced(empty_url: URL):
    settings = make_settings(database_url=empty_url, cache_bytes=0, **FLOOR)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann)

        async def read_on() -> set[int]:
            paths = ("/posts", "/posts/1", "/users/me") * 20
            return {(await ask(ann, "GET", path)).status_code for path in paths}

        async def write_on() -> set[int]:
            return {(await ask(ann, "POST", "/posts", json=HELLO)).status_code for _ in range(20)}

        async def cut() -> None:
            if not settings.is_sqlite:
                for _ in range(20):
                    await at_others(empty_url, "pg_terminate_backend(pid)")

        with fail_after(LONGEST):
            reads, writes, _ = await asyncio.gather(
                asyncio.gather(*(read_on() for _ in range(8))),
                asyncio.gather(*(write_on() for _ in range(2))),
                cut(),
            )

        refused = set() if settings.is_sqlite else {503}
        assert {200} <= set().union(*reads) <= {200} | refused
        assert {201} <= set().union(*writes) <= {201} | refused
        for _ in range(settings.pool_size + 1):
            assert (await ask(ann, "GET", "/users/me")).status_code == 200
