"""Whole blogs that move: WordPress, Ghost, ZIP files, comments, and round trips of all formats."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from tests.archive.test_archives import ANN, make_item, make_wxr
from tests.support.clients import PASSWORD, sign_up
from tests.support.commands import run_command, serve_database

ADDRESS = "carl@private.example"


def make_post(more: str = "", **fields: str) -> str:
    """Return a published post of WordPress."""
    return make_item(more, **{"wp__post_date_gmt": "2020-01-01 09:00:00", **fields})


def make_comment(number: int, content: str, **fields: str) -> str:
    values = {
        "wp:comment_id": str(number),
        "wp:comment_author": "Carl",
        "wp:comment_author_email": ADDRESS,
        "wp:comment_author_IP": "203.0.113.7",
        "wp:comment_date_gmt": f"2020-01-01 00:00:{number:02}",
        "wp:comment_content": content,
        "wp:comment_approved": "1",
        "wp:comment_type": "",
        "wp:comment_parent": "0",
        "wp:comment_user_id": "0",
    } | {key.replace("__", ":"): value for key, value in fields.items()}
    text = "".join(f"<{key}><![CDATA[{value}]]></{key}>" for key, value in values.items())
    return f"<wp:comment>{text}</wp:comment>"


def write_blog(*items: str, name: str = "blog.xml") -> str:
    Path(name).write_text(make_wxr(ANN, *items))
    return name


async def import_file(name: str, *options: str, status: int = 0) -> str:
    result = await run_command("import", *options, name)
    assert result.exit_code == status, result.output
    return result.output


def read_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


async def test_approved_comments_come_with_their_threads_names_and_times(url: URL):
    comments = (
        make_comment(1, "First &amp; <b>foremost</b>\n\nsee <a href='https://a.example/'>this</a>"),
        make_comment(2, "Answer", wp__comment_parent="1", wp__comment_author="Dora &amp; co"),
        make_comment(3, "Spam", wp__comment_approved="spam"),
        make_comment(4, "Held", wp__comment_approved="0"),
        make_comment(5, "Ping", wp__comment_type="pingback"),
        make_comment(6, "Track", wp__comment_type="trackback"),
        make_comment(7, "Answer to a held one", wp__comment_parent="4"),
        make_comment(8, "Answer to the answer", wp__comment_parent="2"),
    )

    await import_file(write_blog(make_post("".join(comments))))

    async with serve_database(url) as client:
        post = (await client.get("/posts/slug/hello")).json()
        threads = (await client.get(f"/posts/{post['id']}/comments")).json()["results"]
        users = (await client.get("/users")).json()
        found = (await client.get("/users?q=carl")).json()
        carl = (await client.get(f"/users/{threads[0]['user_id']}")).json()
    assert post["comment_count"] == 4
    assert [one["content"] for one in threads] == [
        "First & foremost\n\nsee this (https://a.example/)", "Answer to a held one"
    ]  # fmt: skip
    assert [(one["content"], one["depth"]) for one in threads[0]["answers"]] == [
        ("Answer", 1), ("Answer to the answer", 2)
    ]  # fmt: skip
    assert [one["user_name"] for one in threads[0]["answers"]] == ["Dora & co", "Carl"]
    assert threads[0]["created_at"] == threads[0]["updated_at"] == "2020-01-01T00:00:01Z"
    assert (threads[0]["user_id"], carl["name"]) == (threads[1]["user_id"], "Carl")
    # Commenters are in no list.
    assert [user["name"] for user in users] == ["bob"]
    assert found == []
    assert (await run_command("rebuild", "--check")).exit_code == 0


async def test_no_comment_is_lost_for_its_length_or_its_time(url: URL):
    comments = make_comment(1, "x" * 10_001) + make_comment(
        2, "Undated", wp__comment_date_gmt="0000-00-00 00:00:00"
    )

    output = await import_file(write_blog(make_post(comments)))

    assert "comment 1 was shortened" in output
    async with serve_database(url) as client:
        long, undated = (await client.get("/posts/1/comments")).json()["results"]
    assert long["content"] == "x" * 9_999 + "…"
    assert undated["created_at"] == "2020-01-01T09:00:00Z"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Fri, 07 Jun 2013 03:00:44 +0000", "2013-06-07T03:00:44Z"),
        ("Fri, 07 Jun 2013 03:00:44 +0200", "2013-06-07T01:00:44Z"),
        ("Wed, 30 Nov -0001 00:00:00 +0000", None),
        ("", None),
    ],
)
async def test_a_post_without_times_of_wordpress_has_that_of_the_feed(
    url: URL, date: str, expected: str | None
):
    no_time = "0000-00-00 00:00:00"
    item = make_item(f"<pubDate>{date}</pubDate>", wp__post_date=no_time, wp__post_date_gmt=no_time)

    output = await import_file(write_blog(item))

    assert ("1 post without a time: drafts" in output) == (expected is None)
    await run_command("export", "out.jsonl")
    assert read_lines("out.jsonl")[0]["published_at"] == expected


async def test_no_post_of_wordpress_is_lost_for_a_time_or_an_address(url: URL):
    comment = make_comment(1, "Hello", wp__comment_date_gmt="soon")
    items = (
        make_post(comment, title="Both", wp__post_modified_gmt="soon", link="http://[a/"),
        make_post(
            title="Local",
            wp__post_date="2020-03-01 09:00:00",
            wp__post_date_gmt="2020-02-30 09:00:00",
        ),
        make_item(title="None", wp__post_date="soon", wp__post_date_gmt="soon"),
    )

    output = await import_file(write_blog(*items))

    assert "3 imported, 0 already present, 0 rejected." in output
    assert "1 post without a time: drafts" in output
    assert "wp:post_date_gmt: 2020-02-30 09:00:00 is no time; it was left out" in output
    async with serve_database(url) as client:
        posts = (await client.get("/posts")).json()["results"]
    assert {post["title"]: post["comment_count"] for post in posts} == {"Both": 1, "Local": 0}


async def test_a_commenter_is_known_by_an_address_that_is_nowhere(url: URL, tmp_path: Path):
    one = make_post(make_comment(1, "One"))
    two = make_post(make_comment(1, "Two"), wp__post_name="second")
    await import_file(write_blog(one))
    await import_file(write_blog(two, name="later.xml"))

    exported = await run_command("export", "out.jsonl")

    assert exported.exit_code == 0
    keys = {line["comments"][0]["author_key"] for line in read_lines("out.jsonl")}
    assert len(keys) == 1
    assert re.fullmatch("commenter:[A-Za-z0-9_-]{22}", keys.pop())
    async with serve_database(url) as client:
        comments = [
            (await client.get(f"/posts/{post['id']}/comments")).json()["results"][0]
            for post in (await client.get("/posts")).json()["results"]
        ]
    assert len({comment["user_id"] for comment in comments}) == 1
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".xml")
    for private in (ADDRESS, "private.example", "203.0.113.7"):
        assert private.encode() not in stored
        assert private not in exported.output


async def test_a_commenter_never_becomes_an_existing_account(url: URL):
    async with serve_database(url) as client:
        await sign_up(client, "Carl")
    email = {"wp__comment_author_email": "carl@example.com"}

    await import_file(write_blog(make_post(make_comment(1, "Mine?", **email))))

    async with serve_database(url) as client:
        (comment,) = (await client.get("/posts/1/comments")).json()["results"]
        assert (comment["user_name"], comment["user_id"]) != ("Carl", 1)
        user_id = comment["user_id"]
    # Nor does the account of one who gets a log-in get what is imported later.
    await run_command("set-password", str(user_id), "new@example.com", stdin=f"{PASSWORD}\n")
    later = make_post(make_comment(1, "Later", **email), wp__post_name="later")
    await import_file(write_blog(later, name="later.xml"))
    async with serve_database(url) as client:
        (comment,) = (await client.get("/posts/2/comments")).json()["results"]
        assert comment["user_id"] != user_id
        assert user_id in [user["id"] for user in (await client.get("/users")).json()]
        assert [user["id"] for user in (await client.get("/users?q=carl")).json()] == [1, user_id]


async def test_a_user_of_wordpress_comments_as_the_author_of_posts(url: URL):
    author = ANN.replace("<wp:author_login>", "<wp:author_id>7</wp:author_id><wp:author_login>")
    comment = make_comment(1, "Thanks", wp__comment_user_id="7", wp__comment_author="ann")
    item = make_post(comment, dc__creator="ann")
    Path("blog.xml").write_text(make_wxr(author, item))

    await import_file("blog.xml")

    async with serve_database(url) as client:
        (comment_read,) = (await client.get("/posts/1/comments")).json()["results"]
        post = (await client.get("/posts/1")).json()
    assert comment_read["user_id"] == post["user_id"]
    assert comment_read["user_name"] == "Ann & Co"


async def test_comments_are_as_hidden_as_their_post(url: URL):
    comment = make_comment(1, "Psst")
    items = [
        make_post(comment, wp__status=status, wp__post_name=status)
        for status in ("private", "pending", "draft")
    ]
    items.append(make_post(f"{comment}<wp:post_password>x</wp:post_password>"))

    await import_file(write_blog(*items))

    async with serve_database(url) as client:
        for number in range(1, 5):
            assert (await client.get(f"/posts/{number}/comments")).status_code == 404
        assert (await client.get("/comments/1/answers")).status_code == 404
        assert (await client.get("/posts")).json()["total_count"] == 0


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ("", {"content__encoded": "a [members_only]b[/members_only]"}),
        ("", {"content__encoded": "a [passster password='c']b[/passster]"}),
        ("", {"content__encoded": "a [swpm_protected]b[/swpm_protected]"}),
        ("", {"content__encoded": "&lt;!-- wp:premium-content/container -->b"}),
        ("", {"wp__status": "future", "wp__post_date_gmt": "2020-01-01 00:00:00"}),
        (
            "<wp:postmeta><wp:meta_key>_jetpack_newsletter_access</wp:meta_key>"
            "<wp:meta_value>paid_subscribers</wp:meta_value></wp:postmeta>",
            {},
        ),
    ],
)
async def test_what_was_not_plainly_public_is_a_draft(url: URL, more: str, fields: dict[str, str]):
    output = await import_file(write_blog(make_post(more, **fields)))

    assert "so it is a draft" in output
    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 0


async def test_pages_are_drafts_if_they_are_wanted_and_attachments_are_listed(url: URL):
    page = make_post(wp__post_type="page", wp__post_name="about")
    attached = "<wp:attachment_url>https://a.example/a.pdf</wp:attachment_url>"
    attachment = make_post(attached, wp__post_type="attachment", wp__status="inherit")
    file = write_blog(make_post(), page, attachment)

    output = await import_file(file)
    with_pages = await import_file(file, "--pages")

    assert "left out: attachment https://a.example/a.pdf" in output
    assert "Left out: 1 page, 1 attachment" in output
    assert "1 imported, 1 already present" in with_pages
    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 1


async def test_sites_without_an_address_share_no_author(url: URL):
    for name in ("one", "two"):
        item = make_post(dc__creator="admin", wp__post_name=name, title=name)
        text = make_wxr(item).replace("https://a.example", "")
        Path(f"{name}.xml").write_text(text)
        await import_file(f"{name}.xml")
        # The same file again.
        assert "1 already present" in await import_file(f"{name}.xml")

    async with serve_database(url) as client:
        assert [user["name"] for user in (await client.get("/users")).json()] == ["admin"] * 2


async def test_old_addresses_covers_and_galleries_of_wordpress_come_along(url: URL):
    def make_meta(key: str, value: str) -> str:
        return (
            f"<wp:postmeta><wp:meta_key>{key}</wp:meta_key>"
            f"<wp:meta_value>{value}</wp:meta_value></wp:postmeta>"
        )

    metas = make_meta("_wp_old_slug", "hallo") + make_meta("_thumbnail_id", "5")
    link = "<link>https://a.example/archives/123/</link>"
    content = "[gallery ids=&quot;6&quot;]"
    files = [
        make_post(
            f"<wp:post_id>{number}</wp:post_id><wp:attachment_url>https://a.example/{number}.jpg"
            "</wp:attachment_url>" + make_meta("_wp_attachment_image_alt", "A river"),
            wp__post_type="attachment",
        )
        for number in (5, 6)
    ]

    await import_file(write_blog(make_post(metas + link, content__encoded=content), *files))

    async with serve_database(url) as client:
        for old in ("hallo", "123"):
            moved = await client.get(f"/posts/slug/{old}")
            assert moved.status_code == 308
            assert moved.headers["Location"].endswith("/posts/slug/hello")
        post = (await client.get("/posts/slug/hello")).json()
    assert (post["cover_url"], post["cover_alt"]) == ("https://a.example/5.jpg", "A river")
    assert post["content_html"] == (
        '<figure><img src="https://a.example/6.jpg" alt="A river"></figure>'
    )


# Round trips


async def make_blog(url: URL) -> None:
    """Fill a database with comments, redirects, drafts, schedules and a takedown."""
    async with serve_database(url) as ann:
        await sign_up(ann, "Ann")
        for number, time in enumerate(
            ["2020-01-01T09:00:00.123456Z", None, "2999-01-01T00:00:00Z"]
        ):
            body = {
                "title": f"Post {number}", "content": f"*{number}*", "published_at": time,
                "tags": ["a", "B"], "cover_url": "https://example.com/c.jpg", "cover_alt": "A & b",
                "canonical_url": "https://example.com/", "summary": "Short < long",
                "slug": f"given-{number}", "comments_open": number != 1,
            }  # fmt: skip
            assert (await ann.post("/posts", json=body)).status_code == 201
        html = {"title": "About", "content": "<p>a</p>", "content_type": "text/html"}
        assert (await ann.post("/posts", json=html)).status_code == 201
        await ann.patch("/posts/1", json={"slug": "renamed"})
        parent = None
        for number in range(4):
            body = {"content": f"Comment {number} <b>\n&amp; ", "parent_id": parent}
            comment = (await ann.post("/posts/1/comments", json=body)).json()
            parent = comment["id"]
        await ann.delete("/comments/2")
        await ann.patch("/comments/4", json={"content": "Edited"})


@pytest.mark.parametrize("out", ["out.jsonl", "out", "out.xml"])
async def test_an_export_of_an_import_equals_the_export(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
):
    await make_blog(url)
    assert (await run_command("export", out)).exit_code == 0
    # It comes back into the same blog.
    assert "0 imported, 4 already present" in await import_file(out)
    monkeypatch.setenv("BLOG_DATABASE_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    await run_command("migrate")

    await import_file(out)
    rebuilt = await run_command("rebuild", "--check")
    again = out.replace("out", "again")
    assert (await run_command("export", again)).exit_code == 0

    assert rebuilt.exit_code == 0, rebuilt.output
    first, second = Path(out), Path(again)
    if first.is_dir():
        texts = [{p.name: p.read_text() for p in path.iterdir()} for path in (first, second)]
        assert "about.html" in texts[0]
        assert texts[0] == texts[1]
        assert "renamed.md.comments.jsonl" in texts[0]
    else:
        assert second.read_text() == first.read_text()
    text = first.read_text() if first.is_file() else (first / "renamed.md").read_text()
    assert "given-0" in text


async def test_posts_that_were_deleted_come_back_to_their_author(url: URL):
    await make_blog(url)
    await run_command("export", "out.jsonl")
    async with serve_database(url) as client:
        form = {"username": "ann@example.com", "password": PASSWORD}
        token = (await client.post("/auth", data=form)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        # A draft: a slug that was public is never given away.
        await client.delete("/posts/2")

    output = await import_file("out.jsonl")

    assert "1 imported, 3 already present" in output
    async with serve_database(url) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        assert (await client.get("/users/me/posts")).json()["total_count"] == 4


async def test_waiting_comments_wait_after_a_move(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    comment = {"author": "Eve", "created_at": "2020-01-01T00:00:00Z", "content": "Held"}
    answer = {**comment, "parent": 1, "content": "Also held", "is_waiting": True}
    post: dict[str, Any] = {
        "title": "a",
        "slug": "a",
        "author": "Ann",
        "published_at": "2020-01-01T00:00:00Z",
    }
    post |= {"content": "", "comments": [{**comment, "is_waiting": True}, answer]}
    Path("in.jsonl").write_text(json.dumps(post) + "\n")

    await import_file("in.jsonl")

    async with serve_database(url) as client:
        assert (await client.get("/posts/1")).json()["comment_count"] == 0
        assert (await client.get("/posts/1/comments")).json()["total_count"] == 0
    for out in ("out.jsonl", "out.xml"):
        await run_command("export", out)
        monkeypatch.setenv("BLOG_DATABASE_URL", f"sqlite:///{tmp_path}/{out}.db")
        await run_command("migrate")
        await import_file(out)
        await run_command("export", "again.jsonl")
        comments = read_lines("again.jsonl")[0]["comments"]
        assert [one["is_waiting"] for one in comments] == [True, True]


# Ghost and ZIP files

GHOST_POSTS: list[dict[str, Any]] = [
    {"slug": "public", "html": '<p>a <a href="__GHOST_URL__/public/">b</a></p>'},
    {"slug": "members", "visibility": "members"},
    {"slug": "paid", "visibility": "paid"},
    {"slug": "draft", "status": "draft"},
    {"slug": "sent", "status": "sent"},
    {"slug": "later", "status": "scheduled", "published_at": "2999-01-01T00:00:00.000Z"},
    {"slug": "missed", "status": "scheduled"},
    {"slug": "about", "type": "page"},
    {"slug": "old", "html": None, "markdown": "*old*", "published_at": 1577869200000},
    {
        "slug": "lexical",
        "html": None,
        "lexical": '{"root":{"children":[{"children":[{"text":"One"},{"text":" & two"}]}]}}',
    },
]


def make_ghost(**settings: str) -> dict[str, Any]:
    post = {
        "title": "T", "html": "<p>x</p>", "status": "published", "visibility": "public",
        "published_at": "2020-01-01T09:00:00.000Z", "updated_at": "2020-01-02T09:00:00.000Z",
    }  # fmt: skip
    posts = [{**post, "id": number, **one} for number, one in enumerate(GHOST_POSTS, 1)]
    data = {
        "posts": posts,
        "tags": [{"id": 1, "name": "News"}, {"id": 2, "name": "#internal"}],
        "posts_tags": [{"post_id": 1, "tag_id": one, "sort_order": one} for one in (2, 1)],
        "users": [{"id": 1, "name": "Ann", "slug": "ann", "email": "ann@private.example"}],
        "posts_authors": [{"post_id": one["id"], "author_id": 1} for one in posts],
        "settings": [{"key": key, "value": value} for key, value in settings.items()],
    }
    return {"db": [{"meta": {"version": "5.0.0"}, "data": data}]}


async def test_a_ghost_export_is_imported(url: URL):
    Path("ghost.json").write_text(json.dumps(make_ghost()))

    output = await import_file("ghost.json")
    await import_file("ghost.json")
    await run_command("export", "out.jsonl")

    assert "9 imported, 0 already present, 0 rejected." in output
    assert "5 drafts among the imported posts." in output
    assert "Left out: 1 page." in output
    async with serve_database(url) as client:
        posts = (await client.get("/posts")).json()["results"]
        post = (await client.get("/posts/slug/public")).json()
        old = (await client.get("/posts/slug/old")).json()
    assert sorted(one["slug"] for one in posts) == ["lexical", "old", "public"]
    assert (post["content"], post["user_name"]) == ('<p>a <a href="/public/">b</a></p>', "Ann")
    assert (post["tags"], post["updated_at"]) == (["News"], "2020-01-02T09:00:00Z")
    assert (old["content_type"], old["published_at"]) == ("text/markdown", "2020-01-01T09:00:00Z")
    lines = {line["slug"]: line for line in read_lines("out.jsonl")}
    assert lines["later"]["published_at"] == "2999-01-01T00:00:00Z"
    assert lines["lexical"]["content"] == "<p>One &amp; two</p>\n"
    assert "private.example" not in Path("out.jsonl").read_text()


@pytest.mark.parametrize(
    "fields",
    [
        {
            "html": '<p>a</p><!--kg-gated-block:begin nonMember:false memberSegment:"status:free" '
            "--><p>b</p><!--kg-gated-block:end-->"
        },
        {
            "html": None,
            "lexical": '{"root":{"children":[{"html":"b","visibility":{"web":'
            '{"nonMember":false,"memberSegment":"status:free"}}}]}}',
        },
    ],
)
async def test_a_post_of_ghost_with_a_part_for_members_is_a_draft(url: URL, fields: dict[str, Any]):
    ghost = make_ghost()
    ghost["db"][0]["data"]["posts"][0] |= fields
    Path("ghost.json").write_text(json.dumps(ghost))

    output = await import_file("ghost.json")

    assert "T: for members, so it is a draft" in output
    async with serve_database(url) as client:
        assert (await client.get("/posts/slug/public")).status_code == 404


async def test_no_export_of_ghost_is_lost_for_one_value(url: URL):
    ghost = make_ghost()
    data = ghost["db"][0]["data"]
    data["settings"].append({"key": ["is_private"], "value": "true"})
    data["posts"][0]["published_at"] = "soon"
    data["posts"][8]["html"] = ""
    data["posts"][9]["lexical"] = json.dumps(
        {"root": {"children": [{"text": "One"}]}, "sections": None, "cards": 1}
    )
    data["posts"][1] |= {"title": "\udfffLost", "html": None, "lexical": "{"}
    Path("ghost.json").write_text(json.dumps(ghost))

    output = await import_file("ghost.json")
    await import_file("ghost.json")
    await run_command("export", "out.jsonl")

    assert "T: soon is no time; it was left out" in output
    assert "Lost: title: control characters were left out" in output
    assert "Lost: without HTML and without a text that can be read, so it is empty" in output
    lines = {line["slug"]: line for line in read_lines("out.jsonl")}
    assert lines["public"]["published_at"] is None
    assert lines["old"]["content"] == "*old*"
    assert lines["lexical"]["content"] == "<p>One</p>\n"


async def test_a_private_ghost_site_stays_private(url: URL):
    Path("ghost.json").write_text(json.dumps(make_ghost(is_private="true")))

    await import_file("ghost.json")

    async with serve_database(url) as client:
        assert (await client.get("/posts")).json()["total_count"] == 0


def write_zip(**files: str) -> str:
    with zipfile.ZipFile("blog.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return "blog.zip"


@pytest.mark.parametrize("kind", ["wordpress", "ghost", "jsonl", "markdown"])
async def test_a_zip_file_of_any_format_is_imported(url: URL, kind: str):
    jsonl = json.dumps({"slug": "hello", "title": "a", "author": "b", "content": "c"})
    parts = [make_post(), make_post(wp__post_name="second")]
    files = {
        "wordpress": {f"a/{n}.xml": make_wxr(one) for n, one in enumerate(parts)},
        "ghost": {"site.json": json.dumps(make_ghost()), "themes/x/README.md": "# x"},
        "jsonl": {"a.jsonl": f"{jsonl}\n"},
        "markdown": {"x/_posts/2020-01-01-a.md": "---\nauthor: a\n---\nb", "config.json": "{}"},
    }[kind]

    output = await import_file(write_zip(**files))

    count = {"wordpress": 2, "ghost": 9}.get(kind, 1)
    assert f"{count} imported, 0 already present, 0 rejected." in output
    assert "/tmp/blog-api-import" not in output


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("../evil.md", "x", "has a name that leaves the folder: '../evil.md'"),
        ("/evil.md", "x", "has a name that leaves the folder: '/evil.md'"),
        ("a\\..\\..\\evil.md", "x", "has a name that leaves the folder"),
        ("C:evil.md", "x", "has a name that leaves the folder"),
        (".", "x", "has a name that leaves the folder: '.'"),
        ("bomb.md", " " * 10_000_000, "has a file that is packed too much: 'bomb.md'"),
    ],
)
async def test_a_zip_file_that_is_not_safe_is_rejected(
    url: URL, tmp_path: Path, name: str, text: str, error: str
):
    before = {*tmp_path.parent.iterdir()}

    output = await import_file(write_zip(**{name: text}), status=1)

    assert error in output
    assert {*tmp_path.parent.iterdir()} == before


async def test_links_and_too_many_files_in_a_zip_file_are_rejected(
    url: URL, monkeypatch: pytest.MonkeyPatch
):
    with zipfile.ZipFile("blog.zip", "w") as file:
        link = zipfile.ZipInfo("a.md")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    assert "has a symbolic link or a device: 'a.md'" in await import_file("blog.zip", status=1)

    monkeypatch.setattr("blog_api.core.zips.MAX_FILES", 1)
    assert "has more than 1 files" in await import_file(write_zip(a="", b=""), status=1)

    monkeypatch.setattr("blog_api.core.zips.MAX_BYTES", 5)
    assert "is larger than" in await import_file(write_zip(a="123456"), status=1)

    Path("blog.zip").write_bytes(b"no ZIP file")
    assert "cannot be unpacked" in await import_file("blog.zip", status=1)


@pytest.mark.parametrize("content", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"])
async def test_a_damaged_zip_file_is_rejected(url: URL, content: bytes):
    damaged = bytearray(Path(write_zip(**{"a.md": "Hello " * 100})).read_bytes())
    # After the header of the file and its name.
    damaged[34:38] = content
    Path("blog.zip").write_bytes(damaged)

    assert "cannot be unpacked" in await import_file("blog.zip", status=1)


@pytest.mark.parametrize("name", ["a.docx", "a.json", "a.txt", "a.rst", "a.xml"])
async def test_what_is_not_supported_is_told_what_is(url: URL, name: str):
    Path(name).write_text('{\n "title": "x"}' if name == "a.json" else "<x/>")

    output = await import_file(name, status=1)

    assert "WordPress" in output
    assert "JSON Lines (.jsonl)" in output
