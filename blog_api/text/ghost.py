"""Contents of posts of Ghost, which has had three formats, and keeps the HTML that it made."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from html import escape
from itertools import chain
from typing import Any

from blog_api.core.characters import escape_unprintable
from blog_api.text.markdown import HTML, MARKDOWN
from blog_api.text.times import parse_time

# Stands for the address of the site.
PLACEHOLDER = "__GHOST_URL__"
# A part that not all visitors see: in HTML, in the format of the editor, and in that before it.
MEMBERS_ONLY = re.compile(
    r"<!--\s*kg-gated-block:begin(?![^>]*\bnonMember:\s*true\b)"
    r'|"(?:nonMember|showOnWeb)"\s*:\s*false'
)


class Tables:
    """The tables of an export, indexed by what the posts refer to."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.users = {row.get("id"): row for row in self.rows("users")}
        self.metas = {row.get("post_id"): row for row in self.rows("posts_meta")}
        tags = {row.get("id"): row for row in self.rows("tags")}
        self.tags = self.join("posts_tags", "tag_id", tags)
        self.authors = self.join("posts_authors", "author_id", self.users)
        # The site has a password.
        self.is_private = any(
            row.get("key") == "is_private" and str(row.get("value")).lower() in {"true", "1"}
            for row in self.rows("settings")
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.data.get(table)
        return [row for row in rows if is_row(row)] if isinstance(rows, list) else []

    def join(
        self, table: str, column: str, others: Mapping[Any, dict[str, Any]]
    ) -> defaultdict[Any, list[dict[str, Any]]]:
        """Return the rows that a table connects with posts, by the ids of the posts."""
        found = defaultdict(list)
        for row in sorted(self.rows(table), key=lambda row: str(row.get("sort_order")).zfill(9)):
            if row.get(column) in others:
                found[row.get("post_id")].append(others[row[column]])
        return found


def is_row(row: object) -> bool:
    """Tell whether a value is a row whose ids are text, numbers or missing."""
    ids = ("id", "post_id", "tag_id", "author_id")
    return isinstance(row, dict) and all(isinstance(row.get(k), str | int | None) for k in ids)


def read_content(post: Mapping[str, Any], warnings: list[str]) -> tuple[str, str]:
    """Return the content and its type: the HTML that Ghost made, or else what it made it of."""
    if isinstance(html := post.get("html"), str) and html.strip():
        return html, HTML
    if isinstance(markdown := post.get("markdown"), str) and markdown.strip():
        return markdown, MARKDOWN
    text = post.get("plaintext")
    if not isinstance(text, str) or not text.strip():
        source = post.get("lexical") or post.get("mobiledoc")
        text = "\n\n".join(find_texts(source)) if isinstance(source, str) else ""
    if text:
        warnings.append("without HTML in the export, so its text is plain")
    elif post.get("lexical") or post.get("mobiledoc"):
        warnings.append("without HTML and without a text that can be read, so it is empty")
    return "".join(f"<p>{escape(one)}</p>\n" for one in text.split("\n\n") if one.strip()), HTML


def has_parts_for_members(post: Mapping[str, Any]) -> bool:
    """Tell whether a post has a part that is not for all visitors."""
    sources = [post.get(key) for key in ("html", "lexical", "mobiledoc")]
    return any(isinstance(one, str) and MEMBERS_ONLY.search(one) for one in sources)


def find_texts(source: str) -> Iterator[str]:
    """Yield the texts of the blocks in the format of the newer editor or of the one before."""
    try:
        document = json.loads(source)
    except (RecursionError, ValueError):
        return
    if not isinstance(document, dict):
        return
    root = document.get("root")
    parts = [root.get("children") if isinstance(root, dict) else None]
    parts += [document.get("sections"), document.get("cards")]
    for block in chain(*(part for part in parts if isinstance(part, list))):
        with suppress(RecursionError):
            if text := "".join(walk_texts(block)).strip():
                yield text


def walk_texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"text", "markdown", "html", "code"} and isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                yield from walk_texts(value)
    elif isinstance(node, list):
        # A piece of text is the last of four: `[0, [], 0, "text"]`.
        if len(node) == 4 and isinstance(node[3], str):
            yield node[3]
        for one in node:
            yield from walk_texts(one)


def to_relative(text: str) -> str:
    """Return a text with the files of the site relative to the folder, and links to its pages."""
    return text.replace(f"{PLACEHOLDER}/content/", "content/").replace(PLACEHOLDER, "")


def read_time(value: object, warnings: list[str]) -> str | None:
    """Return a time in UTC: text, or milliseconds in old versions. One that is none is left out."""
    if value in (None, ""):
        return None
    try:
        return parse_time(value).astimezone(UTC).isoformat()
    except ValueError:
        warnings.append(f"{escape_unprintable(str(value))} is no time; it was left out")
        return None
