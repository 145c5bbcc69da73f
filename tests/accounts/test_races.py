"""Changes of an account while a request verifies its password or waits for a lock."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anyio import fail_after
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text, update
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import Token, User
from blog_api.accounts.passwords import PasswordHasher
from blog_api.core.security import count_available_cores
from tests.support.clients import (
    PASSWORD,
    ChangeUser,
    assert_problem,
    bearer,
    client_of,
    id_of,
    log_in,
    request_with_retry,
)

LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
NEW_PASSWORD = "battery staple"
# Of the client whose task this is.
ADDRESS: ContextVar[str] = ContextVar("address")


class PausingHasher:
    """The application's `PasswordHasher`, but its first use waits for `may_continue`."""

    def __init__(self, hasher: PasswordHasher) -> None:
        self.hasher = hasher
        self.is_paused = asyncio.Event()
        self.may_continue = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self.hasher, name)

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        result = await self.hasher.verify(password, password_hash)
        await self.pause_once()
        return result

    async def hash(self, password: str) -> str:
        result = await self.hasher.hash(password)
        await self.pause_once()
        return result

    async def pause_once(self) -> None:
        if not self.is_paused.is_set():
            self.is_paused.set()
            await self.may_continue.wait()


@pytest.fixture
async def pausing_hasher(empty_app: FastAPI) -> AsyncGenerator[PausingHasher]:
    hasher: PasswordHasher = empty_app.state.password_hasher
    pausing_hasher = PausingHasher(hasher)
    empty_app.state.password_hasher = pausing_hasher
    yield pausing_hasher
    empty_app.state.password_hasher = hasher


async def test_a_login_fails_if_the_password_changes_during_verification(
    ann: AsyncClient, anonymous: AsyncClient, pausing_hasher: PausingHasher
):
    login = asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN))
    await pausing_hasher.is_paused.wait()

    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = await ann.put("/users/me/password", json=body)
    pausing_hasher.may_continue.set()

    assert changed.status_code == 204
    assert (await login).status_code == 400


async def test_a_login_fails_if_the_account_is_deleted_during_verification(
    ann: AsyncClient, anonymous: AsyncClient, pausing_hasher: PausingHasher
):
    login = asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN))
    await pausing_hasher.is_paused.wait()

    deleted = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})
    pausing_hasher.may_continue.set()

    assert deleted.status_code == 204
    assert (await login).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/me/password", {"new_password": NEW_PASSWORD}),
        ("PATCH", "/users/me", {"email": "anna@example.com"}),
        ("DELETE", "/users/me", {}),
        ("POST", "/users/me/tokens", {"name": "Script", "expires_at": "2999-01-01T00:00:00Z"}),
    ],
)
async def test_an_account_that_is_deactivated_during_verification_changes_nothing(
    ann: AsyncClient,
    admin: AsyncClient,
    pausing_hasher: PausingHasher,
    method: str,
    path: str,
    body: dict[str, str],
):
    if "expires_at" in body:
        in_a_month = datetime.now(UTC) + timedelta(days=30)
        body = body | {"expires_at": in_a_month.isoformat()}
    user_id = await id_of(ann)
    body = body | {"current_password": PASSWORD}
    change = asyncio.ensure_future(ann.request(method, path, json=body))
    await pausing_hasher.is_paused.wait()

    account = f"/admin/users/{user_id}"
    assert (await admin.patch(account, json={"is_active": False})).status_code == 200
    pausing_hasher.may_continue.set()

    assert_problem(await change, 400)
    assert (await change).json()["detail"] == "Inactive user"
    assert (await admin.patch(account, json={"is_active": True})).status_code == 200
    assert (await ann.post("/auth", data=LOG_IN)).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"), [({"is_admin": False}, 401), ({"is_active": False}, 400)]
)
async def test_an_administrator_who_is_dismissed_during_hashing_opens_no_account(
    ann: AsyncClient,
    admin: AsyncClient,
    change_user: ChangeUser,
    pausing_hasher: PausingHasher,
    change: dict[str, bool],
    status: int,
):
    pausing_hasher.is_paused.set()
    await change_user("ann@example.com", is_admin=True)
    await log_in(ann, "ann@example.com")
    pausing_hasher.is_paused.clear()
    body = {"email": "carl@example.com", "name": "Carl", "password": "battery staple"}
    opening = asyncio.ensure_future(
        ann.post("/admin/users", json=body, headers={"Idempotency-Key": "a"})
    )
    await pausing_hasher.is_paused.wait()

    dismissed = await admin.patch(f"/admin/users/{await id_of(ann)}", json=change)
    pausing_hasher.may_continue.set()

    assert dismissed.status_code == 200
    assert_problem(await opening, status)
    assert (await admin.get("/admin/users?q=carl")).json()["total_count"] == 0


async def test_an_email_change_fails_if_the_token_is_revoked_during_verification(
    ann: AsyncClient, anonymous: AsyncClient, pausing_hasher: PausingHasher
):
    body = {"email": "anna@example.com", "current_password": PASSWORD}
    change = asyncio.ensure_future(ann.patch("/users/me", json=body))
    await pausing_hasher.is_paused.wait()

    await ann.delete("/auth")
    pausing_hasher.may_continue.set()

    assert (await change).status_code == 401
    assert (await anonymous.post("/auth", data=LOG_IN)).status_code == 200


async def wait_for_blocked_request(session: AsyncSession) -> None:
    """Wait until another connection waits for a lock; on SQLite, requests queue in the service."""
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        return
    database = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    count_blocked = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        f"WHERE NOT granted AND datid = {database}"
    )
    with fail_after(60):
        while not await connection.scalar(count_blocked):
            await checkpoint()


async def test_a_login_succeeds_while_another_account_takes_a_mailbox_without_key(
    empty_app: FastAPI,
    ann: AsyncClient,
    bob: AsyncClient,
    anonymous: AsyncClient,
    change_user: ChangeUser,
):
    """The log-in fills the missing key, waits for the other transaction, and goes on without."""
    await change_user("ann@example.com", mailbox_key=None)

    async with empty_app.state.database.session(writes=True) as session:
        other = update(User).where(col(User.email) == "bob@example.com")
        await session.exec(other.values(mailbox_key="ann@example.com"))
        login = asyncio.ensure_future(anonymous.post("/auth", data=LOG_IN))
        await wait_for_blocked_request(session)

    assert (await login).status_code == 200


async def test_creating_a_token_fails_if_the_current_token_is_revoked_meanwhile(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient
):
    stolen = (await ann.post("/users/me/tokens", json={"name": "Stolen"})).json()["access_token"]
    anonymous.headers.update(bearer(stolen))

    async with empty_app.state.database.session(writes=True) as session:
        # A revocation locks the user and deletes all other tokens.
        (await session.exec(select(User).with_for_update())).one()
        created = asyncio.ensure_future(anonymous.post("/users/me/tokens", json={"name": "New"}))
        await wait_for_blocked_request(session)
        await session.exec(delete(Token).where(col(Token.name).is_not(None)))

    assert (await created).status_code == 401
    assert (await ann.get("/users/me/tokens")).json()["total_count"] == 0


async def test_an_administrator_demoted_meanwhile_cannot_demote_others(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    await change_user("ann@example.com", is_admin=True)
    path = f"/admin/users/{await id_of(ann)}"

    async with empty_app.state.database.session(writes=True) as session:
        users = (await session.exec(select(User).with_for_update())).all()
        change = asyncio.ensure_future(admin.patch(path, json={"is_admin": False}))
        await wait_for_blocked_request(session)
        for user in users:
            user.is_admin = user.name == "Ann"

    assert (await change).status_code == 403
    assert (await ann.get("/users/me")).json()["is_admin"] is True


async def test_other_requests_are_served_while_a_password_is_verified(
    ann: AsyncClient, anonymous: AsyncClient, pausing_hasher: PausingHasher
):
    logins = [
        asyncio.ensure_future(request_with_retry(anonymous, "POST", "/auth", data=LOG_IN))
        for _ in range(20)
    ]
    await pausing_hasher.is_paused.wait()

    write = await ann.post("/posts", json={"title": "Hello", "content": "World"})
    read = await anonymous.get("/posts")
    pausing_hasher.may_continue.set()

    assert write.status_code == 201
    assert read.json()["total_count"] == 1
    assert {login.status_code for login in await asyncio.gather(*logins)} == {200}


async def test_a_full_password_queue_returns_503(ann: AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("blog_api.accounts.passwords.MAX_QUEUED", 0)

    response = await ann.post("/auth", data=LOG_IN)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


async def test_one_address_cannot_fill_the_password_queue(ann: AsyncClient, empty_app: FastAPI):
    hasher: PasswordHasher = empty_app.state.password_hasher
    many, other = client_of(empty_app, "192.0.2.1"), client_of(empty_app, "192.0.2.2")

    async with many, other:
        async with AsyncExitStack() as slots:
            for _ in range(count_available_cores()):
                await slots.enter_async_context(hasher.slot("another address"))
            logins = []
            with fail_after(60):
                for n in range(80):
                    logins.append(asyncio.ensure_future(many.post("/auth", data=LOG_IN)))
                    while hasher.waiting <= n and not logins[-1].done():
                        await checkpoint()
                other_login = asyncio.ensure_future(other.post("/auth", data=LOG_IN))
                while hasher.waiting < 51:
                    await checkpoint()
        statuses = [response.status_code for response in await asyncio.gather(*logins)]

    assert (await other_login).status_code == 200
    assert sorted(statuses) == [200] * 50 + [503] * 30


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of `log_in_from()`, in the order in which their passwords are verified."""
    addresses: list[str] = []
    verify = PasswordHasher.verify

    async def record(hasher: PasswordHasher, *values: Any) -> tuple[bool, str | None]:
        addresses.append(ADDRESS.get())
        return await verify(hasher, *values)

    monkeypatch.setattr(PasswordHasher, "verify", record)
    return addresses


async def log_in_from(app: FastAPI, address: str) -> None:
    ADDRESS.set(address)
    async with client_of(app, address) as client:
        assert (await client.post("/auth", data=LOG_IN)).status_code == 200


@pytest.mark.parametrize("prefix", ["192.0.2.1", "2001:db8::", "2001:db8:0:{n}::"])
async def test_networks_take_turns_in_the_password_queue(
    ann: AsyncClient, empty_app: FastAPI, verified: list[str], prefix: str
):
    """Many requests of one address, of one network of IPv6, or of one site do not delay others."""
    hasher: PasswordHasher = empty_app.state.password_hasher

    async with AsyncExitStack() as slots:
        cores = count_available_cores()
        for n in range(cores):
            await slots.enter_async_context(hasher.slot(f"core {n}"))
        many = []
        with fail_after(60):
            for n in range(45):
                many.append(asyncio.ensure_future(log_in_from(empty_app, prefix.format(n=n))))
                while hasher.waiting <= n:
                    await checkpoint()
            other = asyncio.ensure_future(log_in_from(empty_app, "198.51.100.1"))
            while hasher.waiting < 46:
                await checkpoint()
    await asyncio.gather(*many, other)

    assert verified.index("198.51.100.1") <= 2 * cores


async def test_new_clients_do_not_overtake_one_that_logged_in_before(
    ann: AsyncClient, empty_app: FastAPI, verified: list[str]
):
    hasher: PasswordHasher = empty_app.state.password_hasher
    await log_in_from(empty_app, "198.51.100.1")
    verified.clear()
    async with AsyncExitStack() as slots:
        for n in range(count_available_cores()):
            await slots.enter_async_context(hasher.slot(f"core {n}"))
        logins = []
        with fail_after(60):
            for n, address in enumerate(["198.51.100.1", *(f"192.0.2.{n}" for n in range(20))]):
                logins.append(asyncio.ensure_future(log_in_from(empty_app, address)))
                while hasher.waiting <= n:
                    await checkpoint()
    await asyncio.gather(*logins)

    assert verified.index("198.51.100.1") < 10


async def test_two_addresses_cannot_fill_the_password_queue(ann: AsyncClient, empty_app: FastAPI):
    hasher: PasswordHasher = empty_app.state.password_hasher

    async def log_in(address: str) -> int:
        async with client_of(empty_app, address) as client:
            return (await client.post("/auth", data=LOG_IN)).status_code

    async with AsyncExitStack() as slots:
        for n in range(count_available_cores()):
            await slots.enter_async_context(hasher.slot(f"core {n}"))
        many = []
        with fail_after(60):
            for n in range(100):
                many.append(asyncio.ensure_future(log_in(f"192.0.2.{n % 2}")))
                while hasher.waiting <= n:
                    await checkpoint()
            other = asyncio.ensure_future(log_in("198.51.100.1"))
            while not any(one.done() for one in many):
                await checkpoint()

    assert await other == 200
    assert sorted(await asyncio.gather(*many)) == [200] * 99 + [503]
