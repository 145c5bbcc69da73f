"""Fifty concurrent requests with the codes and tokens of one account, to two workers."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from itertools import count
from typing import Any

import anyio.to_thread
import pytest
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.mailbox import CODE
from tests.support.processes import Server

pytestmark = pytest.mark.processes

REQUESTS = 50
CONFIRM, UNDO, RESET = "Please confirm", "about to change", "new password"
NUMBERS = count()


class Account:
    """An account of its own for each round."""

    def __init__(self, server: Server, client: AsyncClient) -> None:
        number = next(NUMBERS)
        self.server = server
        self.client = client
        self.email = f"{number}@simultaneous.example"
        self.new_email = f"{number}@new.example"
        self.token = ""

    async def send(
        self, method: str, path: str, *, token: str | None = None, **values: Any
    ) -> Response:
        headers = bearer(token) if token else {}
        return await request_with_retry(self.client, method, path, headers=headers, **values)

    async def sign_up(self) -> None:
        body = {"email": self.email, "name": "Somebody", "password": PASSWORD}
        response = await self.send("POST", "/sign-up", json=body)
        self.token = response.json()["token"]["access_token"]

    async def request_change(self) -> None:
        body = {"email": self.new_email, "current_password": PASSWORD}
        response = await self.send("PATCH", "/users/me", json=body, token=self.token)
        assert response.json()["pending_email"] == self.new_email

    async def request_reset(self, email: str) -> str:
        response = await self.send("POST", "/password-resets", json={"email": email})
        assert response.status_code == 202
        return await self.receive_code(email, RESET)

    async def receive_code(self, recipient: str, subject: str) -> str:
        text = await anyio.to_thread.run_sync(self.server.read_mail, recipient, subject)
        (code,) = CODE.findall(text)
        return str(code)

    async def verify(self, email: str) -> Response:
        return await self.confirm(await self.receive_code(email, CONFIRM))

    async def confirm(self, code: str) -> Response:
        return await self.send("POST", "/email-verifications/confirm", json={"token": code})

    async def undo(self, code: str) -> Response:
        return await self.send("POST", "/email-verifications/undo", json={"token": code})

    async def reset(self, code: str, password: str) -> Response:
        body = {"token": code, "new_password": password}
        return await self.send("POST", "/password-resets/confirm", json=body)

    async def change_password(self, password: str, token: str) -> Response:
        body = {"current_password": PASSWORD, "new_password": password}
        return await self.send("PUT", "/users/me/password", json=body, token=token)

    async def can_log_in(self, email: str, password: str) -> bool:
        form = {"username": email, "password": password}
        return (await self.send("POST", "/auth", data=form)).status_code == 200

    async def grant(self) -> dict[str, Any]:
        form = {"grant_type": "password", "username": self.email, "password": PASSWORD}
        grant: dict[str, Any] = (await self.send("POST", "/token", data=form)).json()
        return grant

    async def refresh(self, token: str) -> Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return await self.send("POST", "/token", data=form)

    async def status_of(self, token: str) -> int:
        return (await self.send("GET", "/users/me", token=token)).status_code

    async def read(self, email: str, password: str) -> dict[str, Any]:
        form = {"username": email, "password": password}
        token = (await self.send("POST", "/auth", data=form)).json()["access_token"]
        shown: dict[str, Any] = (await self.send("GET", "/users/me", token=token)).json()
        return shown

    async def assert_ended(self, grants: Iterable[dict[str, Any]]) -> None:
        """Check that neither the JWTs nor the refresh tokens of a session are accepted."""
        for grant in grants:
            assert await self.status_of(grant["access_token"]) == 401
            assert (await self.refresh(grant["refresh_token"])).status_code == 400


@pytest.fixture
async def account(server: Server) -> AsyncGenerator[Account]:
    async with server.client() as client:
        account = Account(server, client)
        await account.sign_up()
        yield account
        assert "deadlock" not in server.read_log()
        assert "Traceback" not in server.log


def statuses_of(responses: Iterable[Response]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


async def test_a_reset_code_is_accepted_once(account: Account):
    code = await account.request_reset(account.email)
    passwords = [f"battery staple {number}" for number in range(REQUESTS)]

    responses = await asyncio.gather(*(account.reset(code, one) for one in passwords))

    assert statuses_of(responses) == {204: 1, 400: REQUESTS - 1}
    accepted = responses.index(next(one for one in responses if one.status_code == 204))
    assert await account.can_log_in(account.email, passwords[accepted])
    assert not await account.can_log_in(account.email, passwords[accepted - 1])
    assert not await account.can_log_in(account.email, PASSWORD)
    assert await account.status_of(account.token) == 401


async def test_a_new_address_is_confirmed_once(account: Account):
    await account.request_change()
    code = await account.receive_code(account.new_email, CONFIRM)

    responses = await asyncio.gather(*(account.confirm(code) for _ in range(REQUESTS)))

    assert statuses_of(responses) == {204: 1, 400: REQUESTS - 1}
    shown = await account.read(account.new_email, PASSWORD)
    assert (shown["email"], shown["pending_email"]) == (account.new_email, None)
    assert shown["email_verified_at"] is not None


@pytest.mark.parametrize("is_verified", [False, True])
async def test_an_undo_and_a_reset_are_consistent(account: Account, is_verified: bool):
    """The undo wins if the address is verified; otherwise the first of both voids the other."""
    if is_verified:
        assert (await account.verify(account.email)).status_code == 204
    await account.request_change()
    undo = await account.receive_code(account.email, UNDO)
    current = account.email
    if is_verified:
        assert (await account.verify(account.new_email)).status_code == 204
        current = account.new_email
    reset = await account.request_reset(current)

    responses = await asyncio.gather(
        *(
            request
            for _ in range(REQUESTS // 2)
            for request in (account.reset(reset, "battery staple"), account.undo(undo))
        )
    )

    resets, undone = statuses_of(responses[::2])[204], statuses_of(responses[1::2])[204]
    assert statuses_of(responses) == {204: resets + undone, 400: REQUESTS - resets - undone}
    assert (resets, undone) in (((0, 1), (1, 1)) if is_verified else ((0, 1), (1, 0)))
    password = "battery staple" if resets else PASSWORD
    shown = await account.read(account.email, password)
    assert (shown["email"], shown["pending_email"]) == (account.email, None)
    assert shown["email_verified_at"] is not None
    assert not await account.can_log_in(account.new_email, password)
    assert await account.status_of(account.token) == 401


async def test_a_session_does_not_outlive_a_new_password_by_being_refreshed(account: Account):
    grant = await account.grant()
    passwords = [f"battery staple {number}" for number in range(REQUESTS // 2)]

    responses = await asyncio.gather(
        *(
            request
            for password in passwords
            for request in (
                account.refresh(grant["refresh_token"]),
                account.change_password(password, account.token),
            )
        )
    )

    refreshed, changed = responses[::2], responses[1::2]
    assert statuses_of(refreshed).keys() <= {200, 400}
    assert statuses_of(changed)[204] == 1
    assert statuses_of(changed).keys() <= {204, 400, 409}
    await account.assert_ended([one.json() for one in refreshed if one.status_code == 200])
    await account.assert_ended([grant])
    assert await account.status_of(account.token) == 200
    accepted = next(at for at, one in enumerate(changed) if one.status_code == 204)
    assert await account.can_log_in(account.email, passwords[accepted])


async def test_the_session_that_sets_a_new_password_can_be_refreshed_meanwhile(account: Account):
    grant = await account.grant()

    changed, *refreshed = await asyncio.gather(
        account.change_password("battery staple", grant["access_token"]),
        *(account.refresh(grant["refresh_token"]) for _ in range(REQUESTS)),
    )

    assert changed.status_code == 204
    assert statuses_of(refreshed) == {200: REQUESTS}
    (successor,) = {one.json()["refresh_token"] for one in refreshed}
    assert {await account.status_of(one.json()["access_token"]) for one in refreshed} == {200}
    assert (await account.refresh(successor)).status_code == 200
    assert await account.status_of(account.token) == 401


async def test_a_session_does_not_outlive_its_revocation_by_being_refreshed(account: Account):
    grant = await account.grant()
    tokens = (grant["refresh_token"], grant["access_token"])

    responses = await asyncio.gather(
        *(
            request
            for number in range(REQUESTS // 2)
            for request in (
                account.refresh(grant["refresh_token"]),
                account.send("POST", "/revoke", data={"token": tokens[number % 2]}),
            )
        )
    )

    refreshed, revoked = responses[::2], responses[1::2]
    assert statuses_of(revoked) == {200: REQUESTS // 2}
    assert statuses_of(refreshed).keys() <= {200, 400}
    await account.assert_ended([one.json() for one in refreshed if one.status_code == 200])
    await account.assert_ended([grant])
    assert await account.status_of(account.token) == 200
