"""Summaries and reading times of posts, stored with the HTML that they are made from.

They are made when a post is written, and so is the text of a post in HTML, which the search reads.
A row that a version without the excerpt's columns has written since has none until it is written or
rendered again; its excerpt is made when it is read.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import anyio.to_thread
from sqlalchemy import ColumnElement, case, func
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, select

from blog_api.db.session import Database
from blog_api.posts.models import Post
from blog_api.text.excerpts import MAX_READ_IN_LIST, extract_text, make_excerpt
from blog_api.text.markdown import MARKDOWN, Source

# Longer HTML is read in a thread, in characters.
MAX_INLINE_LENGTH = 20_000
DIGEST_LENGTH = 16

HAS_NO_EXCERPT = col(Post.made_from).is_(None)


async def make_columns(source: Source, content_html: str) -> dict[str, Any]:
    """Return the columns that are made of a source and its HTML; of a long one in a thread."""

    def make() -> dict[str, Any]:
        excerpt = make_excerpt_columns(content_html)
        return {"content_html": content_html, **excerpt, **make_text_columns(source, content_html)}

    if len(content_html) > MAX_INLINE_LENGTH:
        return await anyio.to_thread.run_sync(make)
    return make()


def make_text_columns(source: Source, content_html: str) -> dict[str, Any]:
    if source.content_type == MARKDOWN:
        return {"content_text": None, "text_from": None}
    return {"content_text": extract_text(content_html), "text_from": make_digest(source.content)}


def make_digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def make_excerpt_columns(content_html: str) -> dict[str, Any]:
    excerpt = make_excerpt(content_html)
    return {
        "made_summary": excerpt.summary,
        "made_reading_minutes": excerpt.reading_minutes,
        "made_from": make_digest(content_html),
    }


def excerpt_columns(*, with_html: bool) -> Mapping[str, ColumnElement[Any]]:
    """Return the columns that `complete_excerpt()` needs, without HTML if that is read anyway."""
    summary = func.coalesce(col(Post.given_summary), col(Post.made_summary))
    columns: dict[str, ColumnElement[Any]] = {
        "summary": summary.label("summary"),
        "reading_minutes": col(Post.made_reading_minutes).label("reading_minutes"),
    }
    if with_html:
        html = col(Post.content_html)
        beginning = case((HAS_NO_EXCERPT, func.substr(html, 1, MAX_READ_IN_LIST)))
        columns["html_beginning"] = beginning.label("html_beginning")
        columns["html_length"] = case((HAS_NO_EXCERPT, func.length(html))).label("html_length")
    return columns


def complete_excerpt(row: dict[str, Any]) -> None:
    """Make the excerpt of a row that has none."""
    beginning = row.pop("html_beginning", None)
    length = row.pop("html_length", None)
    if row["reading_minutes"] is not None:
        return
    html: str = row["content_html"] if beginning is None else beginning
    excerpt = make_excerpt(html, length=length, limit=MAX_READ_IN_LIST)
    row["reading_minutes"] = excerpt.reading_minutes
    if row["summary"] is None:
        row["summary"] = excerpt.summary


async def load_missing_html(database: Database, post: Post) -> None:
    """Load the HTML of a post without an excerpt that was read without HTML."""
    if post.made_from is None:
        query = select(Post.content_html).where(
            col(Post.id) == post.id, col(Post.version) == post.version
        )
        async with database.session(writes=False) as session:
            html = (await session.exec(query)).first()
        # A post that changed meanwhile has another text.
        set_committed_value(post, "content_html", html or "")
