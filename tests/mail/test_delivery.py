"""Deliver mails from the outbox: attempts, leases, and what happens to requests meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import anyio
import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import make_url
from sqlmodel import col, select, update

from blog_api.accounts.recovery import prepare_mail
from blog_api.core.settings import Settings
from blog_api.mail import outbox, transport
from blog_api.mail.models import Mail
from blog_api.mail.outbox import Outbox
from blog_api.mail.texts import Message
from blog_api.mail.transport import DeliveryFailed, Transport, create_transport
from tests.support.clients import PASSWORD, client_of, publish, request_with_retry, running, sign_up
from tests.support.mailbox import Mailbox, find_code
from tests.support.smtp import (
    HOST,
    SENDER,
    Inbox,
    make_mail_settings,
    scripted_server,
    smtp_server,
)

CARL = {"email": "carl@example.com", "name": "Carl", "password": PASSWORD}
# In seconds: of what may hang, on a busy machine.
DEADLINE = 60
NOT_IN_STEP = timedelta(seconds=1)


async def refuse(_: Message) -> None:
    raise DeliveryFailed("Refused")


def outbox_of(app: FastAPI) -> Outbox:
    return Outbox(app.state.settings, app.state.database, prepare_mail)


async def attempt(app: FastAPI, send: Transport) -> None:
    """Claim the only mail that is due, and deliver it."""
    box = outbox_of(app)
    mail = await box.claim()
    assert mail is not None
    await box.deliver(mail, app.state.secret_keys, send)


async def read_mails(app: FastAPI) -> list[Mail]:
    async with app.state.database.session(writes=False) as session:
        return list(await session.exec(select(Mail).order_by(col(Mail.id))))


async def test_attempts_are_repeated_after_longer_and_longer_pauses(
    mailbox: Mailbox, anonymous: AsyncClient
):
    app = mailbox.app
    await anonymous.post("/sign-up", json=CARL)
    pauses = []

    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        while mails := await read_mails(app):
            (mail,) = mails
            assert mail.send_at is not None
            clock.move_to(mail.send_at - NOT_IN_STEP)
            assert mail.attempts == 0 or await outbox_of(app).claim() is None
            clock.move_to(mail.send_at)
            pauses.append((mail.send_at - mail.created_at).total_seconds())
            await attempt(app, refuse)

    # Of a code that is valid for a day.
    steps = [round(later - earlier) for earlier, later in pairwise(pauses)]
    assert steps[:8] == [30, 60, 120, 240, 480, 960, 1920, 3600]
    assert set(steps[8:]) == {3600}
    assert 22 * 3600 < pauses[-1] < 24 * 3600


@pytest.mark.parametrize("response", [b"450 Greylisted\r\n", b"421 Busy\r\n", b"45", None])
async def test_a_mail_survives_a_temporary_failure(
    mailbox: Mailbox,
    anonymous: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    response: bytes | None,
):
    app = mailbox.app
    await anonymous.post("/sign-up", json=CARL)

    async with scripted_server({"RCPT": response}) as faulty:
        with monkeypatch.context() as patch:
            patch.setattr(transport, "TIMEOUT_SECONDS", 0.2)
            await attempt(app, create_transport(make_mail_settings(faulty.port)))
    (mail,) = await read_mails(app)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=31)):
        async with smtp_server() as inbox:
            await attempt(app, create_transport(make_mail_settings(inbox.port)))
            delivery = await inbox.receive()
    code = find_code(Message(delivery.recipient, "", delivery.text))

    assert mail.attempts == 1
    assert "is tried again in 30 s" in caplog.text
    assert CARL["email"] not in caplog.text
    confirmed = await anonymous.post("/email-verifications/confirm", json={"token": code})
    assert confirmed.status_code == 204


async def test_a_recipient_who_is_refused_gets_no_second_attempt(
    mailbox: Mailbox, anonymous: AsyncClient, caplog: pytest.LogCaptureFixture
):
    await anonymous.post("/sign-up", json=CARL)

    async with scripted_server({"RCPT": b"550 <carl@example.com> unknown\r\n"}) as server:
        await attempt(mailbox.app, create_transport(make_mail_settings(server.port)))

    assert await read_mails(mailbox.app) == []
    assert "was not sent: SMTPRecipientsRefused 550" in caplog.text
    assert CARL["email"] not in caplog.text


async def test_a_mail_of_a_worker_that_died_is_claimed_after_the_lease(
    mailbox: Mailbox, anonymous: AsyncClient
):
    await anonymous.post("/sign-up", json=CARL)
    box = outbox_of(mailbox.app)

    first = await box.claim()
    assert await box.claim() is None
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=3, seconds=1)):
        second = await box.claim()
        assert await box.claim() is None

    assert first is not None
    assert second is not None
    assert (first.id, first.attempts) == (second.id, 1)
    assert second.attempts == 2


@pytest.mark.parametrize("values", [{"kind": "newsletter"}, {"language": "de"}])
async def test_a_mail_that_only_a_newer_version_can_write_waits_for_it(
    mailbox: Mailbox, anonymous: AsyncClient, values: dict[str, str]
):
    app = mailbox.app
    await anonymous.post("/sign-up", json=CARL)
    async with app.state.database.session(writes=True) as session:
        await session.exec(update(Mail).values(**values))
    await anonymous.post("/sign-up", json=CARL | {"email": "dora@example.com"})

    received = await mailbox.receive()

    assert [message.recipient for message in received] == ["dora@example.com"]
    assert len(await read_mails(app)) == 2


@asynccontextmanager
async def mailing_service(
    settings: Settings, port: int, **values: object
) -> AsyncIterator[AsyncClient]:
    """Run an application with one connection to the database, and deliver its mails."""
    mail = {"mail_url": make_url(f"smtp://{HOST}:{port}"), "mail_from": SENDER}
    changed = settings.model_copy(update={"pool_size": 1, **mail, **values})
    async with running(changed) as app, client_of(app) as client:
        yield client


async def test_requests_are_served_while_a_server_does_not_respond(
    empty_app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transport, "STEP_TIMEOUT_SECONDS", 2 * DEADLINE)
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", 2 * DEADLINE)
    inbox = Inbox(pause_at="DATA")

    async with smtp_server(inbox):
        with anyio.fail_after(DEADLINE):
            async with mailing_service(settings, inbox.port) as client:
                await sign_up(client, "Ann")
                await inbox.wait_for_pause()
                for number in range(5):
                    await publish(client, title=f"Post {number}")
                    posts = (await client.get("/posts")).json()
                    assert posts["total_count"] == number + 1
            # The delivery is given up when the service stops.
        assert inbox.is_empty()


async def test_a_delivery_that_has_begun_ends_before_the_service_stops(
    empty_app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    inbox, stop = Inbox(pause_at="EHLO"), Outbox.stop

    def stop_and_continue(box: Outbox, seconds: float) -> None:
        stop(box, seconds)
        inbox.may_continue.set()

    monkeypatch.setattr(Outbox, "stop", stop_and_continue)
    async with smtp_server(inbox):
        async with mailing_service(settings, inbox.port) as client:
            await sign_up(client, "Ann")
            await inbox.wait_for_pause()
        assert not inbox.is_empty()


async def test_each_of_many_mails_is_sent_once(empty_app: FastAPI, settings: Settings):
    expected = {f"user{number}@example.com" for number in range(20)}

    async with smtp_server() as inbox, mailing_service(settings, inbox.port) as client:
        bodies = [CARL | {"email": email} for email in expected]
        await asyncio.gather(
            *(request_with_retry(client, "POST", "/sign-up", json=body) for body in bodies)
        )
        received = [(await inbox.receive()).recipient for _ in expected]

    assert sorted(received) == sorted(expected)
    assert inbox.is_empty()


async def test_a_mail_in_russian_is_readable(empty_app: FastAPI, settings: Settings):
    async with (
        smtp_server() as inbox,
        mailing_service(settings, inbox.port, title="Блог {code}") as client,
    ):
        headers = {"Accept-Language": "ru"}
        response = await client.post("/sign-up", json=CARL, headers=headers)
        delivery = await inbox.receive()

    assert response.status_code == 200
    assert delivery.message["Subject"] == "Блог {code}: Подтвердите адрес"
    assert delivery.message["From"].addresses[0].display_name == "Блог {code}"
    assert "на сайте Блог {code}." in delivery.text


async def test_a_mail_that_raises_an_error_does_not_stop_the_others(
    empty_app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    sent: list[str] = []
    is_sent = anyio.Event()

    async def fail_for_carl(message: Message) -> None:
        if message.recipient == "carl@example.com":
            raise RuntimeError("no mail for Carl")
        sent.append(message.recipient)
        is_sent.set()

    monkeypatch.setattr(outbox, "create_transport", lambda _: fail_for_carl)
    mailing = settings.model_copy(update={"mail_url": make_url("console://")})
    async with running(mailing) as app, client_of(app) as client:
        for name in ("Carl", "Dora"):
            await sign_up(client, name)
        with anyio.fail_after(DEADLINE):
            await is_sent.wait()

    assert sent == ["dora@example.com"]


async def test_a_code_does_not_wait_behind_notices(
    empty_app: FastAPI, ann: AsyncClient, mailbox: Mailbox
):
    for number in range(3):
        await ann.post("/users/me/tokens", json={"name": f"Script {number}"})
    await ann.post("/password-resets", json={"email": "ann@example.com"})

    subjects = [one.subject for one in await mailbox.receive()]

    assert subjects == ["Blog API: A new password", *["Blog API: A new personal token"] * 3]
