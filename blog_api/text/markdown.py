"""Markdown and HTML to sanitized HTML, within limits of memory, CPU time and length."""

import re
from collections.abc import Callable, Collection, Sequence
from html import escape
from typing import Any, Final, Literal, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.ruler import Ruler
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.gfm_autolink import gfm_autolink_plugin

from blog_api.core.processes import CPU_SECONDS, MEMORY_BYTES, limited_resources
from blog_api.text.sanitizer import sanitize_html

ContentType = Literal["text/markdown", "text/html"]
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"

# More than a text of 500,000 characters that are all escaped.
MAX_HTML_LENGTH = 4_000_000

# A footnote is found again by its label, which GitHub limits too.
MAX_LABEL_LENGTH = 200
# What follows `http` in an address. With escapes, such as `\_`, it is text.
AFTER_SCHEME = re.compile(r"://\w[^\s<\\]*+(?!\\)")


class Source(NamedTuple):
    """A text as its author wrote it."""

    content: str
    content_type: ContentType = MARKDOWN


def make_parser() -> MarkdownIt:
    """Return a parser of CommonMark 0.31 with HTML, and most extensions of GitHub.

    The extensions are tables, strikethrough, addresses without brackets, task lists and footnotes.
    """
    # The default `maxNesting` of 20 would drop the content of deep lists, where each level counts
    # twice.
    parser = MarkdownIt("commonmark", {"maxNesting": 100, "tasklists": True})
    parser.enable(["table", "strikethrough"])
    parser.use(gfm_autolink_plugin).use(footnote_plugin, inline=False)
    limit_rule(parser.inline.ruler, "gfm_autolink_protocol", is_before_address)
    limit_rule(parser.inline.ruler, "footnote_ref", is_before_label)
    keep_footnotes_apart(parser)
    parser.add_render_rule("footnote_anchor_name", name_footnote)
    parser.add_render_rule("footnote_caption", number_footnote)
    return parser


def get_rule(ruler: Ruler[Any], name: str) -> Any:
    return dict(zip(ruler.get_active_rules(), ruler.getRules(""), strict=True))[name]


def limit_rule(ruler: Ruler[Any], name: str, is_possible: Callable[[StateInline], bool]) -> None:
    """Call a rule only where it may apply: where it does not, it reads the text to its end."""
    rule = get_rule(ruler, name)
    ruler.at(name, lambda state, silent: is_possible(state) and bool(rule(state, silent)))


def is_before_address(state: StateInline) -> bool:
    if state.pending.endswith(("http", "https")):
        return AFTER_SCHEME.match(state.src, state.pos) is not None
    return state.pending.endswith("mailto")


def is_before_label(state: StateInline) -> bool:
    end = state.pos + MAX_LABEL_LENGTH
    return state.src.startswith("[^", state.pos) and state.src.find("]", state.pos, end) > 0


def keep_footnotes_apart(parser: MarkdownIt) -> None:
    """Take the definition of a footnote within another one for text; the plugin would drop it."""
    rule = get_rule(parser.block.ruler, "footnote_def")

    def define(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        if silent:
            return bool(rule(state, start, end, silent))
        if state.env.get("is_in_footnote"):
            return False
        state.env["is_in_footnote"] = True
        is_found: bool = rule(state, start, end, silent)
        state.env["is_in_footnote"] = False
        return is_found

    parser.block.ruler.at("footnote_def", define, {"alt": ["paragraph", "reference"]})


def name_footnote(
    _: RendererProtocol, tokens: Sequence[Token], index: int, _options: object, _env: object
) -> str:
    """Return the end of an id. No heading has an id with a colon."""
    return f":{tokens[index].meta['id'] + 1}"


def number_footnote(
    _: RendererProtocol, tokens: Sequence[Token], index: int, _options: object, _env: object
) -> str:
    return f"[{tokens[index].meta['id'] + 1}]"


PARSER = make_parser()


def render_markdown(text: str, iframe_hosts: Collection[str] = ()) -> str:
    """Return the text as sanitized HTML. Some texts take minutes."""
    return sanitize_html(PARSER.render(text), iframe_hosts)


RENDERERS = {MARKDOWN: render_markdown, HTML: sanitize_html}


def render_plain_text(text: str) -> str:
    """Return the text as preformatted HTML, for texts that are too expensive to render."""
    return f"<pre>{escape(text, quote=False)}</pre>\n"


def render_in_process(source: Source, iframe_hosts: Collection[str] = ()) -> str | None:
    """Render in a worker process whose memory and CPU time are limited; None over a limit."""
    with limited_resources(MEMORY_BYTES, CPU_SECONDS):
        return render_within_limits(source, iframe_hosts)


def render_within_limits(source: Source, iframe_hosts: Collection[str] = ()) -> str | None:
    """Return the HTML, or None if the text is nested too deep or the HTML is too long."""
    try:
        html = RENDERERS[source.content_type](source.content, iframe_hosts)
    except (MemoryError, RecursionError):
        return None
    return html if len(html) <= MAX_HTML_LENGTH else None
