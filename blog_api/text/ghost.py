"""Contents of posts of Ghost, which has had three formats, and keeps the HTML that it made."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC
from html import escape
from typing import Any

from blog_api.text.markdown import HTML, MARKDOWN
from blog_api.text.times import parse_time

# Stands for the address of the site.
PLACEHOLDER = "__GHOST_URL__"


class Tables:
    """The tables of an export, indexed by what the posts refer to."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.users = {row.get("id"): row for row in self.rows("users")}
        self.metas = {row.get("post_id"): row for row in self.rows("posts_meta")}
        tags = {row.get("id"): row for row in self.rows("tags")}
        self.tags = self.join("posts_tags", "tag_id", tags)
        self.authors = self.join("posts_authors", "author_id", self.users)
        settings = {row.get("key"): row.get("value") for row in self.rows("settings")}
        # The site has a password.
        self.is_private = str(settings.get("is_private")).lower() in {"true", "1"}

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
    if isinstance(html := post.get("html"), str):
        return html, HTML
    if isinstance(markdown := post.get("markdown"), str):
        return markdown, MARKDOWN
    text = post.get("plaintext")
    if not isinstance(text, str):
        source = post.get("lexical") or post.get("mobiledoc")
        text = "\n\n".join(find_texts(source)) if isinstance(source, str) else ""
    if text:
        warnings.append("without HTML in the export, so its text is plain")
    return "".join(f"<p>{escape(one)}</p>\n" for one in text.split("\n\n") if one.strip()), HTML


def find_texts(source: str) -> Iterator[str]:
    """Yield the texts of the blocks in the format of the newer editor or of the one before."""
    try:
        document = json.loads(source)
    except (RecursionError, ValueError):
        return
    if not isinstance(document, dict):
        return
    blocks = document["root"].get("children") if isinstance(document.get("root"), dict) else None
    for block in [*(blocks or ()), *document.get("sections", ()), *document.get("cards", ())]:
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


def read_time(value: object) -> str | None:
    """Return a time in UTC: text, or milliseconds in old versions."""
    if value in (None, ""):
        return None
    try:
        return parse_time(value).astimezone(UTC).isoformat()
    except ValueError:
        return str(value)
