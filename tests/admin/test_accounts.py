"""Closed and open sign-up, and accounts that administrators open: `POST /admin/users`."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlmodel import col, select, update

from blog_api.accounts.models import IdempotencyKey, User
from blog_api.core.security import SecretKeys
from tests.support.clients import (
    PASSWORD,
    ChangeSettings,
    ChangeUser,
    assert_problem,
    client_of,
    id_of,
    log_in,
    publish,
    running,
    sign_up,
)
from tests.support.limits import assert_limited, make_limited_settings
from tests.support.mailbox import Mailbox, find_code

CARL = "carl@example.com"
NEW = {"email": CARL, "name": "Carl"}
NEW_PASSWORD = "battery staple"
WITH_PASSWORD = NEW | {"password": NEW_PASSWORD}
KEY = {"Idempotency-Key": "a"}


async def open_account(admin: AsyncClient, **values: Any) -> Response:
    return await admin.post("/admin/users", json=NEW | values)


async def confirm(client: AsyncClient, code: str, password: str = NEW_PASSWORD) -> Response:
    body = {"token": code, "new_password": password}
    return await client.post("/password-resets/confirm", json=body)


async def can_log_in(client: AsyncClient, password: str = NEW_PASSWORD) -> bool:
    form = {"username": CARL, "password": password}
    return (await client.post("/auth", data=form)).status_code == 200


async def read_actions(admin: AsyncClient) -> list[tuple[object, ...]]:
    """Return the audit entries, the oldest first."""
    entries = (await admin.get("/admin/audit")).json()["results"]
    return [(one["action"], one["admin_id"], one["user_id"]) for one in reversed(entries)]


@pytest.mark.parametrize("path", ["/sign-up", "/users"])
@pytest.mark.parametrize(
    "body", [WITH_PASSWORD, WITH_PASSWORD | {"email": "admin@example.com"}, {}]
)
async def test_a_closed_sign_up_is_403(
    admin: AsyncClient,
    anonymous: AsyncClient,
    change_settings: ChangeSettings,
    path: str,
    body: dict[str, str],
):
    change_settings(sign_up="closed")

    refused = await anonymous.post(path, json=body)

    assert_problem(refused, 403)
    assert refused.json()["type"] == "urn:blog-api:sign-up-closed"
    assert (await admin.get("/admin/users")).json()["total_count"] == 1
    # Nor does the token of an administrator open it.
    assert (await admin.post(path, json=WITH_PASSWORD)).status_code == 403


async def test_a_closed_sign_up_leaves_existing_accounts_alone(
    ann: AsyncClient, change_settings: ChangeSettings
):
    change_settings(sign_up="closed")

    await log_in(ann, "ann@example.com", "users:read users:write posts:read posts:write")

    assert await publish(ann)
    body = {"email": "anna@example.com", "current_password": PASSWORD}
    assert (await ann.patch("/users/me", json=body)).status_code == 200


@pytest.mark.parametrize("setting", ["open", "closed"])
@pytest.mark.parametrize("has_mail", [True, False])
@pytest.mark.parametrize("has_password", [True, False])
async def test_an_administrator_opens_an_account(
    admin: AsyncClient,
    anonymous: AsyncClient,
    mailbox: Mailbox,
    change_settings: ChangeSettings,
    setting: str,
    has_mail: bool,
    has_password: bool,
):
    change_settings(sign_up=setting)
    if not has_mail:
        change_settings(mail_url=None)

    response = await open_account(admin, **({"password": NEW_PASSWORD} if has_password else {}))
    messages = await mailbox.receive()

    if not has_mail and not has_password:
        assert_problem(response, 422)
        (error,) = response.json()["errors"]
        assert (error["loc"], error["type"]) == (["body", "password"], "missing")
        assert "sends no mail" in error["msg"]
        assert (await admin.get("/admin/users")).json()["total_count"] == 1
        assert await read_actions(admin) == []
        return
    assert response.status_code == 201
    account = response.json()
    assert account == (await admin.get(f"/admin/users/{account['id']}")).json()
    assert (account["email"], account["name"], account["username"]) == (CARL, "Carl", "carl")
    assert (account["is_active"], account["is_admin"], account["is_author"]) == (True, False, True)
    assert account["email_verified_at"] is None
    assert NEW_PASSWORD not in response.text
    assert [one.recipient for one in messages] == [CARL] * has_mail
    assert await can_log_in(anonymous) is has_password
    assert await read_actions(admin) == [("open-account", await id_of(admin), account["id"])]
    if has_mail:
        code = find_code(messages[0])
        assert code not in response.text
        path = "password-resets" if not has_password else "email-verifications"
        body = {"token": code} | ({} if has_password else {"new_password": NEW_PASSWORD})
        confirmed = await anonymous.post(f"/{path}/confirm", json=body)
        assert confirmed.status_code == 204
        assert await can_log_in(anonymous)
        shown = (await admin.get(f"/admin/users/{account['id']}")).json()
        assert shown["email_verified_at"] is not None


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("is_author", [True, False, None])
async def test_an_administrator_chooses_whether_the_user_is_an_author(
    admin: AsyncClient, change_settings: ChangeSettings, default: bool, is_author: bool | None
):
    change_settings(new_users_are_authors=default)

    chosen = {} if is_author is None else {"is_author": is_author}
    account = (await open_account(admin, password=NEW_PASSWORD, **chosen)).json()

    assert account["is_author"] is (default if is_author is None else is_author)


async def test_the_address_and_the_username_are_those_of_one_account(
    admin: AsyncClient, ann: AsyncClient
):
    address = await open_account(admin, email="ANN@example.com", password=NEW_PASSWORD)
    username = await open_account(admin, username="ann", password=NEW_PASSWORD)
    chosen = await open_account(admin, username="charles", password=NEW_PASSWORD)

    assert address.json()["type"] == "urn:blog-api:email-taken"
    assert username.json()["type"] == "urn:blog-api:username-taken"
    assert chosen.json()["username"] == "charles"
    assert [action for action, *_ in await read_actions(admin)] == ["open-account"]


@pytest.mark.parametrize("password", ["short", "password", "carl-carl"])
async def test_a_weak_password_is_rejected(admin: AsyncClient, password: str):
    response = await open_account(admin, password=password)

    assert_problem(response, 422)
    assert response.json()["errors"][0]["loc"] == ["body", "password"]


async def test_an_account_without_a_password_rejects_every_password(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    await open_account(admin)

    for password in (PASSWORD, NEW_PASSWORD, "None", " "):
        assert not await can_log_in(anonymous, password)
    form = {"grant_type": "password", "username": CARL, "password": PASSWORD}
    assert (await anonymous.post("/token", data=form)).status_code == 401


async def test_the_code_of_a_new_account_sets_a_password_once(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    await open_account(admin)
    code = await mailbox.receive_code(CARL, "new account")

    refused = await anonymous.post("/email-verifications/confirm", json={"token": code})
    weak = await confirm(anonymous, code, "carl-carl")
    first = await confirm(anonymous, code)
    second = await confirm(anonymous, code, "another staple")

    assert_problem(refused, 400)
    assert_problem(weak, 422)
    assert first.status_code == 204
    assert_problem(second, 400)
    assert await can_log_in(anonymous)


async def test_the_code_of_a_new_account_expires_after_a_week(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    await open_account(admin)
    code = await mailbox.receive_code(CARL)

    for after, status in ((timedelta(days=7, seconds=1), 400), (timedelta(days=6), 204)):
        with time_machine.travel(datetime.now(UTC) + after):
            assert (await confirm(anonymous, code)).status_code == status


async def test_a_user_without_a_password_requests_one(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    await open_account(admin)
    opening = await mailbox.receive_code(CARL)
    await anonymous.post("/password-resets", json={"email": CARL})
    reset = await mailbox.receive_code(CARL, "new password")

    confirmed = await confirm(anonymous, reset)

    assert confirmed.status_code == 204
    assert await can_log_in(anonymous)
    assert_problem(await confirm(anonymous, opening, "another staple"), 400)


async def test_a_request_for_a_reset_leaves_the_code_of_a_new_account_valid(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    """Otherwise a stranger who knows the address could take it away."""
    await open_account(admin)
    opening = await mailbox.receive_code(CARL)
    await anonymous.post("/password-resets", json={"email": CARL})
    reset = await mailbox.receive_code(CARL)

    assert (await confirm(anonymous, opening)).status_code == 204
    assert_problem(await confirm(anonymous, reset, "another staple"), 400)


async def test_deactivation_voids_the_code_of_a_new_account(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    path = f"/admin/users/{(await open_account(admin)).json()['id']}"
    code = await mailbox.receive_code(CARL)
    for is_active in (False, True):
        await admin.patch(path, json={"is_active": is_active})

    assert_problem(await confirm(anonymous, code), 400)


@pytest.mark.parametrize(("language", "word"), [("en", "Choose a password"), ("ru", "пароль")])
async def test_the_mail_has_the_language_of_the_request_and_no_text_of_users(
    admin: AsyncClient, mailbox: Mailbox, language: str, word: str
):
    body = NEW | {"name": "Buy pills"}
    await admin.post("/admin/users", json=body, headers={"Accept-Language": language})

    (message,) = await mailbox.receive()
    assert word in message.text
    assert "pills" not in message.text + message.subject


@pytest.mark.parametrize("values", [{}, {"password": NEW_PASSWORD}])
async def test_an_account_is_opened_once(
    admin: AsyncClient, empty_app: FastAPI, mailbox: Mailbox, values: dict[str, str]
):
    first, second = [
        await admin.post("/admin/users", json=NEW | values, headers=KEY) for _ in range(2)
    ]
    other = await admin.post("/admin/users", json=NEW | {"name": "Carla"}, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second.headers["ETag"] == first.headers["ETag"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert other.json()["type"] == "urn:blog-api:idempotency-key-reused"
    assert len(await mailbox.receive()) == 1
    assert len(await read_actions(admin)) == 1


@pytest.mark.parametrize("values", [{}, {"password": NEW_PASSWORD}])
async def test_concurrent_requests_with_one_key_open_one_account(
    admin: AsyncClient, mailbox: Mailbox, values: dict[str, str]
):
    responses = await asyncio.gather(
        *(admin.post("/admin/users", json=NEW | values, headers=KEY) for _ in range(5))
    )

    assert {(one.status_code, one.content) for one in responses} == {(201, responses[0].content)}
    assert sum("Idempotency-Replayed" in one.headers for one in responses) == 4
    assert len(await mailbox.receive()) == 1


async def test_concurrent_requests_without_a_key_open_one_account(
    admin: AsyncClient, anonymous: AsyncClient, mailbox: Mailbox
):
    responses = await asyncio.gather(
        *(open_account(admin) for _ in range(3)), anonymous.post("/sign-up", json=WITH_PASSWORD)
    )

    statuses = sorted(one.status_code for one in responses)
    assert statuses[0] in (200, 201)
    assert statuses[1:] == [400] * 3
    assert len(await mailbox.receive()) == 1


async def test_a_key_does_not_tell_the_password(admin: AsyncClient, empty_app: FastAPI):
    """The database has no digest by which it could be guessed without the secret key."""
    rows = []
    for email in (CARL, "dora@example.com"):
        body = WITH_PASSWORD | {"email": email}
        await admin.post("/admin/users", json=body, headers={"Idempotency-Key": email})
    async with empty_app.state.database.session(writes=False) as session:
        rows = list(await session.exec(select(IdempotencyKey)))

    assert len(rows) == 2
    for row in rows:
        # An HMAC in base64; a plain digest would be hexadecimal.
        assert len(row.fingerprint) == 43
        assert row.body is not None
        assert NEW_PASSWORD.encode() not in row.body


@pytest.fixture
def rotate_key(empty_app: FastAPI) -> Iterator[Callable[[], None]]:
    """Replace the secret key; the one before still verifies."""
    keys: SecretKeys = empty_app.state.secret_keys

    def rotate_key() -> None:
        empty_app.state.secret_keys = SecretKeys("a new key of more than 32 bytes", keys.current)

    yield rotate_key
    empty_app.state.secret_keys = keys


async def test_a_new_secret_key_makes_no_replay_another_request(
    admin: AsyncClient, rotate_key: Callable[[], None]
):
    first = await admin.post("/admin/users", json=WITH_PASSWORD, headers=KEY)
    rotate_key()

    replayed = await admin.post("/admin/users", json=WITH_PASSWORD, headers=KEY)

    assert replayed.content == first.content


async def test_a_dismissed_administrator_gets_no_replay(
    admin: AsyncClient, change_user: ChangeUser
):
    await admin.post("/admin/users", json=WITH_PASSWORD, headers=KEY)
    await change_user("admin@example.com", is_admin=False)

    replayed = await admin.post("/admin/users", json=WITH_PASSWORD, headers=KEY)

    assert replayed.json()["type"] == "urn:blog-api:insufficient-scope"


async def test_opening_accounts_is_limited_per_administrator():
    settings = make_limited_settings(rate_limit_writes="2/minute")
    async with running(settings) as app, client_of(app) as admin:
        await sign_up(admin, "Admin")
        async with app.state.database.session(writes=True) as session:
            await session.exec(update(User).values(is_admin=True))
        await log_in(admin, "admin@example.com")
        responses = [
            await open_account(admin, email=f"{name}@example.com", password=NEW_PASSWORD)
            for name in ("carl", "dora", "emil")
        ]

    assert [one.status_code for one in responses[:2]] == [201, 201]
    assert_limited(responses[2], "accounts", 2, 60)


async def test_changes_of_an_author_are_audited_and_revoke_nothing(
    admin: AsyncClient, ann: AsyncClient, mailbox: Mailbox
):
    me, user = await id_of(admin), await id_of(ann)

    for is_author in (True, False, False, True):
        response = await admin.patch(f"/admin/users/{user}", json={"is_author": is_author})
        assert response.json()["is_author"] is is_author

    assert await read_actions(admin) == [
        ("dismiss-author", me, user),
        ("make-author", me, user),
    ]
    assert (await ann.get("/users/me")).status_code == 200
    assert await mailbox.receive() == []


async def test_the_last_administrator_need_not_be_an_author(admin: AsyncClient):
    path = f"/admin/users/{await id_of(admin)}"

    response = await admin.patch(path, json={"is_author": False})

    assert response.status_code == 200
    assert (await admin.get("/admin/stats")).status_code == 200


@pytest.mark.parametrize("is_author", [None, "yes", 1])
async def test_an_invalid_flag_is_rejected(admin: AsyncClient, is_author: object):
    path = f"/admin/users/{await id_of(admin)}"

    assert_problem(await admin.patch(path, json={"is_author": is_author}), 422)
    assert_problem(await open_account(admin, password=NEW_PASSWORD, is_author=is_author), 422)


async def test_the_hash_of_an_account_without_a_password_is_null(
    admin: AsyncClient, empty_app: FastAPI, mailbox: Mailbox
):
    await open_account(admin)

    async with empty_app.state.database.session(writes=False) as session:
        user = (await session.exec(select(User).where(col(User.email) == CARL))).one()
    assert user.password_hash is None
