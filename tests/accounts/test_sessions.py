"""Sessions: where a user is logged in, and since when."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.errors import ServiceUnavailable
from tests.support.clients import PASSWORD, assert_problem, bearer, client_of

LOG_IN = {"username": "ann@example.com", "password": PASSWORD}


async def log_in(client: AsyncClient, user_agent: str = "") -> str:
    headers = {b"User-Agent": user_agent.encode("latin-1")}
    token: str = (await client.post("/auth", data=LOG_IN, headers=headers)).json()["access_token"]
    return token


async def status_of(client: AsyncClient, token: str) -> int:
    return (await client.get("/users/me", headers=bearer(token))).status_code


async def test_sessions_show_when_and_where_they_began(ann: AsyncClient):
    phone = await log_in(ann, "Phone/1.0 (test)")
    jwt = await ann.post("/token", data=LOG_IN | {"grant_type": "password"})
    await ann.post("/users/me/tokens", json={"name": "Script"})

    page = (await ann.get("/users/me/sessions", headers=bearer(phone))).json()

    assert page["total_count"] == 3
    newest, with_phone, first = page["results"]
    assert [one["is_current"] for one in page["results"]] == [False, True, False]
    assert with_phone["client"] == "Phone/1.0 (test)"
    assert with_phone["network"] == "127.0.0.1"
    assert newest["created_at"] > with_phone["created_at"] > first["created_at"]
    assert datetime.fromisoformat(first["expires_at"]) > datetime.now(UTC) + timedelta(days=13)
    secrets = (phone, jwt.json()["access_token"], jwt.json()["refresh_token"])
    assert not any(secret in str(page) for secret in secrets)


async def test_a_user_agent_is_bounded_and_printable(ann: AsyncClient):
    token = await log_in(ann, "a" * 199 + "\x85b" * 1_000)

    page = (await ann.get("/users/me/sessions", headers=bearer(token))).json()

    assert page["results"][0]["client"] == "a" * 199


async def test_the_last_use_of_a_token_is_written_once_a_minute(
    empty_app: FastAPI, ann: AsyncClient
):
    # As the task of the application does.
    uses = empty_app.state.token_uses
    await uses.write()
    phone = await log_in(ann)
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=False):
        await ann.get("/users/me", headers=bearer(phone))
        before = (await ann.get("/users/me/sessions")).json()["results"][0]
        await uses.write()
        after = (await ann.get("/users/me/sessions")).json()["results"]
        used_at = datetime.now(UTC)

    assert before["last_used_at"] is None
    assert datetime.fromisoformat(after[0]["last_used_at"]) == used_at
    assert after[0]["created_at"] == before["created_at"]
    (listed,) = (await ann.get("/users/me/tokens")).json()["results"]
    assert listed["last_used_at"] is None
    await ann.get("/users/me", headers=bearer(personal["access_token"]))
    await uses.write()
    (listed,) = (await ann.get("/users/me/tokens")).json()["results"]
    assert listed["last_used_at"] > listed["created_at"]


async def test_a_use_is_kept_while_the_database_is_unavailable(
    empty_app: FastAPI, ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    uses = empty_app.state.token_uses
    phone = await log_in(ann)
    await ann.get("/users/me", headers=bearer(phone))

    async def fail(_session: AsyncSession) -> None:
        raise ServiceUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(empty_app.state.database, "acquire", fail)
        await uses.write()
    assert (await ann.get("/users/me/sessions")).json()["results"][0]["last_used_at"] is None
    await uses.write()

    assert (await ann.get("/users/me/sessions")).json()["results"][0]["last_used_at"] is not None


async def test_a_user_can_end_a_session(ann: AsyncClient, bob: AsyncClient):
    phone = await log_in(ann)
    newest, mine = (await ann.get("/users/me/sessions")).json()["results"]
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()

    for client, session_id in ((bob, newest["id"]), (ann, personal["id"]), (ann, 999_999)):
        response = await client.delete(f"/users/me/sessions/{session_id}")
        assert_problem(response, 404)
    assert await status_of(ann, phone) == 200
    assert (await ann.delete(f"/users/me/sessions/{newest['id']}")).status_code == 204
    assert await status_of(ann, phone) == 401
    assert (await ann.delete(f"/users/me/sessions/{mine['id']}")).status_code == 204
    assert (await ann.get("/users/me")).status_code == 401


async def test_a_user_can_end_all_other_sessions(ann: AsyncClient, bob: AsyncClient):
    phone = await log_in(ann)
    jwt = (await ann.post("/token", data=LOG_IN | {"grant_type": "password"})).json()
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()

    assert_problem(await ann.delete("/users/me/sessions/"), 404)
    assert (await ann.delete("/users/me/sessions")).status_code == 204

    refreshed = await ann.post(
        "/token", data={"grant_type": "refresh_token", "refresh_token": jwt["refresh_token"]}
    )
    assert refreshed.status_code == 400
    statuses = [await status_of(ann, one["access_token"]) for one in (jwt, personal)]
    assert [await status_of(ann, phone), *statuses] == [401, 401, 200]
    assert (await ann.get("/users/me/sessions")).json()["total_count"] == 1
    assert (await bob.get("/users/me")).status_code == 200


async def test_sessions_have_pages(ann: AsyncClient):
    for _ in range(4):
        await log_in(ann)

    first = (await ann.get("/users/me/sessions?size=3")).json()
    second = (await ann.get(f"/users/me/sessions?size=3&cursor={first['next_cursor']}")).json()

    ids = [one["id"] for page in (first, second) for one in page["results"]]
    assert len(ids) == 5
    assert ids == sorted(ids, reverse=True)


async def test_an_expired_session_is_not_listed(app: FastAPI, ann: AsyncClient):
    with time_machine.travel(datetime.now(UTC) - timedelta(days=15)):
        await log_in(ann)
    async with client_of(app) as client:
        token = await log_in(client)

        page = (await client.get("/users/me/sessions", headers=bearer(token))).json()

    assert page["total_count"] == 2
