"""Many clients at the same moment, and clients that leave."""

import asyncio

import pytest
from anyio import fail_after
from httpx import Response
from sqlalchemy import URL

from blog_api.accounts.passwords import PasswordHasher
from tests.support.clients import (
    CHEAP_HASHING,
    MINIMUM_HASHING,
    PASSWORD,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.faults import CancelAt, cancel_at, wait_until

CROWD = 200
# In seconds, on a busy machine.
DEADLINE = 30


async def test_a_crowd_that_comments_on_one_post_is_served_or_told_to_come_back(
    migrated_url: URL, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # As in production.
    monkeypatch.setattr("blog_api.db.session.SLOT_TIMEOUT_SECONDS", 1.0)
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        app.state.password_hasher = PasswordHasher(
            make_settings(database_url="sqlite://", **CHEAP_HASHING)
        )
        await sign_up(ann, "Ann")
        path = f"/posts/{(await publish(ann))['id']}"

        async def comment() -> Response:
            return await ann.post(f"{path}/comments", json={"content": "Hi"})

        with fail_after(DEADLINE):
            responses = await asyncio.gather(*(comment() for _ in range(CROWD)))
        count = (await ann.get(path)).json()["comment_count"]
        later = await comment()

    statuses = [response.status_code for response in responses]
    assert set(statuses) <= {201, 503}
    assert all("Retry-After" in one.headers for one in responses if one.status_code == 503)
    assert count == statuses.count(201) > 0
    assert later.status_code == 201
    assert "deadlock" not in caplog.text


@pytest.mark.parametrize("password", [PASSWORD, "wrong horse"])
async def test_no_check_of_a_password_stays_in_progress(migrated_url: URL, password: str):
    limits = {"rate_limit_guesses": "1000/minute", "rate_limit_guesses_of_address": "1000/minute"}
    settings = make_settings(
        database_url=migrated_url, rate_limit_enabled=True, **limits, **MINIMUM_HASHING
    )
    form = {"username": "ann@example.com", "password": password}
    async with running(settings) as app, client_of(app) as ann:
        app.state.password_hasher = PasswordHasher(
            make_settings(database_url="sqlite://", **CHEAP_HASHING)
        )
        await sign_up(ann, "Ann")
        counters = app.state.rate_limiter._memory.storage
        log_in = CancelAt(ann.post("/auth", data=form), -1)
        await log_in

        async def is_idle() -> bool:
            return not any(n for key, n in counters.items() if key.startswith("flight/"))

        for number in range(log_in.count):
            await cancel_at(ann.post("/auth", data=form), number)
            await wait_until(is_idle)

    assert log_in.count > 10
    assert any(key.startswith("flight/") for key in counters)
