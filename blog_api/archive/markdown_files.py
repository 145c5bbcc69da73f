"""Markdown and HTML files with front matter, as static site generators have them: a post per file.

The files of a post are named by its type. In a folder, an HTML file is a post only if its front
matter has `content_type: text/html`: with other HTML files, Jekyll and Hugo lay out their pages.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from blog_api.archive.jsonl import read_comments, write_comments
from blog_api.archive.keys import ADDRESS_KEYS, FIELD_KEYS, KNOWN_KEYS, NESTED_KEYS, TAG_KEYS
from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    TOO_LARGE,
    ArchiveEntry,
    InvalidRecord,
    PostRecord,
    decode_utf8,
    format_location,
    make_entry,
)
from blog_api.archive.visibility import (
    NO,
    YES,
    is_in_draft_folder,
    parse_key_time,
    parse_published_at,
    to_word,
)
from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.core.repair import SLUG_PATTERN
from blog_api.core.security import open_private
from blog_api.core.urls import check_picture_address
from blog_api.media.folders import PostFile, is_relative
from blog_api.text.front_matter import FrontMatter, fold_key, fold_keys, split_front_matter
from blog_api.text.front_matter_values import InvalidFrontMatter, dump_front_matter
from blog_api.text.markdown import HTML
from blog_api.text.site_files import (
    HTML_SUFFIXES,
    JEKYLL_FOLDERS,
    PAGE,
    PAGE_KINDS,
    PAGE_NAMES,
    THEME_FILE,
    find_day,
    find_heading,
    find_kind,
    get_last_segment,
    is_among_posts,
    split_name,
)

TEXT_FIELDS = ("summary", "cover_url", "cover_alt", "canonical_url")
PICTURE_NAME = re.compile(r"https?:|.*\.(?:avif|gif|jpe?g|png|webp)(?:[?#].*)?\Z", re.IGNORECASE)
DAY = "2000-01-01"
DRAFT = {"published_at": None}
# Hidden files, and devices on Windows, whatever their suffix.
RESERVED_NAME = re.compile(r"\.|(con|prn|aux|nul|(com|lpt)[0-9])(\.|\Z)", re.IGNORECASE)
PAGE_LAYOUTS = PAGE_NAMES | {"page", "home", "default"}
POST_LAYOUTS = {"post", "posts"}
# File systems allow 255; a number and the suffix follow, also of the file with the comments.
MAX_NAME_BYTES = 228


def is_html_post(path: Path, kind: str) -> bool:
    if path.suffix.lower() not in HTML_SUFFIXES or kind == THEME_FILE:
        return False
    try:
        values = split_front_matter(read_text(path)[0], KNOWN_KEYS).values
    except (InvalidRecord, InvalidFrontMatter):
        return False
    return fold_keys(values).get("contenttype") == HTML


def read_file(path: Path, folder: Path | None = None, *, with_pages: bool = False) -> ArchiveEntry:
    """Read a post, and find the file of its cover in the folder that is imported."""
    location = format_location(path, 1)
    kind = None if folder is None else find_kind(path, folder)
    if kind is not None and kind not in PAGE_KINDS and not is_html_post(path, kind):
        return ArchiveEntry(location, left_out=kind)
    front, lines = FrontMatter({}, ""), {}
    try:
        text, lines["text"] = read_text(path)
        front = split_front_matter(text, KNOWN_KEYS)
        warnings = ["text: control characters were left out"] * bool(lines["text"])
        post = parse_file(path, front, warnings) | {"comments": read_comments(path)}
    except (InvalidFrontMatter, InvalidRecord) as error:
        if kind in PAGE_KINDS and not with_pages:
            return ArchiveEntry(location, left_out=kind)
        key = getattr(error, "key", None)
        line = front.find_line({fold_key(key)}) if key else error.line
        return ArchiveEntry(format_location(path, line), error=str(error))
    layouts = get_layouts(front)
    if folder is not None and layouts.isdisjoint(POST_LAYOUTS):
        if kind not in PAGE_KINDS and layouts & PAGE_LAYOUTS and not is_among_posts(path, folder):
            kind = PAGE
        if kind in PAGE_KINDS:
            if not with_pages:
                return ArchiveEntry(location, left_out=kind)
            post["published_at"] = None
    cover = post["cover_url"]
    if is_file := isinstance(cover, str) and is_relative(cover.strip()):
        post["cover_url"] = None
    line = text.count("\n") - front.content.count("\n") + 1
    file = PostFile(path, folder, cover if is_file else None, line)
    return make_entry(
        path,
        1,
        post,
        file,
        warnings,
        lambda name: lines.get(name) or front.find_line(get_keys(name)),
    )


def get_layouts(front: FrontMatter) -> set[str]:
    head = fold_keys(front.values)
    return {to_word(head.get(key)) for key in ("layout", "type")}


def get_keys(field: str) -> set[str]:
    """Return the folded keys of a field of the record."""
    others = {"tags": TAG_KEYS, "old_slugs": ADDRESS_KEYS}
    return {fold_key(field.partition(",")[0]), *others.get(field, FIELD_KEYS.get(field, ()))}


def parse_file(path: Path, front: FrontMatter, warnings: list[str]) -> dict[str, Any]:
    """Return the values of a post; raises InvalidRecord."""
    head = fold_keys(front.values)
    nested = [one for key in NESTED_KEYS if isinstance(one := head.get(key), Mapping)]
    # The post's own keys win.
    values = {key: one for mapping in (*nested[::-1], front.values) for key, one in mapping.items()}
    head = fold_keys(values)
    fields: dict[str, Any] = {
        field: next((head[key] for key in keys if head.get(key) not in (None, "")), None)
        for field, keys in FIELD_KEYS.items()
    }
    fields = {field: stringify_scalar(value) for field, value in fields.items()}
    name_date, name = split_name(path)
    content_type = HTML if path.suffix.lower() in HTML_SUFFIXES else fields["content_type"]
    heading = None if content_type == HTML else find_heading(front.content)
    updated_at = find_updated_at(head, warnings)
    addresses = [one for key in ADDRESS_KEYS for one in walk_texts(head.get(key))]
    days = (name_date, *map(find_day, addresses))
    covers = (find_cover(path, head[key]) for key in FIELD_KEYS["cover_url"][1:] if key in head)
    post = {
        # A name that is not a valid slug is ignored.
        "slug": (name if SLUG_PATTERN.fullmatch(name) else None)
        if fields["slug"] is None
        else fields["slug"],
        "title": heading or "" if fields["title"] is None else fields["title"],
        "author": parse_author(fields["author"]),
        "author_key": fields["author_key"],
        "tags": list(parse_tags(path, head)),
        "slug_given": to_word(fields["slug_given"]) in YES,
        # `comments: false` is Jekyll's.
        "comments_open": not any(
            to_word(head[key]) in NO - {""} for key in FIELD_KEYS["comments_open"] if key in head
        ),
        "summary": fields["summary"] if isinstance(fields["summary"], str) else None,
        "cover_url": fields["cover_url"]
        if "coverurl" in head
        else next(filter(None, covers), None),
        "cover_alt": fields["cover_alt"] if isinstance(fields["cover_alt"], str) else None,
        "canonical_url": fields["canonical_url"],
        "content_type": content_type,
        "content": front.content,
        "updated_at": updated_at,
        **parse_published_at(values, next(filter(None, days), updated_at)),
    }
    old_slugs = (
        one for one in map(get_last_segment, addresses) if one and SLUG_PATTERN.fullmatch(one)
    )
    post["old_slugs"] = sorted({*old_slugs} - {post["slug"]})
    is_hidden = any(parse_published_at(one, DAY) == DRAFT for one in nested)
    # Generators ignore such files; an export writes them, too.
    is_exported = head.get("type") == "post" and post["slug"] in (path.stem, path.stem[1:])
    is_ignored = path.name[0] == "_" and not is_exported
    if is_hidden or is_ignored or is_in_draft_folder(path):
        post["published_at"] = None
    if fields["taken_down_at"] is not None:
        post["taken_down_at"] = parse_key_time("taken_down_at", fields["taken_down_at"]).isoformat()
    return post


def find_updated_at(head: Mapping[str, Any], warnings: list[str]) -> str | None:
    """Return the time of the last change; one that cannot be read costs no post."""
    for key in FIELD_KEYS["updated_at"]:
        if head.get(key) not in (None, ""):
            try:
                return parse_key_time(key, head[key]).isoformat()
            except InvalidRecord as error:
                warnings.append(f"{error!s}; it was left out")
    return None


def read_text(path: Path) -> tuple[str, int]:
    """Read a file, without control characters; also return the line of the first, or 0.

    Raises InvalidRecord.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise InvalidRecord(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidRecord(TOO_LARGE)
    text = decode_utf8(raw).removeprefix("\ufeff")
    control = NON_XML_CHARACTERS.search(text)
    line = text.count("\n", 0, control.start()) + 1 if control else 0
    return NON_XML_CHARACTERS.sub("", text), line


def find_cover(path: Path, value: object) -> str | None:
    """Return the address of a picture; themes also write a list, or a mapping with an address.

    A file that is missing is looked for elsewhere by the theme.
    """
    for one in walk_texts(value):
        with suppress(PydanticCustomError):
            if PICTURE_NAME.match(one) and (not is_relative(one) or (path.parent / one).exists()):
                return one if is_relative(one) else check_picture_address(one)
    return None


def walk_texts(value: object) -> Iterator[str]:
    """Yield the texts of a value, of a list, or of the values of a mapping."""
    if isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from walk_texts(one)
    elif isinstance(value := stringify_scalar(value), str) and value.strip():
        yield value.strip()


def stringify_scalar(value: object) -> object:
    """Return numbers and dates as text, other values unchanged."""
    if isinstance(value, int | float | date | datetime | time) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise InvalidRecord("front matter: a number is too long") from None
    return value


def parse_author(value: object) -> object:
    """Join several authors into one name; an author may be a mapping with a name."""
    if isinstance(value, Mapping):
        head = fold_keys(value)
        keys = ("name", "displayname", "title", "nickname")
        return next((stringify_scalar(head[key]) for key in keys if head.get(key)), None)
    if isinstance(value, list):
        names = [parse_author(one) for one in value]
        return ", ".join(one for one in names if isinstance(one, str) and one.strip()) or None
    return stringify_scalar(value)


def parse_tags(path: Path, head: Mapping[str, Any]) -> Iterable[str]:
    """Yield tags, then categories: lists, or text with commas or, in Jekyll, spaces between."""
    for key in TAG_KEYS:
        value = stringify_scalar(head.get(key))
        if not isinstance(value, str):
            yield from walk_texts(value)
        elif "," in value or "\n" in value:
            yield from re.split(r"[,\n]", value)
        elif key.endswith("s") and not JEKYLL_FOLDERS.isdisjoint(path.absolute().parts):
            yield from value.split()
        else:
            yield value


def write_post(folder: Path, record: PostRecord) -> Path:
    """Write a post into a new file named by its slug, numbered if the name is taken.

    Another slug may have the name where the file system ignores case. Raises ValueError if there
    is no slug.
    """
    if record.slug is None:
        raise ValueError("A file needs a slug")
    head = record.model_dump(include={"title", "slug", "author", "author_key"}, exclude_none=True)
    head |= {"draft": True} if record.published_at is None else {"date": record.published_at}
    head |= record.model_dump(include={"updated_at", "taken_down_at", "tags"}, exclude_none=True)
    head |= {"slug_given": True} if record.slug_given else {}
    head |= {"old_slugs": record.old_slugs} if record.old_slugs else {}
    head |= record.model_dump(include={*TEXT_FIELDS}, exclude_none=True)
    head |= {} if record.comments_open else {"comments_open": False}
    head |= {"content_type": HTML} if record.content_type == HTML else {}
    suffix = ".html" if record.content_type == HTML else ".md"
    name = "_" + record.slug if RESERVED_NAME.match(record.slug) else record.slug
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    if find_kind(folder / f"{name}.md", folder) or name[0] == "_":
        head["type"] = "post"
    for end in chain([""], map("~{}".format, count(2))):
        path = folder / f"{name}{end}{suffix}"
        with (
            suppress(FileExistsError),
            # `newline=""`: the content's line breaks stay unchanged.
            open(path, "x", encoding="utf-8", newline="", opener=open_private) as file,
        ):
            file.write(dump_front_matter(head) + record.content)
            break
    write_comments(path, record.comments)
    return path
