"""`blog-api rebuild`: what is derived is right again, whatever happened to it."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL, text
from typer.testing import Result

from blog_api.db.migrate import migration_connection
from blog_api.db.session import Database
from blog_api.models import metadata
from tests.support.clients import (
    MINIMUM_HASHING,
    SECRET_KEY,
    add_comment,
    client_of,
    make_settings,
    publish,
    request_with_retry,
    running,
    sign_up,
)
from tests.support.commands import run_command
from tests.support.databases import TEST_DATABASE_URL
from tests.support.faults import sqlite_error
from tests.support.rebuilds import count_wrong
from tests.support.rows import read_tables

IS_SQLITE = TEST_DATABASE_URL is None


class Blog(NamedTuple):
    """A blog with rows of everything that is derived."""

    app: FastAPI
    url: URL
    ann: AsyncClient
    bob: AsyncClient
    posts: list[dict[str, Any]]

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    async def execute(self, *statements: str) -> None:
        settings = make_settings(database_url=self.url, **MINIMUM_HASHING)
        async with migration_connection(settings) as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def read(self) -> list[Any]:
        """Return what the API shows, past its cache, and what is stored."""
        paths = [
            "/posts?body=both", "/posts?q=water", "/posts?q=salt", "/posts?tag=nature", "/tags",
            "/posts/slug/lakes", "/posts/slug/rivers", "/users?q=moon", "/users/1",
            *(f"/posts/{post['id']}/comments" for post in self.posts),
        ]  # fmt: skip
        texts = {path: (await self.ann.get(path)).text for path in paths}
        # Problems have an id of their own.
        shown = {path: text.partition("urn:uuid:")[0] for path, text in texts.items()}
        settings = make_settings(database_url=self.url, **MINIMUM_HASHING)
        async with migration_connection(settings) as connection:
            tables = await read_tables(connection, metadata)
        # Their ids may change, and the changes of a counter may be merged.
        for name in ("post_tags", "post_counts", "slugs", "tags"):
            del tables[name]
        return [shown, tables]


@pytest.fixture
async def blog(migrated_url: URL, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Blog]:
    settings = make_settings(database_url=migrated_url, cache_bytes=0, **MINIMUM_HASHING)
    monkeypatch.setenv("BLOG_DATABASE_URL", migrated_url.render_as_string(hide_password=False))
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    async with running(settings) as app, client_of(app) as ann, client_of(app) as bob:
        await sign_up(ann, "Ann")
        await sign_up(bob, "Bob")
        assert (await ann.patch("/users/me", json={"name": "Ann Moon"})).status_code == 200
        rivers = await publish(ann, title="Rivers", content="*Water*", tags=["Nature", "Go"])
        seas = await publish(bob, title="Seas", content="<p>Salt</p>", content_type="text/html")
        await publish(ann, title="Draft", published_at=None, tags=["Go"])
        assert (await ann.patch(f"/posts/{rivers['id']}", json={"title": "Lakes"})).is_success
        answer = await add_comment(ann, rivers, to=await add_comment(bob, rivers))
        await add_comment(bob, rivers, to=answer)
        assert (await bob.put(f"/users/me/bookmarks/{rivers['id']}")).is_success
        yield Blog(app, migrated_url, ann, bob, [rivers, seas])


EMPTY = "DELETE FROM {}" if IS_SQLITE else "TRUNCATE {} CASCADE"
SET_TAG = "UPDATE post_tags SET published_at = NULL, updated_at = published_at WHERE post_id = 1"
NO_TAGS = ("DROP TRIGGER post_counts_tag_delete",) if IS_SQLITE else ()
# What happens, and the numbers that are wrong after it.
DAMAGES = {
    "name keys are lost": ([EMPTY.format("name_keys")], {"names": 2}),
    "a name is changed by hand": (["UPDATE users SET name = 'Bea' WHERE id = 2"], {"names": 1}),
    "HTML is changed by hand": (
        ["UPDATE posts SET content_html = '<b>x</b>', made_from = 'x' WHERE id = 1"],
        {"html": 1},
    ),
    "excerpts are lost": (
        ["UPDATE posts SET made_summary = NULL, made_reading_minutes = NULL, made_from = NULL"],
        {"html": 3},
    ),
    "comment counts are wrong": (["UPDATE posts SET comment_count = 7"], {"comment-counts": 3}),
    "answer counts are wrong": (
        ["UPDATE comments SET answer_count = 5, hidden_answer_count = 1 WHERE id = 2"],
        {"answer-counts": 1},
    ),
    "bookmark counts are wrong": (
        ["UPDATE posts SET bookmark_count = bookmark_count + 1 WHERE id < 3"],
        {"bookmark-counts": 2},
    ),
    "counters of posts are lost": (
        [EMPTY.format("post_counts")],
        {"post-counts of authors": 3, "post-counts of tags": 2},
    ),
    "counters of posts are wrong": (
        [
            "UPDATE post_counts SET delta = delta + 5 WHERE user_id = 2",
            "INSERT INTO post_counts (user_id, tag_id, delta, is_total) VALUES (0, 99, 3, TRUE)",
            "INSERT INTO post_counts (user_id, tag_id, delta, is_total) VALUES (0, 1, 1, TRUE)",
            "INSERT INTO post_counts (user_id, tag_id, delta, is_total) VALUES (0, 1, -1, TRUE)",
        ],
        {"post-counts of authors": 1, "post-counts of tags": 2},
    ),
    "the index of tags is wrong": (
        [SET_TAG, "UPDATE post_tags SET tag_id = 2 WHERE post_id = 3 AND tag_id = 1"],
        {"tags": 2},
    ),
    "slugs are lost": (["DELETE FROM slugs WHERE slug IN ('lakes', 'seas')"], {"slugs": 2}),
    "words are lost": ([EMPTY.format("post_words")], {"search": 3}),
    "words are wrong": (
        [
            "UPDATE post_words SET lexemes = 'salt' WHERE post_id = 1",
            "UPDATE post_words SET folded = ' salt ' WHERE post_id = 2",
            "UPDATE post_words SET published_at = '2020-01-01' WHERE post_id = 3",
        ],
        {"search": 3},
    ),
    "words are of another version": (
        ["UPDATE posts SET words_version = 0, words_from = 'x' WHERE id = 2"],
        {"search": 1},
    ),
    "a slug is without its post": (
        ["UPDATE slugs SET post_id = NULL WHERE slug = 'lakes'"],
        {"slugs": 1},
    ),
}
if IS_SQLITE:
    DAMAGES |= {
        "the index of the search is lost": (
            ["INSERT INTO post_search_words (post_search_words) VALUES ('delete-all')"],
            {"search": 1},
        ),
        "the index of the search has other words": (
            ["INSERT INTO post_search_words (rowid, lexemes) VALUES (1, 'salt')"],
            {"search": 1},
        ),
    }
else:
    DAMAGES |= {
        "tags are lost": (
            ["TRUNCATE post_tags"],
            {"tags": 2, "post-counts of tags": 2},
        ),
    }


def numbers_of(result: Result) -> dict[str, int]:
    """Return the numbers that a command has printed, without zeros."""
    lines = (line.removesuffix(" wrong").rpartition(": ") for line in result.stdout.splitlines())
    return {name: int(number) for name, _, number in lines if number != "0"}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_derived_values_are_right_again(blog: Blog, damage: str):
    statements, wrong = DAMAGES[damage]
    before = await blog.read()
    await blog.execute(*statements)
    if damage == "a name is changed by hand":
        before = await blog.read()
    damaged = await blog.read()

    checked = await run_command("rebuild", "--check")
    unchanged = await blog.read()
    rebuilt = await run_command("rebuild")
    again = await run_command("rebuild", "--check")

    assert (checked.exit_code, numbers_of(checked)) == (1, wrong), checked.output
    assert unchanged == damaged
    assert (rebuilt.exit_code, numbers_of(rebuilt)) == (0, wrong), rebuilt.output
    assert (again.exit_code, numbers_of(again)) == (0, {}), again.output
    shown, tables = await blog.read()
    assert shown == before[0]
    assert tables.keys() == before[1].keys()
    for name, rows in tables.items():
        assert name == "name_keys" or rows == before[1][name], name


async def test_every_kind_is_right_without_damage(blog: Blog):
    before = await blog.read()

    result = await run_command("rebuild")

    assert (result.exit_code, numbers_of(result)) == (0, {})
    assert len(result.stdout.splitlines()) == 10
    assert await blog.read() == before


async def test_a_disk_without_room_for_the_copy_is_one_line(
    blog: Blog, monkeypatch: pytest.MonkeyPatch
):
    if not IS_SQLITE:
        pytest.skip("Only SQLite's index is checked in a copy of the file")

    def raise_full(_file: Path) -> bool:
        raise sqlite_error("database or disk is full", sqlite3.SQLITE_FULL)

    monkeypatch.setattr("blog_api.posts.search_index.is_index_right", raise_full)
    monkeypatch.setenv("BLOG_DATABASE_URL", blog.url.render_as_string(hide_password=False))
    failed = await run_command("rebuild")

    assert failed.exit_code == 1
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("blog-api: BLOG_DATABASE_URL: Free space on the disk")


async def test_tags_that_are_lost_get_the_spelling_of_the_first_post(blog: Blog):
    await publish(blog.bob, title="Late", tags=["nature", "GO"])
    await blog.execute(EMPTY.format("post_tags"), EMPTY.format("tags"))

    await run_command("rebuild")

    tags = (await blog.ann.get("/tags")).json()
    assert tags["total_count"] == 2
    found = {tag["name"]: tag["post_count"] for tag in tags["results"]}
    assert found == {"Nature": 2, "Go": 2}
    assert (await blog.ann.get("/posts?tag=go")).json()["total_count"] == 2
    assert await count_wrong(blog.database, repairs=False) == {}


async def test_former_slugs_stay(blog: Blog):
    await blog.execute("DELETE FROM slugs WHERE slug = 'lakes'")

    await run_command("rebuild")

    moved = await blog.ann.get("/posts/slug/rivers")
    assert (moved.status_code, moved.headers["Location"]) == (308, "/posts/slug/lakes")
    assert (await blog.ann.get("/posts/slug/lakes")).status_code == 200


async def test_a_slug_that_another_post_has_is_reported(
    blog: Blog, caplog: pytest.LogCaptureFixture
):
    await blog.execute("UPDATE slugs SET post_id = 2 WHERE slug = 'lakes'")

    wrong = await count_wrong(blog.database, "slugs", repairs=True)

    assert wrong == {"slugs": 1}
    assert "Post 1: another post had its slug, and keeps it" in caplog.text
    assert await count_wrong(blog.database, "slugs", repairs=False) == {"slugs": 1}


DAMAGE_ALL = (
    "UPDATE posts SET comment_count = comment_count + 3, bookmark_count = bookmark_count - 1",
    "UPDATE comments SET answer_count = answer_count + 2",
    "UPDATE post_counts SET delta = delta + 4",
    "UPDATE users SET name = name || ' x'",
    "UPDATE posts SET made_summary = 'wrong'",
    "UPDATE post_tags SET updated_at = coalesce(published_at, updated_at), published_at = NULL",
)


async def rebuild_all(url: URL) -> None:
    """Rebuild everything on connections of its own, as a process does."""
    database = Database(make_settings(database_url=url, **MINIMUM_HASHING))
    try:
        await count_wrong(database, repairs=True)
    finally:
        await database.close()


async def test_writes_during_a_rebuild_are_counted_once(blog: Blog):
    """Derived values that are damaged again and again are right after the last rebuild."""
    is_done = asyncio.Event()
    numbers = count()

    async def write(client: AsyncClient) -> None:
        while not is_done.is_set():
            body = {"title": f"New {next(numbers)}", "content": "Water", "tags": ["Go", "Sea"]}
            post = (await request_with_retry(client, "POST", "/posts", json=body)).json()
            path = f"/posts/{post['id']}"
            comment = {"content": "Hi"}
            added = await request_with_retry(client, "POST", f"{path}/comments", json=comment)
            answer = {"content": "Hi", "parent_id": added.json()["id"]}
            await request_with_retry(client, "POST", f"{path}/comments", json=answer)
            bookmark = f"/users/me/bookmarks/{post['id']}"
            await request_with_retry(client, "PUT", bookmark)
            await request_with_retry(client, "PATCH", path, json={"title": "Changed", "tags": []})
            name = {"name": f"Cid {next(numbers)}"}
            await request_with_retry(client, "PATCH", "/users/me", json=name)
            if post["id"] % 2:
                await request_with_retry(client, "DELETE", path)

    async with asyncio.TaskGroup() as tasks:
        for client in (blog.ann, blog.bob):
            tasks.create_task(write(client))
        for _ in range(4):
            await blog.execute(*DAMAGE_ALL)
            await asyncio.gather(rebuild_all(blog.url), rebuild_all(blog.url))
        is_done.set()

    assert next(numbers) > 4
    assert await count_wrong(blog.database, repairs=False) == {}


async def test_a_change_that_is_not_committed_yet_is_waited_for(blog: Blog):
    """The counters of a post that somebody else has locked are read after the lock."""
    await blog.execute("UPDATE posts SET comment_count = 9 WHERE id = 1")
    insert = text(
        "INSERT INTO comments (created_at, updated_at, version, post_id, path, content, "
        "answer_count, thread_id) SELECT created_at, created_at, 1, 1, '0000000009', 'Hi', 0, 3 "
        "FROM posts WHERE id = 1"
    )
    count_comment = text("UPDATE posts SET comment_count = comment_count + 1 WHERE id = 1")

    async with blog.database.session(writes=True) as session:
        connection = await session.connection()
        await connection.execute(count_comment)
        await connection.execute(insert)
        task = await start_waiting_rebuild(blog)
    result = await task

    assert result.exit_code == 0, result.output
    assert (await blog.ann.get("/posts/1")).json()["comment_count"] == 4
    assert await count_wrong(blog.database, "comment-counts", repairs=False) == {}


async def test_a_post_whose_title_changes_meanwhile_is_rendered_again(blog: Blog):
    await blog.execute("UPDATE posts SET made_summary = 'wrong' WHERE id = 1")
    change_title = text("UPDATE posts SET title = 'Changed', version = version + 1 WHERE id = 1")

    async with blog.database.session(writes=True) as session:
        await (await session.connection()).execute(change_title)
        task = await start_waiting_rebuild(blog)
    result = await task

    assert result.exit_code == 0, result.output
    assert await count_wrong(blog.database, "html", repairs=False) == {}


async def test_a_post_that_is_not_committed_yet_is_counted_later(blog: Blog):
    """Counters of posts are repaired without waiting for transactions that add to them."""
    if IS_SQLITE:
        pytest.skip("SQLite has one writer at a time")
    await blog.execute("UPDATE post_counts SET delta = delta + 4")
    columns = "created_at, updated_at, title, content, published_at, user_id, version, content_html"
    insert = (
        f"INSERT INTO posts ({columns}, content_text, text_from, made_summary, "
        "made_reading_minutes, made_from, tags, comment_count, bookmark_count, slug) "
        f"SELECT {columns}, content_text, text_from, made_summary, made_reading_minutes, "
        "made_from, '[]', 0, 0, 'later' FROM posts WHERE id = 1"
    )
    claim = (
        "INSERT INTO slugs (created_at, updated_at, slug, post_id, was_public) "
        "SELECT created_at, updated_at, slug, id, FALSE FROM posts WHERE slug = 'later'"
    )

    async with blog.database.session(writes=True) as session:
        connection = await session.connection()
        await connection.execute(text(insert))
        await connection.execute(text(claim))
        result = await run_command("rebuild")

    assert result.exit_code == 0, result.output
    assert (await blog.ann.get("/posts")).json()["total_count"] == 3
    # It was inserted without its words.
    assert await count_wrong(blog.database, repairs=False) == {"search": 1}


async def start_waiting_rebuild(blog: Blog) -> asyncio.Task[Result]:
    """Start the command, and return when it waits for a lock."""
    task = asyncio.create_task(run_command("rebuild"))
    async with asyncio.timeout(60):
        while not await is_waited_for(blog):
            pass
    return task


async def is_waited_for(blog: Blog) -> bool:
    """Return whether another process waits for a lock; on SQLite, whether the file is locked."""
    if IS_SQLITE:
        with closing(sqlite3.connect(str(blog.url.database), timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            return False
    settings = make_settings(database_url=blog.url, **MINIMUM_HASHING)
    async with migration_connection(settings) as connection:
        query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool((await connection.execute(query)).scalar_one())
