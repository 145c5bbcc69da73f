"""Deliver mails from server processes: killed ones, several ones, and what they write down."""

import asyncio
from collections import Counter
from pathlib import Path

import anyio
import pytest
from httpx import AsyncClient
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import col, update

from blog_api.core.fields import utc_now
from blog_api.db.base import TableBase
from blog_api.mail.models import IS_UNSENT, Mail
from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.mailbox import CODE
from tests.support.processes import Server
from tests.support.smtp import (
    HOST,
    SENDER,
    Delivery,
    Inbox,
    scripted_server,
    smtp_server,
)

pytestmark = pytest.mark.processes

ANN, BOB = "ann@example.com", "bob@example.com"
MANY = 60
# Of uvicorn for requests and of the outbox for deliveries, and some for a busy machine.
STOP_SECONDS = 10 + 5 + 5


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


def has_unsent(tables: str) -> bool:
    return "datetime" in tables


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
        inbox.may_continue.set()
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

    async with smtp_server() as inbox:
        with Server(tmp_path, shared_url, workers=2, settings=mail_settings(inbox.port)) as server:
            async with server.client() as client:
                await asyncio.gather(*(sign_up(client, email) for email in emails))
            received = [(await inbox.receive()).recipient for _ in emails]
            await asyncio.to_thread(server.stop)

    assert sorted(received) == sorted(emails)
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
