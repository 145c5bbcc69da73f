"""Archive formats: reading, errors with their lines, and round trips."""

import io
import json
import os
import re
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from blog_api.archive.formats import open_archive
from blog_api.archive.jsonl import write_jsonl
from blog_api.archive.markdown_files import write_post
from blog_api.archive.record import ArchiveEntry, PostRecord
from blog_api.archive.wordpress_writer import WXRWriter
from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.core.fields import tag_key
from blog_api.text.encodings import MAX_FILE_BYTES

HELLO = {"title": "Hello", "content": "World"}
NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)

few_examples = settings(derandomize=True, deadline=None, max_examples=60)


def read_archive(path: Path) -> list[ArchiveEntry]:
    """Return all entries; their number is the announced total."""
    archive = open_archive(path)
    entries = list(archive.entries)
    assert archive.total == len(entries)
    for entry in entries:
        assert [entry.record, entry.error, entry.left_out].count(None) == 2
        assert "\n" not in f"{entry.location}{entry.error}"
    return entries


def make_record(**values: Any) -> PostRecord:
    return PostRecord.model_validate({**HELLO, "slug": "hello", **values})


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return tmp_path / "posts.jsonl"


def read_jsonl(path: Path, *lines: bytes | dict[str, Any]) -> list[ArchiveEntry]:
    raw = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(raw))
    return read_archive(path)


def read_jsonl_line(path: Path, line: bytes | dict[str, Any]) -> ArchiveEntry:
    (entry,) = read_jsonl(path, line)
    return entry


def read_markdown(folder: Path, text: str | bytes, name: str = "hello.md") -> ArchiveEntry:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (entry,) = read_archive(path)
    return entry


def get_record(entry: ArchiveEntry) -> PostRecord:
    assert entry.record, entry.error
    return entry.record


def get_error(entry: ArchiveEntry) -> str:
    assert entry.error, entry.record
    return entry.error


def get_line(entry: ArchiveEntry) -> int:
    return int(entry.location.rpartition(":")[2])


# Records


def test_missing_fields_are_null_and_without_a_time_it_is_a_draft(jsonl: Path):
    entry = read_jsonl_line(jsonl, HELLO)

    post = get_record(entry)

    assert (post.slug, post.author, post.author_key, post.taken_down_at) == (None,) * 4
    assert (post.tags, post.published_at, entry.is_undated) == ([], None, True)


def test_a_null_time_makes_a_draft(jsonl: Path):
    assert get_record(read_jsonl_line(jsonl, HELLO | {"published_at": None})).published_at is None


def test_times_are_converted_to_utc(jsonl: Path):
    post = get_record(read_jsonl_line(jsonl, HELLO | {"published_at": "2030-01-01T03:00:00+03:00"}))

    assert post.published_at == NEW_YEAR
    assert post.published_at.tzinfo is UTC


def test_unknown_fields_are_ignored(jsonl: Path):
    post = get_record(read_jsonl_line(jsonl, HELLO | {"self": 1, "cls": 2, "id": 3, "dump": [4]}))

    assert post.title == "Hello"


def test_tags_that_differ_only_in_case_are_merged(jsonl: Path):
    post = get_record(
        read_jsonl_line(jsonl, HELLO | {"tags": ["Python", "python", " PYTHON ", "x"]})
    )

    assert post.tags == ["Python", "x"]


@pytest.mark.parametrize("slug", ["x", "Hello_World-1.0", "привет", "..x", "中" * 100])
def test_a_valid_slug_is_unchanged(jsonl: Path, slug: str):
    assert get_record(read_jsonl_line(jsonl, HELLO | {"slug": slug})).slug == slug


@pytest.mark.parametrize(
    ("slug", "valid"),
    [
        (".", None), ("..", None), ("a b", "a-b"), ("a/b", "a-b"), ("a\n", "a"),
        ("x" * 101, "x" * 100), ("a%20", "a-20"), ("😀 hi", "hi"),
    ],
)  # fmt: skip
def test_a_slug_that_does_not_fit_in_a_url_is_changed(jsonl: Path, slug: str, valid: str | None):
    entry = read_jsonl_line(jsonl, HELLO | {"slug": slug})

    assert get_record(entry).slug == valid
    (warning,) = entry.warnings
    assert warning.startswith(f"{jsonl}:1: slug: ")
    assert warning.endswith(f" became {valid}")


def test_a_slug_that_is_no_text_is_rejected(jsonl: Path):
    assert get_error(read_jsonl_line(jsonl, HELLO | {"slug": 5})).startswith("slug: ")


@pytest.mark.parametrize(
    ("values", "changed", "warning"),
    [
        ({"title": "two\nlines"}, {"title": "two lines"}, None),
        ({"title": "x" * 256}, {"title": "x" * 254 + "…"}, "title: shortened to 255 characters"),
        ({"title": " ", "slug": "my-first_post"}, {"title": "My first post"}, None),
        ({"title": "", "slug": "2020-01"}, {"title": "World"}, None),
        ({"title": "", "slug": "1", "content": "<p>A &amp; b</p>"}, {"title": "A b"}, None),
        ({"title": "", "slug": None, "content": "**"}, {"title": "Untitled"}, None),
        ({"content": ""}, {"content": ""}, None),
        (
            {"content": "a\0\x0bb\ud800"},
            {"content": "ab"},
            "content: control characters were left out",
        ),
        ({"author": "x" * 101}, {"author": "x" * 99 + "…"}, "author: shortened to 100 characters"),
        (
            {"tags": ["a", "b" * 51, "", "c\nd"]},
            {"tags": ["a", "c d"]},
            f"tags: {'b' * 51} was left out",
        ),
        (
            {"tags": ["a\ud800", "\0"]},
            {"tags": ["a"]},
            "tags: control characters were left out",
        ),
        ({"tags": list("abcdefghijk")}, {"tags": list("abcdefghij")}, "tags: k was left out"),
    ],
)  # fmt: skip
def test_what_would_cost_a_post_is_changed(
    jsonl: Path, values: dict[str, Any], changed: dict[str, Any], warning: str | None
):
    entry = read_jsonl_line(jsonl, HELLO | {"slug": "hello"} | values)

    assert get_record(entry).model_dump(include={*changed}) == changed
    assert entry.warnings == (() if warning is None else (f"{jsonl}:1: {warning}",))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"title": None}, "title: must be text in quotes"),
        ({"author_key": " "}, "author_key: there must be a visible character"),
        ({"tags": "x"}, "tags: must be a list"),
        ({"tags": ["x", 2]}, "tags, item 2: must be text in quotes"),
        ({"published_at": "2030-01-01T00:00:00"}, "published_at: use RFC 3339 with an offset"),
        ({"published_at": 5}, "published_at: use RFC 3339 with an offset"),
        ({"published_at": "2030-13-01T00:00:00Z"}, "published_at: should be a valid datetime"),
        ({"taken_down_at": "9999-12-31T23:59:59-01:00"}, "taken_down_at: the time is out of range"),
    ],
)
def test_an_error_names_the_field(jsonl: Path, values: dict[str, Any], error: str):
    assert get_error(read_jsonl_line(jsonl, HELLO | values)).startswith(error)


# JSON Lines


def test_each_line_is_an_entry_with_its_location(jsonl: Path):
    entries = read_jsonl(jsonl, HELLO, b"", b" \r", b"{}", HELLO)

    assert [entry.location for entry in entries] == [f"{jsonl}:1", f"{jsonl}:4", f"{jsonl}:5"]
    assert [entry.error for entry in entries] == [
        None,
        "title: missing; content: missing",
        None,
    ]


def test_a_byte_order_mark_and_carriage_returns_are_ignored(jsonl: Path):
    line = json.dumps(HELLO).encode()

    entries = read_jsonl(jsonl, b"\xef\xbb\xbf" + line + b"\r", line + b"\r", b"")

    assert [entry.error for entry in entries] == [None, None]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"\xff", "not valid UTF-8"),
        (b'{"title": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"title": NaN}', "invalid JSON: NaN is not allowed"),
        (b'{"title" "x"}', "invalid JSON: Expecting ':' delimiter, at character 10"),
        (b"[]", "must be a JSON object, in braces"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"x":' * 100_000, "nested too deeply"),
        (b'{"x": ' + b"1" * 5000 + b"}", "a number is too long"),
        (b'{"x": "' + b"x" * 4 * MAX_FILE_BYTES + b'"}', "larger than 32 MiB"),
    ],
    ids=range(9),
)
def test_an_invalid_line_does_not_affect_the_others(jsonl: Path, line: bytes, error: str):
    entries = read_jsonl(jsonl, HELLO, line, HELLO)

    assert [entry.error for entry in entries] == [None, error, None]
    assert get_line(entries[1]) == 2


def test_a_large_file_is_not_loaded_into_memory(jsonl: Path):
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


def test_an_exported_line_has_six_keys_in_a_fixed_order(jsonl: Path):
    file = io.StringIO()

    write_jsonl(file, make_record(published_at="2030-01-01T03:00:00+03:00", title="Привет"))

    assert file.getvalue() == (
        '{"slug": "hello", "title": "Привет", "author": null, '
        '"published_at": "2030-01-01T00:00:00Z", "tags": [], "content": "World"}\n'
    )


@pytest.mark.parametrize("out", ["jsonl", "markdown"])
def test_fields_of_a_post_are_exported_if_they_have_values(tmp_path: Path, out: str):
    record = make_record(
        slug_given=True,
        summary="a: b",
        cover_url="https://example.com/a.jpg",
        cover_alt="# c",
        canonical_url="https://пример.example/",
        comments_open=False,
    )
    if out == "markdown":
        text = write_post(tmp_path, record).read_text()
        assert "slug_given: true" in text
        assert "comments_open: false" in text
    else:
        with (tmp_path / "posts.jsonl").open("w") as file:
            write_jsonl(file, record)
        text = (tmp_path / "posts.jsonl").read_text()
        assert '"slug_given": true' in text
        assert '"comments_open": false' in text
    (entry,) = read_archive(tmp_path if out == "markdown" else tmp_path / "posts.jsonl")

    assert get_record(entry) == record


def test_a_summary_from_elsewhere_is_one_line_of_at_most_300_characters(tmp_path: Path):
    several = read_markdown(tmp_path, "---\nsummary: |\n  one\n  two\n---\nx")
    long = read_markdown(tmp_path, f"---\nsummary: {'word ' * 100}\n---\nx")
    empty = read_markdown(tmp_path, "---\nsummary: ''\ncoverUrl:\ncanonicalURL: ''\n---\nx")

    assert get_record(several).summary == "one two"
    assert get_record(long).summary == "word " * 59 + "word…"
    assert get_record(empty).summary is get_record(empty).canonical_url is None


@pytest.mark.parametrize(
    ("line", "is_open"),
    [
        ("comments: false", False), ("comments_open: false", False), ("commentsOpen: false", False),
        ("comments: true", True), ("comments: [a]", True), ("comments_open:", True), ("", True),
    ],
)  # fmt: skip
def test_a_front_matter_can_close_the_comments(tmp_path: Path, line: str, is_open: bool):
    entry = read_markdown(tmp_path, f"---\ntitle: a\n{line}\n---\nx")

    assert get_record(entry).comments_open is is_open


def test_an_invalid_address_costs_no_post(jsonl: Path):
    entry = read_jsonl_line(jsonl, HELLO | {"cover_url": "javascript:alert(1)", "cover_alt": "a"})

    (warning,) = entry.warnings
    assert f"{jsonl}:1: cover_url: use an absolute address" in warning
    assert (get_record(entry).cover_url, get_record(entry).cover_alt) == (None, "a")


def test_an_exported_line_includes_author_key_and_takedown_if_set(jsonl: Path):
    file = io.StringIO()

    write_jsonl(file, make_record(author_key="k", taken_down_at="2030-01-01T00:00:00Z"))

    values = json.loads(file.getvalue())
    assert (values["author_key"], values["taken_down_at"]) == ("k", "2030-01-01T00:00:00Z")


@pytest.mark.parametrize("name", ["no.jsonl", "no.xml", "no.md", "pipe.jsonl"])
def test_a_path_that_is_neither_file_nor_folder_is_an_error(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / "pipe.jsonl")

    with pytest.raises(OSError, match=r"No such file|Neither a file nor a folder"):
        open_archive(tmp_path / name)


# Folders of Markdown


def test_a_folder_is_read_recursively_in_order(tmp_path: Path):
    for name in ("b.md", "a.MARKDOWN", "sub/c.md", ".git/d.md", "._a.md", "sub/.x/e.md", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("Hi")

    locations = [entry.location for entry in read_archive(tmp_path)]

    assert locations == [f"{tmp_path / name}:1" for name in ("a.MARKDOWN", "b.md", "sub/c.md")]


def test_symlinks_that_leave_the_folder_are_not_followed(tmp_path: Path):
    folder = tmp_path / "posts"
    folder.mkdir()
    (tmp_path / "secret.md").write_text("Secret")
    (folder / "a.md").write_text("Hi")
    (folder / "out.md").symlink_to("../secret.md")
    (folder / "up.md").symlink_to("..")
    (folder / "up").symlink_to("..")
    (folder / "loop.md").symlink_to("loop.md")
    (folder / "within.md").symlink_to("a.md")

    assert [get_record(entry).slug for entry in read_archive(folder)] == ["a", "within"]


def test_an_unprintable_file_name_is_escaped_in_the_location(tmp_path: Path):
    (tmp_path / "a\n\udcff.md").write_text("Hi")

    (entry,) = read_archive(tmp_path)

    assert entry.location == f"{tmp_path}/a\\n\\udcff.md:1"
    assert get_record(entry).title == "Hi"


def test_yaml_front_matter_is_read(tmp_path: Path):
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
    expected = make_record(
        slug="my-slug",
        published_at="2030-01-01T00:00:00Z",
        author="Ann",
        author_key="ann@example.com",
        taken_down_at="2030-01-01T00:00:00Z",
        tags=["Python", "2030"],
        content="Text\n",
    )

    assert get_record(read_markdown(tmp_path, head, "2020-01-31-hello.md")) == expected


def test_toml_front_matter_is_read(tmp_path: Path):
    head = """+++
title = "Hello"
date = 2030-01-01T03:00:00+03:00
authors = ["Ann", "Bob"]
tags = ["Python", 2030]
+++
World"""

    post = get_record(read_markdown(tmp_path, head))

    expected = make_record(
        published_at="2030-01-01T00:00:00Z", author="Ann, Bob", tags=["Python", "2030"]
    )
    assert post == expected


def test_without_front_matter_date_slug_and_title_come_from_the_file_name(tmp_path: Path):
    post = get_record(read_markdown(tmp_path, "World", "2030-01-01-hello.md"))

    assert post == make_record(title="Hello", published_at="2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("2030-13-01-hello.md", "2030-13-01-hello"),
        ("My post.md", None),
        ("x" * 101 + ".md", "x" * 100),
        ("bundle/index.md", "bundle"),
        ("\u0438\u0306.md", "й"),
    ],
)
def test_a_file_name_is_the_slug_if_it_is_a_valid_one(tmp_path: Path, name: str, slug: str | None):
    assert get_record(read_markdown(tmp_path, "World", name)).slug == slug


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Text\n\n# It is C#\n\n# Two", "It is C#"),
        ("# Hello ##  \r\nText", "Hello"),
        ("```\n# no heading\n```", "Hello"),
        ("#hashtag", "Hello"),
        ("#  ", "Hello"),
    ],
)
def test_without_a_title_the_first_heading_is_the_title(tmp_path: Path, content: str, title: str):
    post = get_record(read_markdown(tmp_path, content))

    assert (post.title, post.content) == (title, content)


@pytest.mark.parametrize(
    "title", ["2020", "010", "1.10", "12:30", "1_000", "2020-01-31", "'yes'", "yes", "true"]
)
def test_a_title_that_looks_like_another_type_stays_text(tmp_path: Path, title: str):
    post = get_record(read_markdown(tmp_path, f"---\ntitle: {title}\n---\nx"))

    assert post.title == title.strip("'")


def test_a_title_that_is_not_text_is_rejected_with_its_line(tmp_path: Path):
    entry = read_markdown(tmp_path, "---\ntags: []\nTitle: [a]\n---\nx")

    assert get_error(entry) == "title: must be text in quotes"
    assert get_line(entry) == 3


@pytest.mark.parametrize("title", ["null", "", "''"])
def test_an_empty_title_is_a_missing_one(tmp_path: Path, title: str):
    post = get_record(read_markdown(tmp_path, f"---\ntitle: {title}\n---\nx"))

    assert post.title == "Hello"


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
def test_the_publication_time_of_jekyll_and_hugo_is_read(
    tmp_path: Path, head: str, published_at: datetime | None
):
    post = get_record(read_markdown(tmp_path, f"---\n{head}\n---\nx", "2020-01-31-x.md"))

    assert post.published_at == published_at


def test_tags_may_be_separated_by_commas(tmp_path: Path):
    post = get_record(read_markdown(tmp_path, "---\ntags: Python, python, FastAPI,\n---\nx"))

    assert post.tags == ["Python", "FastAPI"]


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("---\ntitle: x\n", 1, "front matter: no closing line of ---"),
        ("---\ntitle: x\na: b: c\n---\n", 3, "front matter: a: invalid YAML: mapping values"),
        ("---\n- a\n---\n", 2, "front matter: must be lines such as `title: Hello`"),
        ("---\nx: {[1]: 2}\n---\n", 2, "front matter: x: invalid YAML: found unhashable key"),
        ("---\nx: \x7f\n---\n", 1, "front matter: invalid YAML"),
        ("---\nx: 1\ny: &a [*a]\n---\n", 3, "front matter: y: aliases such as *name repeat too"),
        (
            "---\nx: !!python/name:os.system\n---\n",
            2,
            "front matter: x: types such as !!int are not allowed",
        ),
        ("---\nx: !!int x\n---\n", 2, "front matter: x: types such as !!int are not allowed"),
        (f"---\nx: {'[' * 900}\n---\n", 2, "front matter: x: nested too deeply"),
        (f"---\nx: {'x' * 70_000}\n---\n", 1, "front matter: larger than 64 KiB"),
        ("---\ndate: 2030-13-01\n---\nx", 2, "date: must be a time such as"),
        ("---\ndate: [1]\n---\nx", 2, "date: must be a time such as"),
        ("---\na: 1\nauthor_key: [1]\n---\nx", 3, "author_key: must be text"),
        ("+++\na=1\na=2\n+++\n", 3, "front matter: a: invalid TOML: Cannot overwrite"),
        ("+++\na='''\n+++\n", 1, "front matter: invalid TOML: Expected"),
        (f"+++\na={'[' * 8_000}\n+++\n", 1, "front matter: nested too deeply"),
        (f"+++\n{'a.' * 5_000}a=1\n+++\n", 1, "front matter: larger than 8 KiB"),
        (f"+++\na={'1' * 5000}\n+++\n", 1, "front matter: a number is too long"),
        ("---js\n{title: get()}\n---\n", 2, "front matter: title: only plain literals"),
        (b"a\n\n\xff", 3, "not valid UTF-8"),
        (b"x" * (MAX_FILE_BYTES + 1), 1, "larger than 8 MiB"),
    ],
    ids=range(21),
)
def test_an_error_in_a_file_has_its_line(tmp_path: Path, text: str | bytes, line: int, error: str):
    entry = read_markdown(tmp_path, text)

    assert get_error(entry).startswith(error)
    assert get_line(entry) == line


def test_front_matter_after_a_byte_order_mark_is_found(tmp_path: Path):
    entry = read_markdown(tmp_path, "\ufeff---\r\ntitle: Hello\r\n---\r\n\r\nWorld\r\n")

    assert get_record(entry).content == "World\r\n"


def test_an_exported_file_is_named_after_the_slug(tmp_path: Path):
    path = write_post(tmp_path, make_record(published_at="2030-01-01T00:00:00Z", tags=["Привет"]))

    assert path == tmp_path / "hello.md"
    assert path.read_text() == (
        "---\nslug: hello\ntitle: Hello\ndate: 2030-01-01 00:00:00+00:00\ntags:\n- Привет\n---\n"
        "\nWorld"
    )


def test_no_file_is_overwritten(tmp_path: Path):
    write_post(tmp_path, make_record())

    another = write_post(tmp_path, make_record(title="Another"))

    assert another == tmp_path / "hello~2.md"
    assert [get_record(entry).title for entry in read_archive(tmp_path)] == ["Hello", "Another"]


@pytest.mark.parametrize(
    "head",
    [
        "Draft: true",
        "draft: 'true'",
        "draft: yes please",
        "isDraft: 1",
        "status: draft",
        "Status: private",
        "status: waiting for review",
        "published: 'false'",
        "published: no",
        "private: true",
        "hidden: true",
        "unlisted: on",
        "visibility: members",
        "password: secret",
        "publishDate: 2999-01-01\npublished_at:",
        "expiryDate: 2020-01-01",
        "encrypt: true",
        "build: {list: never}",
        "layout: draft",
    ],
)
def test_what_is_not_plainly_public_becomes_a_draft(tmp_path: Path, head: str):
    (tmp_path / "hello.md").write_text(f"---\ntitle: Hello\ndate: 2019-01-01\n{head}\n---\nText")

    (entry,) = read_archive(tmp_path)

    assert get_record(entry).published_at is None


@pytest.mark.parametrize(
    "head", ["", "draft: false", "published: true", "status: publish", "expiryDate: 2999-01-01"]
)
def test_what_is_plainly_public_is_published(tmp_path: Path, head: str):
    (tmp_path / "hello.md").write_text(f"---\nDate: 2019-01-01\n{head}\n---\nText")

    (entry,) = read_archive(tmp_path)

    assert get_record(entry).published_at == datetime(2019, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("key", ["publishDate", "publish_on", "scheduled_for"])
def test_a_publish_date_in_the_future_schedules(tmp_path: Path, key: str):
    (tmp_path / "hello.md").write_text(f"---\ndate: 2019-01-01\n{key}: 2999-01-01\n---\nText")

    (entry,) = read_archive(tmp_path)

    assert get_record(entry).published_at == datetime(2999, 1, 1, tzinfo=UTC)


def test_a_file_in_a_folder_of_drafts_is_a_draft(tmp_path: Path):
    folder = tmp_path / "_drafts"
    folder.mkdir()
    (folder / "2019-01-01-hello.md").write_text("---\ntitle: Hello\n---\nText")

    (entry,) = read_archive(tmp_path)

    assert get_record(entry).published_at is None


@pytest.mark.parametrize(
    "text",
    [
        "title: Hello\nstatus: draft\n---\nText",
        "title: Hello\ntags:\n- a\n\ndraft: true\n---\nText",
        "---\ntitle: Hello\ndraft: true\n...\nText",
        "----\ntitle: Hello\ndraft: true\n----\nText",
        ';;;\n"title": "Hello", "draft": true\n;;;\nText',
        '---json\n{"title": "Hello", "draft": true}\n---\nText',
        '---toml\ntitle = "Hello"\ndraft = true\n---\nText',
        '{"title": "Hello", "draft": true}\n\nText',
        '{\n  "title": "Hello",\n  "draft": true\n}\nText',
        "Title: Hello\nStatus: draft\nSummary: one\n    two\n\nText",
        "<!--\n.. title: Hello\n.. status: draft\n-->\nText",
        '---js\nconst title = "Hello";\n// a note\nexport const draft = true;\n---\nText',
        '---js\n{title:"Hello", draft: true, tags: ["a", \'b\'],}\n---\nText',
        "---javascript\nmodule.exports = {title: 'Hello', draft: true};\n---\nText",
    ],
)
def test_other_forms_of_front_matter_are_read(tmp_path: Path, text: str):
    post = get_record(read_markdown(tmp_path, text, "2019-01-01-x.md"))

    assert (post.title, post.published_at, post.content) == ("Hello", None, "Text")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("---coffee\ntitle: Hello\n---\nText", 1),
        ("---js\nconst title = 'Hello';\nconst draft = isDraft();\n---\nText", 3),
        ("---js\n{title: 'Hello', draft: process.env.X}\n---\nText", 2),
        ("#+TITLE: Hello\n#+DRAFT: true\nText", 1),
        ("# comment\n---\ndraft: true\n---\nText", 1),
        ("---\ndraft: true\ndraft: false\n---\nText", 3),
        ("+++\ndraft = true\ndraft = false\n+++\nText", 3),
        ("\n\nTitle: a\nStatus: draft\nStatus: published\n\nText", 5),
        ('{"draft": true, "draft": false}\nText', 1),
        ('{"title": "Hello", "draft": true\nText', 2),
    ],
)
def test_front_matter_that_cannot_be_read_is_rejected(tmp_path: Path, text: str, line: int):
    entry = read_markdown(tmp_path, text, "2019-01-01-hello.md")

    assert get_error(entry).startswith("front matter: ")
    assert get_line(entry) == line


@pytest.mark.parametrize(
    "text",
    ["Note: this\n---\nText", "Q: one\nA: two\n\nText", "Hello\n---\nText", "{{< a >}}\nText"],
)
def test_a_text_that_begins_with_a_colon_or_a_rule_has_no_front_matter(tmp_path: Path, text: str):
    assert get_record(read_markdown(tmp_path, text)).content == text


def test_characters_that_json_escapes_in_two_halves_are_read_in_yaml(tmp_path: Path):
    entry = read_markdown(
        tmp_path,
        r"""---
title: "\ud83d\ude00 \\\ud83d\ude00 \\ud83d"
---
""",
    )

    assert get_record(entry).title == "\N{GRINNING FACE} \\\N{GRINNING FACE} \\ud83d"


def test_aliases_in_yaml_are_read_unless_they_repeat_too_much(tmp_path: Path):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{n}: &{n} [{', '.join([f'*{o}'] * 10)}]" for o, n in zip("abcd", "bcde", strict=True)
    ]

    post = get_record(read_markdown(tmp_path, "---\nx: &x [c, d]\ntags: *x\n---\nText"))
    bomb = read_markdown(tmp_path, "---\n" + "\n".join(lines) + "\n---\nText")

    assert post.tags == ["c", "d"]
    assert get_error(bomb) == "front matter: d: aliases such as *name repeat too much"


def test_front_matter_may_follow_blank_lines_and_comments(tmp_path: Path):
    text = "\ufeff\n<!-- a note -->\n---\ndate: 2019-01-01\ndraft: true\n---\nText"
    (tmp_path / "hello.md").write_text(text)

    (entry,) = read_archive(tmp_path)

    assert get_record(entry).published_at is None
    assert get_record(entry).content.strip() == "Text"


def test_a_post_in_jsonl_is_a_draft_by_the_keys_of_others_too(jsonl: Path):
    for extra in ({"draft": True}, {"Status": "private"}, {"password": "x"}):
        values = HELLO | {"published_at": "2019-01-01T00:00:00Z"} | extra

        assert get_record(read_jsonl_line(jsonl, values)).published_at is None


def test_a_repeated_key_in_jsonl_is_rejected(jsonl: Path):
    jsonl.write_text('{"title": "Hello", "content": "x", "draft": true, "draft": false}\n')

    (entry,) = read_archive(jsonl)

    assert get_error(entry) == "a key is repeated"


def test_deeply_nested_xml_is_rejected_at_once(tmp_path: Path):
    first, last = read_wxr(tmp_path, make_wxr(make_item(), "<item>" * 300_000))

    assert first.error is None
    assert get_error(last).startswith("elements are nested more than 100 deep")


def test_file_names_are_not_hidden_reserved_or_too_long(tmp_path: Path):
    for slug in (".hidden", "CON", "nul.txt", "com", "中" * 100):
        write_post(tmp_path, make_record(slug=slug))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_.hidden.md",
        "_CON.md",
        "_nul.txt.md",
        "com.md",
        "中" * 76 + ".md",
    ]
    assert len(read_archive(tmp_path)) == 5


def test_a_post_without_a_slug_cannot_be_written_to_a_file(tmp_path: Path):
    with pytest.raises(ValueError, match="slug"):
        write_post(tmp_path, make_record(slug=None))


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


def make_item(more: str = "", **fields: str) -> str:
    """Return a post as WordPress exports it, on one line."""
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


def make_wxr(*lines: str, header: str = HEADER) -> str:
    start = (
        f'{header}<rss version="2.0" {NAMESPACES}><channel><wp:wxr_version>1.1</wp:wxr_version>'
        "<wp:base_site_url>https://a.example</wp:base_site_url>"
    )
    return "\n".join([start, *lines, "</channel></rss>"])


def read_wxr(folder: Path, text: str | bytes) -> list[ArchiveEntry]:
    path = folder / "blog.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_archive(path)


def test_a_wordpress_export_is_read(tmp_path: Path):
    entries = read_wxr(
        tmp_path, make_wxr(make_item(), make_item(wp__post_type="page"), make_item())
    )

    assert [get_line(entry) for entry in entries] == [2, 3, 4]
    assert [entry.left_out for entry in entries] == [None, "page", None]
    assert get_record(entries[0]) == make_record(
        author="bob",
        author_key="wordpress:https://a.example:bob",
        published_at="2030-01-01T00:00:00Z",
        summary="An excerpt",
        content="<p>World</p>",
        content_type="text/html",
    )


@pytest.mark.parametrize(
    ("excerpt", "summary"),
    [
        ("", None),
        ("<![CDATA[<p>A &amp; <b>b</b></p>\n<p>c</p>]]>", "A & b c"),
        ("\u200b", None),
        ("a " * 500, "a " * 149 + "a…"),
    ],
)
def test_an_excerpt_of_wordpress_is_the_summary(tmp_path: Path, excerpt: str, summary: str | None):
    (entry,) = read_wxr(tmp_path, make_wxr(make_item(excerpt__encoded=excerpt)))

    assert get_record(entry).summary == summary


def test_authors_have_display_names_wherever_those_are_in_the_file(tmp_path: Path):
    entries = read_wxr(
        tmp_path,
        make_wxr(make_item(dc__creator="ann"), make_item(), make_item(dc__creator=""), ANN),
    )

    authors = [(get_record(entry).author, get_record(entry).author_key) for entry in entries]
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
def test_only_posts_that_wordpress_publishes_are_published(
    tmp_path: Path, status: str, gmt: str, local: str, published_at: datetime | None
):
    post = make_item(wp__status=status, wp__post_date_gmt=gmt, wp__post_date=local)

    (entry,) = read_wxr(tmp_path, make_wxr(post))

    assert get_record(entry).published_at == published_at


def test_a_password_protected_post_becomes_a_draft(tmp_path: Path):
    (entry,) = read_wxr(tmp_path, make_wxr(make_item("<wp:post_password>x</wp:post_password>")))

    assert get_record(entry).published_at is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [("trash", "trash"), ("auto-draft", "automatic draft"), ("inherit", "revision")],
)
def test_trash_and_automatic_drafts_are_left_out(tmp_path: Path, status: str, kind: str):
    (entry,) = read_wxr(tmp_path, make_wxr(make_item(wp__status=status)))

    assert entry.left_out == kind


def test_percent_encoded_slugs_are_decoded(tmp_path: Path):
    names = ("%d0%bc%d0%b8%d1%80", "", "%ff", "x" * 101)

    entries = read_wxr(tmp_path, make_wxr(*(make_item(wp__post_name=name) for name in names)))

    assert [get_record(entry).slug for entry in entries] == ["мир", None, None, "x" * 100]
    assert [len(entry.warnings) for entry in entries] == [0, 0, 1, 1]


def test_tags_and_categories_become_tags_except_uncategorized(tmp_path: Path):
    names = [
        ("category", "Uncategorized"),
        ("category", "<![CDATA[R&amp;D]]>"),
        ("post_tag", "<![CDATA[r&amp;d]]>"),
        ("post_format", "Aside"),
        *(("post_tag", f"tag {number}") for number in range(20)),
    ]
    tags = "".join(f'<category domain="{domain}">{name}</category>' for domain, name in names)

    (entry,) = read_wxr(tmp_path, make_wxr(make_item(tags)))

    assert [tag_key(tag) for tag in get_record(entry).tags] == ["r&d"] + [
        f"tag {number}" for number in range(9)
    ]
    (warning,) = entry.warnings
    assert warning.endswith("tag 18, tag 19 were left out")


def test_an_invalid_post_does_not_affect_the_others(tmp_path: Path):
    invalid = make_item(title="", wp__post_date_gmt="soon")
    large = make_item(content__encoded="x" * (MAX_FILE_BYTES + 1))

    entries = read_wxr(tmp_path, make_wxr(make_item(), invalid, large, make_item()))

    assert [get_line(entry) for entry in entries] == [2, 3, 4, 5]
    assert entries[0].error is None
    assert get_record(entries[1]).published_at is not None
    (warning,) = entries[1].warnings
    assert warning.endswith("wp:post_date_gmt: soon is no time; it was left out")
    assert entries[2].error == "larger than 8 MiB"
    assert entries[3].error is None


@pytest.mark.parametrize("rest", ["</rss>", "<item>", "<x:y/>"], ids=range(3))
def test_invalid_xml_ends_the_reading_after_the_posts_before_it(tmp_path: Path, rest: str):
    first, last = read_wxr(tmp_path, make_wxr(make_item(), rest, make_item()))

    assert first.error is None
    assert get_error(last).startswith("invalid XML: ")
    assert get_error(last).endswith(f"what follows was not read, {1 + (rest == '<item>')} items")
    assert get_line(last) >= 3


def test_control_characters_in_xml_are_left_out_and_told(tmp_path: Path):
    items = [make_item(), make_item(content__encoded="a\x08b\x01\ufffec"), make_item()]

    entries = read_wxr(tmp_path, make_wxr(*items))

    assert [get_record(entry).content for entry in entries] == [
        "<p>World</p>", "<p>abc</p>", "<p>World</p>"
    ]  # fmt: skip
    (warning,) = [one for entry in entries for one in entry.warnings]
    assert warning.endswith("control characters were left out in lines 3")


@pytest.mark.parametrize("shift", range(20))
def test_ampersands_that_begin_no_entity_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
):
    # The chunks end at all places of the item.
    monkeypatch.setattr("blog_api.text.xml.CHUNK_BYTES", 20)
    title = "a&b &nbsp; &#65; &amp;amp; <![CDATA[&c &amp; ]]]]><![CDATA[>]]> &lt;"

    first, second = read_wxr(tmp_path, make_wxr(" " * shift, make_item(title=title), make_item()))

    assert get_record(first).title == "a&b \xa0 A & &c & ]]> <"
    assert get_record(second).title == "Hello"


def test_bytes_that_are_not_of_the_encoding_are_replaced(tmp_path: Path):
    text = make_wxr(make_item(title="a-b"), make_item()).encode()

    first, second = read_wxr(tmp_path, text.replace(b"a-b", b"a\xffb"))

    assert get_record(first).title == "a\ufffdb"
    assert get_record(second).title == "Hello"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "not a WordPress export"),
        ("<rss/>", "not a WordPress export"),
        ("{}", "invalid XML: not well-formed (invalid token)"),
        (
            '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
            "document types and entities are not allowed",
        ),
        ('<!DOCTYPE x SYSTEM "/etc/passwd"><x/>', "document types and entities are not allowed"),
        ('<?xml version="1.0" encoding="no"?><x/>', "unknown encoding"),
    ],
)
def test_a_file_that_is_not_a_wordpress_export_is_an_error(tmp_path: Path, text: str, error: str):
    (entry,) = read_wxr(tmp_path, text)

    assert get_error(entry).startswith(error)


@pytest.mark.parametrize("start", ["<!--", "<item x='", "<?x "])
def test_an_endless_tag_or_comment_is_an_error(tmp_path: Path, start: str):
    first, last = read_wxr(tmp_path, make_wxr(make_item(), start + "x\n" * 1024**2))

    assert first.error is None
    assert get_error(last).startswith("a tag or a comment is larger than 1 MiB")
    assert get_line(last) == 3


def test_other_encodings_are_read(tmp_path: Path):
    text = make_wxr(
        make_item(title="Привет"), header='<?xml version="1.0" encoding="windows-1251"?>'
    )

    (entry,) = read_wxr(tmp_path, text.encode("windows-1251"))

    assert get_record(entry).title == "Привет"


def write_wxr(path: Path, *records: PostRecord) -> None:
    with (
        path.open("w", encoding="utf-8", newline="") as file,
        WXRWriter(file, title="Ann & Co", link="https://example.com/?a&b") as writer,
    ):
        for one in records:
            writer.write_post(one, one.content)


def test_an_export_has_each_author_once_with_a_latin_login(tmp_path: Path):
    path = tmp_path / "blog.xml"
    people = [("Анна", None), ("Анна", "2"), ("Анна", None), ("Bob", "wordpress:bob"), (None, None)]

    write_wxr(path, *(make_record(author=name, author_key=key) for name, key in people))

    authors = [
        (get_record(entry).author, get_record(entry).author_key) for entry in read_archive(path)
    ]
    # The keys are those of the blog: it knows its own authors.
    assert authors == [
        ("Анна", "Анна"),
        ("Анна", "2"),
        ("Анна", "Анна"),
        ("Bob", "wordpress:bob"),
        (None, None),
    ]
    logins = re.findall(r"<dc:creator><!\[CDATA\[(.*?)]]>", path.read_text())
    assert logins == ["anna", "anna-2", "anna", "bob", ""]
    assert path.read_text().count("<wp:author>") == 3


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"published_at": None}, "draft"),
        ({"published_at": "2020-01-01T00:00:00Z"}, "publish"),
        ({"taken_down_at": "2020-01-01T00:00:00Z"}, "private"),
    ],
)
def test_an_export_publishes_only_public_posts(tmp_path: Path, values: dict[str, Any], status: str):
    path = tmp_path / "blog.xml"

    write_wxr(path, make_record(**values))

    assert f"<wp:status><![CDATA[{status}]]></wp:status>" in path.read_text()


def test_an_export_has_the_form_that_all_parsers_of_wordpress_read(tmp_path: Path):
    path = tmp_path / "blog.xml"

    write_wxr(path, make_record(author="Ann"))

    text = path.read_text()
    assert "<wp:wxr_version>1.2</wp:wxr_version>" in text
    assert "<wp:base_site_url>https://example.com/?a&amp;b</wp:base_site_url>" in text
    assert re.search("<wp:author>.*<!\\[CDATA\\[ann]]>.*</wp:author>", text)


def test_a_failed_export_has_no_end_tag():
    file = io.StringIO()

    with pytest.raises(OSError), WXRWriter(file, title="x", link="x"):
        raise OSError

    assert "</rss>" not in file.getvalue()


def test_characters_that_xml_excludes_are_removed(tmp_path: Path):
    path = tmp_path / "blog.xml"
    with path.open("w", encoding="utf-8") as file, WXRWriter(file, title="x", link="x") as writer:
        writer.write_post(make_record(), "a\x01\ud800b")

    assert get_record(read_archive(path)[0]).content == "ab"


# Posts in HTML


HTML_HEAD = "---\ntitle: Hello\ncontent_type: text/html\n---\n"


def test_the_files_of_an_export_are_named_by_their_types(tmp_path: Path):
    html = write_post(tmp_path, make_record(content="<p>a", content_type="text/html"))
    markdown = write_post(tmp_path, make_record(content="*a*"))

    assert [html.name, markdown.name] == ["hello.html", "hello.md"]
    assert html.read_text().endswith("content_type: text/html\n---\n\n<p>a")
    assert "content_type" not in markdown.read_text()


@pytest.mark.parametrize(
    ("text", "is_post"),
    [
        (f"{HTML_HEAD}<p>a", True),
        ("---\ntitle: Hello\nlayout: home\n---\n<p>a", False),
        ("---\ncontent_type: text/markdown\n---\n*a*", False),
        ("<!doctype html><title>Hello</title>", False),
        ("---\ncontent_type: text/html\n", False),
        ("title: Hello\ncontent_type: text/html\n\n<p>a", True),
    ],
)
def test_only_html_files_that_say_so_are_posts_of_a_folder(
    tmp_path: Path, text: str, is_post: bool
):
    for name in ("a.html", "b.HTM"):
        (tmp_path / name).write_text(text)
    (tmp_path / "c.html").write_bytes(b"\xff")

    *entries, last = read_archive(tmp_path)

    assert last.left_out == ".html file"
    assert [entry.left_out for entry in entries] == (
        [None, None] if is_post else [".html file", ".htm file"]
    )
    for entry in entries if is_post else ():
        post = get_record(entry)
        assert (post.title, post.content, post.content_type) == ("Hello", "<p>a", "text/html")


@pytest.mark.parametrize("folder", ["_posts", "source/_posts/2020", "_drafts"])
def test_an_html_file_with_front_matter_among_the_posts_of_jekyll_is_a_post(
    tmp_path: Path, folder: str
):
    path = tmp_path / folder / "2020-01-31-hello.html"
    path.parent.mkdir(parents=True)
    path.write_text("---\nlayout: post\ntitle: Hello\n---\n<p>a")
    (path.parent / "fragment.html").write_text("<p>b")
    (path.parent / "invalid.html").write_text("---\ndate: [\n---\n<p>c")
    (path.parent / "_includes").mkdir()
    (path.parent / "_includes/a.html").write_text("---\ntitle: Layout\n---\n")

    hello, layout, fragment, invalid = read_archive(tmp_path)

    post = get_record(hello)
    assert (post.slug, post.content, post.content_type) == ("hello", "<p>a", "text/html")
    assert (post.published_at is None) == (folder == "_drafts")
    assert (layout.left_out, fragment.left_out) == ("theme file", ".html file")
    assert invalid.error is not None


def test_a_name_above_the_folder_that_is_imported_makes_no_html_file_a_post(tmp_path: Path):
    path = tmp_path / "_posts/site/layout.html"
    path.parent.mkdir(parents=True)
    path.write_text("---\ntitle: Layout\n---\n<p>a")

    assert [entry.left_out for entry in read_archive(tmp_path / "_posts/site")] == [".html file"]
    assert [entry.left_out for entry in read_archive(tmp_path / "_posts")] == [None]


def test_an_html_file_that_is_named_itself_is_a_post(tmp_path: Path):
    path = tmp_path / "hello.html"
    path.write_text("# no heading\n<p>a")

    post = get_record(read_archive(path)[0])

    assert (post.title, post.content) == ("Hello", "# no heading\n<p>a")
    assert post.content_type == "text/html"


def test_the_front_matter_of_a_markdown_file_may_say_html(tmp_path: Path):
    entry = read_markdown(tmp_path, "---\nContent-Type: text/html\n---\n# x\n<p>a")

    assert (get_record(entry).title, get_record(entry).content_type) == ("Hello", "text/html")


@pytest.mark.parametrize("kind", ["blog", "", None, 1, ["text/html"]])
def test_a_content_type_that_is_no_media_type_is_ignored(jsonl: Path, kind: object):
    entry = read_jsonl_line(jsonl, {**HELLO, "contentType": kind})

    assert get_record(entry).content_type == "text/markdown"


def test_other_media_types_are_rejected(jsonl: Path, tmp_path: Path):
    entries = [
        read_jsonl_line(jsonl, {**HELLO, "content_type": "text/plain"}),
        read_markdown(tmp_path, "---\ncontent_type: text/plain\n---\nx"),
    ]

    for entry in entries:
        assert entry.error is not None
        assert "content_type: should be 'text/markdown' or 'text/html'" in entry.error


def test_posts_of_wordpress_are_html(tmp_path: Path):
    (entry,) = read_wxr(tmp_path, make_wxr(make_item(content__encoded="&lt;b>a&lt;/b>\n\nb")))

    assert get_record(entry).content_type == "text/html"
    assert get_record(entry).content == "<p><b>a</b></p>\n<p>b</p>"


# Round trips

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


def is_valid_record(values: dict[str, Any]) -> bool:
    try:
        PostRecord.model_validate(values)
    except ValueError:
        return False
    return True


TIMES = st.none() | st.datetimes().map(lambda time: f"{time.isoformat()}Z")
LINES = texts(AWKWARD).map(lambda text: "".join(one for one in text if one.isprintable()) or "x")
SHORT_TEXTS = texts(AWKWARD).filter(lambda text: is_valid_record({**HELLO, "cover_alt": text}))
ADDRESSES = st.none() | st.sampled_from(["https://example.com/?a=:#b", "http://мир/"])
RECORDS = (
    st.fixed_dictionaries(
        {
            "slug": st.sampled_from(SLUGS),
            "title": texts(AWKWARD).filter(lambda text: is_valid_record({**HELLO, "title": text})),
            "author": st.none() | LINES.filter(lambda text: text.strip()),
            "author_key": st.none() | LINES.filter(lambda text: text.strip()),
            "published_at": TIMES,
            "taken_down_at": TIMES,
            "tags": st.lists(LINES, max_size=10).filter(
                lambda tags: is_valid_record({**HELLO, "tags": tags})
            ),
            "slug_given": st.booleans(),
            "summary": st.none() | SHORT_TEXTS,
            "cover_url": ADDRESSES,
            "cover_alt": st.none() | SHORT_TEXTS,
            "canonical_url": ADDRESSES,
            "comments_open": st.booleans(),
            "content_type": st.sampled_from(["text/markdown", "text/html"]),
            "content": texts([*AWKWARD, *BREAKS]),
        }
    )
    .filter(is_valid_record)
    .map(PostRecord.model_validate)
)


@few_examples
@given(RECORDS)
@example(make_record(title="x\ufeff", content="\r\n\n---\n\ufeff"))
def test_json_lines_round_trip(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            write_jsonl(file, written)

        assert get_record(read_archive(path)[0]) == written


@few_examples
@given(RECORDS)
@example(make_record(title="--- ", content="\n\n---\ntitle: x\n---\n"))
@example(make_record(content="\r\n"))
def test_markdown_round_trip(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        write_post(Path(folder), written)

        assert get_record(read_archive(Path(folder))[0]) == written


@few_examples
@given(RECORDS)
@example(make_record(title="&amp;lt;", content="]]>\r]]&gt;"))
def test_wordpress_round_trip_of_the_fields_it_supports(written: PostRecord):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blog.xml"
        write_wxr(path, written)

        post = get_record(read_archive(path)[0])

    fields = {"slug", "title", "tags", "content", "cover_url", "canonical_url", "comments_open"}
    assert post.model_dump(include=fields) == written.model_dump(include=fields)
    assert post.author == (written.author or written.author_key)
    assert post.author_key == (written.author_key or written.author)
    assert post.content_type == "text/html"
    # It is HTML in WordPress, where several spaces are one.
    assert (post.summary or "").split() == (written.summary or "").split()
    if written.published_at and not written.taken_down_at:
        assert post.published_at == written.published_at.replace(microsecond=0)
    else:
        assert post.published_at is None
