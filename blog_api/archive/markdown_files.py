"""Markdown and HTML files with front matter, as Jekyll and Hugo have them: a post per file.

The files of a post are named by its type. In a folder, an HTML file is a post only if its front
matter has `content_type: text/html`: with other HTML files, Jekyll and Hugo lay out their pages.
"""

import os
import re
import unicodedata
from contextlib import suppress
from datetime import date, time
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from blog_api.archive.front_matter import NUMBER_TOO_LONG, dump_front_matter, split_front_matter
from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    SLUG_PATTERN,
    TOO_LARGE,
    ArchiveEntry,
    InvalidRecord,
    PostRecord,
    decode_utf8,
    format_location,
    make_entry,
)
from blog_api.archive.times import parse_time
from blog_api.archive.visibility import fold_key, fold_keys, is_in_draft_folder, parse_published_at
from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.core.security import open_private
from blog_api.core.urls import check_picture_address
from blog_api.media.folders import PostFile, is_relative
from blog_api.text.markdown import HTML

MARKDOWN_SUFFIXES = {".md", ".markdown"}
HTML_SUFFIXES = {".html", ".htm"}
SUFFIXES = MARKDOWN_SUFFIXES | HTML_SUFFIXES
# The first match is a heading, or a code block, where `#` begins a comment.
HEADING = re.compile(r"^ {0,3}(?:#[ \t]+(.*)|```|~~~)", re.MULTILINE)
DATED_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-(.+)", re.ASCII | re.DOTALL)
# Hidden files, and devices on Windows, whatever their suffix.
RESERVED_NAME = re.compile(r"\.|(con|prn|aux|nul|(com|lpt)[0-9])(\.|\Z)", re.IGNORECASE)
CONTENT_TYPE = fold_key("content_type")
TEXT_FIELDS = ("summary", "cover_url", "cover_alt", "canonical_url")
# File systems allow 255; a number and the suffix follow.
MAX_NAME_BYTES = 240


def find_posts(folder: Path) -> list[Path]:
    """Return the Markdown files in a folder and its subfolders, and the HTML files that are posts.

    Hidden ones are left out.

    Raises OSError if a folder cannot be listed.
    """
    root = folder.resolve()
    found = []
    for name, folders, files in os.walk(folder, onerror=raise_error):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for path in (Path(name, one) for one in files if not one.startswith(".")):
            # Neither links to files outside of the folder nor pipes.
            is_regular = path.suffix.lower() in SUFFIXES and path.is_file()
            is_inside = is_regular and path.resolve().is_relative_to(root)
            if is_inside and (path.suffix.lower() in MARKDOWN_SUFFIXES or is_html_post(path)):
                found.append(path)
    return sorted(found)


def is_html_post(path: Path) -> bool:
    try:
        values, _ = split_front_matter(read_text(path))
    except InvalidRecord:
        return False
    return fold_keys(values).get(CONTENT_TYPE) == HTML


def raise_error(error: OSError) -> None:
    raise error


def read_post(path: Path, folder: Path | None = None) -> ArchiveEntry:
    """Read a post, and find the file of its cover in the folder that is imported."""
    try:
        text = read_text(path)
        post = parse_file(path, text)
    except InvalidRecord as error:
        return ArchiveEntry(format_location(path, error.line), error=str(error))
    cover = post["cover_url"]
    if is_file := isinstance(cover, str) and is_relative(cover.strip()):
        post["cover_url"] = None
    line = text.count("\n") - post["content"].count("\n") + 1
    return make_entry(path, 1, post, PostFile(path, folder, cover if is_file else None, line))


def parse_file(path: Path, text: str) -> dict[str, Any]:
    """Return the values of a post; raises InvalidRecord."""
    values, content = split_front_matter(text)
    head = fold_keys(values)
    name_date, name = split_name(path)
    content_type = HTML if path.suffix.lower() in HTML_SUFFIXES else head.get(CONTENT_TYPE)
    heading = None if content_type == HTML else find_heading(content)
    slug = stringify_scalar(head.get("slug"))
    post = {
        # A name that is not a valid slug is ignored; a `slug` has to be valid.
        "slug": (name if SLUG_PATTERN.fullmatch(name) else None) if slug is None else slug,
        "title": (stringify_scalar(head["title"]) if "title" in head else heading or name),
        "author": parse_author(head.get("author") or head.get("authors")),
        "author_key": stringify_scalar(head.get("authorkey")),
        "tags": parse_tags(head.get("tags")),
        "slug_given": head.get("sluggiven") is True,
        # `comments: false` is Jekyll's.
        "comments_open": not any(head.get(key) is False for key in ("commentsopen", "comments")),
        **{name: stringify_scalar(head.get(fold_key(name))) for name in TEXT_FIELDS},
        "cover_url": head.get("coverurl") or find_cover(head),
        "content_type": content_type,
        "content": content,
        **parse_published_at(values, name_date),
    }
    if is_in_draft_folder(path):
        post["published_at"] = None
    if head.get("takendownat") is not None:
        post["taken_down_at"] = parse_time("taken_down_at", head["takendownat"]).isoformat()
    return post


def read_text(path: Path) -> str:
    """Read a file; raises InvalidRecord."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise InvalidRecord(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidRecord(TOO_LARGE)
    text = decode_utf8(raw).removeprefix("\ufeff")
    if control := NON_XML_CHARACTERS.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise InvalidRecord("control characters are not allowed", line)
    return text


def split_name(path: Path) -> tuple[str | None, str]:
    """Split `2030-01-31-hello.md` into date and name; the date is None if there is none."""
    # Hugo's page bundle: `hello/index.md`.
    name = path.parent.name or path.stem if path.stem == "index" else path.stem
    # macOS decomposes letters such as й; a slug must not contain combining marks.
    name = unicodedata.normalize("NFC", name)
    if dated := DATED_NAME.fullmatch(name):
        with suppress(ValueError):
            return date.fromisoformat(dated[1]).isoformat(), dated[2]
    return None, name


def find_cover(head: dict[str, Any]) -> str | None:
    """Return the cover by the keys of others; what is no address there is ignored."""
    for value in (head.get("cover"), head.get("image")):
        with suppress(PydanticCustomError):
            if isinstance(value, str):
                return value if is_relative(value) else check_picture_address(value)
    return None


def find_heading(content: str) -> str | None:
    found = HEADING.search(content)
    if not found or not found[1]:
        return None
    heading = found[1].strip()
    opened = heading.rstrip("#")
    return opened.strip() if opened[-1:].isspace() else heading


def stringify_scalar(value: object) -> object:
    """Return numbers and dates as text, other values unchanged."""
    if isinstance(value, int | float | date | time) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise InvalidRecord(NUMBER_TOO_LONG) from None
    return value


def parse_author(value: object) -> object:
    """Join several authors into one name."""
    if isinstance(value, list):
        names = [one for one in value if isinstance(one, str)]
        return ", ".join(names) if len(names) == len(value) else value
    return stringify_scalar(value)


def parse_tags(value: object) -> object:
    """Parse a list, or text with commas between the tags."""
    if value is None:
        return []
    if isinstance(value, list):
        return [stringify_scalar(one) for one in value]
    tags = stringify_scalar(value)
    return [one for one in tags.split(",") if one.strip()] if isinstance(tags, str) else tags


def write_post(folder: Path, record: PostRecord) -> Path:
    """Write a post into a new file named by its slug, numbered if the name is taken.

    Another slug may have the name where the file system ignores case. Raises ValueError if there
    is no slug.
    """
    if record.slug is None:
        raise ValueError("A file needs a slug")
    head = record.model_dump(include={"title", "slug", "author", "author_key"}, exclude_none=True)
    head |= {"draft": True} if record.published_at is None else {"date": record.published_at}
    head |= record.model_dump(include={"taken_down_at", "tags"}, exclude_none=True)
    head |= {"slug_given": True} if record.slug_given else {}
    head |= record.model_dump(include={*TEXT_FIELDS}, exclude_none=True)
    head |= {} if record.comments_open else {"comments_open": False}
    head |= {"content_type": HTML} if record.content_type == HTML else {}
    suffix = ".html" if record.content_type == HTML else ".md"
    name = "_" + record.slug if RESERVED_NAME.match(record.slug) else record.slug
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    for end in chain([""], map("~{}".format, count(2))):
        path = folder / f"{name}{end}{suffix}"
        with (
            suppress(FileExistsError),
            # `newline=""`: the content's line breaks stay unchanged.
            open(path, "x", encoding="utf-8", newline="", opener=open_private) as file,
        ):
            file.write(dump_front_matter(head) + record.content)
            break
    return path
