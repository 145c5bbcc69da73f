"""Ids, versions and counters at the end of their columns, and a clock that is set back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL, select, text

from blog_api.db.base import TABLE_REGISTRY, TableModel
from tests.support.clients import (
    MINIMUM_HASHING,
    PASSWORD,
    add_comment,
    assert_problem,
    client_of,
    make_settings,
    publish,
    running,
)
from tests.support.limits import make_limited_settings
from tests.support.saved_database import save_database
from tests.support.write_requests import SAMPLES, small_blog

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


TABLES: list[Any] = [
    mapper.local_table for mapper in TABLE_REGISTRY.mappers if issubclass(mapper.class_, TableModel)
]


async def set_clock_back(app: FastAPI) -> None:
    """Make all rows look like created before the clock was set back."""
    later = datetime.now(UTC) + HOURS
    async with app.state.database.session(writes=True) as session:
        for table in TABLES:
            await session.exec(table.update().values(created_at=later, updated_at=later))


async def find_rows_older_than_their_creation(app: FastAPI) -> set[str]:
    """Return the names of the tables that have such rows."""
    async with app.state.database.session(writes=False) as session:
        found = {
            str(table): await session.exec(
                select(table.c.created_at).where(table.c.updated_at < table.c.created_at)
            )
            for table in TABLES
        }
        return {name for name, rows in found.items() if rows.first() is not None}


@pytest.mark.usefixtures("app")
async def test_no_request_makes_a_row_older_than_its_creation(
    migrated_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blog_api.accounts.recovery.MAX_DELAY_MILLISECONDS", 1)
    settings = make_settings(
        database_url=migrated_url, media_url=tmp_path.as_uri(), cache_bytes=0, **MINIMUM_HASHING
    )
    async with running(settings) as app, small_blog(app) as blog:
        await set_clock_back(app)
        saved = await save_database(migrated_url)
        found = {}
        for name in SAMPLES:
            await saved.restore()
            response = await blog.send(name)
            assert response.is_success, f"{name}: {response.text}"
            if tables := await find_rows_older_than_their_creation(app):
                found[name] = tables
        await saved.close()

    assert found == {}


async def test_a_comment_of_a_deleted_account_is_not_older_than_its_creation(
    empty_app: FastAPI, ann: AsyncClient, bob: AsyncClient
):
    """All its comments are changed by one statement, which does not read them."""
    post = await publish(ann)
    comment = await add_comment(bob, post)
    await add_comment(ann, post, to=comment)
    await set_clock_back(empty_app)

    await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    shown = (await ann.get(f"/posts/{post['id']}/comments")).json()["results"][0]
    assert shown["content"] is None
    assert shown["updated_at"] == shown["created_at"]


async def test_no_update_of_many_rows_makes_one_older_than_its_creation(
    empty_app: FastAPI, ann: AsyncClient
):
    await add_comment(ann, await publish(ann, tags=["Python"]))
    await set_clock_back(empty_app)

    async with empty_app.state.database.session(writes=True) as session:
        for table in TABLES:
            await session.exec(table.update().values(id=table.c.id))

    assert await find_rows_older_than_their_creation(empty_app) == set()


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
