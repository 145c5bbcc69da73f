"""Ghost's export: one JSON file with the tables of the database."""

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blog_api.archive.record import ArchiveEntry, format_location, make_entry
from blog_api.core.characters import escape_unprintable
from blog_api.core.fields import utc_now
from blog_api.core.urls import is_relative
from blog_api.media.folders import PostFile
from blog_api.text.ghost import Tables, has_parts_for_members, read_content, read_time, to_relative

# The file is parsed as a whole.
MAX_BYTES = 256 * 1024**2


def load_ghost(path: Path) -> dict[str, Any] | None:
    """Return the tables of an export, or None if the file is none. Raises OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"Larger than {MAX_BYTES // 1024**2} MiB", str(path))
    try:
        values = json.loads(path.read_bytes())
    except (RecursionError, ValueError):
        return None
    found = values.get("db", [values]) if isinstance(values, dict) else []
    export = found[0] if isinstance(found, list) and found else None
    data = export.get("data") if isinstance(export, dict) else None
    return data if isinstance(data, dict) and isinstance(data.get("posts"), list) else None


def read_ghost(
    path: Path, folder: Path | None, data: Mapping[str, Any], *, with_pages: bool = False
) -> Iterator[ArchiveEntry]:
    """Yield the posts of an export. Pages are left out, or drafts."""
    tables = Tables(data)
    for post in tables.rows("posts"):
        location = format_location(path, 1)
        # Older versions have no type.
        is_post = post.get("type", "post") == "post" and not post.get("page")
        if not is_post and not with_pages:
            yield ArchiveEntry(location, left_out="page", details=str(post.get("title", "")))
            continue
        warnings: list[str] = []
        values = make_values(tables, post, warnings)
        if not is_post:
            values["published_at"] = None
        cover = values["cover_url"]
        is_file = cover is not None and is_relative(cover)
        if is_file:
            values["cover_url"] = None
        # Addresses are relative to the folder, wherever in it the file is.
        file = PostFile((folder or path.parent) / path.name, folder, cover if is_file else None, 1)
        # The file is a single line.
        name = escape_unprintable(str(values["title"] or values["slug"]))
        yield make_entry(path, 1, values, file, warnings, name=f"{name}: ")


def make_values(tables: Tables, post: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    post_id = post.get("id")
    meta = tables.metas.get(post_id, {})
    content, content_type = read_content(post, warnings)
    authors = tables.authors[post_id] or [tables.users.get(post.get("author_id"), {})]
    names = [str(one["name"]) for one in authors if one.get("name")]
    tags = [str(one.get("name", "")) for one in tables.tags[post_id]]
    updated_at = read_time(post.get("updated_at"), warnings)
    return {
        "slug": post.get("slug"),
        "title": post.get("title") or "",
        "author": ", ".join(names) or None,
        "author_key": make_author_key(authors) if names else None,
        "published_at": read_published_at(tables, post, meta, warnings),
        "updated_at": updated_at,
        # Tags that begin with `#` are internal.
        "tags": [tag for tag in tags if not tag.startswith("#")],
        "summary": post.get("custom_excerpt"),
        "cover_url": to_relative(str(post.get("feature_image") or post.get("image") or "")) or None,
        "cover_alt": meta.get("feature_image_alt"),
        "canonical_url": post.get("canonical_url"),
        "content_type": content_type,
        "content": to_relative(content),
    }


def make_author_key(authors: list[dict[str, Any]]) -> str:
    """Return a key that another site does not have, even if its ids are numbers."""
    parts = [f"{one.get('id')}:{one.get('slug')}:{one.get('created_at')}" for one in authors]
    return f"ghost:{','.join(parts)}"[:255]


def read_published_at(
    tables: Tables, post: Mapping[str, Any], meta: Mapping[str, Any], warnings: list[str]
) -> str | None:
    """Return the time of a post that is plainly public or scheduled."""
    status = post.get("status")
    if status not in ("published", "scheduled"):
        return None
    is_public = post.get("visibility", "public") == "public" and not meta.get("email_only")
    if not is_public or has_parts_for_members(post):
        warnings.append("for members, so it is a draft")
        return None
    if tables.is_private:
        warnings.append("the site has a password, so it is a draft")
        return None
    time = read_time(post.get("published_at"), warnings)
    if status == "scheduled" and time is not None and time < utc_now().isoformat():
        warnings.append("scheduled for a time that has passed, so it is a draft")
        return None
    return time
