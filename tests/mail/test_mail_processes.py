"""Deliver mails from server processes: killed ones, several ones, and what they write down."""

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path

import anyio
import pytest
from httpx import AsyncClient
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import update

from blog_api.core.fields import utc_now
from blog_api.db.base import TableBase
from blog_api.mail.models import IS_UNSENT, Mail
from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.mailbox import CODE
from tests.support.processes import Server
from tests.support.smtp import (
    HOST,
    SENDER,
    Inbox,
    scripted_server,
    smtp_server,
)

pytestmark = pytest.mark.processes

ANN, BOB = "ann@example.com", "bob@example.com"
NEW_PASSWORD = "battery staple"
MANY = 40
# A server that hangs: the service stops within `BLOG_SHUTDOWN_SECONDS`, 8 by default.
STOP_SECONDS = 30


def mail_settings(port: int) -> dict[str, str | None]:
    return {"MAIL_URL": f"smtp://{HOST}:{port}", "MAIL_FROM": SENDER}


async def sign_up(client: AsyncClient, email: str) -> str:
    """Create an account; return its access token."""
    body = {"email": email, "name": "Somebody", "password": PASSWORD}
    response = await request_with_retry(client, "POST", "/sign-up", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["token"]["access_token"])


async def end_leases(url: URL) -> None:
    """Make all mails that are not sent due, as if the time of their leases had passed."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(update(Mail).where(IS_UNSENT).values(send_at=utc_now()))
    await engine.dispose()


async def read_tables(url: URL) -> str:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        tables = TableBase.metadata.sorted_tables
        rows = [str((await connection.execute(table.select())).all()) for table in tables]
    await engine.dispose()
    return "\n".join(rows)


@pytest.mark.parametrize(("step", "count"), [("EHLO", 1), ("DATA", 1), ("QUIT", 2)])
async def test_another_worker_takes_over_the_mail_of_a_killed_one(
    tmp_path: Path, shared_url: URL, step: str, count: int
):
    inbox = Inbox(pause_at=step)

    async with smtp_server(inbox):
        settings = mail_settings(inbox.port)
        with Server(tmp_path, shared_url, settings=settings) as killed:
            async with killed.client() as client:
                await sign_up(client, ANN)
            await inbox.wait_for_pause()
            killed.kill()
        with Server(tmp_path, shared_url, settings=settings) as server:
            async with server.client() as client:
                # Wakes the worker, which finds that the other mail is still claimed.
                await sign_up(client, BOB)
                first = [(await inbox.receive()).recipient for _ in range(count)]
                await end_leases(shared_url)
                await sign_up(client, "carl@example.com")
                rest = [(await inbox.receive()).recipient for _ in range(2)]
            await asyncio.to_thread(server.stop)

    assert Counter([*first, *rest]) == {ANN: count, BOB: 1, "carl@example.com": 1}
    assert inbox.is_empty()


async def test_each_of_many_mails_of_two_workers_is_sent_once(tmp_path: Path, shared_url: URL):
    emails = [f"user{number}@example.com" for number in range(MANY)]
    last = "last@example.com"

    async with smtp_server(Inbox(pause_at="DATA", pauses_always=True)) as inbox:
        with Server(tmp_path, shared_url, workers=2, settings=mail_settings(inbox.port)) as server:
            async with server.client() as client:
                await asyncio.gather(*(sign_up(client, email) for email in emails))
                await inbox.wait_for_pause(2)
                # The supervisor replaces it.
                worker, _ = re.findall(r"Started server process \[(\d+)\]", server.log)
                os.kill(int(worker), signal.SIGKILL)
                await inbox.wait_for_loss(1)
                inbox.may_continue.set()
                alive = [(await inbox.receive()).recipient for _ in range(MANY - 1)]
                await end_leases(shared_url)
                await sign_up(client, last)
                rest = [(await inbox.receive()).recipient for _ in range(2)]
            await asyncio.to_thread(server.stop)

    assert sorted([*alive, *rest]) == sorted([*emails, last])
    assert inbox.is_empty()


async def test_a_server_that_does_not_respond_delays_no_shutdown(tmp_path: Path, shared_url: URL):
    async with scripted_server({"EHLO": None}) as silent:
        with Server(tmp_path, shared_url, settings=mail_settings(silent.port)) as server:
            async with server.client() as client:
                await sign_up(client, ANN)
                assert (await client.get("/health/ready")).status_code == 200
            with anyio.fail_after(STOP_SECONDS):
                await silent.is_silent.wait()
                await asyncio.to_thread(server.stop)
    await end_leases(shared_url)
    async with smtp_server() as inbox:
        with Server(tmp_path, shared_url, settings=mail_settings(inbox.port)) as server:
            received = await inbox.receive()
            await asyncio.to_thread(server.stop)

    assert received.recipient == ANN
    assert "Traceback" not in server.log


async def test_secrets_of_recovery_are_neither_in_the_log_nor_in_the_database(
    tmp_path: Path, shared_url: URL
):
    secrets = {PASSWORD, NEW_PASSWORD}

    async def receive_code(inbox: Inbox, subject: str) -> str:
        """Return the code of the next mail with this subject; remember those of all mails."""
        while True:
            delivery = await inbox.receive()
            codes = CODE.findall(delivery.text)
            # The digest alone is as good as the code: the other part is a number.
            secrets.update(codes, (code.partition(".")[2] for code in codes))
            if subject in delivery.message["Subject"]:
                return str(codes[0])

    async def post(client: AsyncClient, path: str, status: int, **values: object) -> dict[str, str]:
        response = await request_with_retry(client, "POST", path, **values)
        assert response.status_code == status, response.text
        body: dict[str, str] = response.json() if response.content else {}
        secrets.update(body[name] for name in ("access_token", "refresh_token") if name in body)
        return body

    async with smtp_server() as inbox:
        settings = mail_settings(inbox.port)
        with Server(tmp_path, shared_url, settings=settings) as server:
            async with server.client() as client:
                token = await sign_up(client, ANN)
                secrets.add(token)
                code = await receive_code(inbox, "confirm")
                wrong = {"token": code[:-2] + "hh"}
                await post(client, "/email-verifications/confirm", 400, json=wrong)
                await post(client, f"/email-verifications/confirm?token={code}", 422, json={})
                await post(client, "/email-verifications/confirm", 204, json={"token": code})
                form = {"username": ANN, "password": PASSWORD}
                jwt = await post(client, "/token", 200, data=form | {"grant_type": "password"})
                refresh = {"refresh_token": jwt["refresh_token"], "grant_type": "refresh_token"}
                jwt = await post(client, "/token", 200, data=refresh)
                await post(client, "/token", 200, data=refresh)
                await post(client, "/revoke", 200, data={"token": jwt["refresh_token"]})
                await post(client, "/auth", 200, data=form)
                client.headers.update(bearer(token))
                await post(client, "/users/me/tokens", 201, json={"name": "Script"})
                assert (await client.get("/users/me/sessions")).status_code == 200
                change = {"email": BOB, "current_password": PASSWORD}
                assert (await client.patch("/users/me", json=change)).status_code == 200
                code = await receive_code(inbox, "about to change")
                await post(client, "/email-verifications", 202, json={})
                await post(client, "/email-verifications/undo", 204, json={"token": code})
                await post(client, "/password-resets", 202, json={"email": ANN})
                code = await receive_code(inbox, "A new password")
                reset = {"token": code, "new_password": NEW_PASSWORD}
                await post(client, f"/password-resets/confirm?token={code}", 204, json=reset)
                await post(client, "/password-resets/confirm", 400, json=reset)
            await asyncio.to_thread(server.stop)
    tables = await read_tables(shared_url)

    assert ANN in tables
    assert "/password-resets/confirm 204" in server.log
    assert len(secrets) > 10
    for secret in secrets:
        assert secret not in tables
        assert secret not in server.log
        for file in tmp_path.iterdir():
            assert secret.encode() not in file.read_bytes(), file
