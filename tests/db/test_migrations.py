"""Migrations build the tables that the code declares, and can be reversed."""

import asyncio
import re
import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path
from string import punctuation
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from httpx import AsyncClient
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from blog_api.accounts.passwords import PasswordHasher
from blog_api.core.fields import utc_now
from blog_api.core.settings import Settings
from blog_api.db.base import TableBase
from blog_api.db.migrate import (
    IncompatibleSchema,
    make_alembic_config,
    migrate,
    migration_connection,
)
from blog_api.db.revisions import (
    find_migrations,
    get_head_revision,
    get_schema,
    read_revisions,
)
from blog_api.posts.models import Post
from tests.support.clients import (
    MINIMUM_HASHING,
    PASSWORD,
    SECRET_KEY,
    add_comment,
    client_of,
    log_in,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.faults import wait_until
from tests.support.mailbox import Mailbox
from tests.support.rebuilds import count_wrong

FIRST = "53fe22308b68"
# The revision before tags, comments and the search.
BEFORE_SEARCH = "7d0c5e1f9a24"

SET_REVISION = "UPDATE alembic_version SET version_num = :revision"
SET_OLDEST = "UPDATE schema_compatibility SET oldest_revision = :revision"


async def execute(settings: Settings, *statements: str, **values: object) -> None:
    """Execute SQL on the database, each statement with the values that it names."""
    async with migration_connection(settings) as connection:
        for statement in statements:
            clause = text(statement)
            names = clause.compile().params.keys()
            await connection.execute(clause, {name: values[name] for name in names})


async def downgrade(settings: Settings, revision: str) -> None:
    async with migration_connection(settings) as connection:
        await connection.run_sync(
            lambda connection: command.downgrade(make_alembic_config(connection), revision)
        )


async def upgrade(settings: Settings, revision: str) -> None:
    async with migration_connection(settings) as connection:
        await connection.run_sync(
            lambda connection: command.upgrade(make_alembic_config(connection), revision)
        )


async def downgrade_and_upgrade(settings: Settings) -> None:
    await downgrade(settings, BEFORE_SEARCH)
    await migrate(settings)


def test_the_head_revision_is_the_one_that_alembic_finds():
    scripts = ScriptDirectory(str(find_migrations()))

    assert get_head_revision() == scripts.get_current_head()


def test_a_merge_of_branches_is_the_head_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "versions").mkdir()
    for revision, parents in {"a": None, "b": "a", "c": "a", "d": ("b", "c")}.items():
        source = f"revision: str = {revision!r}\ndown_revision = {parents!r}\n"
        (tmp_path / "versions" / f"{revision}.py").write_text(source)
    monkeypatch.setattr("blog_api.db.revisions.find_migrations", lambda: tmp_path)

    assert read_revisions.__wrapped__() == (frozenset("abcd"), "d")


async def test_migrations_build_what_the_code_declares_and_can_be_reversed(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)

    def check_and_downgrade(connection: Connection) -> None:
        command.check(make_alembic_config(connection))
        command.downgrade(make_alembic_config(connection), "base")

    for _ in range(2):
        await migrate(settings)
        async with migration_connection(settings) as connection:
            assert (await connection.run_sync(get_schema)).current == get_head_revision()
            await connection.run_sync(check_and_downgrade)
            assert (await connection.run_sync(get_schema)).current is None


async def test_migrate_is_idempotent(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")

        await migrate(settings)

        assert [user["name"] for user in (await client.get("/users")).json()] == ["Ann"]


async def test_the_service_is_ready_if_the_database_is_at_the_head_revision(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        if not settings.is_sqlite:
            # On Postgres, `blog-api migrate` has to be run.
            for path in ("/health/ready", "/posts"):
                unmigrated = await client.get(path)
                assert unmigrated.status_code == 503
                assert "Retry-After" in unmigrated.headers
            reason = (await client.get("/health/ready")).json()["detail"]
            assert reason.startswith("The database is not migrated: run blog-api migrate")
            await migrate(settings)
        assert (await client.get("/health/ready")).status_code == 200

        await execute(settings, SET_REVISION, revision=BEFORE_SEARCH)
        outdated = await client.get("/health/ready")

        assert outdated.status_code == 503
        assert outdated.json()["type"] == "urn:blog-api:not-ready"


async def test_a_newer_database_is_used_if_it_serves_this_version(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        assert (await client.get("/health/ready")).json() == {"status": "ok"}

        await execute(settings, SET_REVISION, revision="newer")
        newer = await client.get("/health/ready")
        await migrate(settings)
        await execute(settings, SET_OLDEST, revision="newer")
        too_new = await client.get("/health/ready")
        with pytest.raises(IncompatibleSchema, match="run the newer version"):
            await migrate(settings)
        async with migration_connection(settings) as connection:
            assert (await connection.run_sync(get_schema)).current == "newer"

    head = get_head_revision()
    assert newer.status_code == 200
    assert newer.json()["detail"] == (
        "The database is at revision newer of a newer version, "
        f"which serves this one, at revision {head}, too"
    )
    assert too_new.status_code == 503
    assert too_new.json()["detail"] == (
        "The database is at revision newer of a newer version, "
        f"which does not serve this one, at revision {head}: run the newer version"
    )


async def test_a_downgrade_and_upgrade_gives_no_token_more_scopes(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    hello = {"title": "Hello", "content": "World"}
    form = {"username": "ann@example.com", "password": PASSWORD}
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        post = (await ann.post("/posts", json=hello)).json()
        tokens = [
            (await ann.post("/users/me/tokens", json={"name": "Script"})).json(),
            (await ann.post("/token", data=form | {"grant_type": "password"})).json(),
            (await ann.post("/auth", data=form | {"scope": "posts:read"})).json(),
        ]
        async with app.state.database.session(writes=True) as session:
            (await session.exec(select(Post))).one().taken_down_at = utc_now()

    await downgrade(settings, FIRST)
    await migrate(settings)

    async with running(settings) as app, client_of(app) as other:
        for token in tokens:
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            assert (await other.get("/users/me", headers=headers)).status_code == 401
        other.headers["Authorization"] = ann.headers["Authorization"]
        assert (await other.get("/users/me")).status_code == 200
        shown = (await other.get(f"/posts/{post['id']}")).json()
    assert shown["published_at"] is None


async def test_a_failed_migration_is_rolled_back(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await upgrade(settings, FIRST)
    await execute(settings, "CREATE TABLE media_files (id INTEGER)")

    with pytest.raises(DBAPIError, match="already exists"):
        await migrate(settings)
    async with migration_connection(settings) as connection:
        assert (await connection.run_sync(get_schema)).current == FIRST
    await execute(settings, "DROP TABLE media_files")

    await migrate(settings)
    async with migration_connection(settings) as connection:
        assert (await connection.run_sync(get_schema)).current == get_head_revision()


async def test_a_worker_restarts_while_the_file_is_locked(tmp_path: Path):
    file = tmp_path / "blog.db"
    settings = make_settings(
        database_url=make_url(f"sqlite+aiosqlite:///{file}"), **MINIMUM_HASHING
    )
    await migrate(settings)

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with running(settings) as app, client_of(app) as client:
            response = await client.get("/health/ready")

    assert response.status_code == 200


async def test_sqlite_does_not_reuse_ids(tmp_path: Path):
    settings = make_settings(
        database_url=make_url(f"sqlite+aiosqlite:///{tmp_path}/blog.db"), **MINIMUM_HASHING
    )
    await migrate(settings)

    async with migration_connection(settings) as connection:
        found = await connection.execute(text("SELECT name, sql FROM sqlite_master"))
        sql = {name: text for name, text in found if text}

    with_id = [table.name for table in TableBase.metadata.sorted_tables if "id" in table.columns]
    assert len(with_id) > 5
    for name in with_id:
        assert "AUTOINCREMENT" in sql[name], name


async def test_existing_posts_are_shown_and_found_after_the_migration(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await upgrade(settings, BEFORE_SEARCH)
    await execute(
        settings,
        """
        INSERT INTO users (created_at, updated_at, email, name, email_key, password_hash,
                           is_active, is_admin)
        VALUES ('2020-01-01 00:00:00.000000', '2020-01-01 00:00:00.000000', 'ann@example.com',
                'Ann', 'ann@example.com', :hash, TRUE, FALSE)
        """,
        """
        INSERT INTO posts (created_at, updated_at, title, content, slug, published_at, user_id)
        SELECT created_at, updated_at, 'Привет, мир', :content, 'privet-mir', created_at, id
        FROM users
        """,
        """
        INSERT INTO slugs (created_at, updated_at, slug, post_id)
        SELECT created_at, updated_at, slug, id FROM posts
        """,
        hash=await PasswordHasher(settings).hash(PASSWORD),
        content="*Unquoted* <b>R&D</b>",
    )

    await migrate(settings)

    async with running(settings) as app, client_of(app) as ann:
        await log_in(ann, "ann@example.com", "posts:write")
        post = (await ann.get("/posts/slug/privet-mir")).json()
        assert post["content_html"] == "<pre>*Unquoted* &lt;b&gt;R&amp;D&lt;/b&gt;</pre>"
        assert (post["tags"], post["comment_count"], post["bookmark_count"]) == ([], 0, 0)

        async def found(q: str) -> int:
            count: int = (await ann.get("/posts", params={"q": q})).json()["total_count"]
            return count

        async def is_indexed() -> bool:
            return await found("привет") == 1

        # A worker indexes it after the start.
        await wait_until(is_indexed)
        assert [await found(q) for q in ("unquoted", "moon")] == [1, 0]
        path = f"/posts/{post['id']}"
        patched = await ann.patch(path, json={"content": "*Moon*", "tags": ["sky"]})
        assert patched.status_code == 200
        shown = (await ann.get(path)).json()
        assert shown["content_html"] == "<p><em>Moon</em></p>\n"
        assert [await found(q) for q in ("привет", "unquoted", "moon", "sky")] == [1, 0, 1, 1]
        assert (await ann.delete(path)).status_code == 204
        assert [await found(q) for q in ("привет", "moon", "sky")] == [0, 0, 0]


async def test_the_search_works_after_a_downgrade_and_upgrade(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        old = (await ann.post("/posts", json={"title": "Old", "content": "Moon"})).json()["id"]

    await downgrade_and_upgrade(settings)

    async with running(settings) as app, client_of(app) as client:
        client.headers = ann.headers

        async def is_old_post_found() -> bool:
            return bool((await client.get("/posts?q=moon")).json()["results"])

        # The workers index it after the start.
        await wait_until(is_old_post_found)
        post = (await client.post("/posts", json={"title": "New", "content": "Sun"})).json()
        await client.patch(f"/posts/{post['id']}", json={"content": "Star"})
        found = {
            q: [one["id"] for one in (await client.get(f"/posts?q={q}")).json()["results"]]
            for q in ("moon", "sun", "star")
        }
        await client.delete(f"/posts/{old}")
    assert found == {"moon": [old], "sun": [], "star": [post["id"]]}
    if settings.is_sqlite:
        # Fails if the index differs from the posts.
        await execute(
            settings, "INSERT INTO post_search (post_search, rank) VALUES ('integrity-check', 1)"
        )


async def test_a_downgrade_drops_the_triggers_of_the_search_on_sqlite(tmp_path: Path):
    file = tmp_path / "blog.db"
    settings = make_settings(
        database_url=make_url(f"sqlite+aiosqlite:///{file}"), **MINIMUM_HASHING
    )

    def list_search_tables_and_triggers() -> list[str]:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'trigger')"
        with closing(sqlite3.connect(file)) as connection:
            names = [name for (name,) in connection.execute(query)]
        return sorted(name for name in names if name.startswith("post_search"))

    await migrate(settings)
    first = list_search_tables_and_triggers()
    await downgrade(settings, BEFORE_SEARCH)
    without = list_search_tables_and_triggers()
    await migrate(settings)

    assert {"post_search_insert", "post_search_update", "post_search_delete"} < set(first)
    assert without == []
    assert list_search_tables_and_triggers() == first


async def test_ids_of_users_are_not_reused_after_a_downgrade_and_upgrade(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    ids = []

    for name in ("Ann", "Bob", "Carl"):
        async with running(settings) as app, client_of(app) as client:
            await sign_up(client, name)
            ids.append((await client.get("/users/me")).json()["id"])
            await client.request("DELETE", "/users/me", json={"current_password": PASSWORD})
            assert (await client.get("/users")).status_code == 401
        await downgrade_and_upgrade(settings)

    assert ids[0] < ids[1] < ids[2]


async def test_a_downgrade_and_upgrade_preserves_users_and_their_posts(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    paths = ("/users/me", "/users/me/posts", "/users")
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await ann.post("/posts", json={"title": "Hello", "content": "World"})
        before = [(await ann.get(path)).json() for path in paths]

    await downgrade_and_upgrade(settings)

    async with running(settings) as app, client_of(app) as client:
        client.headers = ann.headers
        assert [(await client.get(path)).json() for path in paths] == before


async def test_imported_users_have_no_password_after_a_downgrade_and_upgrade(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    insert = """
        INSERT INTO users (created_at, updated_at, name, import_key, is_active, is_admin)
        VALUES ('2020-01-01 00:00:00.000000', '2020-01-01 00:00:00.000000', :name, :key,
                TRUE, FALSE)
        """
    for name in ("Ann", "Bob"):
        await execute(settings, insert, name=name, key=f"{name}'s key")

    await downgrade_and_upgrade(settings)

    async with running(settings) as app, client_of(app) as client:
        users = (await client.get("/users")).json()
        assert [user["name"] for user in users] == ["Ann", "Bob"]
        for user in users:
            for password in ("!", PASSWORD):
                form = {"username": f"imported-{user['id']}@invalid", "password": password}
                assert (await client.post("/auth", data=form)).status_code == 400


def test_printed_sql_says_which_revision_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_DATABASE_URL", "postgresql://localhost/blog")
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    output = StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(find_migrations()))

    command.upgrade(config, "7d2e90b1c4a3:head", sql=True)

    (comment,) = (line for line in output.getvalue().splitlines() if "INCOMPLETE" in line)
    assert comment.startswith("-- INCOMPLETE: revision 5b7c1e94d2f0 ")
    assert "run blog-api migrate" in comment


async def test_tags_that_differ_by_invisible_characters_become_one(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        for tags in (["❤"], ["star"], ["❤", "star"], ["solo"]):
            await ann.post("/posts", json={"title": "Hi", "content": "Hi", "tags": tags})
    await downgrade(settings, "7d2e90b1c4a3")
    renamed = "UPDATE tags SET name = :{0}, key = :{0} WHERE key = '{1}'"
    await execute(
        settings,
        renamed.format("heart", "star"),
        renamed.format("hyphenated", "solo"),
        heart="❤\ufe0f",
        hyphenated="so\u00adlo",
    )

    await migrate(settings)

    async with running(settings) as app, client_of(app) as client:
        tags = (await client.get("/tags")).json()["results"]
        assert {tag["name"]: tag["post_count"] for tag in tags} == {"❤": 3, "solo": 1}
        for tag, count in (("❤", 3), ("❤\ufe0f", 3), ("solo", 1)):
            found = await client.get("/posts", params={"tag": tag})
            assert found.json()["total_count"] == len(found.json()["results"]) == count


async def test_deleted_comments_without_answers_are_removed(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        post = await publish(ann)
        comments: dict[str, dict[str, Any]] = {}
        for path in ("a", "a.b", "a.b.c", "d", "d.e", "d.f", "g", "g.h", "g.h.i", "j", "j.k", "l"):
            above = comments.get(path.rpartition(".")[0])
            comments[path] = await add_comment(ann, post, path, above)
        before = {
            path: (await ann.get(f"/comments/{comments[path]['id']}")).json()
            for path in ("d.f", "g.h.i", "j", "j.k", "l")
        }
    await downgrade(settings, "5b7c1e94d2f0")
    # As the deletion of an account left them. The chain `a` has no answer left, `g` has one.
    for path in ("a", "a.b", "a.b.c", "d", "d.e", "g", "g.h"):
        await execute(
            settings,
            "UPDATE comments SET content = NULL, user_id = NULL, deleted_at = updated_at "
            "WHERE id = :id",
            "UPDATE posts SET comment_count = comment_count - 1",
            id=comments[path]["id"],
        )

    await migrate(settings)

    async with running(settings) as app, client_of(app) as client:
        client.headers = ann.headers
        page = (await client.get(f"/posts/{post['id']}/comments")).json()
        shown = [comment for top in page["results"] for comment in (top, *top["answers"])]
        assert [(one["content"], one["depth"], one["answer_count"]) for one in shown] == [
            (None, 0, 1), ("d.f", 1, 0), (None, 0, 1), (None, 1, 1), ("g.h.i", 2, 0),
            ("j", 0, 1), ("j.k", 1, 0), ("l", 0, 0),
        ]  # fmt: skip
        assert page["total_count"] == len(page["results"]) == 4
        for comment in before.values():
            assert (await client.get(f"/comments/{comment['id']}")).json() == comment
        assert (await client.get(f"/posts/{post['id']}")).json()["comment_count"] == 5
        # The last answer takes the deleted comments above it along.
        await client.delete(f"/comments/{comments['g.h.i']['id']}")
        page = (await client.get(f"/posts/{post['id']}/comments")).json()
        assert [one["content"] for one in page["results"]] == [None, "j", "l"]


# The version before mailbox keys, and an account of it.
BEFORE_MAILBOXES = "5b7c1e94d2f0"
INSERT_USER = """
    INSERT INTO users (created_at, updated_at, email, name, email_key, password_hash,
                       is_active, is_admin)
    VALUES ('2020-01-01 00:00:00.000000', '2020-01-01 00:00:00.000000', :email, 'User',
            :email_key, :hash, TRUE, FALSE)
    """
# Addresses of the version before, with the keys that it computed.
OLD_ADDRESSES = {
    "Ann@Example.com": "ann@example.com",
    "ann@münchen.example": "ann@münchen.example",
    "Ann@xn--mnchen-3ya.example": "ann@xn--mnchen-3ya.example",
    "bob@xn--bcher-kva.example": "bob@xn--bcher-kva.example",
    "bob@Bücher.example": "bob@bücher.example",
    "ann@faß.example": "ann@fass.example",
    "Ünal@BÜCHER.example": "ünal@bücher.example",
}


async def can_log_in(client: AsyncClient, email: str, password: str = PASSWORD) -> bool:
    response = await client.post("/auth", data={"username": email, "password": password})
    assert response.status_code in (200, 400), response.text
    return response.status_code == 200


async def test_existing_accounts_log_in_by_their_addresses_after_the_migration(
    empty_url: URL, caplog: pytest.LogCaptureFixture
):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await upgrade(settings, BEFORE_MAILBOXES)
    for email, key in OLD_ADDRESSES.items():
        password_hash = await PasswordHasher(settings).hash(f"{PASSWORD} {email}")
        await execute(settings, INSERT_USER, email=email, email_key=key, hash=password_hash)
    await execute(
        settings, INSERT_USER, email=None, email_key=None, hash=None
    )  # An imported author.

    await migrate(settings)

    warnings = [one.message for one in caplog.records if one.name == "blog_api.migrations"]
    assert warnings == [
        f"Users {first} and {second} have the same mailbox: "
        "each logs in by the spelling of its own address"
        for first, second in ((2, 3), (4, 5))
    ]
    async with running(settings) as app, client_of(app) as client:
        for email in OLD_ADDRESSES:
            assert await can_log_in(client, email, f"{PASSWORD} {email}"), email
        new = {"name": "User", "password": PASSWORD}
        for email, status in {
            "ANN@MÜNCHEN.example": 400,
            "bob@BÜCHER.example": 400,
            "ünal@xn--bcher-kva.example": 400,
            "ann@xn--fa-hia.example": 400,
            "ann@fass.example": 200,
        }.items():
            response = await client.post("/sign-up", json=new | {"email": email})
            assert response.status_code == status, email
        assert await can_log_in(client, "ann@fass.example")
        assert await can_log_in(
            client, "ünal@xn--bcher-kva.example", f"{PASSWORD} Ünal@BÜCHER.example"
        )

    await downgrade(settings, BEFORE_MAILBOXES)
    await migrate(settings)

    async with running(settings) as app, client_of(app) as client:
        for email in OLD_ADDRESSES:
            assert await can_log_in(client, email, f"{PASSWORD} {email}"), email
        assert await can_log_in(client, "ann@fass.example")


async def test_an_account_of_the_version_before_has_its_mailbox_after_the_migration(
    migrated_url: URL,
):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    password_hash = await PasswordHasher(settings).hash(PASSWORD)
    new = {"name": "User", "password": PASSWORD}
    async with running(settings) as app, client_of(app) as client:
        for name in ("ann", "bob"):
            email = f"{name}@münchen.example"
            await execute(settings, INSERT_USER, email=email, email_key=email, hash=password_hash)
            other = f"{name}@xn--mnchen-3ya.example"
            if name == "ann":
                assert await can_log_in(client, other)
            taken = await client.post("/sign-up", json=new | {"email": other})
            assert taken.json()["detail"] == "Email already registered"


async def test_existing_users_and_tags_are_found_by_the_new_indexes(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await ann.patch("/users/me", json={"name": "Anna Élan"})
        for tags in (["a"], ["b"], ["b", "c"]):
            await ann.post("/posts", json={"title": "Hi", "content": "Hi", "tags": tags})

    await downgrade(settings, "5b7c1e94d2f0")
    await migrate(settings)

    async with running(settings) as app, client_of(app) as client:
        for q in ("ann", "anna é", "ÉLAN"):
            assert len((await client.get("/users", params={"q": q})).json()) == 1, q
        tags = (await client.get("/tags")).json()
        counts = [(tag["name"], tag["post_count"]) for tag in tags["results"]]
        assert (tags["total_count"], counts) == (3, [("b", 2), ("a", 1), ("c", 1)])


async def test_users_whom_the_previous_version_renames_are_indexed_by_a_rebuild(
    migrated_url: URL,
):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
    await execute(settings, "UPDATE users SET name = 'Bea Moon'")

    async with running(settings) as app, client_of(app) as client:
        before = [(await client.get(f"/users?q={q}")).json() for q in ("ann", "moon")]
        await count_wrong(app.state.database, "names", repairs=True)
    async with running(settings) as app, client_of(app) as client:
        found = (await client.get("/users?q=moon")).json()

    assert before == [[], []]
    assert [user["name"] for user in found] == ["Bea Moon"]


BEFORE_FIELDS = "e41a7c95d308"
# The statements of the version before.
OLD_INSERT = """
    INSERT INTO posts (created_at, updated_at, title, content, slug, published_at, user_id, version,
        content_html, tags, comment_count, bookmark_count)
    SELECT created_at, created_at, 'Old', :html, :slug, created_at, id, 1, :html, '[]', 0, 0
    FROM users
"""
OLD_SLUG = """
    INSERT INTO slugs (created_at, updated_at, slug, post_id, was_public)
    SELECT created_at, updated_at, slug, id, FALSE FROM posts WHERE slug = :slug
"""
OLD_UPDATE = "UPDATE posts SET content = :html, content_html = :html WHERE slug = :slug"


async def test_posts_of_the_version_before_have_summaries(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await downgrade(settings, BEFORE_FIELDS)
        html = f"<p>{'word ' * 300}<b>x</b>y</p>"
        await execute(settings, OLD_INSERT, OLD_SLUG, html=html, slug="before")
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p>a</p>", slug="changed")

        await migrate(settings)
        stored = "SELECT made_summary, made_reading_minutes FROM posts ORDER BY id"
        async with migration_connection(settings) as connection:
            made = (await connection.execute(text(stored))).all()
        # It keeps serving for a while.
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p>&lt;new&gt;</p>", slug="after")
        await execute(settings, OLD_UPDATE, html="<p>changed</p>", slug="changed")
        async with migration_connection(settings) as connection:
            made_later = (await connection.execute(text(stored))).all()
        posts = (await ann.get("/posts")).json()["results"]
        shown = [(await ann.get(f"/posts/slug/{post['slug']}")).json() for post in posts]
        lines = (await ann.get("/users/me/export")).text

    beginning = "word " * 59 + "word…"
    assert [tuple(row) for row in made] == [(beginning, 2), ("a", 1)]
    assert [tuple(row) for row in made_later] == [(beginning, 2), (None, None), (None, None)]
    for listed in (posts, shown):
        found = {post["slug"]: (post["summary"], post["reading_minutes"]) for post in listed}
        assert found == {"before": (beginning, 2), "changed": ("changed", 1), "after": ("<new>", 1)}
    assert '"summary":"<new>"' in lines

    async with running(settings) as app:
        assert await count_wrong(app.state.database, "html", repairs=True) == {"html": 2}
    async with migration_connection(settings) as connection:
        rendered = (await connection.execute(text(stored))).all()
    assert None not in [row[0] for row in rendered]


async def test_existing_slugs_redirect_if_the_post_was_public_under_them(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")

        async def create(published_at: str | None, *titles: str) -> dict[str, object]:
            body = {"title": titles[0], "content": "Hi", "published_at": published_at}
            post: dict[str, object] = (await ann.post("/posts", json=body)).json()
            for title in titles[1:]:
                await ann.patch(f"/posts/{post['id']}", json={"title": title})
            return post

        await create(utc_now().isoformat(), "Old", "Renamed")
        draft = await create(None, "Secret", "Published")
        now = {"published_at": utc_now().isoformat()}
        await ann.patch(f"/posts/{draft['id']}", json=now)
        await create(None, "Draft", "Still a draft")
        deleted = await create(utc_now().isoformat(), "Deleted")
        await ann.delete(f"/posts/{deleted['id']}")

    await downgrade(settings, "8d3f60b1c2a4")
    await migrate(settings)

    expected = {
        "old": 308,
        "renamed": 200,
        "secret": 404,
        "published": 200,
        "draft": 404,
        "deleted": 404,
    }
    async with running(settings) as app, client_of(app) as anonymous:
        for slug, status in expected.items():
            assert (await anonymous.get(f"/posts/slug/{slug}")).status_code == status, slug
        anonymous.headers = ann.headers
        body = {"title": "Deleted", "content": "Hi"}
        assert (await anonymous.post("/posts", json=body)).json()["slug"] != "deleted"


async def test_existing_users_get_usernames_from_their_names(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    names = ["Ann", "Ann", "Анна", "42", "Admin"]
    async with running(settings) as app, client_of(app) as client:
        for number, name in enumerate(names):
            body = {"email": f"{number}@example.com", "name": name, "password": PASSWORD}
            await client.post("/users", json=body)

    await downgrade(settings, "e41a7c95d308")
    await migrate(settings)

    async with running(settings) as app, client_of(app) as client:
        users = (await client.get("/users")).json()
        usernames = [user["username"] for user in users]
        assert [user["name"] for user in users] == names
        assert (usernames[0], usernames[2]) == ("ann", "anna")
        for username, pattern in (
            (usernames[1], "ann-[a-z]{4}"),
            (usernames[3], "user-[a-z]{10}"),
            (usernames[4], "admin-[a-z]{4}"),
        ):
            assert re.fullmatch(pattern, username), username
            assert (await client.get(f"/users/username/{username}")).status_code == 200
        body = {"email": "new@example.com", "name": "New", "password": PASSWORD}
        for username in usernames[:3]:
            response = await client.post("/users", json=body | {"username": username})
            assert response.status_code == 409


async def test_existing_users_create_once_after_the_migration(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await upgrade(settings, "e41a7c95d308")
    now = utc_now()
    await execute(
        settings,
        "INSERT INTO users (id, created_at, updated_at, name, email, email_key, mailbox_key, "
        "password_hash, is_active, is_admin) VALUES (7, :now, :now, 'Ann', 'ann@example.com', "
        "'ann@example.com', 'ann@example.com', :hash, TRUE, FALSE)",
        "INSERT INTO posts (id, created_at, updated_at, title, slug, content, content_html, "
        "published_at, tags, comment_count, bookmark_count, version, user_id) "
        "VALUES (3, :now, :now, 'Old', 'old', 'x', 'x', :now, '[]', 0, 0, 1, 7)",
        "INSERT INTO slugs (slug, post_id, created_at, updated_at, was_public) "
        "VALUES ('old', 3, :now, :now, FALSE)",
        now=now if empty_url.get_backend_name() == "postgresql" else now.isoformat(" "),
        hash=await PasswordHasher(settings).hash(PASSWORD),
    )

    async def send(client: AsyncClient) -> list[tuple[int, bytes]]:
        headers = {"Idempotency-Key": "a"}
        path = "/posts/3/comments"
        responses = [
            await client.post(path, json={"content": "Hi"}, headers=headers) for _ in range(2)
        ]
        return [(response.status_code, response.content) for response in responses]

    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await log_in(ann, "ann@example.com", "posts:read posts:write users:write")
        first, second = await send(ann)
        # The version before does not know the keys.
        await downgrade(settings, "e41a7c95d308")
        await migrate(settings)
        third, fourth = await send(ann)
        comments = (await ann.get("/posts/3/comments")).json()
        deleted = await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert first == second
    assert third == fourth != first
    assert (first[0], third[0], deleted.status_code) == (201, 201, 204)
    assert comments["total_count"] == 2


BEFORE_HTML = "d18f5b6ac920"
FOUND_ON_SQLITE = "SELECT count(*) FROM post_search WHERE post_search MATCH :q"
FOUND_ON_POSTGRES = (
    "SELECT count(*) FROM post_search WHERE vector @@ to_tsquery('pg_catalog.simple', :q)"
)


async def count_found(settings: Settings, *queries: str) -> list[int]:
    """Return the number of posts that the index has for each query."""
    if settings.is_sqlite:
        await execute(
            settings, "INSERT INTO post_search (post_search, rank) VALUES ('integrity-check', 1)"
        )
    statement = text(FOUND_ON_SQLITE if settings.is_sqlite else FOUND_ON_POSTGRES)
    async with migration_connection(settings) as connection:
        found = [await connection.execute(statement, {"q": q}) for q in queries]
    return [one.scalar_one() for one in found]


async def test_posts_of_the_version_before_are_markdown_and_html_becomes_markdown(
    migrated_url: URL,
):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await downgrade(settings, BEFORE_HTML)
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p title=before>a</p>", slug="before")

        await migrate(settings)
        upgraded = await count_found(settings, "before", "title")
        # It keeps serving for a while.
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p>after</p>", slug="after")
        await execute(settings, OLD_UPDATE, html="<p title=changed>a</p>", slug="before")
        html = await publish(ann, content="<p title=moon>sun</p>", content_type="text/html")
        written = await count_found(settings, "before", "changed", "after", "moon", "sun", "title")
        posts = (await ann.get("/posts?body=both")).json()["results"]

        await downgrade(settings, BEFORE_HTML)
        downgraded = await count_found(settings, "after", "moon", "sun", "title")
        await execute(settings, OLD_UPDATE, html="<p>star</p>", slug=html["slug"])
        changed = await count_found(settings, "moon", "sun", "star")
        await migrate(settings)
        last = await count_found(settings, "changed", "moon", "star", "title")
        again = (await ann.get("/posts?size=9")).json()["results"]

    assert upgraded == [1, 1]
    assert written == [0, 1, 1, 0, 1, 1]
    assert {post["slug"]: post["content_type"] for post in posts} == {
        "before": "text/markdown",
        "after": "text/markdown",
        html["slug"]: "text/html",
    }
    assert downgraded == [1, 1, 1, 2]
    assert changed == [0, 0, 1]
    assert last == [1, 0, 1, 1]
    assert {post["content_type"] for post in again} == {"text/markdown"}


BEFORE_OLD_SEARCH_SPEED = "9b2e64d0a7c5"


async def test_the_index_of_version_0_1_separates_words_at_all_punctuation(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    words = [f"w{number}" for number in range(len(punctuation))]
    content = "".join(map("".join, zip(words, punctuation, strict=True)))
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await downgrade(settings, BEFORE_OLD_SEARCH_SPEED)
        await publish(ann, content=content)

        await migrate(settings)
        await publish(ann, content=content)

    assert await count_found(settings, *words) == [2] * len(words)


BEFORE_WORDS = "7d2f90c6e4b8"


async def test_posts_of_the_version_before_are_indexed_for_the_search(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, cache_bytes=0, **MINIMUM_HASHING)

    async def find(client: AsyncClient, q: str) -> list[str]:
        results = (await client.get(f"/posts?q={q}")).json()["results"]
        return sorted(post["slug"] for post in results)

    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await downgrade(settings, BEFORE_WORDS)
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p>caf\u00e9</p>", slug="before")
        await migrate(settings)
    # The workers index it after the start.
    async with running(settings) as app, client_of(app) as client:
        async with asyncio.timeout(30):
            while await find(client, "cafe") != ["before"]:
                await client.get("/")

    # The version before keeps serving for a while.
    async with running(settings) as app, client_of(app) as client:
        client.headers = ann.headers
        new = await publish(client, title="New", content="Moon")
        await execute(settings, OLD_INSERT, OLD_SLUG, html="<p>after</p>", slug="after")
        await execute(settings, OLD_UPDATE, html="<p>changed</p>", slug="before")
        await execute(settings, OLD_UPDATE, html="<p>stars</p>", slug=new["slug"])
        removed = [await find(client, q) for q in ("cafe", "moon")]
        wrong = await count_wrong(app.state.database, "search", repairs=True)
        found = [await find(client, q) for q in ("after", "changed", "star", "old", "cafe", "moon")]
        again = await count_wrong(app.state.database, "search", repairs=False)
        hide = "UPDATE posts SET published_at = NULL WHERE slug = 'after'"
        await execute(settings, hide)
        hidden = await find(client, "after")

    assert removed == [[], []]
    assert wrong == {"search": 3}
    assert found == [["after"], ["before"], [new["slug"]], ["after", "before"], [], []]
    assert again == {}
    assert hidden == []


async def test_sessions_and_addresses_of_the_version_before_go_on(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    mailing = settings.model_copy(update={"mail_url": make_url("console://")})
    form = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        grant = (await ann.post("/token", data=form)).json()
        headers = ann.headers
    # Numbers of refresh tokens and what concerns mails: that version has neither.
    await downgrade(settings, "a6e80c2d51f4")
    await migrate(settings)

    async with running(settings) as app, client_of(app) as ann:
        # Nothing but the mailbox of the test delivers.
        app.state.settings = mailing
        ann.headers = headers
        account = (await ann.get("/users/me")).json()
        sessions = (await ann.get("/users/me/sessions")).json()["results"]
        refresh = {"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]}
        second = await ann.post("/token", data=refresh)
        repeated = await ann.post("/token", data=refresh)
        await ann.post("/email-verifications", json={})
        code = await Mailbox(app).receive_code("ann@example.com")
        await ann.post("/email-verifications/confirm", json={"token": code})
        verified = (await ann.get("/users/me")).json()
        # The version before changes the address without the columns beside it.
        await execute(settings, "UPDATE users SET email = 'new@example.com'")
        changed = (await ann.get("/users/me")).json()

    assert (account["email_verified_at"], account["pending_email"]) == (None, None)
    assert [one["client"] for one in sessions] == [None, None]
    assert second.status_code == 200
    # Its predecessor was random, so it cannot be recognized as the last one.
    assert repeated.json()["error"] == "invalid_grant"
    assert verified["email_verified_at"] is not None
    assert changed["email_verified_at"] is None


BEFORE_AUTHORS = "d4b7f1a92c68"


async def test_users_of_the_version_before_are_authors(empty_url: URL):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    insert = (
        "INSERT INTO users (created_at, updated_at, name, email, email_key, mailbox_key, "
        "password_hash, is_active, is_admin) "
        "VALUES (:now, :now, 'User', :email, :email, :email, :hash, TRUE, FALSE)"
    )
    now = utc_now()
    values = {
        "now": now if empty_url.get_backend_name() == "postgresql" else now.isoformat(" "),
        "hash": await PasswordHasher(settings).hash(PASSWORD),
    }

    async def read_authors(*names: str) -> list[bool]:
        """Log in to the accounts; return whether they are those of authors and may write posts."""
        found = []
        for name in names:
            async with client_of(app) as client:
                await log_in(client, f"{name}@example.com", "users:read posts:write")
                body = {"title": "Hello", "content": "World"}
                written = (await client.post("/posts", json=body)).status_code == 201
                found.append((await client.get("/users/me")).json()["is_author"])
                assert written is found[-1]
        return found

    await upgrade(settings, BEFORE_AUTHORS)
    await execute(settings, insert, email="ann@example.com", **values)
    await migrate(settings)
    # It keeps serving for a while.
    await execute(settings, insert, email="bob@example.com", **values)
    closed = settings.model_copy(update={"new_users_are_authors": False})
    async with running(closed) as app:
        async with client_of(app) as client:
            await sign_up(client, "Carl")
        upgraded = await read_authors("ann", "bob", "carl")
    await downgrade(settings, BEFORE_AUTHORS)
    await execute(settings, insert, email="dora@example.com", **values)
    await migrate(settings)
    async with running(settings) as app:
        again = await read_authors("ann", "bob", "carl", "dora")

    assert upgraded == [True, True, False]
    # A downgrade forgets who is no author.
    assert again == [True] * 4


BEFORE_REASONS = "5d20f7c81b3e"


async def test_takedowns_and_audit_entries_of_the_version_before_go_on(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        posts = [await publish(ann, title=f"{n}") for n in range(3)]
    first, second, third = (post["id"] for post in posts)
    await downgrade(settings, BEFORE_REASONS)
    now = utc_now()
    values: dict[str, Any] = {
        "now": now if migrated_url.get_backend_name() == "postgresql" else now.isoformat(" "),
        "ann": posts[0]["user_id"],
    }
    take_down = "UPDATE posts SET taken_down_at = :now WHERE id = :post"
    restore = "UPDATE posts SET taken_down_at = NULL WHERE id = :post"
    record = (
        "INSERT INTO audit_entries (created_at, updated_at, admin_id, action, post_id) "
        "VALUES (:now, :now, :ann, 'take-down-post', :post)"
    )
    promote = "UPDATE users SET is_admin = TRUE"
    await execute(settings, promote, take_down, record, post=first, **values)

    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await log_in(ann, "ann@example.com")
        for post in (second, third):
            await ann.put(f"/admin/posts/{post}/takedown", json={"reason": "Advertising"})
        # The version before keeps serving for a while.
        await execute(settings, restore, take_down, record, post=second, **values)
        await execute(settings, take_down, post=third, **values)
        found = (await ann.get("/users/me/posts")).json()["results"]
        entries = (await ann.get("/admin/audit?action=take-down-post")).json()["results"]
        restored = await ann.delete(f"/admin/posts/{first}/takedown")

    reasons = {one["id"]: one["takedown_reason"] for one in found}
    assert all(one["taken_down_at"] for one in found)
    assert reasons == {first: None, second: None, third: "Advertising"}
    assert sorted((one["post_id"], one["reason"] or "") for one in entries) == [
        (first, ""), (second, ""), (second, "Advertising"), (third, "Advertising"),
    ]  # fmt: skip
    assert restored.json()["taken_down_at"] is None
    await downgrade(settings, BEFORE_REASONS)
    await migrate(settings)
    async with running(settings) as app, client_of(app) as ann:
        await log_in(ann, "ann@example.com")
        again = (await ann.get("/users/me/posts")).json()["results"]
    assert [bool(one["taken_down_at"]) for one in again] == [True, True, False]


BEFORE_APPROVAL = "e5a07c3b9d12"
# The statements of the version before: an answer to a comment, and what it counts.
OLD_ANSWER = """
    INSERT INTO comments (created_at, updated_at, version, content, post_id, parent_id, thread_id,
        path, user_id, answer_count)
    SELECT created_at, updated_at, 1, 'old', post_id, id, thread_id, path || :suffix, user_id, 0
    FROM comments WHERE id = :id
"""
OLD_COUNTS = (
    "UPDATE comments SET answer_count = answer_count + 1 WHERE id = :id",
    "UPDATE posts SET comment_count = comment_count + 1",
)


async def test_comments_of_the_version_before_are_public_and_convey_no_trust(migrated_url: URL):
    settings = make_settings(database_url=migrated_url, **MINIMUM_HASHING)
    approving = settings.model_copy(update={"comments": "approved"})
    async with running(settings) as app, client_of(app) as ann, client_of(app) as bob:
        await sign_up(ann, "Ann")
        await sign_up(bob, "Bob")
        post = await publish(ann)
        before = await add_comment(bob, post, "before")
        await downgrade(settings, BEFORE_APPROVAL)
        await migrate(settings)
    # It keeps serving for a while.
    await execute(settings, OLD_ANSWER, *OLD_COUNTS, id=before["id"], suffix="2".rjust(10, "0"))
    insert = f"{OLD_INSERT} WHERE name = 'Ann'"
    await execute(settings, insert, OLD_SLUG, html="<p>a</p>", slug="old")

    async with running(approving) as app, client_of(app) as client:
        shown = (await client.get(f"/posts/{post['id']}/comments")).json()["results"][0]
        old_post = (await client.get("/posts/slug/old")).json()
        count = (await client.get(f"/posts/{post['id']}")).json()["comment_count"]
        client.headers = bob.headers
        # It is deleted and counted like any other.
        waiting = await add_comment(client, post, "waiting", before)
        alone = await add_comment(client, post, "alone")
        deleted = await client.delete(f"/comments/{before['id']}")
        client.headers.pop("Authorization")
        without = (await client.get(f"/posts/{post['id']}/comments")).json()["results"]

    answers = [one["content"] for one in shown["answers"]]
    assert (shown["content"], answers, shown["answer_count"], count) == ("before", ["old"], 1, 2)
    assert shown["is_approved"] and old_post["comments_open"]
    assert not waiting["is_approved"] and not alone["is_approved"]
    assert deleted.status_code == 204
    assert [(one["content"], one["answer_count"]) for one in without] == [(None, 1)]

    # The version before would show what waits.
    await downgrade(settings, BEFORE_APPROVAL)
    async with migration_connection(settings) as connection:
        rows = await connection.execute(text("SELECT content, answer_count FROM comments"))
        left = sorted(map(tuple, rows), key=str)
    assert left == [("old", 0), (None, 1)]
    await migrate(settings)
    async with running(settings) as app, client_of(app) as client:
        post_after = (await client.get(f"/posts/{post['id']}")).json()
        assert post_after["comment_count"] == 1
