"""The commands `import`, `export`, `set-password` and `render`, and the export of an account."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import URL
from sqlmodel import col, select

from blog_api.archive.exporter import export_posts
from blog_api.archive.record import PostRecord
from blog_api.comments.imported import find_exported_comments, split_by_comments
from blog_api.core.settings import Settings
from blog_api.db.migrate import migration_connection
from blog_api.posts.models import Post
from blog_api.text.renderer import Renderer
from tests.support.clients import (
    MINIMUM_HASHING,
    PASSWORD,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.commands import run_command, serve_database
from tests.support.statements import executions

RECORD = {
    "slug": "hello",
    "title": "Hello",
    "author": "Ann",
    "published_at": "2020-01-31T09:00:00Z",
    "updated_at": "2020-02-01T09:00:00Z",
    "tags": ["News", "Python"],
    "content": "My *first* post.",
}


def write_lines(path: Path, *records: object) -> str:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_exported_posts_equal_the_imported_ones(url: URL, tmp_path: Path):
    draft: dict[str, object] = RECORD | {
        "slug": "Черновик_1.0",
        "published_at": None,
        "tags": [],
        "author": "Bob",
    }
    file = write_lines(tmp_path / "in.jsonl", RECORD, draft)

    imported = await run_command("import", file)
    exported = await run_command("export", "out.jsonl")

    assert (imported.exit_code, exported.exit_code) == (0, 0), imported.output + exported.output
    assert imported.stdout == (
        "2 imported, 0 already present, 0 rejected.\n1 draft among the imported posts.\n"
    )
    assert exported.stdout == "2 posts exported.\n"
    assert read_lines(tmp_path / "out.jsonl") == [RECORD, draft]
    async with serve_database(url) as client:
        post = (await client.get("/posts/slug/hello")).json()
        assert post["content_html"] == "<p>My <em>first</em> post.</p>\n"
        assert post["user_name"] == "Ann"
        assert (await client.get("/posts?q=first&tag=python")).json()["total_count"] == 1
        assert (await client.get("/posts")).json()["total_count"] == 1


@pytest.mark.parametrize("out", ["folder", "out.jsonl"])
async def test_a_repeated_import_changes_nothing(url: URL, tmp_path: Path, out: str):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))
    await run_command("export", out)
    async with serve_database(url) as client:
        before = (await client.get("/posts/slug/hello")).json()

    again = await run_command("import", out)

    assert again.stdout == "0 imported, 1 already present, 0 rejected.\n", again.output
    async with serve_database(url) as client:
        assert (await client.get("/posts/slug/hello")).json() == before


async def test_a_busy_machine_costs_no_markdown(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The timeout of a service would have passed before the process of the renderer starts.
    monkeypatch.setattr(Renderer.__init__, "__defaults__", (0.0,))
    file = write_lines(tmp_path / "in.jsonl", RECORD | {"content": "*long* " * 500})

    await run_command("import", file)

    async with serve_database(url) as client:
        post = (await client.get("/posts/slug/hello?body=html")).json()
    assert post["content_html"].startswith("<p><em>long</em>")


async def test_an_export_reads_comments_and_slugs_of_many_posts_at_once(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    comment = {"author": "Bob", "created_at": "2020-02-01T09:00:00Z", "content": "Yes"}
    records: list[dict[str, Any]] = [
        RECORD
        | {"slug": f"s{number}", "old_slugs": [f"z{number}", f"B{number}", f"a{number}"]}
        | {"comments": [comment, comment | {"parent": 1}] * (number % 7)}
        for number in range(150)
    ]
    records[120]["comments"] = [comment] * 60
    await run_command("import", write_lines(tmp_path / "in.jsonl", *records))
    written: list[PostRecord] = []
    sizes: list[int] = []

    async with running(make_settings(database_url=url, **MINIMUM_HASHING)) as app:
        with executions(app) as executed:
            async for _ in export_posts(app.state.database, lambda one, _: written.append(one)):
                pass
        # The service itself looks for posts that are not indexed.
        queries = [
            one.statement
            for one in executed
            if one.statement.startswith("SELECT") and "words_version IS NULL" not in one.statement
        ]
        monkeypatch.setattr("blog_api.comments.imported.COMMENTS_PER_QUERY", 50)
        async with app.state.database.session(writes=False) as session:
            ids = list((await session.exec(select(Post.id).order_by(col(Post.id)))).all())
            for part in await split_by_comments(session, ids):
                found = await find_exported_comments(session, part)
                sizes.append(sum(map(len, found.values())))

    assert [one.slug for one in written] == [one["slug"] for one in records]
    for record, one in zip(records, written, strict=True):
        assert one.old_slugs == sorted(record["old_slugs"])
        assert [comment.parent for comment in one.comments] == [
            comment.get("parent") for comment in record["comments"]
        ]
    # Of two batches: posts, slugs, numbers of comments, comments; at the end no more posts.
    assert len(queries) == 9
    assert max(sizes) == 60
    assert sorted(sizes)[-2] <= 50


async def test_a_dry_run_writes_nothing(url: URL, tmp_path: Path):
    file = write_lines(tmp_path / "in.jsonl", RECORD, {"title": "No content"})

    result = await run_command("import", "--dry-run", file)

    assert result.exit_code == 1
    assert "Dry run, nothing written: 1 imported, 0 already present, 1 rejected." in result.stdout
    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 0
        assert (await client.get("/users")).json() == []


async def test_invalid_lines_are_reported_and_the_others_imported(url: URL, tmp_path: Path):
    file = write_lines(
        tmp_path / "in.jsonl",
        RECORD | {"author_key": 5},
        "{",
        RECORD,
        RECORD | {"title": "Another"},
        {key: value for key, value in RECORD.items() if key != "author"} | {"slug": "x"},
    )

    result = await run_command("import", file)

    assert result.exit_code == 1
    assert result.stdout == "2 imported, 0 already present, 3 rejected.\n1 warning, above.\n"
    errors = sorted(re.findall(r"in\.jsonl:(\d+): (.*)", result.stderr))
    assert [line for line, _ in errors] == ["1", "2", "4", "5"]
    assert "author_key" in errors[0][1]
    assert "JSON" in errors[1][1]
    assert errors[2][1] == "slug: hello is taken, the post gets hello-2"
    assert "--author" in errors[3][1]


async def test_an_author_is_not_matched_to_an_account_by_name(url: URL, tmp_path: Path):
    async with serve_database(url) as client:
        await sign_up(client, "Ann")

    await run_command("import", write_lines(tmp_path / "one.jsonl", RECORD))
    await run_command("import", write_lines(tmp_path / "two.jsonl", RECORD | {"slug": "second"}))

    async with serve_database(url) as client:
        users = (await client.get("/users?q=ann")).json()
        assert [user["name"] for user in users] == ["Ann", "Ann"]
        imported = (await client.get(f"/users/{users[1]['id']}/posts")).json()
        assert imported["total_count"] == 2
        assert (await client.get(f"/users/{users[0]['id']}/posts")).json()["total_count"] == 0


async def test_an_imported_author_can_log_in_after_set_password(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # For those who sign up, not for imported authors.
    monkeypatch.setenv("BLOG_NEW_USERS_ARE_AUTHORS", "false")
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))

    result = await run_command("set-password", "1", "ann@example.com", stdin=f"{PASSWORD}\n")

    assert result.stdout == "User 1, Ann, logs in as ann@example.com.\n", result.output
    async with serve_database(url) as ann:
        form = {"username": "ann@example.com", "password": PASSWORD}
        token = (await ann.post("/auth", data=form)).json()["access_token"]
        ann.headers["Authorization"] = f"Bearer {token}"
        assert (await ann.get("/users/me/posts")).json()["total_count"] == 1
        assert (await ann.get("/users/me")).json()["is_author"] is True
        refused = await run_command("set-password", "1", "eve@example.com", stdin=f"{PASSWORD}\n")
        assert refused.exit_code == 2
        assert (await ann.get("/users/me")).json()["email"] == "ann@example.com"
        await run_command(
            "set-password", "1", "anna@example.com", "--yes", stdin="battery staple\n"
        )
        assert (await ann.get("/users/me")).status_code == 401


@pytest.mark.parametrize(
    ("args", "stdin", "exit_code", "message"),
    [
        (("9", "ann@example.com"), PASSWORD, 1, "User not found"),
        (("1", "no address"), PASSWORD, 2, "email: This is not a valid email address"),
        (("1", "ann@example.com"), "short", 2, "Use at least 8 characters"),
        (("1", "taken@example.com"), PASSWORD, 1, "Email already registered"),
    ],
)
async def test_a_failed_set_password_changes_nothing(
    url: URL, tmp_path: Path, args: tuple[str, str], stdin: str, exit_code: int, message: str
):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))
    async with serve_database(url) as client:
        await sign_up(client, "Taken")

    result = await run_command("set-password", *args, stdin=f"{stdin}\n")

    assert result.exit_code == exit_code
    assert message in result.stderr
    async with serve_database(url) as client:
        form = {"username": "ann@example.com", "password": PASSWORD}
        assert (await client.post("/auth", data=form)).status_code == 400


async def test_all_posts_can_be_imported_for_one_user(url: URL, tmp_path: Path):
    async with serve_database(url) as client:
        await sign_up(client, "Carl")
    file = write_lines(tmp_path / "in.jsonl", RECORD, RECORD | {"slug": "b", "author": "Bob"})

    missing = await run_command("import", "--author", "99", file)
    wrong = await run_command("import", "--author", "ann@example.com", file)
    result = await run_command("import", "--author", "1", file)
    again = await run_command("import", "--author", "CARL", file)

    assert (missing.exit_code, "User not found" in missing.stderr) == (1, True)
    assert (wrong.exit_code, "author: " in wrong.stderr) == (2, True)
    assert result.stdout == "2 imported, 0 already present, 0 rejected.\n"
    assert again.stdout == "0 imported, 2 already present, 0 rejected.\n"
    async with serve_database(url) as client:
        assert (await client.get("/users/1/posts")).json()["total_count"] == 2
        assert len((await client.get("/users")).json()) == 1


async def test_a_slug_of_another_post_is_replaced_and_told(url: URL, tmp_path: Path):
    async with serve_database(url) as bob:
        await sign_up(bob, "Bob")
        body = {"title": "Hello", "content": "Bob's", "published_at": RECORD["published_at"]}
        await bob.post("/posts", json=body)
        await bob.post("/posts", json={"title": "Other", "content": "Bob's"})
        deleted = (await bob.post("/posts", json={"title": "Bye", "content": "x"})).json()
        await bob.delete(f"/posts/{deleted['id']}")
    file = write_lines(
        tmp_path / "in.jsonl", RECORD, RECORD | {"slug": "bye"}, RECORD | {"slug": "other"}
    )

    result = await run_command("import", file)

    assert result.stdout == "1 imported, 0 already present, 2 rejected.\n1 warning, above.\n"
    assert "in.jsonl:1: slug: hello belongs to another author's post" in result.stderr
    assert "in.jsonl:2: slug: bye belonged to a deleted post" in result.stderr
    assert "in.jsonl:3: slug: other is taken, the post gets other-2" in result.stderr
    async with serve_database(url) as client:
        assert (await client.get("/posts/slug/hello")).json()["content"] == "Bob's"
        assert (await client.get("/posts/slug/other-2")).json()["user_name"] == "Ann"


async def test_authors_with_the_same_name_stay_distinct_on_another_instance(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with serve_database(url) as ann:
        for address in ("ann@example.com", "other@example.com"):
            body = {"email": address, "name": "Ann", "password": PASSWORD}
            token = (await ann.post("/sign-up", json=body)).json()["token"]["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            post = {"title": address, "content": "x"}
            await ann.post("/posts", json=post, headers=headers)
    await run_command("export", "out.jsonl")

    same = await run_command("import", "out.jsonl")
    monkeypatch.setenv("BLOG_DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    await run_command("migrate")
    elsewhere = await run_command("import", "out.jsonl")
    await run_command("export", "again.jsonl")

    assert same.stdout == "0 imported, 2 already present, 0 rejected.\n"
    assert elsewhere.stdout == "2 imported, 0 already present, 0 rejected.\n"
    assert read_lines(tmp_path / "again.jsonl") == read_lines(tmp_path / "out.jsonl")
    assert len({record["author_key"] for record in read_lines(tmp_path / "out.jsonl")}) == 2


async def test_a_post_that_was_taken_down_stays_so(url: URL, tmp_path: Path):
    hidden = RECORD | {"taken_down_at": "2021-01-01T00:00:00Z"}
    await run_command("import", write_lines(tmp_path / "in.jsonl", hidden))

    await run_command("export", "out.jsonl")

    assert read_lines(tmp_path / "out.jsonl") == [hidden]
    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 0


async def test_an_export_overwrites_a_file_only_if_confirmed(url: URL, tmp_path: Path):
    (tmp_path / "out.jsonl").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious.md").write_text("precious")

    refused = await run_command("export", "out.jsonl")
    to_folder = await run_command("export", "folder")

    assert (refused.exit_code, to_folder.exit_code) == (2, 1)
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    assert [one.name for one in (tmp_path / "folder").iterdir()] == ["precious.md"]
    assert (await run_command("export", "--yes", "out.jsonl")).exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == ""


async def test_an_export_for_wordpress_contains_html(url: URL, tmp_path: Path):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))

    result = await run_command("export", "out.xml")

    assert result.exit_code == 0, result.output
    assert "<p>My <em>first</em> post.</p>" in (tmp_path / "out.xml").read_text()


@pytest.mark.parametrize("path", ["nothing.jsonl", "/dev/null/x"])
async def test_a_file_that_cannot_be_opened_is_an_error(url: URL, path: str):
    for name in ("import", "export"):
        result = await run_command(name, path if name == "import" else f"{path}/out.jsonl")

        assert result.exit_code == 1
        assert "BLOG_DATABASE_URL" not in result.output
        assert path in result.stderr


@pytest.mark.parametrize("name", ["posts.zip", "posts.jsonl.gz", "posts.TAR"])
async def test_an_export_is_not_written_under_the_name_of_a_packed_file(
    url: URL, tmp_path: Path, name: str
):
    result = await run_command("export", str(tmp_path / name))

    assert result.exit_code == 1
    assert f"{name}: Exports are not packed" in result.stderr
    assert not (tmp_path / name).exists()


async def test_posts_are_not_exported_to_one_markdown_file(url: URL, tmp_path: Path):
    result = await run_command("export", "out.md")

    assert result.exit_code == 1
    assert "out.md" in result.stderr
    assert not (tmp_path / "out.md").exists()


async def test_an_export_that_fails_leaves_the_old_file_unchanged(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))
    (tmp_path / "out.jsonl").write_text("precious")

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("blog_api.archive.formats.write_jsonl", fail)
    result = await run_command("export", "--yes", "out.jsonl")

    assert result.exit_code == 1
    assert result.stderr == "blog-api: No space left on device\n"
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    assert list(tmp_path.glob("tmp*")) == []


@pytest.mark.parametrize("out", ["articles", "out.jsonl", "out.xml"])
async def test_an_export_is_for_its_owner_alone(url: URL, tmp_path: Path, out: str):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))
    # Replaced, so its mode does not matter.
    (tmp_path / "out.jsonl").touch(0o644)

    result = await run_command("export", "--yes", out)

    assert result.exit_code == 0, result.output
    path = tmp_path / out
    modes = {one: stat.S_IMODE(one.stat().st_mode) for one in (path, *path.glob("*"))}
    assert modes == ({path: 0o700, path / "hello.md": 0o600} if path.is_dir() else {path: 0o600})


async def test_progress_in_a_pipe_is_plain_lines(url: URL, tmp_path: Path):
    records = (RECORD | {"slug": f"post-{number}"} for number in range(150))

    result = await run_command("import", write_lines(tmp_path / "in.jsonl", *records))

    assert result.stderr.endswith("\nin.jsonl: 100 of 150\nin.jsonl: 150 of 150\n")


async def test_rendering_again_does_not_change_etags(url: URL, tmp_path: Path):
    await run_command("import", write_lines(tmp_path / "in.jsonl", RECORD))
    settings = make_settings(database_url=url, **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        before = await client.get("/posts/1")
        async with app.state.database.session(writes=True) as session:
            connection = await session.connection()
            await connection.exec_driver_sql("UPDATE posts SET content_html = 'old'")

        result = await run_command("rebuild")

        assert "html: 1 wrong\n" in result.stdout
        after = await client.get("/posts/1")
        assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])
    assert (await run_command("rebuild", "--check")).exit_code == 0


@pytest.mark.parametrize("out", ["folder", "out.jsonl", "out.xml"])
async def test_html_is_exported_and_imported_as_html(url: URL, tmp_path: Path, out: str):
    content = "*a*\n\n<p title=moon>sun"
    sanitized = '*a*\n\n<p title="moon">sun</p>'
    html = RECORD | {"slug": "html", "content_type": "text/html", "content": content}
    await run_command("import", write_lines(tmp_path / "in.jsonl", html, RECORD))
    exported = await run_command("export", out)
    async with serve_database(url) as client:
        settings = make_settings(database_url=url, **MINIMUM_HASHING)
        first = (await client.get("/posts/slug/html")).json()
        await delete_posts(settings)

    imported = await run_command("import", out, "--author", "1")
    rebuilt = await run_command("rebuild", "--check")

    assert "2 posts exported" in exported.output
    assert imported.stdout == "2 imported, 0 already present, 0 rejected.\n", imported.output
    assert rebuilt.exit_code == 0, rebuilt.output
    async with serve_database(url) as client:
        second = (await client.get("/posts/slug/html")).json()
        found = [(await client.get(f"/posts?q={q}")).json()["total_count"] for q in ("moon", "sun")]
    assert first["content"] == content
    # WordPress' format has the sanitized HTML.
    assert second["content"] == (sanitized if out.endswith(".xml") else content)
    for post in (first, second):
        assert (post["content_type"], post["content_html"]) == ("text/html", sanitized)
    assert found == [0, 1]


async def delete_posts(settings: Settings) -> None:
    async with migration_connection(settings) as connection:
        for table in ("post_words", "slugs", "posts"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")


async def test_the_export_of_an_account_has_all_its_data(ann: AsyncClient, bob: AsyncClient):
    by_bob = (await bob.post("/posts", json={"title": "Bob's", "content": "x"})).json()
    for number in range(120):
        draft = {"title": f"Post {number}", "content": "x", "published_at": None}
        assert (await ann.post("/posts", json=draft)).status_code == 201
    await ann.post("/users/me/tokens", json={"name": "Script"})
    await ann.post(f"/posts/{by_bob['id']}/comments", json={"content": "Mine"})
    await bob.post(f"/posts/{by_bob['id']}/comments", json={"content": "Not hers"})
    await ann.put(f"/users/me/bookmarks/{by_bob['id']}")
    await ann.put(f"/users/me/following/{by_bob['user_id']}")

    response = await ann.get("/users/me/export")

    assert response.headers["Content-Type"] == "application/jsonl"
    lines = [json.loads(line) for line in response.text.splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds == [
        "account", "token", *["post"] * 120, "comment", "follow", "bookmark"
    ]  # fmt: skip
    assert lines[0]["email"] == "ann@example.com"
    assert [line["title"] for line in lines if line["type"] == "post"][::119] == [
        "Post 0",
        "Post 119",
    ]
    named = {"post_slug": by_bob["slug"], "post_title": "Bob's"}
    assert lines[-3]["content"] == "Mine"
    assert lines[-3].items() >= named.items()
    assert lines[-2]["author_id"] == by_bob["user_id"]
    assert lines[-2]["author"] == by_bob["author"]
    assert lines[-1]["post_id"] == by_bob["id"]
    assert lines[-1].items() >= named.items()
    assert "access_token" not in response.text
    assert "hash" not in response.text

    await bob.patch(f"/posts/{by_bob['id']}", json={"published_at": None, "title": "Secret"})

    hidden = [json.loads(line) for line in (await ann.get("/users/me/export")).text.splitlines()]
    assert [line["post_title"] for line in hidden if "post_title" in line] == [None, None]
