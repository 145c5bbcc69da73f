"""`blog-api copy`: everything in a database to an empty one of either kind."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from httpx import AsyncClient
from sqlalchemy import URL, Table, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

import blog_api.db.copy
from blog_api.db.copy import open_copy
from blog_api.db.invalidation import CHANNEL
from blog_api.db.migrate import migration_connection
from blog_api.db.revisions import get_head_revision
from blog_api.models import metadata
from tests.support.clients import (
    MINIMUM_HASHING,
    SECRET_KEY,
    add_comment,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.commands import run_command
from tests.support.databases import (
    TEST_DATABASE_URL,
    connect_by_driver,
    make_migrated_file,
    temporary_database,
)
from tests.support.rebuilds import count_wrong
from tests.support.rows import ROWS, fill_tables, read_tables

KINDS = ("sqlite",) if TEST_DATABASE_URL is None else ("sqlite", "postgres")
SAME_KIND = "sqlite" if TEST_DATABASE_URL is None else "postgres"
# Only migrations declare them. The migrations have their own rows, and triggers fill the others.
UNDECLARED = ("alembic_version", "schema_compatibility", "post_search")


class Pair(NamedTuple):
    source: URL
    target: URL


async def open_databases(folder: Path, *kinds: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        urls = []
        for name, kind in zip(("source", "target"), kinds, strict=True):
            if kind == "sqlite":
                urls.append(await make_migrated_file(folder / f"{name}.db"))
            else:
                database = temporary_database(folder, name, is_migrated=True)
                urls.append(await stack.enter_async_context(database))
        yield Pair(*urls)


@pytest.fixture(params=product(KINDS, KINDS), ids="-to-".join)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Pair]:
    """Two migrated databases of each two kinds."""
    async for pair in open_databases(tmp_path, *request.param):
        yield pair


@pytest.fixture
async def same_kind(tmp_path: Path) -> AsyncGenerator[Pair]:
    async for pair in open_databases(tmp_path, SAME_KIND, SAME_KIND):
        yield pair


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)


def settings_of(url: URL) -> Any:
    return make_settings(database_url=url, **MINIMUM_HASHING)


def show(url: URL) -> str:
    return url.render_as_string(hide_password=False)


async def copy(pair: Pair, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    monkeypatch.setenv("BLOG_DATABASE_URL", show(pair.source))
    return await run_command("copy", *(options or ("--to", show(pair.target))))


async def read_all(url: URL) -> dict[str, list[Any]]:
    async with migration_connection(settings_of(url)) as connection:
        return await read_tables(connection, metadata)


async def execute(url: URL, *statements: str) -> None:
    async with migration_connection(settings_of(url)) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_every_table_is_copied(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    async with migration_connection(settings_of(pair.source)) as connection:
        await fill_tables(connection, metadata)
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    rows = await read_all(pair.source)

    result = await copy(pair, monkeypatch)

    assert result.exit_code == 0, result.output
    assert all(len(found) >= ROWS for found in rows.values())
    assert await read_all(pair.target) == rows
    assert result.stdout.splitlines()[: len(rows) + 1] == [
        *(f"{name}: {len(rows[name])}" for name in sorted(rows)),
        f"{sum(map(len, rows.values()))} rows copied.",
    ]
    assert {name for name in names if not name.startswith(UNDECLARED)} == rows.keys()


async def write_blog(ann: AsyncClient, bob: AsyncClient) -> list[str]:
    """Write a blog; return the paths that show it."""
    await sign_up(ann, "Ann")
    await sign_up(bob, "Bob")
    assert (await ann.patch("/users/me", json={"name": "Ann Moon"})).status_code == 200
    post = await publish(ann, title="Rivers", content="*Water* flows", tags=["Nature", "Ärger"])
    await publish(ann, title="A draft", published_at=None, tags=["secret"])
    await publish(bob, title="Seas", content="<p>Salt</p>", content_type="text/html")
    first = await add_comment(bob, post)
    answer = await add_comment(ann, post, "Thanks", to=first)
    await add_comment(bob, post, "Welcome", to=answer)
    assert (await bob.put(f"/users/me/bookmarks/{post['id']}")).status_code == 204
    assert (await ann.patch(f"/posts/{post['id']}", json={"title": "Lakes"})).status_code == 200
    # Their ids are not given again.
    last = await publish(bob, title="Deleted")
    last_comment = await add_comment(bob, last)
    assert (await bob.delete(f"/posts/{last['id']}")).status_code == 204
    me = (await ann.get("/users/me")).json()["id"]
    return [
        "/posts", "/posts?q=water", "/posts?q=salt", "/posts?tag=nature", f"/posts?author={me}",
        "/posts/slug/rivers", "/posts/slug/deleted", f"/posts/{post['id']}/comments", "/tags",
        "/users?q=moon", f"/users/{me}", "/users/me", "/users/me/posts", "/users/me/bookmarks",
        "/users/me/tokens", f"/comments/{last_comment['id']}", "/feed.json",
    ]  # fmt: skip


async def read_paths(paths: Sequence[str], *clients: AsyncClient) -> list[Any]:
    shown = []
    for client, path in product(clients, paths):
        response = await client.get(path)
        # Problems have an id of their own.
        body = response.text.partition("urn:uuid:")[0]
        shown.append((path, response.status_code, response.headers.get("Location"), body))
    return shown


async def test_a_copy_shows_the_same_blog_and_takes_new_posts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    async with (
        running(settings_of(pair.source)) as app,
        client_of(app) as ann,
        client_of(app) as bob,
    ):
        paths = await write_blog(ann, bob)
        before = await read_paths(paths, ann, bob, client_of(app))
        tokens = [client.headers["Authorization"] for client in (ann, bob)]
        result = await copy(pair, monkeypatch)
    assert result.exit_code == 0, result.output

    async with (
        running(settings_of(pair.target)) as app,
        client_of(app) as ann,
        client_of(app) as bob,
    ):
        for client, token in zip((ann, bob), tokens, strict=True):
            client.headers["Authorization"] = token
        after = await read_paths(paths, ann, bob, client_of(app))
        wrong = await count_wrong(app.state.database, repairs=False)
        post = await publish(bob, title="New", content="Fresh snow", tags=["nature"])
        comment = await add_comment(ann, post)
        await sign_up(client_of(app), "Cid")
        found = (await ann.get("/posts?q=snow")).json()["total_count"]
        total = (await ann.get("/posts?tag=nature")).json()["total_count"]

    assert after == before
    assert wrong == {}
    assert (post["id"], comment["id"]) == (5, 5)
    assert (found, total) == (1, 2)


async def test_the_state_at_the_start_is_copied(pair: Pair):
    settings, target = settings_of(pair.source), settings_of(pair.target)
    insert = "INSERT INTO blocked_digests (created_at, updated_at, digest) VALUES ({0}, {0}, '{1}')"
    time = "'2026-01-01 00:00:00+00'" if "postgresql" in show(pair.source) else "'2026-01-01'"
    await execute(pair.source, insert.format(time, "before"))

    async with open_copy(settings, target, metadata, "--to") as running:
        await execute(pair.source, insert.format(time, "meanwhile"))
        await running.copy_tables(lambda: None)
        counts = await running.compare_tables(lambda: None)

    assert counts["blocked_digests"] == 1
    assert [row[-1] for row in (await read_all(pair.target))["blocked_digests"]] == ["before"]
    assert len((await read_all(pair.source))["blocked_digests"]) == 2


async def test_a_difference_rolls_everything_back(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    async with migration_connection(settings_of(pair.source)) as connection:
        await fill_tables(connection, metadata)
    empty = await read_all(pair.target)
    write_rows = blog_api.db.copy.write_rows

    async def write_wrong_rows(
        connection: AsyncConnection, table: Table, batches: AsyncIterator[Sequence[Any]]
    ) -> None:
        await write_rows(connection, table, batches)
        if table.name == "tokens":
            await connection.execute(text("UPDATE tokens SET scope = 'admin' WHERE id = 1001"))

    monkeypatch.setattr(blog_api.db.copy, "write_rows", write_wrong_rows)
    differing = await copy(pair, monkeypatch)
    rows = await read_all(pair.target)
    monkeypatch.undo()
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)

    assert differing.exit_code == 1
    assert differing.stderr.endswith("blog-api: The copy of tokens differs, and was rolled back\n")
    assert "rows copied" not in differing.stdout
    assert rows == empty
    async with running(settings_of(pair.target)) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        assert (await publish(ann))["id"] == 1
        assert (await ann.get("/posts?q=world")).json()["total_count"] == 1


async def test_a_database_that_is_not_empty_stays_as_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    async with migration_connection(settings_of(pair.target)) as connection:
        await fill_tables(connection, metadata)
    rows = await read_all(pair.target)

    result = await copy(pair, monkeypatch)

    assert result.exit_code == 1
    assert "blog-api: --to: The database is not empty: audit_entries, " in result.stderr
    assert await read_all(pair.target) == rows


async def test_a_database_is_not_copied_to_itself(
    same_kind: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "link.db").symlink_to(tmp_path / "source.db")
    alias = make_url("sqlite:///link.db")
    if SAME_KIND == "postgres":
        alias = same_kind.source.set(host="localhost")
    aliases = Pair(same_kind.source, alias)

    result = await copy(aliases, monkeypatch)

    assert result.exit_code == 1
    assert result.stderr.endswith("blog-api: --to: is the database of BLOG_DATABASE_URL\n")


@pytest.mark.parametrize("changed", ["source", "target"])
async def test_both_databases_have_to_be_at_the_head(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, changed: str
):
    name = "BLOG_DATABASE_URL" if changed == "source" else "--to"
    url = getattr(pair, changed)
    await execute(url, "UPDATE alembic_version SET version_num = '5b7c1e94d2f0'")
    older = await copy(pair, monkeypatch)
    await execute(
        url,
        "UPDATE alembic_version SET version_num = 'newer'",
    )
    newer = await copy(pair, monkeypatch)
    await execute(url, f"UPDATE alembic_version SET version_num = '{get_head_revision()}'")
    same = await copy(pair, monkeypatch)

    assert (older.exit_code, newer.exit_code, same.exit_code) == (1, 1, 0)
    error = older.stderr.splitlines()[-1]
    assert error.startswith(f"blog-api: {name}: The database is not mig")
    # `blog-api migrate` alone would migrate the source.
    assert error.endswith("BLOG_DATABASE_URL set to the URL of --to") == (changed == "target")
    assert newer.stderr.splitlines()[-1].startswith(
        f"blog-api: {name}: The database is at revision"
    )


async def test_the_target_may_be_set_by_a_variable(
    same_kind: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLOG_DATABASE_URL", show(same_kind.source))
    monkeypatch.setenv("BLOG_COPY_TO", show(same_kind.target))

    result = await run_command("copy")

    assert result.exit_code == 0, result.output
    assert "0 rows copied." in result.stdout
    assert "Secret key: set BLOG_SECRET_KEY of the source" in result.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 2, "copy takes --to, or BLOG_COPY_TO"),
        (["--to", "nowhere"], 2, "--to: is not a database URL"),
        (["--to", "sqlite:///none.db"], 2, "--to: none.db does not exist; blog-api migrate"),
        (["--to", "sqlite://"], 2, "--to: is a database in memory"),
        (["--to", "sqlite:///folder"], 1, "--to: OSError: unable to open database file"),
        (["--to", "sqlite:///other.db"], 1, "--to: The database belongs to another application"),
        (["--to", "postgresql://ann:hunter2@127.0.0.1:1/blog"], 1, "--to: ConnectionRefused"),
    ],
)
async def test_a_target_that_cannot_be_used_is_one_line(
    tmp_path: Path, options: list[str], status: int, message: str
):
    await make_migrated_file(tmp_path / "blog.db")
    (tmp_path / "folder").mkdir()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes (id INTEGER)")

    result = await run_command("copy", *options)

    assert result.exit_code == status
    assert result.stderr.splitlines()[-1].startswith(f"blog-api: {message}")
    assert "hunter2" not in result.output
    assert not (tmp_path / "none.db").exists()


async def test_rows_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if SAME_KIND == "sqlite":
        pytest.skip("SQLite stores a text of any length")
    async for pair in open_databases(tmp_path, "sqlite", "postgres"):
        await execute(
            pair.source,
            "INSERT INTO blocked_digests (created_at, updated_at, digest) "
            f"VALUES ('2026-01-01', '2026-01-01', '{'x' * 65}')",
        )
        result = await copy(pair, monkeypatch)

        assert result.exit_code == 1
        line = result.stderr.splitlines()[-1]
        assert line.startswith("blog-api: The table blocked_digests cannot be copied: ")
        assert not any((await read_all(pair.target)).values())


async def test_workers_get_one_notification(same_kind: Pair, monkeypatch: pytest.MonkeyPatch):
    if SAME_KIND == "sqlite":
        pytest.skip("SQLite has no notifications")
    async with migration_connection(settings_of(same_kind.source)) as connection:
        await fill_tables(connection, metadata)
    received: list[str] = []
    last = asyncio.Event()
    listener = await connect_by_driver(same_kind.target)

    def receive(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        received.append(payload)
        if payload == "last":
            last.set()

    await listener.add_listener(CHANNEL, receive)
    result = await copy(same_kind, monkeypatch)
    await execute(same_kind.target, f"SELECT pg_notify('{CHANNEL}', 'last')")
    async with asyncio.timeout(60):
        await last.wait()
    await listener.close()

    assert result.exit_code == 0, result.output
    assert received == ["COPY", "last"]
