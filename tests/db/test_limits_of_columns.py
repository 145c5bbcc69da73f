"""Ids, versions and counters at the end of their columns, and a clock that is set back."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from tests.support.clients import (
    add_comment,
    assert_problem,
    client_of,
    publish,
    running,
)
from tests.support.limits import make_limited_settings

HOURS = timedelta(hours=5)


async def execute(app: FastAPI, sql: str) -> None:
    async with app.state.database.session(writes=True) as session:
        await session.exec(text(sql))


@pytest.mark.parametrize("column", ["version", "comment_count"])
async def test_a_version_or_counter_at_its_end_is_503(
    empty_app: FastAPI, ann: AsyncClient, column: str, caplog: pytest.LogCaptureFixture
):
    path = f"/posts/{(await publish(ann))['id']}"
    is_sqlite = empty_app.state.settings.is_sqlite
    await execute(empty_app, f"UPDATE posts SET {column} = {2**63 - 1 if is_sqlite else 2**31 - 1}")

    if column == "version":
        response = await ann.patch(path, json={"title": "Bye"})
    else:
        response = await ann.post(f"{path}/comments", json={"content": "Hi"})

    assert_problem(response, 503)
    assert "has reached the end of its column" in caplog.text


async def test_an_id_at_its_end_is_503(
    empty_app: FastAPI, ann: AsyncClient, caplog: pytest.LogCaptureFixture
):
    if empty_app.state.settings.is_sqlite:
        await publish(ann)
        sql = f"UPDATE sqlite_sequence SET seq = {2**63 - 1} WHERE name = 'posts'"
        undo = "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'posts'"
    else:
        sql = f"SELECT setval('posts_id_seq', {2**31 - 1})"
        undo = "SELECT setval('posts_id_seq', 1000)"
    await execute(empty_app, sql)

    response = await ann.post("/posts", json={"title": "Hello", "content": "World"})
    await execute(empty_app, undo)

    assert_problem(response, 503)
    assert "ALTER SEQUENCE" in caplog.text or "sqlite_sequence" in caplog.text
    await publish(ann)


async def test_a_change_is_not_older_than_what_it_changes(ann: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)

    with time_machine.travel(datetime.now(UTC) - HOURS):
        changed = (await ann.patch(f"/posts/{post['id']}", json={"title": "Bye"})).json()
        edited = (await ann.patch(f"/comments/{comment['id']}", json={"content": "Bye"})).json()

    assert changed["title"] == "Bye"
    assert changed["updated_at"] == post["created_at"]
    assert edited["updated_at"] == comment["created_at"]


async def test_a_clock_that_is_set_back_locks_nobody_out_for_longer():
    settings = make_limited_settings(rate_limit_sign_ups="2/minute")
    body = {"name": "Ann", "password": "correct horse"}
    now = datetime.now(UTC)
    async with running(settings) as app, client_of(app) as client:
        statuses = []
        for number in range(2):
            new = body | {"email": f"{number}@example.com"}
            statuses.append((await client.post("/sign-up", json=new)).status_code)
        with time_machine.travel(now - HOURS):
            limited = await client.post("/sign-up", json=body | {"email": "2@example.com"})
        with time_machine.travel(now - HOURS + timedelta(seconds=90)):
            served = await client.post("/sign-up", json=body | {"email": "2@example.com"})

    assert statuses == [200, 200]
    assert limited.status_code == 429
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert served.status_code == 200
