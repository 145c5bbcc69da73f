"""Banned email addresses: those of deactivated accounts, also after their deletion."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import text
from sqlmodel import select

from blog_api.accounts.models import BannedAddress
from blog_api.core.security import SecretKeys
from tests.accounts.test_races import wait_for_blocked_request
from tests.support.clients import PASSWORD, ChangeUser, assert_problem, id_of, log_in, sign_up
from tests.support.mailbox import Mailbox

BANNED = "ann@münchen.example"
SPELLINGS = (BANNED, "ANN@München.example", "ann@xn--mnchen-3ya.example")
TAKEN = "urn:blog-api:email-taken"


async def send_sign_up(client: AsyncClient, email: str, path: str = "/sign-up") -> Response:
    return await client.post(path, json={"email": email, "name": "Anew", "password": PASSWORD})


async def send_change(client: AsyncClient, email: str) -> Response:
    return await client.patch("/users/me", json={"email": email, "current_password": PASSWORD})


async def ban(admin: AsyncClient, client: AsyncClient, *, is_deleted: bool = False) -> int:
    """Deactivate the account of a client, perhaps delete it; return its id."""
    user_id = await id_of(client)
    path = f"/admin/users/{user_id}"
    assert (await admin.patch(path, json={"is_active": False})).status_code == 200
    if is_deleted:
        assert (await admin.delete(path)).status_code == 204
    return user_id


async def lift(admin: AsyncClient, email: str) -> Response:
    return await admin.request("DELETE", "/admin/bans", json={"email": email})


@pytest.fixture
async def ann(ann: AsyncClient) -> AsyncClient:
    assert (await send_change(ann, BANNED)).status_code == 200
    return ann


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_the_address_of_a_deactivated_account_stays_taken(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, is_deleted: bool
):
    # Of an active account.
    taken = await send_sign_up(anonymous, "bob@example.com")
    await ban(admin, ann, is_deleted=is_deleted)

    for email in SPELLINGS:
        for path in ("/sign-up", "/users"):
            refused = await send_sign_up(anonymous, email, path)
            assert_problem(refused, 400)
            assert refused.json() | {"instance": ""} == taken.json() | {"instance": ""}
            names = {"X-Request-ID", "X-Process-Time"}
            assert refused.headers.keys() - names == taken.headers.keys() - names
        changed = await send_change(bob, email)
        assert_problem(changed, 400)
        assert changed.json()["type"] == TAKEN
        opened = await admin.post(
            "/admin/users", json={"email": email, "name": "Anew", "password": PASSWORD}
        )
        assert_problem(opened, 409)
        assert opened.json()["type"] == "urn:blog-api:email-banned"
    assert (await bob.get("/users/me")).json()["email"] == "bob@example.com"
    users = (await admin.get("/admin/users")).json()
    assert users["total_count"] == (2 if is_deleted else 3)
    # The username is not given to others either.
    body = {"email": "other@example.com", "name": "Other", "username": "ann", "password": PASSWORD}
    assert_problem(await anonymous.post("/sign-up", json=body), 409)
    # Another account of the domain is not banned.
    assert (await send_sign_up(anonymous, "anna@münchen.example")).status_code == 200


async def test_the_address_of_an_active_account_is_free_after_its_deletion(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    assert (await admin.delete(f"/admin/users/{await id_of(ann)}")).status_code == 204

    assert (await send_sign_up(anonymous, BANNED)).status_code == 200


async def test_a_deactivated_user_cannot_escape_the_ban_by_leaving(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    await ban(admin, ann)

    for token in (ann.headers["Authorization"], None):
        left = await anonymous.request(
            "DELETE",
            "/users/me",
            json={"current_password": PASSWORD},
            headers={} if token is None else {"Authorization": token},
        )
        assert_problem(left, 401 if token is None else 400)
    form = {"username": BANNED, "password": PASSWORD}
    assert (await anonymous.post("/auth", data=form)).json()["detail"] == "Inactive user"
    assert (await admin.get("/admin/users")).json()["total_count"] == 2
    assert_problem(await send_sign_up(anonymous, BANNED), 400)


async def test_an_activation_lifts_the_ban(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    path = f"/admin/users/{await ban(admin, ann)}"

    # No deleted account left it.
    assert_problem(await lift(admin, BANNED), 404)
    await admin.patch(path, json={"is_active": True})
    await log_in(ann, BANNED, "users:read users:write")
    left = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert left.status_code == 204
    assert (await send_sign_up(anonymous, BANNED)).status_code == 200


@pytest.mark.parametrize("email", SPELLINGS)
async def test_an_administrator_lifts_the_ban_that_a_deleted_account_left(
    admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient, email: str
):
    await ban(admin, ann, is_deleted=True)

    unknown = await lift(admin, "unknown@example.com")
    lifted = await lift(admin, email)
    again = await lift(admin, email)
    opened = await admin.post(
        "/admin/users", json={"email": BANNED, "name": "Ann", "password": PASSWORD}
    )

    for response in (unknown, again):
        assert_problem(response, 404)
        assert response.json()["type"] == "urn:blog-api:ban-not-found"
    assert (lifted.status_code, lifted.content) == (204, b"")
    assert opened.status_code == 201
    actions = [one["action"] for one in (await admin.get("/admin/audit")).json()["results"]]
    assert actions == ["open-account", "lift-ban", "delete-user", "deactivate-user"]


async def test_the_address_of_a_deleted_account_is_not_stored(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient
):
    await ban(admin, ann, is_deleted=True)

    async with empty_app.state.database.session(writes=False) as session:
        (banned,) = (await session.exec(select(BannedAddress))).all()
    keys: SecretKeys = empty_app.state.secret_keys
    expected = keys.make_digests("banned address", "ann@xn--mnchen-3ya.example")
    assert banned.digest == expected[0]
    # Made with the secret key, and for this purpose alone.
    assert banned.digest not in SecretKeys("another" * 8).make_digests("banned address", BANNED)


async def test_a_ban_outlives_the_change_of_the_secret_key_to_the_next(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient, anonymous: AsyncClient
):
    await ban(admin, ann, is_deleted=True)
    keys: SecretKeys = empty_app.state.secret_keys
    try:
        empty_app.state.secret_keys = SecretKeys("another" * 8, keys.current)
        while_previous = await send_sign_up(anonymous, BANNED)
        lifted = await lift(admin, BANNED)
    finally:
        empty_app.state.secret_keys = keys

    assert_problem(while_previous, 400)
    assert lifted.status_code == 204


async def test_a_pending_address_that_is_banned_meanwhile_is_not_confirmed(
    admin: AsyncClient, bob: AsyncClient, mailbox: Mailbox
):
    carl = "carl@example.com"
    assert (await send_change(bob, carl)).status_code == 200
    code = await mailbox.receive_code(carl)
    body = {"email": carl, "name": "Carl", "password": PASSWORD}
    opened = (await admin.post("/admin/users", json=body)).json()
    await admin.patch(f"/admin/users/{opened['id']}", json={"is_active": False})
    await admin.delete(f"/admin/users/{opened['id']}")

    confirmed = await bob.post("/email-verifications/confirm", json={"token": code})
    requested = await send_change(bob, "Carl@example.com")

    for response in (confirmed, requested):
        assert_problem(response, 400)
        assert response.json()["type"] == TAKEN
    assert (await bob.get("/users/me")).json()["email"] == "bob@example.com"


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_an_undo_of_an_email_change_takes_no_banned_address(
    admin: AsyncClient,
    bob: AsyncClient,
    anonymous: AsyncClient,
    mailbox: Mailbox,
    is_deleted: bool,
):
    """The account that signed up with the old address was banned."""
    old, new = "bob@example.com", "robert@example.com"
    assert (await send_change(bob, new)).status_code == 200
    confirmation = await mailbox.receive_code(new)
    confirm = await bob.post("/email-verifications/confirm", json={"token": confirmation})
    assert confirm.status_code == 204
    undo = await mailbox.receive_code(old)
    signed_up = await send_sign_up(anonymous, old)
    anonymous.headers["Authorization"] = f"Bearer {signed_up.json()['token']['access_token']}"
    await ban(admin, anonymous, is_deleted=is_deleted)

    undone = await bob.post("/email-verifications/undo", json={"token": undo})

    assert_problem(undone, 400)
    assert undone.json()["type"] == TAKEN
    assert (await bob.get("/users/me")).json()["email"] == new


@pytest.mark.parametrize("way", ["sign-up", "change"])
async def test_an_address_is_not_taken_while_its_banned_account_is_deleted(
    empty_app: FastAPI,
    admin: AsyncClient,
    ann: AsyncClient,
    bob: AsyncClient,
    anonymous: AsyncClient,
    way: str,
):
    """The other request waits for the deletion, and sees the ban then."""
    ann_id = await ban(admin, ann)
    digest = empty_app.state.secret_keys.make_digests(
        "banned address", "ann@xn--mnchen-3ya.example"
    )[0]

    async with empty_app.state.database.session(writes=True) as session:
        connection = session.info["connection"]
        await connection.execute(text(f"DELETE FROM users WHERE id = {ann_id}"))
        taking = asyncio.ensure_future(
            send_sign_up(anonymous, BANNED) if way == "sign-up" else send_change(bob, BANNED)
        )
        await wait_for_blocked_request(session)
        session.add(BannedAddress(digest=digest))

    assert_problem(await taking, 400)
    assert (await admin.get("/admin/users")).json()["total_count"] == 2


async def test_an_imported_account_leaves_no_ban(
    empty_app: FastAPI, admin: AsyncClient, ann: AsyncClient, change_user: ChangeUser
):
    without = {"email": None, "email_key": None, "mailbox_key": None}
    ann_id = await id_of(ann)
    await change_user(BANNED, **without)
    await admin.patch(f"/admin/users/{ann_id}", json={"is_active": False})

    assert (await admin.delete(f"/admin/users/{ann_id}")).status_code == 204

    async with empty_app.state.database.session(writes=False) as session:
        assert (await session.exec(select(BannedAddress))).all() == []
    await sign_up(ann, "Ann")
