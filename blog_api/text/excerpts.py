"""The text of sanitized HTML, and its summary and reading time."""

import re
import unicodedata
from dataclasses import dataclass
from html import unescape

from blog_api.core.characters import CONTROL_CHARACTERS
from blog_api.core.fields import MAX_SUMMARY_LENGTH

WORDS_PER_MINUTE = 200
ELLIPSIS = "…"
# In characters: reading them takes a tenth of a second. A chapter of a book has as many.
MAX_READ = 200_000
# Where an excerpt is made for each row of a list.
MAX_READ_IN_LIST = 5_000
# A space earlier than this is not the place to cut: some scripts have few.
MIN_SUMMARY_LENGTH = MAX_SUMMARY_LENGTH // 2

# From the first letter or digit on: a dash between spaces is no word.
WORD = re.compile(r"[^\W_]\S*")

# Texts with fewer words in common are different posts. Imported pictures change a few.
MIN_SIMILARITY = 0.5

# Tags as the sanitizer writes them. Text has no `<`; the value of an attribute may have both signs.
TAG = re.compile(r'</?([a-z][a-z0-9]*)(?:\s[^<>"]*(?:"[^"]*"[^<>"]*)*)?>')
# The marks of footnotes, which are no words of the text, and what browsers show that have no video.
HIDDEN_START = re.compile(r'<(sup|a)(?: [a-z-]+="[^"]*")*? class="footnote-|<(audio|video)[ >]')
FOOTNOTES = '<section class="footnotes">'
# These stand within a word; all other tags separate words.
INLINE_TAGS = frozenset({
    "a", "abbr", "acronym", "area", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn",
    "em", "i", "img", "ins", "kbd", "map", "mark", "q", "rp", "rt", "rtc", "ruby", "s", "samp",
    "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
})  # fmt: skip


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a text as plain text of one line, and its reading time."""

    summary: str
    reading_minutes: int


def extract_text(html: str) -> str:
    """Return sanitized HTML without its tags. A tag that separates words becomes a space."""
    html = remove_hidden(html)
    return unescape(TAG.sub(lambda tag: "" if tag[1] in INLINE_TAGS else " ", html)).strip()


def cut_html(html: str, limit: int) -> str:
    """Return the beginning of sanitized HTML, without a tag that would be incomplete."""
    html = html[:limit]
    return html[: html.rfind("<")] if html.rfind("<") > html.rfind(">") else html


def remove_hidden(html: str) -> str:
    """Return sanitized HTML without the elements whose text is not read with the rest."""
    parts = []
    end = 0
    while start := HIDDEN_START.search(html, end):
        parts.append(html[end : start.start()])
        end_tag = f"</{start[1] or start[2]}>"
        found = html.find(end_tag, start.end())
        end = found + len(end_tag) if found >= 0 else len(html)
    return "".join([*parts, html[end:]])


def make_excerpt(html: str, *, length: int | None = None, limit: int = MAX_READ) -> Excerpt:
    """Return the excerpt of sanitized HTML, or of the beginning of one of this length.

    The reading time of what is longer than the limit is estimated.
    """
    length = length or len(html)
    if length > limit:
        html = cut_html(html, limit)
    text, mark, notes = html.partition(FOOTNOTES)
    shown = " ".join(extract_text(text).split())
    summary = cut_summary(shown)
    if mark:
        shown += " " + extract_text(notes)
    count = len(WORD.findall(shown))
    if html and length > limit:
        count = round(count * length / len(html))
    return Excerpt(summary, max(1, -(-count // WORDS_PER_MINUTE)))


def cut_summary(text: str) -> str:
    """Return the text as one line, cut at a space to the length of a summary."""
    # No character becomes more than one, so this is enough of the text for the result.
    beginning = text[: 2 * MAX_SUMMARY_LENGTH]
    line = " ".join(CONTROL_CHARACTERS.sub(" ", beginning).split())
    if len(line) <= MAX_SUMMARY_LENGTH and len(beginning) == len(text):
        return line
    end = line.rfind(" ", 0, MAX_SUMMARY_LENGTH)
    if end < MIN_SUMMARY_LENGTH:
        end = min(MAX_SUMMARY_LENGTH - 1, len(line))
        # Do not separate a letter from its combining marks.
        while (
            end > MIN_SUMMARY_LENGTH and unicodedata.category(line[end : end + 1] or " ")[0] == "M"
        ):
            end -= 1
    return line[:end].rstrip() + ELLIPSIS


def have_common_words(one: str, other: str) -> bool:
    """Tell whether two texts are versions of one, whatever the order of their words."""
    # One may be Markdown, and the other the HTML of it.
    words, others = (set(re.findall(r"\w+", re.sub("<[^>]*>", " ", text))) for text in (one, other))
    return words == others or len(words & others) >= MIN_SIMILARITY * len(words | others)
