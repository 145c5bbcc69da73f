"""Limits on guessing passwords and on opening accounts."""

import asyncio
import logging
import socket
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import URL

from blog_api.accounts.rate_limits import Limit, RateLimiter
from blog_api.core.errors import TooManyRequests
from blog_api.core.settings import Settings
from tests.conftest import CHEAP, PASSWORD, client_of, make_settings, running, sign_up
from tests.processes import Server

LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
WRONG = {"username": "ann@example.com", "password": "wrong horse"}


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    """A time within an hour and a minute: neither ends during a test."""
    with time_machine.travel(datetime(2030, 1, 31, 12, 30, 20, tzinfo=UTC), tick=False):
        yield


def limited(**values: object) -> Settings:
    return make_settings(database_url="sqlite://", rate_limit_enabled=True, **CHEAP, **values)


@pytest.fixture
async def guarded() -> AsyncGenerator[FastAPI]:
    """An application with the usual limits, and Ann's account."""
    async with running(limited()) as app:
        async with client_of(app, "192.0.2.200") as ann:
            await sign_up(ann, "Ann")
        yield app


@pytest.fixture
async def here(guarded: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with client_of(guarded, "192.0.2.1") as client:
        yield client


async def fail(client: AsyncClient, times: int, **form: str) -> list[int]:
    """The statuses of so many wrong passwords."""
    return [(await client.post("/auth", data=WRONG | form)).status_code for _ in range(times)]


def assert_limited(response: Response, name: str, amount: int, window: int) -> None:
    assert response.status_code == 429, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == "urn:blog-api:too-many-requests"
    seconds = int(response.headers["Retry-After"])
    assert 0 < seconds <= window
    assert response.headers["RateLimit-Policy"] == f'"{name}";q={amount};w={window}'
    assert response.headers["RateLimit"] == f'"{name}";r=0;t={seconds}'


async def test_the_eleventh_wrong_password_in_a_minute_is_refused(here: AsyncClient):
    before = await fail(here, 10)

    wrong = await here.post("/auth", data=WRONG)
    right = await here.post("/auth", data=LOG_IN)

    assert before == [400] * 10
    assert_limited(wrong, "guesses", 10, 60)
    assert_limited(right, "guesses", 10, 60)


async def test_a_minute_later_there_is_another_chance(here: AsyncClient):
    await fail(here, 10)
    response = await here.post("/auth", data=LOG_IN)
    wait = timedelta(seconds=int(response.headers["Retry-After"]))

    with time_machine.travel(datetime.now(UTC) + wait, tick=False):
        later = await here.post("/auth", data=LOG_IN)

    assert later.status_code == 200


async def test_other_accounts_and_other_addresses_are_not_refused(
    guarded: FastAPI, here: AsyncClient
):
    await fail(here, 10)

    other_account = await here.post("/auth", data=WRONG | {"username": "bob@example.com"})
    async with client_of(guarded, "192.0.2.2") as there:
        other_address = await there.post("/auth", data=LOG_IN)

    assert other_account.status_code == 400
    assert other_address.status_code == 200


async def test_an_account_is_the_same_however_it_is_spelt(here: AsyncClient):
    for name in ("ann@example.com", "ANN@example.com", "\uff41nn@example.com"):
        await fail(here, 4, username=name)

    response = await here.post("/auth", data=WRONG | {"username": "Ann@Example.com"})

    assert response.status_code == 429


async def test_who_does_not_exist_is_guarded_all_the_same(here: AsyncClient):
    statuses = await fail(here, 11, username="nobody@example.com")

    assert statuses == [400] * 10 + [429]


async def test_a_success_does_not_count(here: AsyncClient):
    answers = [await here.post("/auth", data=LOG_IN) for _ in range(40)]
    failed = await fail(here, 10)

    assert {answer.status_code for answer in answers} == {200}
    assert failed == [400] * 10


async def test_many_successes_at_once_do_not_count_either(here: AsyncClient):
    answers = await asyncio.gather(*(here.post("/auth", data=LOG_IN) for _ in range(40)))

    assert {answer.status_code for answer in answers} == {200}


async def test_many_failures_at_once_count_each(here: AsyncClient):
    answers = await asyncio.gather(*(here.post("/auth", data=WRONG) for _ in range(60)))

    # One that just failed may count twice for a moment, so that never too many get through.
    statuses = [answer.status_code for answer in answers] + await fail(here, 10)
    assert statuses.count(400) == 10
    assert statuses.count(429) == 60


async def test_attempts_under_way_are_counted_however_long_there_are_some():
    """Flights of many minutes on end: the count of those under way neither leaks nor falls."""
    settings = limited()
    limits = RateLimiter(settings)
    limit = Limit("guesses", settings.rate_limit_guesses, "ann")
    start = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)

    async def attempt(seconds: int) -> AsyncExitStack:
        stack = AsyncExitStack()
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            (await stack.enter_async_context(limits.attempt([limit]))).succeeded = True
        return stack

    under_way = [await attempt(0)]
    for seconds in range(5, 400, 5):
        under_way.append(await attempt(seconds))
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            await under_way.pop(0).aclose()
    for _ in range(9):
        under_way.append(await attempt(400))
    with pytest.raises(TooManyRequests):
        await attempt(400)
    for stack in under_way:
        await stack.aclose()
    under_way = [await attempt(401) for _ in range(10)]
    with pytest.raises(TooManyRequests):
        await attempt(401)
    for stack in under_way:
        await stack.aclose()
    await limits.close()


async def test_one_address_fails_thirty_times_a_minute(here: AsyncClient):
    for n in range(30):
        await fail(here, 1, username=f"user{n}@example.com")

    response = await here.post("/auth", data=LOG_IN)

    assert_limited(response, "guesses-of-address", 30, 60)


async def test_one_account_is_failed_at_a_hundred_times_an_hour(guarded: FastAPI):
    for n in range(10):
        async with client_of(guarded, f"192.0.2.{n}") as client:
            assert await fail(client, 10) == [400] * 10

    async with client_of(guarded, "192.0.2.100") as client:
        response = await client.post("/auth", data=LOG_IN)

    assert_limited(response, "guesses-at-account", 100, 3600)


async def test_an_hour_is_any_hour(guarded: FastAPI):
    """Wherever it begins: a hundred just before the clock strikes count an hour long."""
    start = datetime(2030, 1, 31, 12, 59, 50, tzinfo=UTC)
    with time_machine.travel(start, tick=False):
        for n in range(10):
            async with client_of(guarded, f"192.0.2.{n}") as client:
                await fail(client, 10)

    async with client_of(guarded, "192.0.2.100") as client:
        with time_machine.travel(start + timedelta(minutes=59), tick=False):
            refused = await client.post("/auth", data=LOG_IN)
        wait = timedelta(minutes=59, seconds=int(refused.headers["Retry-After"]))
        with time_machine.travel(start + wait, tick=False):
            allowed = await client.post("/auth", data=LOG_IN)

    assert [refused.status_code, allowed.status_code] == [429, 200]


async def test_one_network_of_ipv6_is_one_address(guarded: FastAPI):
    for n in range(10):
        async with client_of(guarded, f"2001:db8::{n:x}") as client:
            await fail(client, 1)

    async with (
        client_of(guarded, "2001:db8::ffff:1:2:3") as same,
        client_of(guarded, "2001:db8:0:1::1") as other,
    ):
        assert (await same.post("/auth", data=LOG_IN)).status_code == 429
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


async def test_ipv4_within_ipv6_is_ipv4(guarded: FastAPI, here: AsyncClient):
    await fail(here, 10)

    async with (
        client_of(guarded, "::ffff:192.0.2.1") as same,
        client_of(guarded, "::ffff:192.0.2.9") as other,
    ):
        assert (await same.post("/auth", data=LOG_IN)).status_code == 429
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


async def test_all_that_ask_for_a_password_share_the_limit(here: AsyncClient):
    token = (await here.post("/auth", data=LOG_IN)).json()["access_token"]
    here.headers["Authorization"] = f"Bearer {token}"
    wrong = {"current_password": "wrong horse"}

    async def guess_everywhere() -> list[int]:
        answers = [
            await here.post("/auth", data=WRONG),
            await here.post("/token", data=WRONG | {"grant_type": "password"}),
            await here.patch("/users/me", json=wrong | {"email": "anna@example.com"}),
            await here.put("/users/me/password", json=wrong | {"new_password": "battery staple"}),
            await here.request("DELETE", "/users/me", json=wrong),
            await here.post("/users/me/tokens", json=wrong | {"name": "Script"}),
        ]
        return [answer.status_code for answer in answers]

    assert await guess_everywhere() == [400, 401, 400, 400, 400, 400]
    assert (await guess_everywhere())[4:] == [429, 429]
    assert await guess_everywhere() == [429] * 6
    assert (await here.get("/users/me")).status_code == 200


async def test_one_address_opens_twenty_accounts_an_hour(guarded: FastAPI, here: AsyncClient):
    for n in range(10):
        body = {"email": f"user{n}@example.com", "name": "User", "password": PASSWORD}
        assert (await here.post("/sign-up", json=body)).status_code == 200
        # Taken, and it counts.
        assert (await here.post("/users", json=body)).status_code == 400
    body = {"email": "one.more@example.com", "name": "User", "password": PASSWORD}

    for path in ("/sign-up", "/users"):
        assert_limited(await here.post(path, json=body), "sign-ups", 20, 3600)
    async with client_of(guarded, "192.0.2.2") as there:
        assert (await there.post("/users", json=body)).status_code == 201


async def test_a_change_of_address_counts_as_a_sign_up(here: AsyncClient):
    token = (await here.post("/auth", data=LOG_IN)).json()["access_token"]
    here.headers["Authorization"] = f"Bearer {token}"

    answers = [
        await here.patch(
            "/users/me", json={"email": f"ann{n}@example.com", "current_password": PASSWORD}
        )
        for n in range(21)
    ]

    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert (await here.get("/users/me")).json()["email"] == "ann19@example.com"


async def test_the_limits_are_settings():
    settings = limited(rate_limit_guesses="2/5 minutes", rate_limit_sign_ups="1/day")
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await sign_up(client, "Ann")
        assert await fail(client, 3) == [400, 400, 429]
        assert_limited(await client.post("/auth", data=LOG_IN), "guesses", 2, 300)
        body = {"email": "bob@example.com", "password": PASSWORD}
        assert_limited(await client.post("/users", json=body), "sign-ups", 1, 86_400)


async def test_without_limits_nobody_is_refused():
    async with (
        running(limited().model_copy(update={"rate_limit_enabled": False})) as app,
        client_of(app, "192.0.2.1") as client,
    ):
        assert await fail(client, 40) == [400] * 40


async def test_a_browser_may_read_what_is_left():
    settings = limited(cors_origins=["https://example.com"])
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await fail(client, 10)
        response = await client.post("/auth", data=WRONG, headers={"Origin": "https://example.com"})

    assert response.status_code == 429
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed)


async def test_expired_counters_in_memory_are_deleted_once_a_minute():
    """Fails if `limits` changes when `MemoryStorage` sweeps: see `RateLimiter._pause_sweep()`."""
    limiter = RateLimiter(limited())
    memory, rate = limiter._memory, limiter.settings.rate_limit_guesses
    await limiter.record_hit(Limit("guesses", rate, "ann"))
    assert memory.timer is not None
    await memory.timer

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        await limiter.record_hit(Limit("guesses", rate, "bob"))
        pause = memory.timer
        swept, _ = await asyncio.wait([pause], timeout=0.5)
        pause.cancel()
        await asyncio.wait([pause])
        paused_with = len(memory.events)
        await limiter.record_hit(Limit("guesses", rate, "bob"))
        await memory.timer

    assert not swept
    assert paused_with == 2
    assert len(memory.events) == 1
    await limiter.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_without_redis_the_limits_are_kept_in_memory(
    closed_port: int, caplog: pytest.LogCaptureFixture
):
    settings = limited(rate_limit_storage=f"redis://127.0.0.1:{closed_port}")
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await sign_up(client, "Ann")
        with caplog.at_level(logging.WARNING):
            statuses = await fail(client, 11)

    assert statuses == [400] * 10 + [429]
    assert "Redis failed" in caplog.text


@pytest.mark.parametrize(("trusted", "expected"), [("[]", 429), ('["127.0.0.1"]', 400)])
async def test_only_a_trusted_proxy_says_where_somebody_comes_from(
    tmp_path: Path, shared_url: URL, trusted: str, expected: int
):
    limits = {"RATE_LIMIT_ENABLED": "true", "TRUSTED_PROXIES": trusted}
    with Server(tmp_path, shared_url, settings=limits) as server:
        async with server.client() as client:
            answers = [
                await client.post("/auth", data=WRONG, headers={"X-Forwarded-For": f"192.0.2.{n}"})
                for n in range(11)
            ]

    assert [answer.status_code for answer in answers] == [400] * 10 + [expected]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of this test alone, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(
        [*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()
        process.stdout.read()


@pytest.mark.redis
async def test_workers_share_the_limits_in_redis(tmp_path: Path, shared_url: URL, redis_url: str):
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_STORAGE": redis_url}

    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(tmp_path, shared_url, workers=2, settings=limits))
            for _ in range(2)
        ]
        async with servers[0].client() as one, servers[1].client() as two:
            await sign_up(one, "Ann")
            in_turn = [
                (
                    await client.post(
                        "/auth", data=WRONG, headers={"X-Forwarded-For": f"192.0.2.{n}"}
                    )
                )
                for n, client in enumerate([one, two] * 6)
            ]
            at_once = await asyncio.gather(
                *(
                    client.post("/auth", data=WRONG | {"username": "bob@example.com"})
                    for client in [one, two] * 20
                )
            )
            afterwards = [
                await client.post("/auth", data=WRONG | {"username": "bob@example.com"})
                for client in [one, two] * 5
            ]

    assert [answer.status_code for answer in in_turn] == [400] * 10 + [429] * 2
    assert_limited(in_turn[-1], "guesses", 10, 60)
    assert {answer.status_code for answer in at_once} == {400, 429}
    # One that just failed may count twice for a moment, so that never too many get through.
    verified = [answer.status_code for answer in (*at_once, *afterwards)].count(400)
    assert verified == 10
