"""Pictures beside the posts of a folder: import, export, and both in turn."""

import stat
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import URL, text
from typer.testing import Result

from blog_api.core.fields import MAX_CONTENT_LENGTH
from blog_api.core.settings import Settings
from blog_api.db.migrate import migration_connection
from tests.support.clients import MINIMUM_HASHING, make_settings
from tests.support.commands import run_command, serve_database
from tests.support.databases import temporary_database
from tests.support.pictures import make_picture

HEAD = "title: A\nauthor: Ann\ndate: 2020-01-31"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture(autouse=True)
def store(url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The storage of the commands; `url` is their database."""
    monkeypatch.setenv("BLOG_MEDIA_URL", (tmp_path / "store").as_uri())
    return tmp_path / "store"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to import."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write_post(folder: Path, content: str, *, head: str = HEAD, name: str = "a.md") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\n{head}\n---\n{content}")


def write_picture(folder: Path, name: str = "a.png", color: Any = "red", kind: str = "PNG") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make_picture(kind, color=color))


def files_of(store: Path) -> list[str]:
    return sorted(path.name for path in store.glob("??/*"))


async def read_post(client: AsyncClient, slug: str = "a") -> dict[str, Any]:
    response = await client.get(f"/posts/slug/{slug}?body=both")
    assert response.status_code == 200, response.text
    post: dict[str, Any] = response.json()
    return post


async def count_rows(url: URL) -> int:
    settings = make_settings(database_url=url, **MINIMUM_HASHING)
    async with migration_connection(settings) as connection:
        found = await connection.execute(text("SELECT count(*) FROM media_files"))
        return int(found.scalar_one())


def assert_imported(result: Result, count: int = 1) -> None:
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{count} imported, 0 already present, 0 rejected.\n")


async def test_pictures_beside_a_post_are_stored_for_its_author(
    url: URL, store: Path, folder: Path
):
    write_picture(folder, "posts/a.png", "red")
    write_picture(folder, "images/my b.jpg", "green", "JPEG")
    content = (
        "![A](a.png) ![B](<../images/my b.jpg>)\n\n`![A](a.png)`\n\n[big](../images/my%20b.jpg) "
        "[post](b.md) <img src='./a.png'>\n"
    )
    write_post(folder, content, head=HEAD + "\ncover_url: a.png", name="posts/a.md")

    assert_imported(await run_command("import", "in"))

    names = files_of(store)
    red = next(name for name in names if name.endswith(".png"))
    green = next(name for name in names if name.endswith(".jpg"))
    async with serve_database(url) as client:
        post = await read_post(client)
        author = post["user_id"]
    assert post["content"] == (
        f"![A](/media/{red}) ![B](</media/{green}>)\n\n`![A](a.png)`\n\n[big](/media/{green}) "
        f"[post](b.md) <img src='/media/{red}'>\n"
    )
    assert f'<img src="/media/{red}" alt="A">' in post["content_html"]
    assert post["cover_url"] == f"/media/{red}"
    async with migration_connection(make_settings(database_url=url, **MINIMUM_HASHING)) as found:
        rows = await found.execute(text("SELECT user_id, digest FROM media_files"))
        assert sorted(map(tuple, rows)) == sorted([(author, red[:64]), (author, green[:64])])


@pytest.mark.parametrize(
    ("key", "cover"),
    [("cover", "a.png"), ("image", "./a.png"), ("cover_url", "a.png?x#y")],
)
async def test_a_cover_may_be_a_file_of_the_folder(
    url: URL, store: Path, folder: Path, key: str, cover: str
):
    write_picture(folder)
    write_post(folder, "x", head=f"{HEAD}\n{key}: {cover}")

    assert_imported(await run_command("import", "in"))

    async with serve_database(url) as client:
        assert (await read_post(client))["cover_url"] == f"/media/{files_of(store)[0]}"


async def test_a_picture_at_the_root_of_the_site_is_found_or_reported(
    url: URL, store: Path, folder: Path
):
    write_picture(folder, "static/images/a.png")
    content = "text\n\n![A](/images/a.png)\n![B](/images/b.png) [a page](/b) [b](/b.png)\n"
    write_post(folder, content, head=f"{HEAD}\ntags: [a]\ncover:\n  image: images/a.png")
    for name, cover in (("b", "/images/b.png"), ("c", "b.jpg"), ("d", "//cdn.example/d.png")):
        write_post(folder, "x", head=f"{HEAD}\nimage: {cover}", name=f"{name}.md")
    write_post(folder, "x", head=f"{HEAD}\nimage: {'e' * 300}.png", name="e.md")

    result = await run_command("import", "in")

    assert_imported(result, 5)
    (name,) = files_of(store)
    async with serve_database(url) as client:
        posts = [await read_post(client, slug) for slug in "abcde"]
    assert posts[0]["content"] == content.replace("/images/a.png", f"/media/{name}")
    assert [post["cover_url"] for post in posts] == [f"/media/{name}", None, None, None, None]
    warnings = [line for line in result.stderr.splitlines() if line.startswith("in/")]
    assert warnings == [
        "in/a.md:12: /images/b.png: is no file",
        "in/b.md:5: /images/b.png: is no file",
        "in/c.md:5: /b.jpg: is no file",
        "in/d.md:5: cover_url: //cdn.example/d.png was left out",
        f"in/e.md:5: /{'e' * 300}.png: is not the name of a file",
    ]


async def test_other_values_of_the_keys_of_others_are_no_cover(url: URL, folder: Path):
    write_post(folder, "x", head=f"{HEAD}\ncover: true\nimage: https://example.com/a.png")
    write_post(folder, "x", head=f"{HEAD}\ncover: {{image: a.png}}", name="b.md")
    write_picture(folder, "c.png")
    write_post(folder, "x", head=f"{HEAD}\ncover: {{image: c.png, alt: C}}", name="c.md")

    assert_imported(await run_command("import", "in"), 3)

    async with serve_database(url) as client:
        covers = [(await read_post(client, slug))["cover_url"] for slug in "abc"]
    assert covers[:2] == ["https://example.com/a.png", None]
    assert covers[2].startswith("/media/")


async def test_html_posts_and_references_are_rewritten(url: URL, store: Path, folder: Path):
    write_picture(folder)
    head = HEAD + "\ncontent_type: text/html"
    write_post(folder, '<img src="a.png"><pre>![](a.png)</pre>', head=head, name="a.html")
    write_post(folder, "![A][x]\n\n[x]: a.png 't'", name="b.md")

    assert_imported(await run_command("import", "in"), 2)

    (name,) = files_of(store)
    async with serve_database(url) as client:
        html, markdown = await read_post(client), await read_post(client, "b")
    assert html["content"] == f'<img src="/media/{name}"><pre>![](a.png)</pre>'
    assert markdown["content"] == f"![A][x]\n\n[x]: /media/{name} 't'"


async def test_no_file_outside_of_the_folder_is_read(
    url: URL, store: Path, folder: Path, tmp_path: Path
):
    write_picture(tmp_path, "outside.png")
    write_picture(tmp_path, "in2/a.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "dir").symlink_to(tmp_path / "in2")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    addresses = [
        "../outside.png", "%2e%2e/outside.png", "..%2foutside.png", "../in2/a.png", "link.png",
        "dir/a.png", "circle.png", "x%00.png", "%ff.png", "a" * 300 + ".png", ".", "a.md/../../x",
        str(tmp_path / "outside.png"), "%2F" + str(tmp_path / "outside.png")[1:],
        (tmp_path / "outside.png").as_uri(), "//example.com/a.png", "\\\\..\\outside.png",
    ]  # fmt: skip
    content = "\n\n".join(f"![A]({one})" for one in addresses)
    write_post(folder, content, head=f"{HEAD}\ncover_url: ../outside.png")

    result = await run_command("import", "in")

    assert result.exit_code == 1
    assert "1 imported, 0 already present, 0 rejected.\n" in result.stdout, result.output
    assert "in/a.md:5: ../outside.png: is outside of the folder" in result.stderr
    assert "in/a.md:7: ../outside.png: is outside of the folder" in result.stderr
    # Not one of the last, which lead elsewhere.
    assert result.stderr.count("in/a.md:") == 1 + len(addresses) - 3
    assert files_of(store) == []
    async with serve_database(url) as client:
        post = await read_post(client)
    assert post["content"] == content
    assert post["cover_url"] is None


async def test_a_link_that_stays_in_the_folder_is_followed(store: Path, folder: Path):
    write_picture(folder, "b/a.png")
    (folder / "link.png").symlink_to(folder / "b/a.png")
    write_post(folder, "![A](link.png) ![A](b/../b/a.png)")

    assert_imported(await run_command("import", "in"))

    assert len(files_of(store)) == 1


async def test_a_picture_that_cannot_be_stored_is_reported_with_its_line(
    url: URL, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLOG_MEDIA_MAX_BYTES", "300")
    (folder / "a.svg").write_text("<svg/>")
    (folder / "large.png").write_bytes(b"x" * 301)
    write_picture(folder)
    content = (
        "Text\n\n![A](a.svg) ![B](b.png)\n\n![C](large.png) [D](d.png) [S](a.svg)\n![A](a.png)"
    )
    write_post(folder, content)
    write_post(folder, "![A](a.svg)", name="b.md")

    result = await run_command("import", "in")

    assert result.exit_code == 1
    assert "2 imported, 0 already present, 0 rejected.\n" in result.stdout, result.output
    unreadable = "is no complete JPEG, PNG, GIF, WebP or AVIF picture"
    for line in (
        f"in/a.md:8: a.svg: {unreadable}",
        "in/a.md:8: b.png: is no file",
        "in/a.md:10: large.png: is larger than BLOG_MEDIA_MAX_BYTES",
        f"in/b.md:6: a.svg: {unreadable}",
    ):
        assert f"{line}\n" in result.stderr
    assert result.stderr.count(".md:") == 4
    (name,) = files_of(store)
    async with serve_database(url) as client:
        expected = content.replace("(a.png)", f"(/media/{name})")
        assert (await read_post(client))["content"] == expected


async def test_a_picture_that_an_administrator_removed_stays_out(
    url: URL, store: Path, folder: Path
):
    write_picture(folder)
    write_post(folder, "![A](a.png)")
    digest = sha256((folder / "a.png").read_bytes()).hexdigest()
    async with migration_connection(make_settings(database_url=url, **MINIMUM_HASHING)) as found:
        await found.execute(
            text(
                "INSERT INTO blocked_digests (digest, created_at, updated_at) "
                "VALUES (:digest, :now, :now)"
            ),
            {"digest": digest, "now": NOW},
        )

    result = await run_command("import", "in")

    assert "in/a.md:6: a.png: cannot be stored: An administrator removed" in result.stderr
    assert await count_rows(url) == 0


async def test_an_import_is_not_limited_by_the_quota(
    url: URL, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLOG_MEDIA_QUOTA_BYTES", "0")
    write_picture(folder)
    write_post(folder, "![A](a.png)")

    assert_imported(await run_command("import", "in"))

    assert await count_rows(url) == 1


async def test_a_repeated_import_stores_nothing_twice(url: URL, store: Path, folder: Path):
    write_picture(folder)
    write_picture(folder, "b/a.png")
    write_post(folder, "![A](a.png) ![A](b/a.png)")
    await run_command("import", "in")
    before = files_of(store)

    write_post(folder, "![A](b/a.png)", name="b.md")
    again = await run_command("import", "in")

    assert again.stdout == "1 imported, 1 already present, 0 rejected.\n", again.output
    assert files_of(store) == before
    assert (len(before), await count_rows(url)) == (1, 1)


async def test_without_a_storage_there_is_one_warning(
    url: URL, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Settings, "media_folder", None)
    write_picture(folder)
    for name in ("a.md", "b.md"):
        write_post(folder, "![A](a.png) ![A](a.png)", name=name)

    result = await run_command("import", "in")

    assert result.exit_code == 1
    assert "2 imported, 0 already present, 0 rejected.\n" in result.stdout, result.output
    assert result.stderr.count("BLOG_MEDIA_URL is not set: pictures stay where they are") == 1
    assert not store.exists()
    async with serve_database(url) as client:
        assert (await read_post(client))["content"] == "![A](a.png) ![A](a.png)"


async def test_a_text_never_becomes_too_long(url: URL, folder: Path):
    write_picture(folder)
    content = "![A](a.png)\n\n" + "x" * (MAX_CONTENT_LENGTH - 20)
    write_post(folder, content)

    result = await run_command("import", "in")

    assert "in/a.md:6: with the addresses of its pictures the text would be too" in result.stderr
    async with serve_database(url) as client:
        assert (await read_post(client))["content"] == content


async def test_a_dry_run_stores_no_picture(url: URL, store: Path, folder: Path):
    write_picture(folder)
    write_post(folder, "![A](a.png)")

    result = await run_command("import", "--dry-run", "in")

    assert result.exit_code == 0, result.output
    assert not store.exists()
    assert await count_rows(url) == 0


async def test_a_file_that_is_named_itself_has_no_pictures(store: Path, folder: Path):
    write_picture(folder)
    write_post(folder, "![A](a.png)")

    result = await run_command("import", "in/a.md")

    assert "in/a.md:6: a.png: is imported only with its folder" in result.stderr
    assert files_of(store) == []


async def test_an_exported_folder_has_the_pictures_and_is_imported_equal(
    url: URL, store: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    noise = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}
    for number, (kind, suffix) in enumerate(noise.items()):
        write_picture(folder, f"a.{suffix}", (40 * number, 200, 90), kind)
    links = "\n".join(f"![A](a.{suffix})" for suffix in noise.values())
    write_post(folder, f"{links}\n\n`![A](a.png)`", head=f"{HEAD}\ncover: a.webp")
    head = f"{HEAD}\ncontent_type: text/html\ndraft: true"
    write_post(folder, '<a href="a.gif"><img src="a.jpg"></a>', head=head, name="b.html")
    assert_imported(await run_command("import", "in"), 2)
    async with serve_database(url) as client:
        before = await read_post(client)
    names = files_of(store)

    exported = await run_command("export", "out")

    assert exported.exit_code == 0, exported.output
    assert sorted(path.name for path in (tmp_path / "out/media").iterdir()) == names
    for name in names:
        path = tmp_path / "out/media" / name
        assert path.read_bytes() == (store / name[:2] / name).read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = (tmp_path / "out/a.md").read_text()
    assert "/media/" not in written.replace("(media/", "").replace("cover_url: media/", "")
    assert "`![A](a.png)`" in written
    async with temporary_database(tmp_path, "other", is_migrated=True) as other:
        monkeypatch.setenv("BLOG_DATABASE_URL", other.render_as_string(hide_password=False))
        monkeypatch.setenv("BLOG_MEDIA_URL", (tmp_path / "other").as_uri())
        assert_imported(await run_command("import", "out"), 2)
        again = await run_command("export", "again")
        assert again.exit_code == 0, again.output
        async with serve_database(other) as client:
            after = await read_post(client)

    assert files_of(tmp_path / "other") == names
    for field in ("content", "content_html", "cover_url", "published_at", "summary"):
        assert after[field] == before[field]
    for name in ("a.md", "b.html"):
        first, second = (tmp_path / out / name for out in ("out", "again"))
        assert first.read_text() == second.read_text()


async def test_a_picture_without_a_file_keeps_its_address(url: URL, folder: Path, tmp_path: Path):
    missing = f"/media/{'0' * 64}.png"
    write_post(folder, f"![A]({missing})", head=f"{HEAD}\ncover_url: {missing}")
    assert_imported(await run_command("import", "in"))

    assert (await run_command("export", "out")).exit_code == 0

    assert (tmp_path / "out/a.md").read_text().count(missing) == 2
    assert not (tmp_path / "out/media").exists()


async def test_the_formats_that_are_one_file_name_the_address(
    url: URL, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = f"/media/{'0' * 64}.png"
    write_post(folder, f"![A]({path}) [b](b) `{path}`", head=f"{HEAD}\ncover_url: {path}")
    await run_command("import", "in")

    await run_command("export", "out.jsonl")
    await run_command("export", "relative.xml")
    monkeypatch.setenv("BLOG_PUBLIC_URL", "https://example.com/blog")
    await run_command("export", "out.xml")

    lines = (tmp_path / "out.jsonl").read_text()
    assert f'"cover_url": "{path}"' in lines
    assert f"![A]({path})" in lines
    assert f'src="{path}"' in (tmp_path / "relative.xml").read_text()
    wxr = (tmp_path / "out.xml").read_text()
    assert f'src="https://example.com/blog{path}"' in wxr
    assert f"<code>{path}</code>" in wxr
    assert 'href="b"' in wxr
