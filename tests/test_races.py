"""What happens to an account while one of its passwords is verified."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from blog_api.security import Passwords
from tests.conftest import PASSWORD

LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
NEW_PASSWORD = "battery staple"


class PausingPasswords:
    """The application's `Passwords`, whose next verification ends when the test says so."""

    def __init__(self, passwords: Passwords) -> None:
        self.passwords = passwords
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self.passwords, name)

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        result = await self.passwords.verify(password, password_hash)
        if not self.is_reached.is_set():
            self.is_reached.set()
            await self.may_go_on.wait()
        return result


@pytest.fixture
async def pausing(empty_app: FastAPI) -> AsyncGenerator[PausingPasswords]:
    passwords: Passwords = empty_app.state.passwords
    pausing = PausingPasswords(passwords)
    empty_app.state.passwords = pausing
    yield pausing
    empty_app.state.passwords = passwords


async def test_nobody_logs_in_with_a_password_that_was_changed_meanwhile(
    ann: AsyncClient, anonymous: AsyncClient, pausing: PausingPasswords
):
    login = asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN))
    await pausing.is_reached.wait()

    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = await ann.put("/users/me/password", json=body)
    pausing.may_go_on.set()

    assert changed.status_code == 204
    assert (await login).status_code == 400


async def test_nobody_logs_in_to_an_account_that_was_closed_meanwhile(
    ann: AsyncClient, anonymous: AsyncClient, pausing: PausingPasswords
):
    login = asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN))
    await pausing.is_reached.wait()

    left = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})
    pausing.may_go_on.set()

    assert left.status_code == 204
    assert (await login).status_code == 400


async def test_a_token_that_was_revoked_meanwhile_changes_no_address(
    ann: AsyncClient, anonymous: AsyncClient, pausing: PausingPasswords
):
    body = {"email": "anna@example.com", "current_password": PASSWORD}
    change = asyncio.ensure_future(ann.patch("/users/me", json=body))
    await pausing.is_reached.wait()

    await ann.delete("/auth")
    pausing.may_go_on.set()

    assert (await change).status_code == 401
    assert (await anonymous.post("/auth", data=LOG_IN)).status_code == 200


async def test_others_are_served_while_a_password_is_verified(
    ann: AsyncClient, anonymous: AsyncClient, pausing: PausingPasswords
):
    logins = [asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN)) for _ in range(20)]
    await pausing.is_reached.wait()

    written = await ann.post("/posts", json={"title": "Hello", "content": "World"})
    read = await anonymous.get("/posts")
    pausing.may_go_on.set()

    assert written.status_code == 201
    assert read.json()["total_count"] == 1
    assert {login.status_code for login in await asyncio.gather(*logins)} == {200}


async def test_who_would_wait_too_long_for_a_hash_is_told_to_come_again(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blog_api.security.MAX_WAITING", 0)

    response = await ann.post("/auth", data=LOG_IN)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
