"""Rate limits of password checks and sign-ups."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import URL

from blog_api.accounts.counters import REDIS_TIMEOUT_SECONDS, Limit
from blog_api.accounts.rate_limits import RateLimiter
from blog_api.core.errors import TooManyRequests
from tests.support.clients import PASSWORD, bearer, client_of, running, sign_up
from tests.support.limits import assert_limited, make_limited_settings
from tests.support.processes import Server

LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
WRONG = {"username": "ann@example.com", "password": "wrong horse"}


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    """Stop the clock in the middle of an hour and a minute, so that neither ends during a test."""
    with time_machine.travel(datetime(2030, 1, 31, 12, 30, 20, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
async def limited_app() -> AsyncGenerator[FastAPI]:
    """An application with the default limits and an account of Ann."""
    async with running(make_limited_settings()) as app:
        async with client_of(app, "192.0.2.200") as ann:
            await sign_up(ann, "Ann")
        yield app


@pytest.fixture
async def anonymous(limited_app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """A client that is not logged in."""
    async with client_of(limited_app, "192.0.2.1") as client:
        yield client


async def guess(client: AsyncClient, times: int, **form: str) -> list[int]:
    """Send wrong passwords; return the statuses."""
    return [(await client.post("/auth", data=WRONG | form)).status_code for _ in range(times)]


async def test_the_eleventh_wrong_password_in_a_minute_is_rejected(anonymous: AsyncClient):
    before = await guess(anonymous, 10)

    wrong = await anonymous.post("/auth", data=WRONG)
    right = await anonymous.post("/auth", data=LOG_IN)

    assert before == [400] * 10
    assert_limited(wrong, "guesses", 10, 60)
    assert_limited(right, "guesses", 10, 60)


async def test_logging_in_works_after_retry_after(anonymous: AsyncClient):
    await guess(anonymous, 10)
    response = await anonymous.post("/auth", data=LOG_IN)
    wait = timedelta(seconds=int(response.headers["Retry-After"]))

    with time_machine.travel(datetime.now(UTC) + wait, tick=False):
        later = await anonymous.post("/auth", data=LOG_IN)

    assert later.status_code == 200


async def test_other_accounts_and_addresses_are_not_limited(
    limited_app: FastAPI, anonymous: AsyncClient
):
    await guess(anonymous, 10)

    other_account = await anonymous.post("/auth", data=WRONG | {"username": "bob@example.com"})
    async with client_of(limited_app, "192.0.2.2") as other:
        other_address = await other.post("/auth", data=LOG_IN)

    assert other_account.status_code == 400
    assert other_address.status_code == 200


async def test_all_spellings_of_an_email_share_a_limit(anonymous: AsyncClient):
    for name in ("ann@example.com", "ANN@example.com", "\uff41nn@example.com"):
        await guess(anonymous, 4, username=name)

    response = await anonymous.post("/auth", data=WRONG | {"username": "Ann@Example.com"})

    assert response.status_code == 429


async def test_all_spellings_of_a_domain_share_a_limit(anonymous: AsyncClient):
    new = {"email": "ann@münchen.example", "name": "User", "password": PASSWORD}
    await anonymous.post("/sign-up", json=new)
    for name in ("ann@MÜNCHEN.example", "ann@xn--mnchen-3ya.example"):
        assert await guess(anonymous, 5, username=name) == [400] * 5

    response = await anonymous.post("/auth", data=WRONG | {"username": new["email"]})

    assert response.status_code == 429


async def test_guesses_for_unknown_accounts_are_limited_too(anonymous: AsyncClient):
    statuses = await guess(anonymous, 11, username="unknown@example.com")

    assert statuses == [400] * 10 + [429]


async def test_successful_logins_do_not_count(anonymous: AsyncClient):
    responses = [await anonymous.post("/auth", data=LOG_IN) for _ in range(40)]
    failed = await guess(anonymous, 10)

    assert {response.status_code for response in responses} == {200}
    assert failed == [400] * 10


async def test_concurrent_successful_logins_do_not_count(anonymous: AsyncClient):
    responses = await asyncio.gather(*(anonymous.post("/auth", data=LOG_IN) for _ in range(40)))

    assert {response.status_code for response in responses} == {200}


async def test_concurrent_failures_are_all_counted(anonymous: AsyncClient):
    responses = await asyncio.gather(*(anonymous.post("/auth", data=WRONG) for _ in range(60)))

    # A failure may count twice for a moment, so that at most ten are ever verified.
    statuses = [response.status_code for response in responses] + await guess(anonymous, 10)
    assert statuses.count(400) == 10
    assert statuses.count(429) == 60


async def test_attempts_in_progress_are_counted_exactly_over_time():
    """Attempts overlap for minutes: their count neither leaks nor drops."""
    settings = make_limited_settings()
    limits = RateLimiter(settings)
    limit = Limit("guesses", settings.rate_limit_guesses, "ann")
    start = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)

    async def attempt(seconds: int) -> AsyncExitStack:
        stack = AsyncExitStack()
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            (await stack.enter_async_context(limits.attempt([limit]))).succeeded = True
        return stack

    in_progress = [await attempt(0)]
    for seconds in range(5, 400, 5):
        in_progress.append(await attempt(seconds))
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            await in_progress.pop(0).aclose()
    for _ in range(9):
        in_progress.append(await attempt(400))
    with pytest.raises(TooManyRequests):
        await attempt(400)
    for stack in in_progress:
        await stack.aclose()
    in_progress = [await attempt(401) for _ in range(10)]
    with pytest.raises(TooManyRequests):
        await attempt(401)
    for stack in in_progress:
        await stack.aclose()
    await limits.close()


async def test_an_address_is_limited_to_thirty_failures_a_minute(anonymous: AsyncClient):
    for n in range(30):
        await guess(anonymous, 1, username=f"user{n}@example.com")

    response = await anonymous.post("/auth", data=LOG_IN)

    assert_limited(response, "guesses-of-address", 30, 60)


async def test_an_account_is_limited_to_a_hundred_failures_an_hour(limited_app: FastAPI):
    for n in range(10):
        async with client_of(limited_app, f"192.0.2.{n}") as client:
            assert await guess(client, 10) == [400] * 10

    async with client_of(limited_app, "192.0.2.100") as client:
        response = await client.post("/auth", data=LOG_IN)

    assert_limited(response, "guesses-at-account", 100, 3600)


async def test_the_hourly_limit_is_a_moving_window(limited_app: FastAPI):
    """A hundred failures just before the full hour count for an hour."""
    start = datetime(2030, 1, 31, 12, 59, 50, tzinfo=UTC)
    with time_machine.travel(start, tick=False):
        for n in range(10):
            async with client_of(limited_app, f"192.0.2.{n}") as client:
                await guess(client, 10)

    async with client_of(limited_app, "192.0.2.100") as client:
        with time_machine.travel(start + timedelta(minutes=59), tick=False):
            rejected = await client.post("/auth", data=LOG_IN)
        wait = timedelta(minutes=59, seconds=int(rejected.headers["Retry-After"]))
        with time_machine.travel(start + wait, tick=False):
            allowed = await client.post("/auth", data=LOG_IN)

    assert [rejected.status_code, allowed.status_code] == [429, 200]


async def test_an_ipv6_network_of_64_bits_shares_a_limit(limited_app: FastAPI):
    for n in range(10):
        async with client_of(limited_app, f"2001:db8::{n:x}") as client:
            await guess(client, 1)

    async with (
        client_of(limited_app, "2001:db8::ffff:1:2:3") as same,
        client_of(limited_app, "2001:db8:0:1::1") as other,
    ):
        assert (await same.post("/auth", data=LOG_IN)).status_code == 429
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


async def test_an_ipv4_mapped_address_counts_as_ipv4(limited_app: FastAPI, anonymous: AsyncClient):
    await guess(anonymous, 10)

    async with (
        client_of(limited_app, "::ffff:192.0.2.1") as same,
        client_of(limited_app, "::ffff:192.0.2.9") as other,
    ):
        assert (await same.post("/auth", data=LOG_IN)).status_code == 429
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


async def test_routes_with_a_token_share_a_limit_and_log_ins_share_another(anonymous: AsyncClient):
    token = (await anonymous.post("/auth", data=LOG_IN)).json()["access_token"]
    anonymous.headers.update(bearer(token))
    wrong = {"current_password": "wrong horse"}

    async def guess_everywhere() -> list[int]:
        responses = [
            await anonymous.post("/auth", data=WRONG),
            await anonymous.post("/token", data=WRONG | {"grant_type": "password"}),
            await anonymous.patch("/users/me", json=wrong | {"email": "anna@example.com"}),
            await anonymous.put(
                "/users/me/password", json=wrong | {"new_password": "battery staple"}
            ),
            await anonymous.request("DELETE", "/users/me", json=wrong),
            await anonymous.post("/users/me/tokens", json=wrong | {"name": "Script"}),
        ]
        return [response.status_code for response in responses]

    assert await guess_everywhere() == [400, 401, 400, 400, 400, 400]
    assert await guess_everywhere() == [400, 401, 400, 400, 400, 400]
    assert await guess_everywhere() == [400, 401, 400, 400, 429, 429]
    assert await guess_everywhere() == [400, 401, 429, 429, 429, 429]
    assert await guess_everywhere() == [400, 401, 429, 429, 429, 429]
    assert await guess_everywhere() == [429] * 6
    assert (await anonymous.get("/users/me")).status_code == 200


async def guess_from_strangers(app: FastAPI) -> None:
    """Use up the hourly limit of Ann's account from ten addresses."""
    for n in range(10, 20):
        async with client_of(app, f"192.0.2.{n}") as client:
            assert await guess(client, 10) == [400] * 10


@pytest.mark.parametrize(
    ("first", "later"), [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")]
)
async def test_strangers_cannot_lock_out_a_network_that_has_logged_in(
    limited_app: FastAPI, first: str, later: str
):
    async with client_of(limited_app, first) as ann:
        assert (await ann.post("/auth", data=LOG_IN)).status_code == 200

    await guess_from_strangers(limited_app)

    async with (
        client_of(limited_app, later) as ann,
        client_of(limited_app, "192.0.2.2") as stranger,
    ):
        assert (await ann.post("/auth", data=LOG_IN)).status_code == 200
        assert (await stranger.post("/auth", data=LOG_IN)).status_code == 429
        bob = LOG_IN | {"username": "bob@example.com"}
        assert (await ann.post("/auth", data=bob)).status_code == 400


async def test_the_network_of_the_sign_up_is_not_locked_out(limited_app: FastAPI):
    await guess_from_strangers(limited_app)

    async with client_of(limited_app, "192.0.2.200") as ann:
        assert (await ann.post("/auth", data=LOG_IN)).status_code == 200


async def test_a_network_is_known_for_thirty_days_after_the_last_log_in(limited_app: FastAPI):
    start = datetime(2030, 1, 1, 12, 30, 20, tzinfo=UTC)

    async def log_in_under_attack(day: int) -> int:
        with time_machine.travel(start + timedelta(days=day), tick=False):
            await guess_from_strangers(limited_app)
            async with client_of(limited_app, "192.0.2.1") as ann:
                return (await ann.post("/auth", data=LOG_IN)).status_code

    with time_machine.travel(start, tick=False):
        async with client_of(limited_app, "192.0.2.1") as ann:
            await ann.post("/auth", data=LOG_IN)

    assert [await log_in_under_attack(day) for day in (29, 58, 89)] == [200, 200, 429]


async def test_a_new_password_forgets_the_other_networks(
    limited_app: FastAPI, anonymous: AsyncClient
):
    """Otherwise each network of someone who knew the last password had a limit to itself."""
    new_password = "battery staple"
    await anonymous.post("/auth", data=LOG_IN)
    async with client_of(limited_app, "198.51.100.1") as ann:
        token = (await ann.post("/auth", data=LOG_IN)).json()["access_token"]
        body = {"current_password": PASSWORD, "new_password": new_password}
        changed = await ann.put("/users/me/password", json=body, headers=bearer(token))
        assert changed.status_code == 204

        await guess_from_strangers(limited_app)

        form = LOG_IN | {"password": new_password}
        assert (await ann.post("/auth", data=form)).status_code == 200
        response = await anonymous.post("/auth", data=form)
        assert_limited(response, "guesses-at-account", 100, 3600)


async def guess_every_minute(client: AsyncClient, minutes: int) -> Response:
    """Send ten wrong passwords in each of these minutes, then the right one."""
    start = datetime.now(UTC)
    for n in range(minutes):
        with time_machine.travel(start + timedelta(minutes=n, seconds=n), tick=False):
            assert await guess(client, 10) == [400] * 10
    with time_machine.travel(start + timedelta(minutes=minutes + 1), tick=False):
        return await client.post("/auth", data=LOG_IN)


async def test_guesses_from_a_known_network_are_limited_too(
    limited_app: FastAPI, anonymous: AsyncClient
):
    await anonymous.post("/auth", data=LOG_IN)

    response = await guess_every_minute(anonymous, 10)

    assert_limited(response, "guesses-from-network", 100, 3600)
    async with client_of(limited_app, "192.0.2.2") as other:
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


async def test_strangers_cannot_keep_a_user_with_a_token_from_changing_the_password(
    limited_app: FastAPI, anonymous: AsyncClient
):
    token = (await anonymous.post("/auth", data=LOG_IN)).json()["access_token"]
    await guess_from_strangers(limited_app)
    # From the user's own address and from a new one.
    assert await guess(anonymous, 11) == [400] * 10 + [429]
    body = {"current_password": PASSWORD, "new_password": "battery staple"}

    async with client_of(limited_app, "192.0.2.10") as elsewhere:
        response = await elsewhere.put("/users/me/password", json=body, headers=bearer(token))

    assert response.status_code == 204, response.text


async def test_guesses_with_a_token_are_limited_on_all_networks_together(limited_app: FastAPI):
    async with client_of(limited_app, "192.0.2.1") as ann:
        token = (await ann.post("/auth", data=LOG_IN)).json()["access_token"]
    start = datetime.now(UTC)

    async def guess_with_token(minute: int, current_password: str = "wrong horse") -> Response:
        with time_machine.travel(start + timedelta(minutes=minute, seconds=minute), tick=False):
            async with client_of(limited_app, f"192.0.2.{minute}") as client:
                body = {"current_password": current_password, "new_password": "battery staple"}
                return await client.put("/users/me/password", json=body, headers=bearer(token))

    for minute in range(10):
        for _ in range(10):
            assert (await guess_with_token(minute)).status_code == 400
        assert_limited(await guess_with_token(minute), "guesses-with-token", 10, 60)
    response = await guess_with_token(11, PASSWORD)

    assert_limited(response, "guesses-with-tokens", 100, 3600)


async def test_an_account_is_limited_to_a_hundred_log_ins_a_minute(limited_app: FastAPI):
    async def log_in(n: int) -> Response:
        async with client_of(limited_app, f"192.0.2.{n % 2}") as client:
            return await client.post("/auth", data=LOG_IN)

    responses = [await log_in(n) for n in range(101)]

    assert [response.status_code for response in responses] == [200] * 100 + [429]
    assert_limited(responses[-1], "log-ins", 100, 60)


async def test_an_address_is_limited_to_a_hundred_log_ins_a_minute(
    limited_app: FastAPI, anonymous: AsyncClient
):
    async with client_of(limited_app, "192.0.2.2") as bob:
        await sign_up(bob, "Bob")
    for n in range(100):
        name = ("ann", "bob")[n % 2]
        form = LOG_IN | {"username": f"{name}@example.com"}
        assert (await anonymous.post("/auth", data=form)).status_code == 200

    assert_limited(await anonymous.post("/auth", data=LOG_IN), "log-ins-of-address", 100, 60)
    async with client_of(limited_app, "192.0.2.2") as other:
        assert (await other.post("/auth", data=LOG_IN)).status_code == 200


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("rate_limit_guesses_of_address", "guesses-of-site"),
        ("rate_limit_log_ins", "log-ins-of-site"),
        ("rate_limit_sign_ups", "sign-ups-of-site"),
    ],
)
async def test_all_ipv6_networks_of_a_site_share_ten_times_the_limit(setting: str, name: str):
    async def send(app: FastAPI, address: str, user: str) -> Response:
        async with client_of(app, address) as client:
            if name == "sign-ups-of-site":
                body = {"email": f"new-{user}@example.com", "password": PASSWORD}
                return await client.post("/users", json=body)
            password = PASSWORD if name == "log-ins-of-site" else "wrong horse"
            form = {"username": f"{user}@example.com", "password": password}
            return await client.post("/auth", data=form)

    async with running(make_limited_settings(**{setting: "1/minute"})) as app:
        for n in range(14):
            async with client_of(app, f"192.0.2.{n}") as client:
                await sign_up(client, f"User{n}")

        inside = [await send(app, f"2001:db8:0:{n:x}::1", f"user{n}") for n in range(11)]
        outside = [
            await send(app, address, f"user{n}")
            for n, address in ((11, "2001:db8:1::1"), (12, "198.51.100.1"))
        ]

    assert 429 not in [response.status_code for response in (*inside[:10], *outside)]
    assert_limited(inside[10], name, 10, 60)


async def test_an_address_is_limited_to_twenty_sign_ups_an_hour(
    limited_app: FastAPI, anonymous: AsyncClient
):
    for n in range(10):
        body = {"email": f"user{n}@example.com", "name": "User", "password": PASSWORD}
        assert (await anonymous.post("/sign-up", json=body)).status_code == 200
        # A rejected sign-up counts too.
        assert (await anonymous.post("/users", json=body)).status_code == 400
    body = {"email": "one.more@example.com", "name": "User", "password": PASSWORD}

    for path in ("/sign-up", "/users"):
        assert_limited(await anonymous.post(path, json=body), "sign-ups", 20, 3600)
    async with client_of(limited_app, "192.0.2.2") as other:
        assert (await other.post("/users", json=body)).status_code == 201


async def test_a_change_of_email_counts_as_a_sign_up(anonymous: AsyncClient):
    token = (await anonymous.post("/auth", data=LOG_IN)).json()["access_token"]
    anonymous.headers.update(bearer(token))

    responses = [
        await anonymous.patch(
            "/users/me", json={"email": f"ann{n}@example.com", "current_password": PASSWORD}
        )
        for n in range(21)
    ]

    assert [response.status_code for response in responses] == [200] * 20 + [429]
    assert (await anonymous.get("/users/me")).json()["email"] == "ann19@example.com"


async def test_the_rate_limits_can_be_configured():
    settings = make_limited_settings(rate_limit_guesses="2/5 minutes", rate_limit_sign_ups="1/day")
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await sign_up(client, "Ann")
        assert await guess(client, 3) == [400, 400, 429]
        assert_limited(await client.post("/auth", data=LOG_IN), "guesses", 2, 300)
        body = {"email": "bob@example.com", "password": PASSWORD}
        assert_limited(await client.post("/users", json=body), "sign-ups", 1, 86_400)


async def test_rate_limits_can_be_disabled():
    async with (
        running(make_limited_settings().model_copy(update={"rate_limit_enabled": False})) as app,
        client_of(app, "192.0.2.1") as client,
    ):
        assert await guess(client, 40) == [400] * 40


async def test_the_rate_limit_headers_are_exposed_to_browsers():
    settings = make_limited_settings(cors_origins=["https://example.com"])
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await guess(client, 10)
        response = await client.post("/auth", data=WRONG, headers={"Origin": "https://example.com"})

    assert response.status_code == 429
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed)


async def test_expired_counters_in_memory_are_deleted_once_a_minute():
    """Fails if `limits` changes when `MemoryStorage` sweeps: see `RateLimiter._pause_sweep()`."""
    limiter = RateLimiter(make_limited_settings())
    memory, rate = limiter._memory, limiter.settings.rate_limit_guesses
    await limiter.record_hits([Limit("guesses", rate, "ann")])
    assert memory.timer is not None
    await memory.timer

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        await limiter.record_hits([Limit("guesses", rate, "bob")])
        pause = memory.timer
        swept, _ = await asyncio.wait([pause], timeout=0.5)
        pause.cancel()
        await asyncio.wait([pause])
        paused_with = len(memory.events)
        await limiter.record_hits([Limit("guesses", rate, "bob")])
        await memory.timer

    assert not swept
    assert paused_with == 2
    assert len(memory.events) == 1
    await limiter.close()


async def test_counters_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("blog_api.accounts.rate_limits.MAX_COUNTERS_IN_MEMORY", 10)
    limits = {"rate_limit_guesses_of_address": "1000/minute", "rate_limit_log_ins": "1000/minute"}
    async with (
        running(make_limited_settings(**limits)) as app,
        client_of(app, "192.0.2.1") as client,
    ):
        await sign_up(client, "Ann")
        memory = app.state.rate_limiter._memory
        for n in range(30):
            await guess(client, 1, username=f"user{n}@example.com")
            await client.post("/auth", data=LOG_IN)
        # The newest counters still count.
        statuses = await guess(client, 11, username="user29@example.com")

    assert statuses == [400] * 9 + [429] * 2
    # Each request adds a few before the oldest are deleted.
    for counters in (memory.events, memory.storage, memory.expirations, memory.locks):
        assert len(counters) < 30


async def test_the_limits_fall_back_to_memory_if_redis_fails(
    closed_port: int, caplog: pytest.LogCaptureFixture
):
    settings = make_limited_settings(rate_limit_storage=f"redis://127.0.0.1:{closed_port}")
    async with running(settings) as app, client_of(app, "192.0.2.1") as client:
        await sign_up(client, "Ann")
        with caplog.at_level(logging.WARNING):
            statuses = await guess(client, 11)

    assert statuses == [400] * 10 + [429]
    assert "Redis failed" in caplog.text


@pytest.mark.processes
@pytest.mark.parametrize(("trusted", "expected"), [("[]", 429), ('["127.0.0.1"]', 400)])
async def test_x_forwarded_for_is_used_only_from_a_trusted_proxy(
    tmp_path: Path, shared_url: URL, trusted: str, expected: int
):
    limits = {"RATE_LIMIT_ENABLED": "true", "TRUSTED_PROXIES": trusted}
    with Server(tmp_path, shared_url, settings=limits) as server:
        async with server.client() as client:
            responses = [
                await client.post("/auth", data=WRONG, headers={"X-Forwarded-For": f"192.0.2.{n}"})
                for n in range(11)
            ]

    assert [response.status_code for response in responses] == [400] * 10 + [expected]


@pytest.mark.redis
async def test_a_response_of_redis_that_arrives_at_the_timeout_is_not_an_error(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A busy event loop finds both timeouts, its own and that of redis-py, and the response."""
    from redis import Redis
    from redis.asyncio import Connection

    loop = asyncio.get_running_loop()
    read: Callable[..., Awaitable[object]] = Connection.read_response
    stalled_seconds, responses_until_stall = 0.0, 0

    def stall() -> None:
        nonlocal stalled_seconds
        stalled_seconds += 2 * REDIS_TIMEOUT_SECONDS
        # Redis responds in order: then the response that the loop waits for has been sent.
        Redis.from_url(redis_url).ping()

    async def read_after_stall(connection: Connection, *args: object, **options: object) -> object:
        nonlocal responses_until_stall
        responses_until_stall -= 1
        if responses_until_stall == 0:
            loop.call_soon(stall)
        return await read(connection, *args, **options)

    async with (
        running(make_limited_settings(rate_limit_storage=redis_url)) as app,
        client_of(app, "192.0.2.1") as client,
    ):
        await sign_up(client, "Ann")
        monkeypatch.setattr(loop, "time", lambda: monotonic() + stalled_seconds)
        monkeypatch.setattr(Connection, "read_response", read_after_stall)
        statuses = set()
        for responses in range(1, 30):
            responses_until_stall = responses
            app.state.rate_limiter._redis_paused_until = 0.0
            statuses.add((await client.post("/auth", data=LOG_IN)).status_code)
        monkeypatch.undo()

    assert statuses == {200}
    assert "Redis failed" in caplog.text


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
            sequential = [
                (
                    await client.post(
                        "/auth", data=WRONG, headers={"X-Forwarded-For": f"192.0.2.{n}"}
                    )
                )
                for n, client in enumerate([one, two] * 6)
            ]
            concurrent = await asyncio.gather(
                *(
                    client.post("/auth", data=WRONG | {"username": "bob@example.com"})
                    for client in [one, two] * 20
                )
            )
            afterwards = [
                await client.post("/auth", data=WRONG | {"username": "bob@example.com"})
                for client in [one, two] * 5
            ]

    assert [response.status_code for response in sequential] == [400] * 10 + [429] * 2
    assert_limited(sequential[-1], "guesses", 10, 60)
    assert {response.status_code for response in concurrent} == {400, 429}
    # A failure may count twice for a moment, so that at most ten are ever verified.
    verified = [response.status_code for response in (*concurrent, *afterwards)].count(400)
    assert verified == 10
