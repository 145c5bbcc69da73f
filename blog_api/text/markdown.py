"""Markdown: texts to HTML that cannot carry a script."""

import re
import sys
from html import escape

import nh3
from markdown_it import MarkdownIt

from blog_api.core.fields import NON_XML_CHARACTERS

# What a process may use for a text: one that refers a hundred thousand times to one long address
# would take gigabytes.
MEMORY_BYTES = 2 * 1024**3


# For how long a text may keep a core busy, in seconds, however busy the others are.
CPU_SECONDS = 3


# A text of 500,000 characters that are all escaped has less.
MAX_HTML_LENGTH = 4_000_000


# CommonMark 0.31 with its HTML, and GitHub's tables and strikethrough.
# What is nested deeper than 20 levels, of which a list takes two, would be left out.
COMMONMARK = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])


# Which language a block of code is in is told by a class, and how a column is aligned by a style.
# nh3 does not look at the scheme of `cite`, which no browser shows.
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


def filter_attribute(_tag: str, name: str, value: str) -> str | None:
    """One class, of a language, and one of three alignments; what else is allowed stays."""
    return (
        value
        if name not in ATTRIBUTE_PATTERNS or ATTRIBUTE_PATTERNS[name].fullmatch(value)
        else None
    )


SANITIZER = nh3.Cleaner(
    attributes=ATTRIBUTES,
    attribute_filter=filter_attribute,
    url_schemes={"http", "https", "mailto"},
    # What users write must not lend a search engine's trust to where it points.
    link_rel="nofollow noopener noreferrer ugc",
)


def render_markdown(text: str) -> str:
    """The text as HTML, of which a browser runs nothing. Some texts take minutes."""
    # HTML has names for characters that XML does not have, and so no feed.
    return NON_XML_CHARACTERS.sub("\ufffd", SANITIZER.clean(COMMONMARK.render(text)))


def render_plain_text(text: str) -> str:
    """The text as it was written, for what takes too long to render."""
    return f"<pre>{escape(text, quote=False)}</pre>\n"


def render_in_process(text: str) -> str | None:
    """Render in a worker process with bounded memory; return None over the bound."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        # What takes longer ends this process, even if nobody is left who could stop it.
        spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, most))
    return render_within_limits(text)


def render_within_limits(text: str) -> str | None:
    """`render_markdown()`; None where the text is nested too deep, or becomes too long."""
    try:
        html = render_markdown(text)
    except (MemoryError, RecursionError):
        return None
    return html if len(html) <= MAX_HTML_LENGTH else None
