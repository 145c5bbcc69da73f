"""Verified email addresses, and changes of the address."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient, Response

from blog_api.accounts.rate_limits import RateLimiter
from tests.support.clients import (
    PASSWORD,
    ChangeSettings,
    ChangeUser,
    assert_problem,
    bearer,
    publish,
    sign_up,
)
from tests.support.mailbox import Mailbox, find_code

ANN, NEW = "ann@example.com", "new@example.com"
CONFIRM, CHANGED, ABOUT_TO_CHANGE = "confirm", "has changed", "about to change"


@pytest.fixture
async def carl(mailbox: Mailbox, anonymous: AsyncClient) -> AsyncClient:
    """A user who signed up with mail configured."""
    await sign_up(anonymous, "Carl")
    return anonymous


async def change_email(client: AsyncClient, email: str = NEW) -> Response:
    changes = {"email": email, "current_password": PASSWORD}
    return await client.patch("/users/me", json=changes)


async def send(client: AsyncClient, action: str, code: str) -> Response:
    return await client.post(f"/email-verifications/{action}", json={"token": code})


async def account_of(client: AsyncClient) -> dict[str, Any]:
    account: dict[str, Any] = (await client.get("/users/me")).json()
    return account


async def test_signing_up_mails_a_code_that_verifies_the_address(
    carl: AsyncClient, mailbox: Mailbox
):
    assert (await account_of(carl))["email_verified_at"] is None
    code = await mailbox.receive_code("carl@example.com", CONFIRM)

    assert (await send(carl, "confirm", code)).status_code == 204

    verified_at = datetime.fromisoformat((await account_of(carl))["email_verified_at"])
    assert datetime.now(UTC) - verified_at < timedelta(minutes=1)
    assert_problem(await send(carl, "confirm", code), 400)


async def test_an_account_without_a_log_in_gets_a_code_too(
    mailbox: Mailbox, anonymous: AsyncClient
):
    new = {"email": NEW, "password": PASSWORD}
    created = await anonymous.post("/users", json=new)

    assert created.json()["email_verified_at"] is None
    await mailbox.receive_code(NEW, CONFIRM)


async def test_a_rejected_sign_up_mails_nothing(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    new = {"email": ANN, "name": "Other", "password": PASSWORD}
    response = await anonymous.post("/sign-up", json=new)

    assert response.json()["detail"] == "Email already registered"
    assert await mailbox.receive() == []


async def test_a_new_code_replaces_the_first_one(carl: AsyncClient, mailbox: Mailbox):
    first = await mailbox.receive_code("carl@example.com")
    again = await carl.post("/email-verifications", json={})
    second = await mailbox.receive_code("carl@example.com", CONFIRM)

    assert (again.status_code, again.content) == (202, b"")
    assert_problem(await send(carl, "confirm", first), 400)
    assert (await send(carl, "confirm", second)).status_code == 204
    assert (await carl.post("/email-verifications", json={})).status_code == 202
    assert await mailbox.receive() == []


async def test_a_code_expires_after_a_day(carl: AsyncClient, mailbox: Mailbox):
    code = await mailbox.receive_code("carl@example.com")

    with time_machine.travel(datetime.now(UTC) + timedelta(days=1, minutes=1)):
        assert_problem(await send(carl, "confirm", code), 400)
    assert (await account_of(carl))["email_verified_at"] is None


async def test_a_new_address_is_pending_until_it_is_confirmed(ann: AsyncClient, mailbox: Mailbox):
    changed = await change_email(ann)

    assert changed.status_code == 200
    assert (changed.json()["email"], changed.json()["pending_email"]) == (ANN, NEW)
    to_old, to_new = sorted(await mailbox.receive(), key=lambda one: one.recipient)
    assert (to_old.recipient, to_new.recipient) == (ANN, NEW)
    assert ABOUT_TO_CHANGE in to_old.subject
    assert (await send(ann, "confirm", find_code(to_new))).status_code == 204
    account = await account_of(ann)
    assert (account["email"], account["pending_email"]) == (NEW, None)
    assert account["email_verified_at"] is not None
    form = {"username": NEW, "password": PASSWORD}
    assert (await ann.post("/auth", data=form)).status_code == 200
    await mailbox.receive_code(ANN, CHANGED)


async def test_without_mail_a_new_address_takes_effect_at_once(ann: AsyncClient):
    changed = (await change_email(ann)).json()

    assert (changed["email"], changed["pending_email"]) == (NEW, None)
    assert changed["email_verified_at"] is None


async def test_a_taken_address_is_refused_when_it_is_entered_and_when_it_is_confirmed(
    ann: AsyncClient, bob: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    assert (await change_email(ann, "bob@example.com")).json()["detail"].startswith("Email already")
    assert await mailbox.receive() == []
    await change_email(ann)
    code = await mailbox.receive_code(NEW)
    await anonymous.post("/users", json={"email": NEW, "password": PASSWORD})

    refused = await send(ann, "confirm", code)

    assert_problem(refused, 400)
    assert refused.json()["type"] == "urn:blog-api:email-taken"
    assert (await account_of(ann))["email"] == ANN


async def test_entering_the_current_address_drops_the_pending_one(
    ann: AsyncClient, mailbox: Mailbox
):
    await change_email(ann)
    code = await mailbox.receive_code(NEW)

    back = (await change_email(ann, ANN)).json()

    assert (back["email"], back["pending_email"]) == (ANN, None)
    assert_problem(await send(ann, "confirm", code), 400)


@pytest.mark.parametrize("is_confirmed", [False, True])
async def test_the_old_address_can_undo_a_change(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient, is_confirmed: bool
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    if is_confirmed:
        await send(ann, "confirm", codes[NEW])
    await anonymous.post("/password-resets", json={"email": NEW if is_confirmed else ANN})
    reset = [one for one in await mailbox.receive() if "new password" in one.subject]

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=20)):
        undone = await send(anonymous, "undo", codes[ANN])

        assert (undone.status_code, undone.content) == (204, b"")
        assert (await ann.get("/users/me")).status_code == 401
        form = {"username": ANN, "password": PASSWORD}
        token = (await anonymous.post("/auth", data=form)).json()["access_token"]
        account = (await anonymous.get("/users/me", headers=bearer(token))).json()
        assert (account["email"], account["pending_email"]) == (ANN, None)
        assert_problem(await send(anonymous, "confirm", codes[NEW]), 400)
        body = {"token": find_code(reset[0]), "new_password": "battery staple"}
        assert_problem(await anonymous.post("/password-resets/confirm", json=body), 400)
        assert_problem(await send(anonymous, "undo", codes[ANN]), 400)


async def test_a_change_can_be_undone_for_a_week(ann: AsyncClient, mailbox: Mailbox):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    await send(ann, "confirm", codes[NEW])

    with time_machine.travel(datetime.now(UTC) + timedelta(days=7, minutes=1)):
        assert_problem(await send(ann, "undo", codes[ANN]), 400)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=6, hours=23)):
        assert (await send(ann, "undo", codes[ANN])).status_code == 204


async def test_an_older_undo_wins_over_a_newer_one(ann: AsyncClient, mailbox: Mailbox):
    """Somebody else who changed the address twice cannot take the account back."""
    undo = {}
    for old, new in ((ANN, NEW), (NEW, "third@example.com")):
        await change_email(ann, new)
        codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
        undo[old] = codes[old]
        await send(ann, "confirm", codes[new])
        await mailbox.receive()

    assert (await send(ann, "undo", undo[ANN])).status_code == 204
    assert_problem(await send(ann, "undo", undo[NEW]), 400)


async def test_a_new_password_drops_the_pending_address_and_keeps_the_undo(
    ann: AsyncClient, mailbox: Mailbox
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    change = {"current_password": PASSWORD, "new_password": "battery staple"}
    await ann.put("/users/me/password", json=change)

    assert (await account_of(ann))["pending_email"] is None
    assert_problem(await send(ann, "confirm", codes[NEW]), 400)
    assert (await send(ann, "undo", codes[ANN])).status_code == 204


async def test_a_reset_leaves_nothing_to_whoever_took_an_address_of_somebody_else(
    carl: AsyncClient, mailbox: Mailbox
):
    """The account was opened with an address that its owner never verified."""
    squatter = "squatter@example.com"
    await change_email(carl, squatter)
    codes = {one.recipient: find_code(one) for one in (await mailbox.receive())[-2:]}
    await carl.post("/password-resets", json={"email": "carl@example.com"})
    reset = await mailbox.receive_code("carl@example.com", "new password")
    body = {"token": reset, "new_password": "battery staple"}

    assert (await carl.post("/password-resets/confirm", json=body)).status_code == 204

    assert (await carl.get("/users/me")).status_code == 401
    assert_problem(await send(carl, "confirm", codes[squatter]), 400)
    assert_problem(await send(carl, "undo", codes["carl@example.com"]), 400)
    form = {"username": "carl@example.com", "password": "battery staple"}
    assert (await carl.post("/auth", data=form)).status_code == 200


async def test_an_undo_of_a_verified_address_survives_a_reset_of_the_new_one(
    carl: AsyncClient, mailbox: Mailbox
):
    """Somebody who stole a session confirms an own address and resets the password with it."""
    await send(carl, "confirm", await mailbox.receive_code("carl@example.com"))
    await change_email(carl, "thief@example.com")
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    await send(carl, "confirm", codes["thief@example.com"])
    await mailbox.receive()
    await carl.post("/password-resets", json={"email": "thief@example.com"})
    body = {
        "token": await mailbox.receive_code("thief@example.com", "new password"),
        "new_password": "battery staple",
    }
    assert (await carl.post("/password-resets/confirm", json=body)).status_code == 204

    assert (await send(carl, "undo", codes["carl@example.com"])).status_code == 204
    await carl.post("/password-resets", json={"email": "carl@example.com"})
    assert await mailbox.receive_code("carl@example.com", "new password")


async def test_a_thief_cannot_prevent_an_undo_by_signing_up_with_the_old_address(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    await send(ann, "confirm", codes[NEW])
    thief = {"email": ANN, "name": "Thief", "password": "battery staple"}
    token = (await anonymous.post("/sign-up", json=thief)).json()["token"]["access_token"]

    assert (await send(ann, "undo", codes[ANN])).status_code == 204

    assert (await anonymous.get("/users/me", headers=bearer(token))).status_code == 401
    form = {"username": ANN, "password": PASSWORD}
    assert (await anonymous.post("/auth", data=form)).status_code == 200
    form["password"] = "battery staple"
    assert (await anonymous.post("/auth", data=form)).status_code == 400


async def test_an_undo_fails_if_the_old_address_was_verified_for_another_account(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    await send(ann, "confirm", codes[NEW])
    await mailbox.receive()
    await anonymous.post("/users", json={"email": ANN, "password": PASSWORD})
    await send(anonymous, "confirm", await mailbox.receive_code(ANN))

    refused = await send(ann, "undo", codes[ANN])

    assert refused.json()["type"] == "urn:blog-api:email-taken"
    assert (await account_of(ann))["email"] == NEW


async def test_an_undo_takes_no_address_from_an_administrator(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient, change_user: ChangeUser
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    await send(ann, "confirm", codes[NEW])
    await anonymous.post("/users", json={"email": ANN, "password": PASSWORD})
    await change_user(ANN, is_admin=True)

    assert_problem(await send(ann, "undo", codes[ANN]), 400)


async def test_writing_may_require_a_verified_address(
    carl: AsyncClient, ann: AsyncClient, mailbox: Mailbox, change_settings: ChangeSettings
):
    post = await publish(ann)
    change_settings(require_verified_email=True)
    comments = f"/posts/{post['id']}/comments"
    refused = [
        await carl.post("/posts", json={"title": "Hello", "content": "World"}),
        await carl.post(comments, json={"content": "Hello"}),
        await carl.post("/preview", json={"content": "Hello"}),
        await ann.patch(f"/posts/{post['id']}", json={"title": "Changed"}),
        await ann.delete(f"/posts/{post['id']}"),
    ]
    for response in refused:
        assert_problem(response, 403)
        assert response.json()["type"] == "urn:blog-api:email-not-verified"
    assert (await carl.get(f"/posts/{post['id']}")).json()["title"] == post["title"]
    assert (await carl.put(f"/users/me/bookmarks/{post['id']}")).status_code == 204

    codes = [one for one in await mailbox.receive() if one.recipient == "carl@example.com"]
    await send(carl, "confirm", find_code(codes[0]))

    assert (await carl.post(comments, json={"content": "Hello"})).status_code == 201


async def test_an_administrator_writes_without_a_verified_address(
    admin: AsyncClient, mailbox: Mailbox, change_settings: ChangeSettings
):
    change_settings(require_verified_email=True)

    assert await publish(admin)


async def test_the_owner_is_told_of_what_happens_to_the_account(
    ann: AsyncClient, admin: AsyncClient, mailbox: Mailbox
):
    change = {"current_password": PASSWORD, "new_password": "battery staple"}
    await ann.put("/users/me/password", json=change)
    await ann.post("/users/me/tokens", json={"name": "Script"})
    user_id = (await account_of(ann))["id"]
    for is_admin in (True, True, False):
        await admin.patch(f"/admin/users/{user_id}", json={"is_admin": is_admin})

    assert [(one.recipient, one.subject) for one in await mailbox.receive()] == [
        (ANN, "Blog API: Your password has changed"),
        (ANN, "Blog API: A new personal token"),
        (ANN, "Blog API: You are an administrator"),
        (ANN, "Blog API: You are no longer an administrator"),
    ]


async def test_an_address_that_the_version_before_changed_is_not_verified(
    carl: AsyncClient, mailbox: Mailbox, change_user: ChangeUser
):
    await send(carl, "confirm", await mailbox.receive_code("carl@example.com"))
    # That version changes the address alone.
    await change_user("carl@example.com", email=NEW)

    assert (await account_of(carl))["email_verified_at"] is None


@pytest.mark.parametrize("action", ["", "/confirm", "/undo"])
async def test_without_mail_no_address_is_verified(ann: AsyncClient, action: str):
    response = await ann.post(f"/email-verifications{action}", json={"token": "1.a"})

    assert_problem(response, 503)
    assert response.json()["type"] == "urn:blog-api:mail-not-configured"


async def test_a_pending_address_that_has_an_account_meanwhile_gets_no_mails(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await change_email(ann)
    await anonymous.post("/users", json={"email": NEW, "password": PASSWORD})
    await mailbox.receive()

    assert (await ann.post("/email-verifications", json={})).status_code == 202

    assert await mailbox.receive() == []
    assert (await account_of(ann))["pending_email"] is None


async def test_entering_the_pending_address_again_mails_nothing(ann: AsyncClient, mailbox: Mailbox):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}

    assert (await change_email(ann)).json()["pending_email"] == NEW
    assert await mailbox.receive() == []
    assert (await send(ann, "confirm", codes[NEW])).status_code == 204


async def test_deactivation_voids_codes_and_the_pending_address(
    ann: AsyncClient, admin: AsyncClient, mailbox: Mailbox
):
    await change_email(ann)
    codes = {one.recipient: find_code(one) for one in await mailbox.receive()}
    path = f"/admin/users/{(await account_of(ann))['id']}"
    for is_active in (False, True):
        await admin.patch(path, json={"is_active": is_active})

    assert_problem(await send(ann, "confirm", codes[NEW]), 400)
    assert (await admin.get(path)).json()["pending_email"] is None


async def test_codes_of_one_kind_leave_the_limit_of_the_other(
    empty_app: FastAPI, mailbox: Mailbox, anonymous: AsyncClient
):
    """Somebody who signed up with an address of others cannot suppress their reset."""
    settings = empty_app.state.settings.model_copy(update={"rate_limit_enabled": True})
    limiter = RateLimiter(settings)
    await sign_up(anonymous, "Carl")
    previous, empty_app.state.rate_limiter = empty_app.state.rate_limiter, limiter
    try:
        for _ in range(10):
            await anonymous.post("/email-verifications", json={})
        await anonymous.post("/password-resets", json={"email": "carl@example.com"})
    finally:
        empty_app.state.rate_limiter = previous
        await limiter.close()

    subjects = [one.subject for one in await mailbox.receive()]
    assert "Blog API: A new password" in subjects
