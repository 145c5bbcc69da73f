"""The command `blog-api demo`: a small blog in an empty database."""

import asyncio
import re
import sqlite3
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL
from sqlmodel import col, func, select
from typer.testing import CliRunner, Result

from blog_api.accounts.passwords import PasswordHasher
from blog_api.cli.commands import cli
from blog_api.cli.demo import create_demo
from blog_api.core.settings import Settings
from blog_api.db.migrate import migrate
from blog_api.db.session import Database
from blog_api.models import metadata
from blog_api.posts.models import Post
from tests.support.clients import (
    MINIMUM_HASHING,
    SECRET_KEY,
    bearer,
    client_of,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.databases import temporary_database

runner = CliRunner()

NOT_EMPTY = "blog-api: The database has users or posts, and demo fills only an empty one\n"
PASSWORD_LINE = re.compile(r"^Log in as (.+) with the password (\w+)$", re.MULTILINE)

# What the HTML of the posts has, together.
ELEMENTS = (
    '<h1 id="', '<h2 id="user-content-the-way">', '<h3 id="', 'type="checkbox"',
    '<sup class="footnote-ref">', '<section class="footnotes">', "<em>",
    "<strong>", "<s>", "<code>", '<code class="language-python">',
    "<pre><code>", "<table>", '<td style="text-align:right">', "</p>\n<blockquote>",
    "<ul>", "<ol>", '<a href="https://commonmark.org/help/"', '<a href="mailto:tomas@example.com"',
    '<img src="https://example.com/bridge.jpg"', "<kbd>", "<sub>", "<details>", "<hr>", "<br>",
)  # fmt: skip


async def run_demo(url: URL, **variables: str) -> Result:
    environment = {
        "BLOG_DATABASE_URL": url.render_as_string(hide_password=False),
        "BLOG_SECRET_KEY": SECRET_KEY,
        **{f"BLOG_{name.upper()}": str(value) for name, value in MINIMUM_HASHING.items()},
        **variables,
    }
    # In a thread: the command starts an event loop.
    return await asyncio.to_thread(runner.invoke, cli, ["demo"], env=environment)


def settings_of(url: URL) -> Settings:
    return make_settings(database_url=url, **MINIMUM_HASHING)


async def migrate_postgres(url: URL) -> None:
    """Migrate a database on Postgres; a SQLite file is left to the command."""
    settings = settings_of(url)
    if not settings.is_sqlite:
        await migrate(settings)


async def count_all_rows(url: URL) -> dict[str, int]:
    """Return the numbers of rows of the tables that are not empty."""
    database = Database(settings_of(url))
    async with database.session(writes=False) as session:
        counts = {
            table.name: (await session.exec(select(func.count()).select_from(table))).one()
            for table in metadata.sorted_tables
        }
    await database.close()
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class Blog:
    """The application on a database that the command has filled, and what the command printed."""

    app: FastAPI
    emails: tuple[str, ...]
    password: str

    async def log_in(self, client: AsyncClient, email: str) -> None:
        response = await client.post("/auth", data={"username": email, "password": self.password})
        assert response.status_code == 200, response.text
        client.headers.update(bearer(response.json()["access_token"]))


@pytest.fixture(scope="module")
async def blog(app: FastAPI, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Blog]:
    """A blog that the tests of this module share; they only read it."""
    async with temporary_database(tmp_path_factory.mktemp("demo"), "demo") as url:
        await migrate_postgres(url)
        result = await run_demo(url)
        found = PASSWORD_LINE.search(result.stdout)
        assert found is not None, result.output
        async with running(settings_of(url)) as own:
            yield Blog(own, tuple(re.findall(r"\S+@\S+\w", found[1])), found[2])


@pytest.fixture
async def reader(blog: Blog) -> AsyncGenerator[AsyncClient]:
    """A client that is not logged in."""
    async with client_of(blog.app) as client:
        yield client


@pytest.fixture
async def mira(blog: Blog) -> AsyncGenerator[AsyncClient]:
    async with client_of(blog.app) as client:
        await blog.log_in(client, "mira@example.com")
        yield client


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def list_posts(client: AsyncClient, **params: str | int) -> list[dict[str, Any]]:
    response = await client.get("/posts", params={"size": 100, **params})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def iterate_comments(threads: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for thread in threads:
        yield thread
        yield from thread["answers"]


async def list_all_comments(client: AsyncClient, post: dict[str, Any]) -> list[dict[str, Any]]:
    threads = (await client.get(f"/posts/{post['id']}/comments")).json()["results"]
    return list(iterate_comments(threads))


def test_a_missing_sqlite_file_is_created_for_its_owner_alone(folder: Path):
    result = runner.invoke(cli, ["demo"])

    assert result.exit_code == 0
    assert result.stderr == "Database: sqlite+aiosqlite:///blog.db\n"
    assert re.match(
        r"Created 3 users, 8 posts \(one is a draft, one scheduled\), 11 comments, 4 follows, "
        r"4 bookmarks\.\nLog in as ",
        result.stdout,
    )
    assert {path.name for path in folder.iterdir()} == {"blog.db"}
    assert stat.S_IMODE((folder / "blog.db").stat().st_mode) == 0o600


async def test_all_accounts_log_in_with_the_printed_password(blog: Blog, reader: AsyncClient):
    names = []
    for email in blog.emails:
        await blog.log_in(reader, email)
        me = (await reader.get("/users/me")).json()
        names.append(me["username"])
        assert (me["email"], me["is_admin"], me["avatar_url"]) == (email, False, None)
        assert me["bio"]

    assert names == ["mira-holm", "tomas-reyes", "lin-okafor"]


async def test_the_password_is_random_and_as_long_as_the_settings_require(
    blog: Blog, empty_url: URL
):
    await migrate_postgres(empty_url)

    result = await run_demo(empty_url, BLOG_PASSWORD_MIN_LENGTH="33")

    found = PASSWORD_LINE.search(result.stdout)
    assert found is not None, result.output
    assert len(blog.password) == 20
    assert len(found[2]) == 34
    assert blog.password not in found[2]


async def test_published_posts_are_listed_newest_first(reader: AsyncClient):
    posts = await list_posts(reader)

    assert [post["slug"] for post in posts] == [
        "measure-twice",
        "uber-bienen-a-year-with-bees",
        "plain-text-lasts",
        "bread-in-numbers",
        "count-words-in-ten-lines",
        "a-walk-around-the-lake",
    ]
    assert {post["author"]["name"] for post in posts} == {"Mira Holm", "Tomas Reyes", "Lin Okafor"}
    for post in posts:
        assert post["created_at"] == post["updated_at"] == post["published_at"]
        assert post["summary"]


async def test_given_summaries_and_covers_are_shown(reader: AsyncClient):
    post = (await reader.get("/posts/slug/bread-in-numbers")).json()

    assert post["summary"] == "Sourdough bread as a table of percentages, in four steps."
    assert post["cover_url"] == "https://example.com/bread.jpg"
    assert post["cover_alt"] == "A round loaf with a dark crust"


@pytest.mark.parametrize("element", ELEMENTS)
async def test_the_posts_have_every_element_of_markdown(reader: AsyncClient, element: str):
    posts = await list_posts(reader)

    details = [(await reader.get(f"/posts/{post['id']}")).json() for post in posts]

    assert element in "".join(post["content_html"] for post in details)


async def test_drafts_and_scheduled_posts_are_shown_to_their_authors_only(
    blog: Blog, reader: AsyncClient
):
    async with blog.app.state.database.session(writes=False) as session:
        query = select(Post.id, Post.published_at).order_by(col(Post.id).desc()).limit(2)
        (draft, no_time), (scheduled, time) = (await session.exec(query)).all()
    statuses = {}
    for email in (None, *blog.emails):
        if email is not None:
            await blog.log_in(reader, email)
        statuses[email] = [
            (await reader.get(f"/posts/{post_id}")).status_code for post_id in (draft, scheduled)
        ]

    assert no_time is None
    assert time is not None
    assert statuses == {
        None: [404, 404],
        "mira@example.com": [404, 200],
        "tomas@example.com": [200, 404],
        "lin@example.com": [404, 404],
    }


async def test_tags_count_the_published_posts(reader: AsyncClient):
    tags = (await reader.get("/tags", params={"size": 100})).json()["results"]

    counts = {tag["name"]: tag["post_count"] for tag in tags}
    assert counts == {
        "bees": 1, "bread": 2, "nature": 2, "python": 1, "tables": 1, "tools": 3, "walks": 1,
        "writing": 1,
    }  # fmt: skip
    for name, count in counts.items():
        assert len(await list_posts(reader, tag=name)) == count


async def test_search_and_feeds_have_the_published_posts(reader: AsyncClient):
    found = await list_posts(reader, q="sourdough")
    items = (await reader.get("/feed.json")).json()["items"]

    assert [post["slug"] for post in found] == ["bread-in-numbers"]
    assert len(items) == 6


async def test_comments_have_nested_answers_and_right_counters(reader: AsyncClient):
    depths = []
    for post in await list_posts(reader):
        comments = await list_all_comments(reader, post)
        depths += [comment["depth"] for comment in comments]
        assert post["comment_count"] == len(comments)
        for comment in comments:
            answers = [one for one in comments if one["parent_id"] == comment["id"]]
            assert comment["answer_count"] == len(answers)
            assert post["created_at"] < comment["created_at"] == comment["updated_at"]

    assert (len(depths), max(depths)) == (11, 2)


async def test_profiles_count_the_published_posts(reader: AsyncClient):
    profiles = (await reader.get("/users")).json()

    assert {profile["name"]: profile["post_count"] for profile in profiles} == {
        "Mira Holm": 2,
        "Tomas Reyes": 2,
        "Lin Okafor": 2,
    }


async def test_people_follow_each_other_and_bookmark_posts(mira: AsyncClient):
    followed = (await mira.get("/users/me/following")).json()["results"]
    feed = (await mira.get("/users/me/feed")).json()["results"]
    bookmarks = (await mira.get("/users/me/bookmarks")).json()["results"]

    assert [profile["name"] for profile in followed] == ["Tomas Reyes", "Lin Okafor"]
    assert len(feed) == 4
    assert [(post["slug"], post["bookmark_count"]) for post in bookmarks] == [
        ("bread-in-numbers", 2),
        ("count-words-in-ten-lines", 1),
    ]


async def test_a_second_run_changes_nothing(empty_url: URL):
    await migrate_postgres(empty_url)
    first = await run_demo(empty_url)
    before = await count_all_rows(empty_url)

    second = await run_demo(empty_url)

    assert [first.exit_code, second.exit_code] == [0, 1]
    assert second.stdout == ""
    assert second.stderr.splitlines(keepends=True)[1:] == [NOT_EMPTY]
    assert await count_all_rows(empty_url) == before


@pytest.mark.parametrize("has_post", [False, True])
async def test_a_database_with_a_user_is_not_changed(empty_url: URL, has_post: bool):
    await migrate_postgres(empty_url)
    async with running(settings_of(empty_url)) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        if has_post:
            await publish(client)
    before = await count_all_rows(empty_url)

    result = await run_demo(empty_url)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.endswith(NOT_EMPTY)
    assert await count_all_rows(empty_url) == before


async def test_a_database_with_a_post_and_no_user_is_not_changed(empty_url: URL):
    settings = settings_of(empty_url)
    if not settings.is_sqlite:
        pytest.skip("Postgres always enforces foreign keys")
    await run_demo(empty_url)
    with closing(sqlite3.connect(str(empty_url.database))) as connection, connection:
        connection.execute("DELETE FROM users")
    before = await count_all_rows(empty_url)

    result = await run_demo(empty_url)

    assert result.stderr.endswith(NOT_EMPTY)
    assert before["posts"] == 8
    assert await count_all_rows(empty_url) == before


async def test_nothing_is_left_after_a_failure(empty_url: URL, monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> None:
        raise OSError("no such host")

    await migrate_postgres(empty_url)
    with monkeypatch.context() as patch:
        patch.setattr("blog_api.cli.demo.insert_row_if_missing", fail)
        failed = await run_demo(empty_url)
    left = await count_all_rows(empty_url)
    repeated = await run_demo(empty_url)

    assert failed.exit_code == 1
    assert failed.stdout == ""
    assert left == {}
    assert repeated.exit_code == 0


async def test_of_two_runs_at_once_one_fills_the_database(migrated_url: URL):
    settings = settings_of(migrated_url)
    database = Database(settings)
    hasher = PasswordHasher(settings)

    results = await asyncio.gather(
        *(create_demo(database, hasher, "correct horse") for _ in range(2))
    )
    await database.close()

    assert results.count(None) == 1
    counts = await count_all_rows(migrated_url)
    assert (counts["users"], counts["posts"]) == (3, 8)
