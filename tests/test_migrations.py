"""Migrations build what the code declares, there and back."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import select

from blog_api.database import Base
from blog_api.fields import utc_now
from blog_api.migrating import (
    alembic_config,
    current_revision,
    head_revision,
    migrate,
    migration_connection,
)
from blog_api.posts import Post
from tests.conftest import FLOOR, PASSWORD, client_of, make_settings, running, sign_up


async def test_migrations_go_up_and_down_and_build_what_the_code_declares(empty_url: URL):
    settings = make_settings(database_url=empty_url, **FLOOR)

    def check_and_go_down(connection: Connection) -> None:
        command.check(alembic_config(connection))
        command.downgrade(alembic_config(connection), "base")

    for _ in range(2):
        await migrate(settings)
        async with migration_connection(settings) as connection:
            assert await connection.run_sync(current_revision) == head_revision()
            await connection.run_sync(check_and_go_down)
            assert await connection.run_sync(current_revision) is None


async def test_migrating_again_changes_nothing(empty_url: URL):
    settings = make_settings(database_url=empty_url, **FLOOR)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")

        await migrate(settings)

        assert [user["name"] for user in (await client.get("/users")).json()] == ["Ann"]


async def test_the_service_is_ready_when_the_database_is_at_the_head(empty_url: URL):
    settings = make_settings(database_url=empty_url, **FLOOR)
    async with running(settings) as app, client_of(app) as client:
        if not settings.is_sqlite:
            # Postgres waits for somebody to say `blog-api migrate`.
            for path in ("/health/ready", "/posts"):
                unmigrated = await client.get(path)
                assert unmigrated.status_code == 503
                assert "Retry-After" in unmigrated.headers
            reason = (await client.get("/health/ready")).json()["detail"]
            assert reason == "The database is not migrated: run blog-api migrate"
            await migrate(settings)
        assert (await client.get("/health/ready")).status_code == 200

        async with migration_connection(settings) as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = 'older'"))
        outdated = await client.get("/health/ready")

        assert outdated.status_code == 503
        assert outdated.json()["type"] == "urn:blog-api:not-ready"


async def test_going_down_and_up_again_gives_nobody_more(empty_url: URL):
    settings = make_settings(database_url=empty_url, **FLOOR)
    await migrate(settings)
    hello = {"title": "Hello", "content": "World"}
    form = {"username": "ann@example.com", "password": PASSWORD}
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        post = (await ann.post("/posts", json=hello)).json()
        secrets = [
            (await ann.post("/users/me/tokens", json={"name": "Script"})).json(),
            (await ann.post("/token", data=form | {"grant_type": "password"})).json(),
            (await ann.post("/auth", data=form | {"scope": "posts:read"})).json(),
        ]
        async with app.state.database.session(writes=True) as session:
            (await session.exec(select(Post))).one().taken_down_at = utc_now()

    def go_down(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), "53fe22308b68")

    async with migration_connection(settings) as connection:
        await connection.run_sync(go_down)
    await migrate(settings)

    async with running(settings) as app, client_of(app) as other:
        for secret in secrets:
            headers = {"Authorization": f"Bearer {secret['access_token']}"}
            assert (await other.get("/users/me", headers=headers)).status_code == 401
        other.headers["Authorization"] = ann.headers["Authorization"]
        assert (await other.get("/users/me")).status_code == 200
        shown = (await other.get(f"/posts/{post['id']}")).json()
    assert shown["published_at"] is None


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: URL):
    settings = make_settings(database_url=empty_url, **FLOOR)
    engine = create_async_engine(empty_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE posts (id INTEGER)"))

    with pytest.raises(DBAPIError, match="already exists"):
        await migrate(settings)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE posts"))
    await engine.dispose()

    await migrate(settings)
    async with migration_connection(settings) as connection:
        assert await connection.run_sync(current_revision) == head_revision()


async def test_a_worker_starts_anew_while_somebody_else_locks_the_file(tmp_path: Path):
    file = tmp_path / "blog.db"
    settings = make_settings(database_url=make_url(f"sqlite+aiosqlite:///{file}"), **FLOOR)
    await migrate(settings)

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with running(settings) as app, client_of(app) as client:
            response = await client.get("/health/ready")

    assert response.status_code == 200


async def test_no_table_of_sqlite_gives_an_id_twice(tmp_path: Path):
    settings = make_settings(
        database_url=make_url(f"sqlite+aiosqlite:///{tmp_path}/blog.db"), **FLOOR
    )
    await migrate(settings)

    async with migration_connection(settings) as connection:
        found = await connection.execute(text("SELECT name, sql FROM sqlite_master"))
        sql = {name: text for name, text in found if text}

    for table in Base.metadata.sorted_tables:
        assert "AUTOINCREMENT" in sql[table.name], table.name
