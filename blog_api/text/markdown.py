"""Markdown and HTML to sanitized HTML, within limits of memory, CPU time and length."""

import re
from html import escape
from typing import Final, Literal, NamedTuple

import nh3
from markdown_it import MarkdownIt

from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.core.processes import CPU_SECONDS, MEMORY_BYTES, limited_resources

ContentType = Literal["text/markdown", "text/html"]
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"

# More than a text of 500,000 characters that are all escaped.
MAX_HTML_LENGTH = 4_000_000

# CommonMark 0.31 with HTML, and GitHub's tables and strikethrough. The default `maxNesting` of 20
# would drop the content of deep lists, where each level counts twice.
COMMONMARK = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])

# The language of a code block is a class, the alignment of a column a style. nh3 does not check the
# URL scheme of `cite`, which browsers do not show.
ATTRIBUTES = {
    **{tag: names - {"cite"} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()},
    "code": {"class"},
    "td": nh3.ALLOWED_ATTRIBUTES["td"] | {"style"},
    "th": nh3.ALLOWED_ATTRIBUTES["th"] | {"style"},
}

ATTRIBUTE_PATTERNS = {
    "class": re.compile(r"language-\S+"),
    "style": re.compile("text-align: ?(left|center|right);?"),
}


class Source(NamedTuple):
    """A text as its author wrote it."""

    content: str
    content_type: ContentType = MARKDOWN


def filter_attribute(_tag: str, name: str, value: str) -> str | None:
    """Return None to remove a class or style other than those that Markdown makes."""
    pattern = ATTRIBUTE_PATTERNS.get(name)
    return value if pattern is None or pattern.fullmatch(value) else None


SANITIZER = nh3.Cleaner(
    attributes=ATTRIBUTES,
    attribute_filter=filter_attribute,
    url_schemes={"http", "https", "mailto"},
    # Links of users do not count for search engines.
    link_rel="nofollow noopener noreferrer ugc",
)


def render_markdown(text: str) -> str:
    """Return the text as sanitized HTML. Some texts take minutes."""
    return sanitize_html(COMMONMARK.render(text))


def sanitize_html(html: str) -> str:
    # HTML entities can name characters that XML, and so a feed, does not allow.
    return NON_XML_CHARACTERS.sub("\ufffd", SANITIZER.clean(html))


RENDERERS = {MARKDOWN: render_markdown, HTML: sanitize_html}


def render_plain_text(text: str) -> str:
    """Return the text as preformatted HTML, for texts that are too expensive to render."""
    return f"<pre>{escape(text, quote=False)}</pre>\n"


def render_in_process(source: Source) -> str | None:
    """Render in a worker process whose memory and CPU time are limited; None over a limit."""
    with limited_resources(MEMORY_BYTES, CPU_SECONDS):
        return render_within_limits(source)


def render_within_limits(source: Source) -> str | None:
    """Return the HTML, or None if the text is nested too deep or the HTML is too long."""
    try:
        html = RENDERERS[source.content_type](source.content)
    except (MemoryError, RecursionError):
        return None
    return html if len(html) <= MAX_HTML_LENGTH else None
