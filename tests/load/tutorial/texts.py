"""Functions without a framework or a database, shared by all contenders in Python."""

import secrets
from datetime import UTC, datetime
from hashlib import sha256

import nh3
from markdown_it import MarkdownIt
from slugify import slugify

markdown = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])

# The attributes that the service allows.
ATTRIBUTES = {
    **nh3.ALLOWED_ATTRIBUTES,
    "code": {"class"},
    "td": nh3.ALLOWED_ATTRIBUTES["td"] | {"style"},
    "th": nh3.ALLOWED_ATTRIBUTES["th"] | {"style"},
}


def utc_now() -> datetime:
    return datetime.now(UTC)


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def to_html(content: str) -> str:
    return nh3.clean(
        markdown.render(content),
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer ugc",
    )


def slug_of(title: str) -> str:
    return slugify(title, max_length=90, word_boundary=True) or "post"


def another_slug(slug: str) -> str:
    return f"{slug}-{secrets.token_hex(4)}"
