"""Files of static site generators: keys, times, names, pages and addresses."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from blog_api.archive.formats import open_archive
from tests.support.commands import run_command, serve_database
from tests.support.databases import temporary_database

HEAD = "title: A\nauthor: Ann\ndate: 2020-01-01"


def write_file(path: Path, head: str = HEAD, content: str = "Body") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\n{head}\n---\n{content}\n")


async def export_posts() -> list[dict[str, Any]]:
    await run_command("export", "--yes", "out.jsonl")
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2013/12/24 23:29:53", "2013-12-24T23:29:53Z"),
        ("2020-01-02 9:30", "2020-01-02T09:30:00Z"),
        ("2020-1-2", "2020-01-02T00:00:00Z"),
        ("2020.1.2", "2020-01-02T00:00:00Z"),
        ("2020年1月2日", "2020-01-02T00:00:00Z"),
        ("20200102T101500Z", "2020-01-02T10:15:00Z"),
        ("2020-01-02 10:00:00 UTC", "2020-01-02T10:00:00Z"),
        ("2020-01-02 10:00:00 EST", "2020-01-02T15:00:00Z"),
        ("2020-01-02 10:00 Asia/Tokyo", "2020-01-02T01:00:00Z"),
        ("2020-01-02T10:00:00.999999999+08:00", "2020-01-02T02:00:00.999999Z"),
        ("2020-01-02 12:05 am", "2020-01-02T00:05:00Z"),
        ("2020-01-02 3:04 PM", "2020-01-02T15:04:00Z"),
        ("January 2, 2020", "2020-01-02T00:00:00Z"),
        ("2nd Jan 2020, 15:00", "2020-01-02T15:00:00Z"),
        ("Wed, 01 Jan 2020 10:00:00 +0000", "2020-01-01T10:00:00Z"),
        ("Wed, 1 Jan 2020 10:00:00 GMT", "2020-01-01T10:00:00Z"),
        ("Thu Jan 02 2020 10:00:00 GMT+0800 (China Standard Time)", "2020-01-02T02:00:00Z"),
        ("Thu Jan  2 10:00:00 2020 +0100", "2020-01-02T09:00:00Z"),
        ("1577836800", "2020-01-01T00:00:00Z"),
        ("1577836800000", "2020-01-01T00:00:00Z"),
    ],
)
async def test_times_are_read_in_the_forms_of_the_generators(
    url: URL, tmp_path: Path, time: str, expected: str
):
    write_file(tmp_path / "in/a.md", f"title: A\nauthor: Ann\ndate: {time}")

    result = await run_command("import", "in")

    assert result.exit_code == 0, result.output
    assert [post["published_at"] for post in await export_posts()] == [expected]


@pytest.mark.parametrize(
    "time", ["yesterday", "01/02/2020", "2020-13-01", "2020-02-31", "2020-01-02 x"]
)
async def test_a_time_that_cannot_be_read_is_refused_with_its_line(
    url: URL, tmp_path: Path, time: str
):
    write_file(tmp_path / "in/a.md", f"title: A\nauthor: Ann\ntags: [a]\nPubDate: {time}")

    result = await run_command("import", "in")

    assert result.exit_code == 1
    assert "in/a.md:5: PubDate: must be a time such as" in result.stderr
    assert await export_posts() == []


@pytest.mark.parametrize(
    ("head", "field", "value"),
    [
        ("pubDate: Jul 08 2022", "published_at", "2022-07-08T00:00:00Z"),
        ("published: 2022-07-08", "published_at", "2022-07-08T00:00:00Z"),
        ("created: 2022-07-08", "published_at", "2022-07-08T00:00:00Z"),
        ("lastmod: 2022-07-08", "published_at", "2022-07-08T00:00:00Z"),
        ("date: 2020-01-01\nUpdated: 2022-07-08", "updated_at", "2022-07-08T00:00:00Z"),
        ("Slug: real", "slug", "real"),
        ("excerpt: Short", "summary", "Short"),
        ("description: Short", "summary", "Short"),
        ("canonical: https://example.com/a", "canonical_url", "https://example.com/a"),
        ("image: {path: 'https://example.com/a.png', alt: x}", "cover_url", "https://example.com/a.png"),
        ("cover: {image: 'https://example.com/a.png', Alt: A river}", "cover_alt", "A river"),
        ("cover: {image: 'https://example.com/a.png', alt: [1]}", "cover_alt", None),
        ("author: {name: Bob, email: b@example.com}", "author", "Bob"),
        ("authors: [{name: Bob}, Carl]", "author", "Bob, Carl"),
        ("tags: [b]\ncategories: [[c, d], e]", "tags", ["b", "c", "d", "e"]),
        ("taxonomies: {tags: [b], categories: [c]}", "tags", ["b", "c"]),
        ("tags: b c", "tags", ["b c"]),
        ("tags: b, c", "tags", ["b", "c"]),
        ("permalink: /2020/01/old-name.html", "old_slugs", ["old-name"]),
        ("url: /b/c/\naliases: [/x/y/, z, '/:year/:title/']", "old_slugs", ["c", "y", "z"]),
    ],
)  # fmt: skip
async def test_keys_of_the_ecosystem_fill_the_fields(
    tmp_path: Path, head: str, field: str, value: object
):
    keys = {line.partition(":")[0].lower() for line in head.splitlines()}
    author = "" if keys & {"author", "authors"} else "\nauthor: Ann"
    write_file(tmp_path / "in/a.md", f"title: A{author}\n{head}")

    (entry,) = open_archive(tmp_path / "in").entries

    assert entry.record, entry.error
    assert entry.record.model_dump(mode="json")[field] == value


async def test_tags_of_jekyll_are_separated_by_spaces(url: URL, tmp_path: Path):
    head = "title: A\nauthor: Ann\ntags: foo bar\ncategories: jekyll\ncategory: two words"
    write_file(tmp_path / "in/_posts/2014-3-3-hello-world.md", head)

    await run_command("import", "in")

    (post,) = await export_posts()
    assert post["tags"] == ["foo", "bar", "jekyll", "two words"]
    assert (post["slug"], post["published_at"]) == ("hello-world", "2014-03-03T00:00:00Z")


async def test_old_addresses_redirect(url: URL, tmp_path: Path):
    write_file(tmp_path / "in/a.md", f"{HEAD}\npermalink: /2020/old/\naliases: [/b/, /older.html]")
    write_file(tmp_path / "in/b.md")

    result = await run_command("import", "in")

    assert "in/a.md:1: b is the address of another post\n" in result.stderr
    async with serve_database(url) as client:
        for old in ("old", "older"):
            response = await client.get(f"/posts/slug/{old}")
            assert response.status_code == 308
            assert response.headers["Location"].endswith("/posts/slug/a")
        assert (await client.get("/posts/slug/b")).json()["slug"] == "b"


async def test_the_address_of_a_draft_does_not_redirect(url: URL, tmp_path: Path):
    write_file(tmp_path / "in/a.md", f"{HEAD}\ndraft: true\naliases: [/b/]")

    await run_command("import", "in")

    async with serve_database(url) as client:
        for slug in ("a", "b"):
            assert (await client.get(f"/posts/slug/{slug}")).status_code == 404


async def test_an_imported_post_keeps_the_time_of_its_last_change(url: URL, tmp_path: Path):
    write_file(tmp_path / "in/a.md", f"{HEAD}\nlastmod: 2021-05-05")
    write_file(tmp_path / "in/b.md", f"{HEAD}\nlastmod: 2999-05-05")
    write_file(tmp_path / "in/c.md", f"{HEAD}\nlastmod: some day")

    result = await run_command("import", "in")

    assert (result.exit_code, "in/c.md:5: lastmod: must be a time" in result.stderr) == (0, True)
    async with serve_database(url) as client:
        posts = {post["slug"]: post for post in (await client.get("/posts")).json()["results"]}
        newest = (await client.get("/posts?sort=-updated_at")).json()["results"]
    assert posts["a"]["updated_at"] == "2021-05-05T00:00:00Z"
    assert {post["slug"] for post in newest} == {"a", "b", "c"}


async def test_comments_in_a_front_matter_are_told_as_left_out(url: URL, tmp_path: Path):
    comments = "comments:\n- author: Bob\n  content: Well said.\n- author: Eve\n  content: No."
    write_file(tmp_path / "in/a.md", f"title: A\nauthor: Ann\ndate: 2020-01-01\n{comments}")
    write_file(tmp_path / "in/b.md", "title: B\nauthor: Ann\ndate: 2020-01-01\ncomments: []")

    result = await run_command("import", "in")

    assert "in/a.md:5: comments: 2 in the front matter were left out" in result.stderr
    assert "in/b.md" not in result.stderr
    assert [post["comments_open"] for post in await export_posts() if "comments_open" in post] == []


async def test_a_time_of_creation_that_cannot_be_read_costs_no_post_that_has_another(
    url: URL, tmp_path: Path
):
    created = "author: Ann\ncreated_at: 06-03-2025 09:14 PM"
    write_file(tmp_path / "in/a.md", f"title: A\n{created}\ndate: 2025-03-09")
    write_file(tmp_path / "in/b.md", f"title: B\n{created}")
    write_file(tmp_path / "in/c.md", f"title: C\n{created}\ndate: 2025-03-09\npublishDate: soon")

    result = await run_command("import", "in")

    assert "in/b.md:4: created_at: must be a time" in result.stderr
    assert "in/c.md:6: publishDate: must be a time" in result.stderr
    assert [post["published_at"] for post in await export_posts()] == ["2025-03-09T00:00:00Z"]


@pytest.mark.parametrize("time", ["Last Modified", "Created", "git Last Modified", "git created"])
async def test_a_time_that_eleventy_takes_from_the_file_is_none(
    url: URL, tmp_path: Path, time: str
):
    write_file(tmp_path / "in/a.md", f"title: A\nauthor: Ann\ndate: {time}")

    result = await run_command("import", "in", "--dry-run")

    assert result.exit_code == 0, result.output
    assert "1 post without a time: drafts;" in result.stdout


async def test_a_post_without_a_time_is_a_draft_unless_told_otherwise(url: URL, tmp_path: Path):
    write_file(tmp_path / "in/a.md", "title: A\nauthor: Ann\npublished: true")
    write_file(tmp_path / "in/b.md", "title: B\nauthor: Ann\ndraft: true")

    dry = await run_command("import", "in", "--dry-run")
    now = await run_command("import", "in", "--dry-run", "--undated", "now")

    assert "2 drafts among the imported posts.\n1 post without a time: drafts;" in dry.stdout
    assert "1 draft among the imported posts.\n" in now.stdout
    assert "without a time" not in now.stdout
    await run_command("import", "in", "--undated", "now")
    again = await run_command("import", "in", "--undated", "now")
    assert "0 imported, 2 already present, 0 rejected." in again.stdout
    async with serve_database(url) as client:
        assert [one["title"] for one in (await client.get("/posts")).json()["results"]] == ["A"]


STRANGERS = {
    "_index.md": "section page", "blog/_index.en.md": "section page",
    "posts/index.md": "section page",
    "README.md": "README file", "docs/CONTRIBUTING.md": "README file", "404.md": "page",
    "about.md": "page", "about/index.md": "page", "index.md": "page", "pages/contact.en.md": "page",
    "themes/x/a.md": "theme file", "node_modules/x/readme.md": "theme file",
    "archetypes/default.md": "theme file", "layouts/a.html": "theme file",
    "a.mdx": ".mdx file", "a.rst": ".rst file", "a.html": ".html file",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), STRANGERS.items())
def test_what_is_no_post_is_left_out(tmp_path: Path, name: str, kind: str):
    write_file(tmp_path / name)

    (entry,) = open_archive(tmp_path).entries

    assert (entry.left_out, entry.record) == (kind, None)


@pytest.mark.parametrize(
    "name",
    ["posts/about.md", "2020-01-01-about.md", "_posts/2020-01-01-404.md", "post/readme-1.md"],
)
def test_a_page_by_its_name_is_a_post_among_posts(tmp_path: Path, name: str):
    write_file(tmp_path / name)

    (entry,) = open_archive(tmp_path).entries

    assert entry.record, entry


@pytest.mark.parametrize("head", ["layout: page", "type: about", "layout: default"])
def test_a_layout_makes_a_page_unless_the_file_is_among_posts(tmp_path: Path, head: str):
    write_file(tmp_path / "in/a.md", f"{HEAD}\n{head}")
    write_file(tmp_path / "in/posts/b.md", f"{HEAD}\n{head}")

    page, post = open_archive(tmp_path / "in").entries

    assert (page.left_out, post.left_out) == ("page", None)


async def test_pages_come_as_drafts_if_wanted_and_are_counted_otherwise(url: URL, tmp_path: Path):
    for name in ("about.md", "_index.md", "posts/_index.md", "README.md", "themes/x/a.md"):
        write_file(tmp_path / "in" / name)
    write_file(tmp_path / "in/posts/a.md")

    without = await run_command("import", "in")
    with_pages = await run_command("import", "in", "--pages")

    assert without.exit_code == 0
    assert "1 imported, 0 already present, 0 rejected.\n" in without.stdout
    assert "Left out: 2 section pages, 1 README file, 1 page, 1 theme file.\n" in without.stdout
    assert "4 imported, 1 already present, 0 rejected.\n" in with_pages.stdout
    assert "4 drafts among the imported posts.\nLeft out: 1 theme file.\n" in with_pages.stdout
    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 1


@pytest.mark.parametrize("name", ["a.mdx", "2019-01-01_post.html", "site.000.xml"])
async def test_where_nothing_is_found_the_formats_are_told(url: URL, tmp_path: Path, name: str):
    write_file(tmp_path / "in" / name)

    result = await run_command("import", "in")

    assert result.exit_code == 1
    assert f"Left out: 1 .{name.rpartition('.')[2]} file.\nNothing here can be" in result.stdout


async def test_bundles_and_equal_names_are_all_imported(url: URL, tmp_path: Path):
    for day in ("02", "09"):
        write_file(tmp_path / f"in/_posts/2020-01-{day}-weekly.md", "title: Weekly\nauthor: Ann")
    for language in ("en", "ru"):
        write_file(tmp_path / f"in/posts/trip/index.{language}.md", content=f"In {language} only")
    write_file(tmp_path / "in/posts/node.js.md")

    result = await run_command("import", "in")
    again = await run_command("import", "in")

    assert result.exit_code == 0, result.output
    assert "2020-01-09-weekly.md:1: slug: weekly is taken, the post gets weekly-2" in result.stderr
    assert {post["slug"] for post in await export_posts()} == {
        "weekly", "weekly-2", "trip", "trip-2", "node.js",
    }  # fmt: skip
    assert again.stdout == "0 imported, 5 already present, 0 rejected.\n", again.output


async def test_a_slug_of_a_different_post_is_not_already_present(url: URL, tmp_path: Path):
    write_file(tmp_path / "one/a.md", content="About the sea")
    write_file(tmp_path / "two/a.md", f"{HEAD.replace('2020', '2021')}", content="In the mountains")
    await run_command("import", "one")

    result = await run_command("import", "two")

    assert "1 imported, 0 already present, 0 rejected.\n" in result.stdout
    assert "two/a.md:1: slug: a is taken, the post gets a-2\n" in result.stderr
    assert len(await export_posts()) == 2


@pytest.mark.parametrize("missing", ["file", "migrations", "database", "server"])
async def test_a_dry_run_needs_no_database_and_says_the_same(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int, missing: str
):
    addresses = {"file": URL.create("sqlite", database=f"{tmp_path}/no.db")}
    if url.get_backend_name() == "postgresql":
        addresses["server"] = url.set(host="127.0.0.1", port=closed_port)
        addresses["database"] = url.set(database="test_that_does_not_exist")
    elif missing in ("server", "database"):
        pytest.skip("SQLite has no server")
    for number in (1, 2):
        write_file(tmp_path / f"in/{number}/a.md", content=f"![x](no.png) {number}")
    write_file(tmp_path / "in/about.md")
    write_file(tmp_path / "in/b.md", f"{HEAD}\nweight: 1\ntags: [{'x' * 60}]\naliases: [/a/]")
    write_file(tmp_path / "in/c.md", "title: a: b")

    real = await run_command("import", "in")
    async with temporary_database(tmp_path, "unmigrated") as empty_url:
        if empty_url.get_backend_name() == "sqlite":
            Path(str(empty_url.database)).touch()
        address = addresses.get(missing, empty_url).render_as_string(hide_password=False)
        monkeypatch.setenv("BLOG_DATABASE_URL", address)
        dry = await run_command("import", "in", "--dry-run")

    assert (real.exit_code, dry.exit_code) == (1, 1)
    assert dry.stdout == f"Dry run, nothing written: {real.stdout}"
    lines = [
        {
            line
            for line in one.stderr.splitlines()
            if not line.startswith(("Database:", "An empty blog is assumed: "))
        }
        for one in (real, dry)
    ]
    assert lines[0] == lines[1]
    assert f"in/b.md:6: tags: {'x' * 60} was left out" in lines[0]
    assert not (tmp_path / "no.db").exists()


async def test_one_bad_character_costs_no_post(url: URL, tmp_path: Path):
    (tmp_path / "a.md").write_bytes(f"---\n{HEAD}\n---\nOne\n\x08two".encode())

    result = await run_command("import", "a.md")

    assert result.exit_code == 0, result.output
    assert "a.md:7: text: control characters were left out\n" in result.stderr
    assert (await export_posts())[0]["content"] == "One\ntwo"


@pytest.mark.parametrize(
    "head", ["extra: {draft: true}", "params: {private: true}", "Draft: true\ndraft: false"]
)
def test_a_key_hides_a_post_wherever_it_stands(tmp_path: Path, head: str):
    write_file(tmp_path / "a.md", f"{HEAD}\n{head}")

    (entry,) = open_archive(tmp_path / "a.md").entries

    assert entry.record, entry.error
    assert entry.record.published_at is None


@pytest.mark.parametrize("name", ["_index.md", "_index.fr.md", "_index.html"])
@pytest.mark.parametrize(
    ("head", "is_public"),
    [
        ("title: Notes", True),
        ("cascade: [{build: {list: never}}]", False),
        ("draft: true", False),
        ("- no mapping", False),
    ],
)
def test_a_section_page_can_hide_the_posts_below(
    tmp_path: Path, name: str, head: str, is_public: bool
):
    write_file(tmp_path / "in/notes" / name, head)
    write_file(tmp_path / "in/notes/deep/a.md", f"{HEAD}\nlayout: post")
    write_file(tmp_path / "in/b.md")

    public, section, post = open_archive(tmp_path / "in").entries

    assert public.record
    assert public.record.published_at
    assert section.left_out
    assert post.record
    assert (post.record.published_at is not None) == is_public


@pytest.mark.parametrize("name", ["notes.json", "notes.11tydata.json"])
@pytest.mark.parametrize(
    ("data", "is_public"),
    [
        ('{"tags": ["notes"], "layout": "post.njk", "date": "git Last Modified"}', True),
        ('["notes"]', True),
        ("{", True),
        pytest.param("[" * 9_000_000, True, id="too large"),
        ('{"draft": true}', False),
        ('{"permalink": false}', False),
        ('{"eleventyExcludeFromCollections": true}', False),
    ],
)
def test_the_data_file_of_a_folder_can_hide_the_posts_below(
    tmp_path: Path, name: str, data: str, is_public: bool
):
    write_file(tmp_path / "notes/deep/a.md", f"{HEAD}\nlayout: post")
    (tmp_path / "notes" / name).write_text(data)

    (entry,) = open_archive(tmp_path / "notes").entries

    assert entry.record
    assert (entry.record.published_at is not None) == is_public


@pytest.mark.parametrize("name", ["_a.md", "a.draft.md"])
def test_a_file_that_generators_ignore_is_a_draft(tmp_path: Path, name: str):
    write_file(tmp_path / "in" / name)

    (entry,) = open_archive(tmp_path / "in").entries

    assert entry.record, entry.error
    assert entry.record.published_at is None


async def test_posts_that_are_named_like_pages_survive_an_export(url: URL, tmp_path: Path):
    slugs = ["about", "readme", "404", "_index", "_x", "index", "hello.en"]
    record = {"title": "A", "author": "Ann", "published_at": "2020-01-01T00:00:00Z"}
    lines = [json.dumps({**record, "slug": slug, "content": slug}) for slug in slugs]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    await run_command("import", "in.jsonl")
    await run_command("export", "out")

    again = await run_command("import", "out")

    assert again.stdout == f"0 imported, {len(slugs)} already present, 0 rejected.\n", again.output
    records = [entry.record for entry in open_archive(tmp_path / "out").entries]
    assert all(record and record.published_at for record in records)


async def test_a_post_without_author_and_time_is_told_both(url: URL, tmp_path: Path):
    write_file(tmp_path / "a.md", "title: 'A'\npublished: true")

    result = await run_command("import", "a.md")

    assert result.exit_code == 1
    assert (
        "a.md:1: author: missing; --author USERNAME sets one for all posts; it has no"
        in result.stderr
    )


TEXT = f"---\n{HEAD}\n---\n日本, Ünï\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str):
    (tmp_path / "a.md").write_bytes(TEXT.encode(encoding))

    (entry,) = open_archive(tmp_path / "a.md").entries

    assert entry.record, entry.error
    assert (entry.record.title, entry.record.content) == ("A", "日本, Ünï\n")
    assert entry.warnings == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (TEXT.encode("utf-16-le"), "a.md:1: probably UTF-16 without a byte order mark"),
        ("Один два три\n".encode("utf-16-be"), "a.md:1: probably UTF-16 without"),
        (b"---\ntitle: A\n---\n\xc4\xe0\n", "a.md:4: not valid UTF-8: convert the file"),
        (TEXT.encode("latin-1", "replace"), "a.md:6: not valid UTF-8: convert the file"),
        (b"\xff\xfea", "a.md:1: not valid UTF-16, which its byte order mark tells"),
    ],
)
def test_other_encodings_are_not_guessed(tmp_path: Path, content: bytes, error: str):
    (tmp_path / "a.md").write_bytes(content)

    (entry,) = open_archive(tmp_path / "a.md").entries

    assert entry.record is None
    assert f"{entry.location}: {entry.error}".startswith(f"{tmp_path}/{error}")


def test_json_lines_in_another_encoding_are_one_error(tmp_path: Path):
    line = json.dumps({"title": "A", "author": "Ann", "content": "x"})
    (tmp_path / "a.jsonl").write_bytes(f"{line}\n{line}\n".encode("utf-16"))

    (entry,) = open_archive(tmp_path / "a.jsonl").entries

    assert entry.error == "JSON Lines in UTF-16: convert the file to UTF-8"


async def test_only_the_first_lines_of_a_kind_are_printed(url: URL, tmp_path: Path):
    for number in range(25):
        pictures = f"![x](no.png)\n![x](/no.png)\n{number}"
        head = f"{HEAD}\nslug: s{number}\naliases: [/a/s{(number + 1) % 25}]"
        write_file(tmp_path / f"in/{number}.md", f"{head}\ntags: [{'x' * 60}]", pictures)
        write_file(tmp_path / f"in/bad-{number}.md", "title: a: b")
    write_file(tmp_path / "in/control.md", content="a\x08")

    short = await run_command("import", "in", "--dry-run")
    everything = await run_command("import", "in", "--verbose")

    for kind, told in {
        "rejected: front matter": "front matter: title",
        "tags": "was left out",
        "missing pictures": " no.png: is no file",
        "pictures elsewhere on the site": " /no.png: is no file",
        "addresses of other posts": "is the address of another post",
    }.items():
        assert short.stderr.count(told) == 20
        assert everything.stderr.count(told) == 25
        assert f"{kind}: and 5 more; --verbose prints all\n" in short.stderr
    assert "control.md:6: text: control characters were left out" in short.stderr
    assert "more; --verbose" not in everything.stderr
    assert "26 imported, 0 already present, 25 rejected.\n" in everything.stdout
    assert "101 warnings, above.\n" in everything.stdout
    assert short.stdout == f"Dry run, nothing written: {everything.stdout}"
