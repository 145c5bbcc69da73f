"""Faults of the database at every call of every route that writes, and of some that read.

A part of them, always the same, is injected by default; all of them with `TEST_FAULTS=all`, which
takes minutes.
"""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from anyio import fail_after
from fastapi import FastAPI
from httpx import Response

from blog_api.accounts.passwords import PasswordHasher
from blog_api.db.session import Database
from tests.support.clients import CHEAP_HASHING, MINIMUM_HASHING, make_settings, running
from tests.support.databases import temporary_database
from tests.support.faults import (
    FAULTS,
    Calls,
    CancelAt,
    cancel_at,
    recorded_calls,
    wait_until,
)
from tests.support.saved_database import SavedDatabase, State, find_changes, save_database
from tests.support.write_requests import READS, SAMPLES, Blog, find_write_routes, small_blog

POOL_SIZE = 2
IS_COMPLETE = os.environ.get("TEST_FAULTS") == "all"
# Routes with all faults of some kinds: a simple one, one with a savepoint, and a cancelled log-in,
# which kept the lock of a SQLite file.
COMPLETE = ("PUT /users/me/following/{user_id}", "PUT /posts/{post_id} error", "POST /auth False")
# A connection or a lock that is never released.
TIMEOUT_SECONDS = 30


@dataclass
class Battery:
    """An application, what is in its database, and the calls of the drivers."""

    app: FastAPI
    blog: Blog
    saved: SavedDatabase
    calls: Calls
    before: State

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    async def send(self, name: str) -> tuple[Response, list[dict[str, int]]]:
        """Send a request; return the response, and what had changed after each commit."""
        await self.saved.restore()
        changes: list[dict[str, int]] = []
        commit = Database.commit

        async def commit_and_compare(database: Database, session: Any) -> None:
            await commit(database, session)
            changes.append(find_changes(self.before, await self.saved.read()))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "commit", commit_and_compare)
            with self.calls.failing(-1, ""):
                response = await self.blog.send(name)
        assert response.is_success, response.text
        return response, changes

    def checked_out(self) -> int:
        """Return the number of connections that are not in the pool."""
        pool: Any = self.database.engine.pool
        count: int = pool.checkedout()
        return count

    async def is_settled(self) -> bool:
        """Return whether what a request has left is done: no transaction and connection is open."""
        is_idle = self.checked_out() == len(self.database._idle_connections)
        return (
            is_idle
            and not self.database._releases
            and not await self.saved.count_open_transactions()
        )

    async def check(self, response: Response | None, sent: Response, changes: Any) -> None:
        """Check that a request that failed changed nothing or all, and that the next is served."""
        await wait_until(self.is_settled)
        found = find_changes(self.before, await self.saved.read())
        if response is not None and response.status_code == sent.status_code:
            assert found == (changes or [{}])[-1]
        else:
            assert response is None or response.status_code == 503, response.text
            assert found in ({}, *changes)
        for semaphore in (self.database._slots, self.database.expensive_slots):
            assert not semaphore.locked()
        assert self.database._slots._value == POOL_SIZE
        await self.saved.restore()
        for _ in range(POOL_SIZE):
            written = await self.blog.clients["bob"].patch("/users/me", json={"name": "Robert"})
            assert written.status_code == 200, written.text
        read = await self.blog.clients["bob"].get("/users/me")
        assert read.status_code == 200, read.text
        await self.saved.restore()


@pytest.fixture(scope="module")
async def battery(app: FastAPI, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Battery]:
    folder = tmp_path_factory.mktemp("faults")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("blog_api.accounts.recovery.MAX_DELAY_MILLISECONDS", 1)
    # Nothing else uses the database.
    monkeypatch.setattr("blog_api.accounts.token_uses.WRITE_INTERVAL_SECONDS", 3_600)
    monkeypatch.setattr("blog_api.posts.search_index.POLL_SECONDS", 3_600)
    async with temporary_database(folder, "faults", is_migrated=True) as url:
        settings = make_settings(
            database_url=url,
            pool_size=POOL_SIZE,
            cache_bytes=0,
            media_url=(folder / "media").as_uri(),
            **MINIMUM_HASHING,
        )
        async with running(settings) as faulty:
            faulty.state.password_hasher = PasswordHasher(
                make_settings(database_url="sqlite://", **CHEAP_HASHING)
            )
            async with small_blog(faulty) as blog:
                saved = await save_database(url)
                with recorded_calls() as calls:
                    yield Battery(faulty, blog, saved, calls, await saved.read())
                await saved.close()
    monkeypatch.undo()


@pytest.fixture
def uncollected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect no garbage: it closes connections that were lost."""
    gc.disable()
    yield
    gc.enable()
    if "POST /media" in request.node.name:
        # While the warning about a file is ignored, not in a later test.
        gc.collect()


def choose(name: str, count: int) -> Sequence[int]:
    """Return the numbers of all calls or awaits, or one of them, always the same."""
    numbers = range(count)
    return numbers if IS_COMPLETE or name.startswith(COMPLETE) else [Random(name).choice(numbers)]


async def test_every_route_that_writes_has_a_sample_request(app: FastAPI):
    assert set(find_write_routes(app)) == SAMPLES.keys()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("name", [*SAMPLES, *READS])
async def test_a_failed_call_of_the_database_changes_nothing_and_is_503(
    battery: Battery, name: str
):
    sent, changes = await battery.send(name)
    count = battery.calls.count
    await battery.saved.restore()

    for fault in FAULTS[battery.database.engine.dialect.name]:
        for number in choose(f"{name} {fault}", count):
            with battery.calls.failing(number, fault), fail_after(TIMEOUT_SECONDS):
                response = await battery.blog.send(name)
            try:
                await battery.check(response, sent, changes)
            except BaseException as error:
                error.add_note(f"{fault} at call {number}, {battery.calls.name}")
                raise


# A file that is being opened in a thread when the request is cancelled is closed when it is freed.
@pytest.mark.filterwarnings("ignore:.*blog-api-upload:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("repeatedly", [False, True], ids=["once", "repeatedly"])
@pytest.mark.parametrize("name", [*SAMPLES, *READS])
async def test_a_request_that_is_cancelled_leaves_no_lock_and_no_part(
    battery: Battery, name: str, repeatedly: bool
):
    sent, changes = await battery.send(name)
    await battery.saved.restore()
    counted = CancelAt(battery.blog.send(name), -1)
    await counted
    await battery.saved.restore()

    for number in choose(f"{name} {repeatedly}", counted.count):
        with fail_after(TIMEOUT_SECONDS):
            response = await cancel_at(battery.blog.send(name), number, repeatedly=repeatedly)
        assert isinstance(response, Response | asyncio.CancelledError), response
        try:
            await battery.check(response if isinstance(response, Response) else None, sent, changes)
        except AssertionError as error:
            error.add_note(f"Cancelled at await {number} of {counted.count}")
            raise
