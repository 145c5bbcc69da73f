"""Archives: what is read, what is a problem of its line, and that what is written reads back."""

import io
import json
import os
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from blog_api.archive.formats import open_archive, write_jsonl
from blog_api.archive.markdown_files import write_markdown
from blog_api.archive.record import MAX_RECORD_BYTES, ArchiveEntry, PostRecord
from blog_api.archive.wordpress import WXRWriter
from blog_api.core.fields import NON_XML_CHARACTERS, casefold_key, utc_now

HELLO = {"title": "Hello", "content": "World"}
NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)

few = settings(derandomize=True, deadline=None, max_examples=60)


def read(path: Path) -> list[ArchiveEntry]:
    """All entries: as many as were promised."""
    archive = open_archive(path)
    entries = list(archive.entries)
    assert archive.total == len(entries)
    for entry in entries:
        assert (entry.record is None) != (entry.problem is None)
        assert "\n" not in f"{entry.place}{entry.problem}"
    return entries


def record(**values: Any) -> PostRecord:
    return PostRecord.model_validate({**HELLO, "slug": "hello", **values})


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return tmp_path / "posts.jsonl"


def read_lines(path: Path, *lines: bytes | dict[str, Any]) -> list[ArchiveEntry]:
    raw = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(raw))
    return read(path)


def read_line(path: Path, line: bytes | dict[str, Any]) -> ArchiveEntry:
    (entry,) = read_lines(path, line)
    return entry


def read_file(folder: Path, text: str | bytes, name: str = "hello.md") -> ArchiveEntry:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (entry,) = read(path)
    return entry


def record_of(entry: ArchiveEntry) -> PostRecord:
    assert entry.record, entry.problem
    return entry.record


def problem_of(entry: ArchiveEntry) -> str:
    assert entry.problem, entry.record
    return entry.problem


def line_of(entry: ArchiveEntry) -> int:
    return int(entry.place.rpartition(":")[2])


# Records


def test_what_is_left_out_is_null_but_for_the_time_which_is_now(jsonl: Path):
    before = utc_now()

    post = record_of(read_line(jsonl, HELLO))

    assert (post.slug, post.author, post.author_key, post.taken_down_at) == (None,) * 4
    assert post.tags == []
    assert post.published_at
    assert before <= post.published_at <= utc_now()


def test_a_time_that_is_null_makes_a_draft(jsonl: Path):
    assert record_of(read_line(jsonl, HELLO | {"published_at": None})).published_at is None


def test_times_are_kept_in_utc(jsonl: Path):
    post = record_of(read_line(jsonl, HELLO | {"published_at": "2030-01-01T03:00:00+03:00"}))

    assert post.published_at == NEW_YEAR
    assert post.published_at.tzinfo is UTC


def test_a_record_may_be_made_of_what_the_database_holds():
    assert record(published_at=NEW_YEAR) == record(published_at="2030-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="timezone"):
        record(published_at=datetime(2030, 1, 1))


def test_unknown_fields_are_ignored_whatever_their_names(jsonl: Path):
    post = record_of(read_line(jsonl, HELLO | {"self": 1, "cls": 2, "id": 3, "dump": [4]}))

    assert post.title == "Hello"


def test_tags_that_differ_by_case_alone_are_one(jsonl: Path):
    post = record_of(read_line(jsonl, HELLO | {"tags": ["Python", "python", " PYTHON ", "x"]}))

    assert post.tags == ["Python", "x"]


@pytest.mark.parametrize("slug", ["x", "Hello_World-1.0", "привет", "..x", "中" * 100])
def test_a_slug_stays_as_it_is(jsonl: Path, slug: str):
    assert record_of(read_line(jsonl, HELLO | {"slug": slug})).slug == slug


@pytest.mark.parametrize("slug", ["", ".", "..", "a b", "a/b", "a\n", "x" * 101, "a%20", 5])
def test_a_slug_that_no_address_could_carry_is_a_problem(jsonl: Path, slug: object):
    assert problem_of(read_line(jsonl, HELLO | {"slug": slug})).startswith("slug: ")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"title": None}, "title: it must be text, in quotes"),
        ({"title": "two\nlines"}, "title: Control characters and line breaks are not allowed"),
        ({"title": "x" * 256}, "title: it should have at most 255 characters"),
        ({"content": ""}, "content: it is empty"),
        ({"content": "\0"}, "content: Control characters are not allowed"),
        ({"author": "x" * 101}, "author: it should have at most 100 characters"),
        ({"author_key": " "}, "author_key: There must be a character that is not a space"),
        ({"tags": "x"}, "tags: it must be a list"),
        ({"tags": ["x", 2]}, "tags, number 2: it must be text, in quotes"),
        ({"tags": list("abcdefghijk")}, "tags: it should have at most 10 items"),
        ({"published_at": "2030-01-01T00:00:00"}, "published_at: Use RFC 3339 with an offset"),
        ({"published_at": 5}, "published_at: Use RFC 3339 with an offset"),
        ({"published_at": "2030-13-01T00:00:00Z"}, "published_at: it should be a valid datetime"),
        ({"taken_down_at": "9999-12-31T23:59:59-01:00"}, "taken_down_at: The time is out of range"),
    ],
)
def test_a_problem_names_the_field_in_words(jsonl: Path, values: dict[str, Any], problem: str):
    assert problem_of(read_line(jsonl, HELLO | values)).startswith(problem)


# JSON Lines


def test_each_line_is_an_entry_with_its_place(jsonl: Path):
    entries = read_lines(jsonl, HELLO, b"", b" \r", b"{}", HELLO)

    assert [entry.place for entry in entries] == [f"{jsonl}:1", f"{jsonl}:4", f"{jsonl}:5"]
    assert [entry.problem for entry in entries] == [
        None,
        "title: it is missing; content: it is missing",
        None,
    ]


def test_a_byte_order_mark_and_carriage_returns_are_tolerated(jsonl: Path):
    line = json.dumps(HELLO).encode()

    entries = read_lines(jsonl, b"\xef\xbb\xbf" + line + b"\r", line + b"\r", b"")

    assert [entry.problem for entry in entries] == [None, None]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xff", "The text is not valid UTF-8"),
        (b'{"title": "\xed\xa0\x80"}', "The text is not valid UTF-8"),
        (b'{"title": "\\ud800", "content": "x"}', "title: it is not valid Unicode"),
        (b'{"title": NaN}', "This is not JSON: NaN is no number there"),
        (b'{"title" "x"}', "This is not JSON: Expecting ':' delimiter, at character 10"),
        (b"[]", "A post must be a JSON object, in braces"),
        (b"[" * 100_000, "Its values are nested too deeply"),
        (b'{"x":' * 100_000, "Its values are nested too deeply"),
        (b'{"x": ' + b"1" * 5000 + b"}", "A number is too long"),
        (b'{"x": "' + b"x" * MAX_RECORD_BYTES + b'"}', "It is larger than 8 MiB"),
    ],
    ids=range(10),
)
def test_what_cannot_be_read_is_a_problem_of_its_line_alone(jsonl: Path, line: bytes, problem: str):
    entries = read_lines(jsonl, HELLO, line, HELLO)

    assert [entry.problem for entry in entries] == [None, problem, None]
    assert line_of(entries[1]) == 2


def test_a_large_file_is_not_held_in_memory(jsonl: Path):
    size = 16 * 1024**2
    line = json.dumps(HELLO | {"content": "x" * 100_000}).encode() + b"\n"
    jsonl.write_bytes(line * (size // len(line)))
    tracemalloc.start()

    archive = open_archive(jsonl)
    count = sum(1 for entry in archive.entries if entry.record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == archive.total > 100
    assert peak < size / 8


def test_an_exported_line_has_six_keys_in_their_order(jsonl: Path):
    file = io.StringIO()

    write_jsonl(file, record(published_at="2030-01-01T03:00:00+03:00", title="Привет"))

    assert file.getvalue() == (
        '{"slug": "hello", "title": "Привет", "author": null, '
        '"published_at": "2030-01-01T00:00:00Z", "tags": [], "content": "World"}\n'
    )


def test_an_exported_line_tells_of_a_key_and_a_taking_down_where_there_are(jsonl: Path):
    file = io.StringIO()

    write_jsonl(file, record(author_key="k", taken_down_at="2030-01-01T00:00:00Z"))

    values = json.loads(file.getvalue())
    assert (values["author_key"], values["taken_down_at"]) == ("k", "2030-01-01T00:00:00Z")


@pytest.mark.parametrize("name", ["no.jsonl", "no.xml", "no.md", "pipe.jsonl"])
def test_what_is_neither_a_file_nor_a_folder_is_an_error(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / "pipe.jsonl")

    with pytest.raises(OSError, match=r"No such file|Neither a file nor a folder"):
        open_archive(tmp_path / name)


# Folders of Markdown


def test_a_folder_is_read_to_its_depth_in_order(tmp_path: Path):
    for name in ("b.md", "a.MARKDOWN", "sub/c.md", ".git/d.md", "._a.md", "sub/.x/e.md", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("Hi")

    places = [entry.place for entry in read(tmp_path)]

    assert places == [f"{tmp_path / name}:1" for name in ("a.MARKDOWN", "b.md", "sub/c.md")]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path):
    folder = tmp_path / "posts"
    folder.mkdir()
    (tmp_path / "secret.md").write_text("Secret")
    (folder / "a.md").write_text("Hi")
    (folder / "out.md").symlink_to("../secret.md")
    (folder / "up.md").symlink_to("..")
    (folder / "up").symlink_to("..")
    (folder / "loop.md").symlink_to("loop.md")
    (folder / "within.md").symlink_to("a.md")

    assert [record_of(entry).slug for entry in read(folder)] == ["a", "within"]


def test_a_file_that_cannot_be_shown_has_a_place_all_the_same(tmp_path: Path):
    (tmp_path / "a\n\udcff.md").write_text("Hi")

    (entry,) = read(tmp_path)

    assert entry.place == f"{tmp_path}/a\\n\\udcff.md:1"
    assert problem_of(entry) == "title: it is not valid Unicode"


def test_front_matter_tells_of_the_post(tmp_path: Path):
    head = """---
title: Hello
slug: my-slug
date: 2030-01-01 03:00:00 +0300
author: Ann
author_key: ann@example.com
taken_down_at: 2030-01-01
tags: [Python, 2030]
layout: {post: 1}
---

Text
"""
    expected = record(
        slug="my-slug",
        published_at="2030-01-01T00:00:00Z",
        author="Ann",
        author_key="ann@example.com",
        taken_down_at="2030-01-01T00:00:00Z",
        tags=["Python", "2030"],
        content="Text\n",
    )

    assert record_of(read_file(tmp_path, head, "2020-01-31-hello.md")) == expected


def test_front_matter_may_be_toml(tmp_path: Path):
    head = """+++
title = "Hello"
date = 2030-01-01T03:00:00+03:00
authors = ["Ann", "Bob"]
tags = ["Python", 2030]
+++
World"""

    post = record_of(read_file(tmp_path, head))

    expected = record(
        published_at="2030-01-01T00:00:00Z", author="Ann, Bob", tags=["Python", "2030"]
    )
    assert post == expected


def test_a_name_without_front_matter_gives_date_slug_and_title(tmp_path: Path):
    post = record_of(read_file(tmp_path, "World", "2030-01-01-hello.md"))

    assert post == record(title="hello", published_at="2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("2030-13-01-hello.md", "2030-13-01-hello"),
        ("My post.md", None),
        ("x" * 101 + ".md", None),
        ("bundle/index.md", "bundle"),
        ("\u0438\u0306.md", "й"),
    ],
)
def test_a_name_is_a_slug_where_it_can_be(tmp_path: Path, name: str, slug: str | None):
    assert record_of(read_file(tmp_path, "World", name)).slug == slug


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Text\n\n# It is C#\n\n# Two", "It is C#"),
        ("# Hello ##  \r\nText", "Hello"),
        ("```\n# no heading\n```", "hello"),
        ("#hashtag", "hello"),
        ("#  ", "hello"),
    ],
)
def test_without_a_title_the_first_heading_is_one(tmp_path: Path, content: str, title: str):
    post = record_of(read_file(tmp_path, content))

    assert (post.title, post.content) == (title, content)


@pytest.mark.parametrize("title", ["2020", "010", "1.10", "12:30", "1_000", "2020-01-31", "'yes'"])
def test_a_title_is_text_as_it_is_written(tmp_path: Path, title: str):
    assert record_of(read_file(tmp_path, f"---\ntitle: {title}\n---\nx")).title == title.strip("'")


@pytest.mark.parametrize("title", ["true", "null", "", "yes", "[a]"])
def test_a_title_that_is_no_text_is_a_problem(tmp_path: Path, title: str):
    entry = read_file(tmp_path, f"---\ntitle: {title}\n---\nx")

    assert problem_of(entry) == "title: it must be text, in quotes"


@pytest.mark.parametrize(
    ("head", "published_at"),
    [
        ("date: 2030-01-01", NEW_YEAR),
        ("date: 2030-01-01 00:00", NEW_YEAR),
        ("published_at: 2029-12-31T23:00:00-01:00", NEW_YEAR),
        ("date: '2030-01-01T00:00:00Z'", NEW_YEAR),
        ("date:", datetime(2020, 1, 31, tzinfo=UTC)),
        ("draft: false", datetime(2020, 1, 31, tzinfo=UTC)),
        ("draft: true\ndate: 2030-01-01", None),
        ("published: false", None),
        ("published_at: null", None),
    ],
)
def test_the_time_is_told_in_many_ways(tmp_path: Path, head: str, published_at: datetime | None):
    post = record_of(read_file(tmp_path, f"---\n{head}\n---\nx", "2020-01-31-x.md"))

    assert post.published_at == published_at


def test_tags_may_stand_between_commas(tmp_path: Path):
    post = record_of(read_file(tmp_path, "---\ntags: Python, python, FastAPI,\n---\nx"))

    assert post.tags == ["Python", "FastAPI"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("---\ntitle: x\n", 1, "The front matter has no end: a line of ---"),
        ("---\ntitle: x\na: b: c\n---\n", 3, "The front matter is not valid YAML: mapping values"),
        ("---\n- a\n---\n", 2, "The front matter must be lines such as `title: Hello`"),
        ("---\nx: {[1]: 2}\n---\n", 2, "The front matter is not valid YAML: found unhashable key"),
        ("---\nx: \x7f\n---\n", 1, "The front matter is not valid YAML"),
        ("---\nx: &a b\ny: *a\n---\n", 3, "The front matter must not have aliases"),
        ("---\nx: !!python/name:os.system\n---\n", 2, "The front matter must not have types"),
        ("---\nx: !!int x\n---\n", 2, "The front matter must not have types"),
        (f"---\nx: {'[' * 900}\n---\n", 2, "The front matter is nested too deeply"),
        (f"---\nx: {'x' * 70_000}\n---\n", 1, "The front matter is larger than 64 KiB"),
        ("---\ndate: 2030-13-01\n---\nx", 1, "date: it must be a time such as"),
        ("---\ndate: [1]\n---\nx", 1, "date: it must be a time such as"),
        ("---\ndraft: 'true'\n---\nx", 1, "draft: it must be true or false"),
        ("---\nauthors: [{name: Ann}]\n---\nx", 1, "author: it must be text"),
        ("+++\na=1\na=2\n+++\n", 3, "The front matter is not valid TOML: Cannot overwrite"),
        ("+++\na='''\n+++\n", 1, "The front matter is not valid TOML: Expected"),
        (f"+++\na={'[' * 8_000}\n+++\n", 1, "The front matter is nested too deeply"),
        (f"+++\n{'a.' * 5_000}a=1\n+++\n", 1, "The front matter is larger than 8 KiB"),
        (f"+++\na={'1' * 5000}\n+++\n", 1, "The front matter has a number that is too long"),
        ("a\n\0", 2, "Control characters are not allowed"),
        (b"a\n\n\xff", 3, "The text is not valid UTF-8"),
        (b"x" * (MAX_RECORD_BYTES + 1), 1, "It is larger than 8 MiB"),
        ("", 1, "content: it is empty"),
    ],
    ids=range(23),
)
def test_a_problem_of_a_file_stands_at_its_line(
    tmp_path: Path, text: str | bytes, line: int, problem: str
):
    entry = read_file(tmp_path, text)

    assert problem_of(entry).startswith(problem)
    assert line_of(entry) == line


def test_a_byte_order_mark_does_not_hide_front_matter(tmp_path: Path):
    entry = read_file(tmp_path, "\ufeff---\r\ntitle: Hello\r\n---\r\n\r\nWorld\r\n")

    assert record_of(entry).content == "World\r\n"


def test_a_file_is_named_by_its_slug(tmp_path: Path):
    path = write_markdown(tmp_path, record(published_at="2030-01-01T00:00:00Z", tags=["Привет"]))

    assert path == tmp_path / "hello.md"
    assert path.read_text() == (
        "---\nslug: hello\ntitle: Hello\ndate: 2030-01-01 00:00:00+00:00\ntags:\n- Привет\n---\n"
        "\nWorld"
    )


def test_no_file_is_written_over(tmp_path: Path):
    write_markdown(tmp_path, record())

    another = write_markdown(tmp_path, record(title="Another"))

    assert another == tmp_path / "hello~2.md"
    assert [record_of(entry).title for entry in read(tmp_path)] == ["Hello", "Another"]


def test_a_file_is_not_hidden_nor_a_device_nor_named_too_long(tmp_path: Path):
    for slug in (".hidden", "CON", "nul.txt", "com", "中" * 100):
        write_markdown(tmp_path, record(slug=slug))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_.hidden.md",
        "_CON.md",
        "_nul.txt.md",
        "com.md",
        "中" * 80 + ".md",
    ]
    assert len(read(tmp_path)) == 5


def test_a_post_without_a_slug_names_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match="slug"):
        write_markdown(tmp_path, record(slug=None))


# WordPress

NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "excerpt": "http://wordpress.org/export/1.1/excerpt/",
        "content": "http://purl.org/rss/1.0/modules/content/",
        "dc": "http://purl.org/dc/elements/1.1/",
        "wp": "http://wordpress.org/export/1.1/",
    }.items()
)
NO_TIME = "0000-00-00 00:00:00"
ANN = (
    "<wp:author><wp:author_login>ann</wp:author_login>"
    "<wp:author_display_name><![CDATA[Ann &amp; Co]]></wp:author_display_name></wp:author>"
)
HEADER = '<?xml version="1.0" encoding="UTF-8"?>'


def item(more: str = "", **fields: str) -> str:
    """A post as WordPress exports it, on one line."""
    values = {
        "title": "<![CDATA[Hello]]>",
        "dc:creator": "bob",
        "content:encoded": "<![CDATA[<p>World</p>]]>",
        "excerpt:encoded": "An excerpt",
        "wp:post_date": "2030-01-01 03:00:00",
        "wp:post_date_gmt": "2030-01-01 00:00:00",
        "wp:post_name": "hello",
        "wp:status": "publish",
        "wp:post_type": "post",
        "wp:comment": "<wp:comment_content><title>Not this one</title></wp:comment_content>",
    } | {key.replace("__", ":"): value for key, value in fields.items()}
    return f"<item>{''.join(f'<{key}>{values[key]}</{key}>' for key in values)}{more}</item>"


def wxr(*lines: str, header: str = HEADER) -> str:
    start = (
        f'{header}<rss version="2.0" {NAMESPACES}><channel><wp:wxr_version>1.1</wp:wxr_version>'
        "<wp:base_site_url>https://a.example</wp:base_site_url>"
    )
    return "\n".join([start, *lines, "</channel></rss>"])


def read_wxr(folder: Path, text: str | bytes) -> list[ArchiveEntry]:
    path = folder / "blog.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def test_an_export_of_wordpress_is_read(tmp_path: Path):
    entries = read_wxr(tmp_path, wxr(item(), item(wp__post_type="page"), item()))

    assert [line_of(entry) for entry in entries] == [2, 4]
    assert record_of(entries[0]) == record(
        author="bob",
        author_key="wordpress:https://a.example:bob",
        published_at="2030-01-01T00:00:00Z",
        content="<p>World</p>",
    )


def test_authors_are_called_by_their_names_wherever_those_stand(tmp_path: Path):
    entries = read_wxr(tmp_path, wxr(item(dc__creator="ann"), item(), item(dc__creator=""), ANN))

    authors = [(record_of(entry).author, record_of(entry).author_key) for entry in entries]
    assert authors == [
        ("Ann & Co", "wordpress:https://a.example:ann"),
        ("bob", "wordpress:https://a.example:bob"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("status", "gmt", "local", "published_at"),
    [
        ("publish", "2030-01-01 00:00:00", NO_TIME, NEW_YEAR),
        ("publish", NO_TIME, "2030-01-01 00:00:00", NEW_YEAR),
        ("publish", NO_TIME, NO_TIME, None),
        ("future", "2030-01-01 00:00:00", NO_TIME, NEW_YEAR),
        ("future", NO_TIME, "2030-01-01 00:00:00", None),
        ("draft", "2030-01-01 00:00:00", NO_TIME, None),
        ("pending", "2030-01-01 00:00:00", NO_TIME, None),
        ("private", "2030-01-01 00:00:00", NO_TIME, None),
        ("of-a-plugin", "2030-01-01 00:00:00", NO_TIME, None),
    ],
)
def test_only_what_wordpress_publishes_is_published(
    tmp_path: Path, status: str, gmt: str, local: str, published_at: datetime | None
):
    post = item(wp__status=status, wp__post_date_gmt=gmt, wp__post_date=local)

    (entry,) = read_wxr(tmp_path, wxr(post))

    assert record_of(entry).published_at == published_at


def test_what_a_password_guards_becomes_a_draft(tmp_path: Path):
    (entry,) = read_wxr(tmp_path, wxr(item("<wp:post_password>x</wp:post_password>")))

    assert record_of(entry).published_at is None


@pytest.mark.parametrize("status", ["trash", "auto-draft", "inherit"])
def test_what_wordpress_threw_away_is_left_out(tmp_path: Path, status: str):
    assert read_wxr(tmp_path, wxr(item(wp__status=status))) == []


def test_slugs_are_decoded(tmp_path: Path):
    names = ("%d0%bc%d0%b8%d1%80", "", "%ff", "x" * 101)

    entries = read_wxr(tmp_path, wxr(*(item(wp__post_name=name) for name in names)))

    assert [entry.record and entry.record.slug for entry in entries] == ["мир", None, None, None]
    assert [str(entry.problem)[:4] for entry in entries] == ["None", "None", "slug", "slug"]


def test_tags_and_categories_are_tags_but_for_uncategorized(tmp_path: Path):
    names = [
        ("category", "Uncategorized"),
        ("category", "<![CDATA[R&amp;D]]>"),
        ("post_tag", "<![CDATA[r&amp;d]]>"),
        ("post_format", "Aside"),
        *(("post_tag", f"tag {number}") for number in range(20)),
    ]
    tags = "".join(f'<category domain="{domain}">{name}</category>' for domain, name in names)

    (entry,) = read_wxr(tmp_path, wxr(item(tags)))

    assert [casefold_key(tag) for tag in record_of(entry).tags] == ["r&d"] + [
        f"tag {number}" for number in range(9)
    ]


def test_a_bad_post_is_a_problem_of_its_line_alone(tmp_path: Path):
    bad = item(title="", wp__post_date_gmt="soon")
    large = item(content__encoded="x" * (MAX_RECORD_BYTES + 1))

    entries = read_wxr(tmp_path, wxr(item(), bad, large, item()))

    assert [line_of(entry) for entry in entries] == [2, 3, 4, 5]
    assert entries[0].problem is None
    assert str(entries[1].problem).startswith("title: it is empty; published_at: Use RFC 3339")
    assert entries[2].problem == "It is larger than 8 MiB"
    assert entries[3].problem is None


@pytest.mark.parametrize(
    "rest", ["\x08", "</rss>", "<item>", "&nbsp;", "<x:y/>", "<item>" * 10_000], ids=range(6)
)
def test_broken_xml_ends_the_reading_and_what_came_before_stays(tmp_path: Path, rest: str):
    first, last = read_wxr(tmp_path, wxr(item(), rest, item()))

    assert first.problem is None
    assert problem_of(last).startswith("The XML is broken: ")
    assert line_of(last) >= 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "This is no export of WordPress"),
        ("<rss/>", "This is no export of WordPress"),
        ("{}", "The XML is broken: not well-formed (invalid token)"),
        (
            '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
            "A document type and entities are not allowed",
        ),
        ('<!DOCTYPE x SYSTEM "/etc/passwd"><x/>', "A document type and entities are not allowed"),
        ('<?xml version="1.0" encoding="no"?><x/>', "The encoding is not known"),
        ('<?xml version="1.0" encoding="cp932"?><x/>', "The encoding is not known"),
    ],
)
def test_what_is_no_export_is_a_problem(tmp_path: Path, text: str, problem: str):
    (entry,) = read_wxr(tmp_path, text)

    assert entry.problem == problem


@pytest.mark.parametrize("start", ["<!--", "<item x='", "<?x "])
def test_markup_that_is_too_long_is_not_held_in_memory(tmp_path: Path, start: str):
    first, last = read_wxr(tmp_path, wxr(item(), start + "x\n" * 1024**2))

    assert first.problem is None
    assert last.problem == "A tag or a comment is too long"
    assert line_of(last) == 3


def test_other_encodings_are_read(tmp_path: Path):
    text = wxr(item(title="Привет"), header='<?xml version="1.0" encoding="windows-1251"?>')

    (entry,) = read_wxr(tmp_path, text.encode("windows-1251"))

    assert record_of(entry).title == "Привет"


def write_wxr(path: Path, *records: PostRecord) -> None:
    with (
        path.open("w", encoding="utf-8", newline="") as file,
        WXRWriter(file, title="Ann & Co", link="https://example.com/?a&b") as writer,
    ):
        for one in records:
            writer.write(one, one.content)


def test_an_export_names_each_author_once_by_a_login_in_latin_letters(tmp_path: Path):
    path = tmp_path / "blog.xml"
    people = [("Анна", None), ("Анна", "2"), ("Анна", None), ("Bob", "wordpress:bob"), (None, None)]

    write_wxr(path, *(record(author=name, author_key=key) for name, key in people))

    authors = [(record_of(entry).author, record_of(entry).author_key) for entry in read(path)]
    key = "wordpress:https://example.com/?a&b:"
    assert authors == [
        ("Анна", f"{key}anna"),
        ("Анна", f"{key}anna-2"),
        ("Анна", f"{key}anna"),
        ("Bob", f"{key}bob"),
        (None, None),
    ]
    assert path.read_text().count("<wp:author>") == 3


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"published_at": None}, "draft"),
        ({"published_at": "2020-01-01T00:00:00Z"}, "publish"),
        ({"taken_down_at": "2020-01-01T00:00:00Z"}, "private"),
    ],
)
def test_an_export_publishes_what_is_public_here(
    tmp_path: Path, values: dict[str, Any], status: str
):
    path = tmp_path / "blog.xml"

    write_wxr(path, record(**values))

    assert f"<wp:status><![CDATA[{status}]]></wp:status>" in path.read_text()


def test_an_export_that_fails_has_no_end():
    file = io.StringIO()

    with pytest.raises(OSError), WXRWriter(file, title="x", link="x"):
        raise OSError

    assert "</rss>" not in file.getvalue()


def test_html_loses_what_xml_cannot_hold(tmp_path: Path):
    path = tmp_path / "blog.xml"
    with path.open("w", encoding="utf-8") as file, WXRWriter(file, title="x", link="x") as writer:
        writer.write(record(), "a\x01\ud800b")

    assert record_of(read(path)[0]).content == "ab"


# There and back

AWKWARD = [
    "---", "+++", "...", "yes", "null", "~", "=", "<<", "2020", "0o17", "1e3", "12:30",
    "2020-01-31", "- a", "a: b", "# x", "'", '"', "{", "!!int 1", "&a", "*a", "%", "@", "`",
    "\u2028", "\x85", "\ufeff", "\U0010ffff", "\u200b", " ", ",", "&amp;", "<b>", "]]>", "\\n",
]  # fmt: skip
BREAKS = ["\n", "\r\n", "\r", "\n---\n", "\n\n", "\t"]
SLUGS = ["hello", ".x", "CON", "2020-01-31-x", "мир", "中" * 100, "index", "0123", "null", "a.b-"]


def texts(pieces: list[str], max_size: int = 8) -> SearchStrategy[str]:
    piece = st.sampled_from(pieces) | st.text(st.characters(codec="utf-8"), max_size=5)
    joined = st.lists(piece, min_size=1, max_size=max_size).map("".join)
    return joined.filter(lambda text: text and not NON_XML_CHARACTERS.search(text))


def is_a_record(values: dict[str, Any]) -> bool:
    try:
        PostRecord.model_validate(values)
    except ValueError:
        return False
    return True


TIMES = st.none() | st.datetimes().map(lambda time: f"{time.isoformat()}Z")
LINES = texts(AWKWARD).map(lambda text: "".join(one for one in text if one.isprintable()) or "x")
RECORDS = (
    st.fixed_dictionaries(
        {
            "slug": st.sampled_from(SLUGS),
            "title": texts(AWKWARD).filter(lambda text: is_a_record({**HELLO, "title": text})),
            "author": st.none() | LINES.filter(lambda text: text.strip()),
            "author_key": st.none() | LINES.filter(lambda text: text.strip()),
            "published_at": TIMES,
            "taken_down_at": TIMES,
            "tags": st.lists(LINES, max_size=10).filter(
                lambda tags: is_a_record({**HELLO, "tags": tags})
            ),
            "content": texts([*AWKWARD, *BREAKS]),
        }
    )
    .filter(is_a_record)
    .map(PostRecord.model_validate)
)


@few
@given(RECORDS)
@example(record(title="x\u2028", content="\r\n\n---\n\ufeff"))
def test_a_record_survives_json_lines(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            write_jsonl(file, written)

        assert record_of(read(path)[0]) == written


@few
@given(RECORDS)
@example(record(title="--- ", content="\n\n---\ntitle: x\n---\n"))
@example(record(content="\r\n"))
def test_a_record_survives_markdown(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        write_markdown(Path(folder), written)

        assert record_of(read(Path(folder))[0]) == written


@few
@given(RECORDS)
@example(record(title="&amp;lt;", content="]]>\r]]&gt;"))
def test_a_record_survives_wordpress_as_far_as_that_can_tell_it(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blog.xml"
        write_wxr(path, written)

        post = record_of(read(path)[0])

    kept = {"slug", "title", "tags", "content"}
    assert post.model_dump(include=kept) == written.model_dump(include=kept)
    assert post.author == (written.author or written.author_key)
    if written.published_at and not written.taken_down_at:
        assert post.published_at == written.published_at.replace(microsecond=0)
    else:
        assert post.published_at is None
