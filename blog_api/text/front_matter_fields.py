"""Fields of a post by the keys that static site generators and their themes have for them.

Keys are compared without regard to case, hyphens and underscores. The first that has a value wins.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from blog_api.core.characters import escape_unprintable
from blog_api.core.urls import check_picture_address, is_relative, is_relative_to_site
from blog_api.text.front_matter import FrontMatter, fold_key, fold_keys
from blog_api.text.front_matter_values import NUMBER_TOO_LONG, InvalidFrontMatter
from blog_api.text.front_matter_visibility import (
    EXPIRY_KEYS,
    HIDING_KEYS,
    NO,
    TIME_KEYS,
    YES,
    hides,
    is_in_draft_folder,
    parse_key_time,
    parse_published_at,
    to_word,
)
from blog_api.text.markdown import HTML
from blog_api.text.site_files import (
    HTML_SUFFIXES,
    JEKYLL_FOLDERS,
    PAGE,
    PAGE_KINDS,
    PAGE_NAMES,
    find_day,
    find_heading,
    get_last_segment,
    is_among_posts,
    split_name,
)

FIELD_KEYS = {
    "title": ("title",),
    "slug": ("slug",),
    "slug_given": ("sluggiven",),
    "author": ("author", "authors"),
    "author_key": ("authorkey",),
    "taken_down_at": ("takendownat",),
    "updated_at": (
        "updatedat", "lastmod", "updated", "updatedon", "updateddate", "updatedate", "dateupdated",
        "modified", "modifieddate", "datemodified", "lastmodified", "lastmodifiedat",
        "lastupdated", "moddatetime",
    ),
    "summary": ("summary", "excerpt", "description"),
    "cover_url": (
        "coverurl", "cover", "coverimage", "image", "featuredimage", "featureimage", "featured",
        "heroimage", "banner", "thumbnail", "thumb", "ogimage", "images",
    ),
    "cover_alt": ("coveralt", "coverimagealt", "imagealt", "heroimagealt", "alt"),
    "canonical_url": ("canonicalurl", "canonical"),
    "comments_open": ("commentsopen", "comments"),
    "content_type": ("contenttype",),
}  # fmt: skip
# All of these count, in this order: what is too much is dropped from the end.
TAG_KEYS = ("tags", "tag", "categories", "category")
# Old addresses of the post.
ADDRESS_KEYS = (
    "oldslugs",
    "permalink",
    "url",
    "path",
    "aliases",
    "alias",
    "redirectfrom",
    "oldurl",
)
# Mappings that have fields of the post: of Zola, of Hugo and of themes.
NESTED_KEYS = ("taxonomies", "extra", "params")
KNOWN_KEYS = {
    *HIDING_KEYS, *TIME_KEYS, *EXPIRY_KEYS, *TAG_KEYS, *ADDRESS_KEYS, "lang", "created",
    *(key for keys in FIELD_KEYS.values() for key in keys),
}  # fmt: skip
PICTURE_NAME = re.compile(
    r"https?:|.*\.(?:avif|gif|jpe?g|png|svg|webp)(?:[?#].*)?\Z", re.IGNORECASE
)
PAGE_LAYOUTS = PAGE_NAMES | {"page", "home", "default"}
POST_LAYOUTS = {"post", "posts"}
SLUG = re.compile(r"(?!\.+\Z)[\w.-]+")


def find_kind_by_layout(
    kind: str | None, path: Path, folder: Path, front: FrontMatter
) -> str | None:
    """Return what a file is by its name and its layout, or None for a post."""
    head = fold_keys(front.values)
    layouts = {to_word(head.get(key)) for key in ("layout", "type")}
    if layouts & POST_LAYOUTS:
        return None
    if kind not in PAGE_KINDS and layouts & PAGE_LAYOUTS and not is_among_posts(path, folder):
        return PAGE
    return kind if kind in PAGE_KINDS else None


def find_line(front: FrontMatter, field: str) -> int:
    """Return the line of a field such as `tags`, or `tags, item 2`; without any, line 1."""
    keys = {"tags": TAG_KEYS, "old_slugs": ADDRESS_KEYS, **FIELD_KEYS}
    field = field.partition(",")[0]
    return front.find_line({fold_key(field), *keys.get(field, ())})


def parse_fields(path: Path, front: FrontMatter, warnings: list[str]) -> dict[str, Any]:
    """Return the values of a post; raises InvalidFrontMatter."""
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
    # Those that Jekyll's importer of WordPress writes.
    if isinstance(comments := head.get("comments"), list) and comments:
        warnings.append(f"comments: {len(comments)} in the front matter were left out")
    addresses = [one for key in ADDRESS_KEYS for one in walk_texts(head.get(key))]
    days = (name_date, *map(find_day, addresses))
    post = {
        # A name that is not a valid slug is ignored.
        "slug": (name if SLUG.fullmatch(name) else None)
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
        else find_cover(path, head, warnings),
        "cover_alt": find_cover_alt(head, fields["cover_alt"]),
        "canonical_url": fields["canonical_url"],
        "content_type": content_type,
        "content": front.content,
        "updated_at": updated_at,
        **parse_published_at(values, next(filter(None, days), updated_at)),
    }
    old_slugs = (one for one in map(get_last_segment, addresses) if one and SLUG.fullmatch(one))
    post["old_slugs"] = sorted({*old_slugs} - {post["slug"]})
    # Generators ignore such files; an export writes them, too.
    is_exported = head.get("type") == "post" and post["slug"] in (path.stem, path.stem[1:])
    is_ignored = path.name[0] == "_" and not is_exported
    is_ignored = is_ignored or path.stem.casefold().endswith(".draft")
    if hides(nested) or is_ignored or is_in_draft_folder(path):
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
            except InvalidFrontMatter as error:
                warnings.append(f"{error!s}; it was left out")
    return None


def find_cover(path: Path, head: Mapping[str, Any], warnings: list[str]) -> str | None:
    """Return the address of a picture; themes also write a list, or a mapping with an address.

    A file that is not beside the post is one at the root of the site for many themes.
    """
    values = [head[key] for key in FIELD_KEYS["cover_url"][1:] if key in head]
    addresses = [one for value in values for one in walk_texts(value) if PICTURE_NAME.match(one)]
    for one in addresses:
        with suppress(PydanticCustomError):
            # Unlike `Path.exists()`, this takes names that are too long.
            if not is_relative(one) or os.path.exists(path.parent / one):
                return one if is_relative(one) else check_picture_address(one)
    for one in addresses:
        if is_relative(one) or is_relative_to_site(one):
            return f"/{one.removeprefix('./').lstrip('/')}"
    warnings += (f"cover_url: {escape_unprintable(one)} was left out" for one in addresses)
    return None


def find_cover_alt(head: Mapping[str, Any], given: object) -> str | None:
    """Return the alternative text of the cover, which themes also write beside its address."""
    beside = [
        text
        for key in FIELD_KEYS["cover_url"]
        if isinstance(value := head.get(key), Mapping)
        for name, text in value.items()
        if str(name).casefold() == "alt"
    ]
    return next((text for text in (given, *beside) if isinstance(text, str)), None)


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
            raise InvalidFrontMatter(f"front matter: {NUMBER_TOO_LONG}") from None
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
