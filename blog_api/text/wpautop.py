"""Paragraphs of the text of a WordPress post, which has blank lines in their place.

WordPress adds `<p>` and `<br>` each time it shows a post of its classic editor. Example: `Roses are
red,` and `Violets are blue.` on two lines become one paragraph with a `<br>`.
"""

import re

BLOCK_TAGS = """
    address area article aside blockquote caption col colgroup dd details div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li map math menu nav ol
    p pre section style summary table tbody td tfoot th thead tr ul
"""
IS_BLOCK = frozenset(BLOCK_TAGS.split())
# No text follows in them, or it is in paragraphs, too.
WITHOUT_TEXT = frozenset(["blockquote", "hr"])
# Elements whose line breaks stay, comments, and tags.
TOKEN = re.compile(
    r"<(?P<raw>math|pre|script|style|svg|textarea)\b[^>]*>.*?(?:</(?P=raw)\s*>|\Z)"
    r"|<!--.*?(?:-->|\Z)|<!\[CDATA\[.*?(?:\]\]>|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-z][a-z0-9-]*)(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>",
    re.DOTALL | re.IGNORECASE,
)
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# Line breaks around the parts of a player are none of the text.
PLAYER = re.compile(
    r"([<\[](?:audio|object|video)\b[^>\]]*[>\]])\s+|\s+([<\[]/(?:audio|object|video)[>\]])"
    r"|\s*(</?(?:embed|option|param|source|track)\b[^>]*>)\s*",
    re.IGNORECASE,
)
# Neither character is allowed in a text.
PARAGRAPH, LINE = "\x00", "\x01"
BLANK_LINES = re.compile(r"\n\s*\n")
BR = r"<br\b[^<>]*>"
TWO_BR = re.compile(rf"{BR}[\s\x01]*{BR}", re.IGNORECASE)
BR_BEFORE_LINE = re.compile(rf"({BR})[^\S\n]*\x01", re.IGNORECASE)
END_OF_LINES = re.compile(rf"(?:{BR}|[\s\x01])+\Z", re.IGNORECASE)


def wpautop(text: str) -> str:
    """Return the HTML of a text with its paragraphs and line breaks as tags."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = PLAYER.sub(lambda found: found[1] or found[2] or found[3], text)
    html: list[str] = []
    inline: list[str] = []
    before = "hr"  # The block tag before the inline content; `/p` is an end tag.
    position = 0
    for token in TOKEN.finditer(text):
        inline.append(mark_breaks(text[position : token.start()]))
        position = token.end()
        name = (token["raw"] or token["name"] or "").lower()
        if name not in IS_BLOCK:
            inline.append(token[0])
            continue
        html += make_paragraphs("".join(inline), before)
        inline.clear()
        is_end = token["end"] or token["raw"] or token[0].endswith("/>")
        before = f"/{name}" if is_end else name
        html.append(token[0] + "\n" * bool(is_end or name in WITHOUT_TEXT))
    inline.append(mark_breaks(text[position:]))
    return "".join([*html, *make_paragraphs("".join(inline), before)])


def mark_breaks(text: str) -> str:
    return BLANK_LINES.sub(PARAGRAPH, text).replace("\n", LINE)


def make_paragraphs(marked: str, before: str) -> list[str]:
    """Return the paragraphs between two block tags.

    The first one is not wrapped if it directly follows the start tag of another block.
    """
    marked = TWO_BR.sub(PARAGRAPH, marked)
    starts_block = not before.startswith("/") and before not in WITHOUT_TEXT
    is_wrapped = not starts_block or marked.lstrip(" \t\x01").startswith(PARAGRAPH)
    made: list[str] = []
    for part in marked.split(PARAGRAPH):
        html = part.strip(" \t\n\x01")
        html = END_OF_LINES.sub("", BR_BEFORE_LINE.sub(r"\1", html)).replace(LINE, "<br>")
        if COMMENT.sub("", html).strip() and (is_wrapped if before != "p" else made):
            html = f"<p>{html}</p>\n"
        if html:
            made.append(html)
        is_wrapped = True
    return made
