"""Health endpoints, and responses while the database is unavailable."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy import URL, make_url, text

from blog_api.db import engine, readiness, session
from blog_api.db.session import Database
from tests.support.clients import (
    CHEAP_HASHING,
    MINIMUM_HASHING,
    assert_problem,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.databases import execute_on_server, make_migrated_file

HELLO = {"title": "Hello", "content": "World"}


async def test_the_health_endpoints_return_ok(anonymous: AsyncClient):
    for path in ("/health/live", "/health/ready"):
        response = await anonymous.get(path)

        assert response.status_code == 200
        assert response.json() == {"status": "ok"}


async def test_an_unreachable_database_returns_503(closed_port: int):
    url = f"postgresql://ann:hunter2@127.0.0.1:{closed_port}/test"
    settings = make_settings(database_url=url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        live = await client.get("/health/live")
        unavailable = [
            await client.get("/health/ready"),
            await client.get("/posts"),
            await client.post("/users", json={"email": "a@example.com", "password": "12345678"}),
            await client.get("/users/me", headers={"Authorization": "Bearer x"}),
        ]

    assert live.status_code == 200
    for response in unavailable:
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "hunter2" not in response.text


async def test_an_error_that_the_request_did_not_cause_returns_503(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    if settings.is_sqlite:
        pytest.skip("SQLite raises no errors with the codes of Postgres")
    function = (
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{}'; END $$"
    )
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        responses = []
        # Access denied, no such function, read-only, disk full, damaged data.
        for code in ("42501", "42883", "25006", "53100", "XX001"):
            await execute_on_server(
                migrated_url,
                function.format(code),
                "CREATE OR REPLACE TRIGGER fail BEFORE UPDATE ON users EXECUTE FUNCTION fail()",
            )
            responses.append(await client.patch("/users/me", json={"name": "Anna"}))
        await execute_on_server(migrated_url, "DROP TRIGGER fail ON users")
        changed = await client.patch("/users/me", json={"name": "Anna"})

    for response in responses:
        assert_problem(response, 503)
        assert response.headers["Retry-After"] == "1"
    assert changed.status_code == 200


async def test_a_request_without_a_free_connection_returns_503(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "SLOT_TIMEOUT_SECONDS", 0.2)
    settings = make_settings(database_url="sqlite://", **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as client:
        database: Database = app.state.database
        async with database.session(writes=False):
            while_occupied = await client.get("/posts")
        afterwards = await client.get("/posts")

    assert while_occupied.status_code == 503
    assert while_occupied.headers["Retry-After"] == "1"
    assert afterwards.status_code == 200


async def test_reads_succeed_while_another_process_locks_the_sqlite_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_SECONDS", 0.2)
    file = tmp_path / "blog.db"
    url = make_url(f"sqlite+aiosqlite:///{file}")
    async with (
        running(make_settings(database_url=url, **MINIMUM_HASHING)) as app,
        client_of(app) as client,
    ):
        await sign_up(client, "Ann")
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            write = await client.post("/posts", json=HELLO)
            read = await client.get("/posts")
            other.execute("ROLLBACK")
        other.close()
        later_write = await client.post("/posts", json=HELLO)

    assert write.status_code == 503
    assert write.headers["Retry-After"] == "1"
    assert read.json()["total_count"] == 0
    assert later_write.status_code == 201


@pytest.mark.parametrize("kind", ["moved", "replaced", "without tables"])
async def test_a_file_that_was_moved_away_or_replaced_is_not_ready_and_not_written(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    """Writes to the file that is still open would be lost with it."""
    file = tmp_path / "blog.db"
    settings = make_settings(database_url=f"sqlite:///{file}", **MINIMUM_HASHING)
    await make_migrated_file(file)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        before = await client.get("/health/ready")
        copy = tmp_path / "copy.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        copy.write_bytes(file.read_bytes() if kind == "replaced" else b"")
        file.rename(tmp_path / "moved.db")
        if kind != "moved":
            copy.rename(file)
        after = await client.get("/health/ready")
        written = await client.post("/posts", json=HELLO)
        # More than there are connections.
        read = await asyncio.gather(*(client.get("/users/me") for _ in range(5)))
        assert file.exists() == (kind != "moved")
        (tmp_path / "moved.db").rename(file)
        written_later = await client.post("/posts", json=HELLO)

    assert before.status_code == 200
    assert_problem(after, 503)
    assert_problem(written, 503)
    assert {response.status_code for response in read} <= {200, 503}
    assert written_later.status_code == 201
    assert "The database cannot be written" in caplog.text


async def test_a_full_disk_is_not_ready(
    migrated_url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """That of Postgres cannot be seen; without room for pictures everything else is served."""
    settings = make_settings(
        database_url=migrated_url, media_url=(tmp_path / "media").as_uri(), **MINIMUM_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        before = await client.get("/health/ready")
        monkeypatch.setattr(readiness, "MIN_FREE_BYTES", 2**62)
        after = await client.get("/health/ready")

    assert before.json() == {"status": "ok"}
    assert "free space on the disk of" in caplog.text
    if settings.is_sqlite:
        assert_problem(after, 503)
    else:
        assert after.status_code == 200
        assert after.json()["detail"].startswith("Pictures cannot be stored: free space on")


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE bookmarks", "ALTER TABLE bookmarks RENAME COLUMN user_id TO lost_id"],
)
async def test_a_missing_table_or_column_names_the_command_that_adds_it(
    migrated_url: URL, statement: str, caplog: pytest.LogCaptureFixture
):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        async with app.state.database.session(writes=True) as session:
            await session.exec(text(statement))
        rejected = await client.get("/users/me/bookmarks")
        ready = await client.get("/health/ready")

    assert_problem(rejected, 503)
    assert rejected.json()["type"] == "urn:blog-api:service-unavailable"
    assert rejected.headers["Retry-After"] == "1"
    errors = [one.getMessage() for one in caplog.records if one.name == "blog_api.db.errors"]
    (line,) = [one for one in errors if "bookmarks" in one or "user_id" in one]
    assert line.startswith(
        "The schema of the database does not match this version: run blog-api migrate ("
    )
    if statement.startswith("DROP"):
        assert_problem(ready, 503)
        assert "tables are missing" in ready.json()["detail"]


async def test_a_database_that_is_read_only_is_not_ready(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    name = migrated_url.database
    async with running(settings) as app, client_of(app) as client:
        before = await client.get("/health/ready")
        if settings.is_sqlite:
            # Root may write a file without permissions.
            with closing(sqlite3.connect(str(name), isolation_level=None)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("BEGIN IMMEDIATE")
                while_written = await client.get("/health/ready")
            assert while_written.status_code == 200
            return
        await execute_on_server(
            migrated_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        )
        await app.state.database.close()
        after = await client.get("/health/ready")

    assert before.status_code == 200
    assert_problem(after, 503)


async def test_connections_of_a_time_when_the_database_was_read_only_are_replaced(
    migrated_url: URL,
):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    if settings.is_sqlite:
        pytest.skip("A file of SQLite has no settings for connections")
    setting = f'ALTER DATABASE "{migrated_url.database}" {{}} default_transaction_read_only'
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        await execute_on_server(migrated_url, f"{setting.format('SET')} = on")
        await app.state.database.close()
        written, read = await asyncio.gather(
            client.post("/posts", json=HELLO), client.get("/users/me")
        )
        unready = await client.get("/health/ready")
        # A session of this connection would be read-only too.
        await execute_on_server(
            migrated_url, "SET default_transaction_read_only = off", setting.format("RESET")
        )
        ready = await client.get("/health/ready")
        written_later = await client.post("/posts", json=HELLO)

    assert read.status_code == 200
    assert_problem(written, 503)
    assert_problem(unready, 503)
    assert ready.status_code == 200
    assert written_later.status_code == 201
