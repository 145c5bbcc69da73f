"""A forgotten password: codes by mail."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from httpx import AsyncClient, Response

from tests.support.clients import (
    PASSWORD,
    ChangeSettings,
    ChangeUser,
    assert_problem,
    bearer,
    sign_up,
)
from tests.support.mailbox import Mailbox, find_code

ANN = "ann@example.com"
NEW_PASSWORD = "battery staple"


async def request_reset(client: AsyncClient, email: str = ANN, **headers: str) -> Response:
    return await client.post("/password-resets", json={"email": email}, headers=headers)


async def confirm(client: AsyncClient, code: str, password: str = NEW_PASSWORD) -> Response:
    body = {"token": code, "new_password": password}
    return await client.post("/password-resets/confirm", json=body)


async def can_log_in(client: AsyncClient, password: str, email: str = ANN) -> bool:
    form = {"username": email, "password": password}
    return (await client.post("/auth", data=form)).status_code == 200


async def test_a_code_sets_a_new_password_once(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    requested = await request_reset(anonymous)
    (message,) = await mailbox.receive()
    code = find_code(message)

    assert (requested.status_code, requested.content) == (202, b"")
    assert message.recipient == ANN
    confirmed = await confirm(anonymous, code)
    assert (confirmed.status_code, confirmed.content) == (204, b"")
    assert await can_log_in(anonymous, NEW_PASSWORD)
    assert not await can_log_in(anonymous, PASSWORD)
    assert_problem(await confirm(anonymous, code, "another staple"), 400)
    assert await can_log_in(anonymous, NEW_PASSWORD)


async def test_a_reset_revokes_all_tokens_and_tells_the_owner(
    ann: AsyncClient, bob: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    personal = (await ann.post("/users/me/tokens", json={"name": "Script"})).json()
    form = {"grant_type": "password", "username": ANN, "password": PASSWORD}
    jwt = (await ann.post("/token", data=form)).json()
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN, "password")

    await confirm(anonymous, code)

    for token in (personal["access_token"], jwt["access_token"]):
        assert (await anonymous.get("/users/me", headers=bearer(token))).status_code == 401
    assert (await ann.get("/users/me")).status_code == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": jwt["refresh_token"]}
    assert (await anonymous.post("/token", data=refresh)).status_code == 400
    assert (await bob.get("/users/me")).status_code == 200
    (notice,) = await mailbox.receive()
    assert (notice.recipient, notice.subject) == (ANN, "Blog API: Your password has changed")


async def test_the_response_does_not_tell_whether_an_address_has_an_account(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    known = await request_reset(anonymous)
    unknown = await request_reset(anonymous, "nobody@example.com")

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    variable = {"x-request-id", "x-process-time"}
    assert {name: value for name, value in known.headers.items() if name not in variable} == {
        name: value for name, value in unknown.headers.items() if name not in variable
    }
    assert [one.recipient for one in await mailbox.receive()] == [ANN]


async def test_an_inactive_user_and_an_imported_author_get_no_mail(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient, change_user: ChangeUser
):
    await change_user(ANN, is_active=False)

    assert (await request_reset(anonymous)).status_code == 202
    assert await mailbox.receive() == []


async def test_a_code_is_worthless_after_deactivation(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient, change_user: ChangeUser
):
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN)
    await change_user(ANN, is_active=False)

    assert_problem(await confirm(anonymous, code), 400)


async def test_the_mail_goes_to_the_registered_spelling(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous, " ANN@Example.COM ")

    assert [one.recipient for one in await mailbox.receive()] == [ANN]


async def test_a_newer_code_replaces_an_older_one(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    first = await mailbox.receive_code(ANN)
    await request_reset(anonymous)
    second = await mailbox.receive_code(ANN)

    assert_problem(await confirm(anonymous, first), 400)
    assert (await confirm(anonymous, second)).status_code == 204


async def test_a_code_expires_after_30_minutes(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN)

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=31)):
        assert_problem(await confirm(anonymous, code), 400)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=29)):
        assert (await confirm(anonymous, code)).status_code == 204


@pytest.mark.parametrize("change", ["", "0", "id", "digest", "case", "space", "newline"])
async def test_a_made_up_code_changes_nothing(
    ann: AsyncClient, bob: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient, change: str
):
    await request_reset(anonymous)
    await request_reset(anonymous, "bob@example.com")
    of_ann, of_bob = (find_code(one) for one in await mailbox.receive())
    number, digest = of_ann.split(".")
    forged = {
        "": "",
        "0": f"0.{digest}",
        "id": f"{of_bob.split('.')[0]}.{digest}",
        "digest": f"{number}.{digest[:-1]}{'A' if digest[-1] != 'A' else 'B'}",
        "case": f"{number}.{digest.swapcase()}",
        "space": f" {of_ann}",
        "newline": f"{of_ann}\n",
    }[change]

    assert_problem(await confirm(anonymous, forged), 400)

    for email in (ANN, "bob@example.com"):
        assert await can_log_in(anonymous, PASSWORD, email)
    assert (await confirm(anonymous, of_ann)).status_code == 204


async def test_a_weak_password_leaves_the_code_valid(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN)

    for password in ("short", "password1", "aaaaaaaaaaaa"):
        assert_problem(await confirm(anonymous, code, password), 422)
    assert (await confirm(anonymous, code)).status_code == 204


async def test_a_code_for_another_purpose_sets_no_password(
    mailbox: Mailbox, anonymous: AsyncClient
):
    await sign_up(anonymous, "Carl")
    code = await mailbox.receive_code("carl@example.com", "confirm")

    assert_problem(await confirm(anonymous, code), 400)


async def test_a_code_is_worthless_when_the_account_is_deleted(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN)
    deletion = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})
    assert deletion.status_code == 204

    assert_problem(await confirm(anonymous, code), 400)


async def test_a_new_password_voids_the_code(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    code = await mailbox.receive_code(ANN)
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await ann.put("/users/me/password", json=change)).status_code == 204

    assert_problem(await confirm(anonymous, code, "another staple"), 400)
    assert await can_log_in(anonymous, NEW_PASSWORD)


async def test_a_reset_verifies_the_address(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous)
    await confirm(anonymous, await mailbox.receive_code(ANN))

    form = {"username": ANN, "password": NEW_PASSWORD}
    token = (await anonymous.post("/auth", data=form)).json()["access_token"]
    account = (await anonymous.get("/users/me", headers=bearer(token))).json()
    assert account["email_verified_at"] is not None


async def test_the_mail_is_in_the_language_of_the_request(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await request_reset(anonymous, **{"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.8"})
    await request_reset(anonymous, **{"Accept-Language": "de,en;q=0.8,ru;q=0.1"})

    subjects = [one.subject for one in await mailbox.receive()]
    assert subjects == ["Blog API: Новый пароль", "Blog API: A new password"]


async def test_the_link_has_the_code_behind_the_number_sign(
    ann: AsyncClient,
    mailbox: Mailbox,
    anonymous: AsyncClient,
    change_settings: ChangeSettings,
):
    url = "https://example.com/password#code={token}"
    change_settings(password_reset_url=url)
    await request_reset(anonymous)

    (message,) = await mailbox.receive()

    assert url.replace("{token}", find_code(message)) in message.text


async def test_without_mail_there_is_no_recovery(ann: AsyncClient, anonymous: AsyncClient):
    for response in (await request_reset(anonymous), await confirm(anonymous, "1.a")):
        assert_problem(response, 503)
        assert response.json()["type"] == "urn:blog-api:mail-not-configured"


@pytest.mark.parametrize("email", ["", "ann", "ann@", "a\n@example.com", 1, None])
async def test_an_invalid_address_is_rejected(
    mailbox: Mailbox, anonymous: AsyncClient, email: object
):
    response = await anonymous.post("/password-resets", json={"email": email})

    assert_problem(response, 422)


async def test_a_mail_has_no_text_that_a_user_has_chosen(
    ann: AsyncClient, mailbox: Mailbox, anonymous: AsyncClient
):
    await ann.patch("/users/me", json={"name": "Visit evil.example"})
    await request_reset(anonymous)

    (message,) = await mailbox.receive()

    assert "evil" not in message.text + message.subject
