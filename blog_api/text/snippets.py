"""Search snippets: the passage of a text with most of the search terms, which are highlighted."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice

from blog_api.text.tokenizer import Term

# In characters, before `…` and HTML are added.
SNIPPET_LENGTH = 240
# Context before the first match.
LEADING_LENGTH = 60
# Further matches do not make the snippet better, only slower.
MAX_MATCHES = 200

SPACE = re.compile(r"\s+")


class Highlighter:
    """Makes the snippets of one search."""

    def __init__(self, terms: Sequence[Term], stems: Mapping[str, str]) -> None:
        alternatives = "|".join(f"({term.make_pattern(stems)})" for term in terms)
        self._pattern = re.compile(rf"(?<![^\W_])(?:{alternatives})", re.IGNORECASE)

    def snippet(self, text: str) -> str:
        """Return the passage as HTML with `<mark>` only; without a match, the start of the text."""
        matches = list(islice(self._pattern.finditer(text), MAX_MATCHES))
        first = max(
            range(len(matches)), key=lambda index: self._count_terms(matches, index), default=None
        )
        start = 0 if first is None else max(0, matches[first].start() - LEADING_LENGTH)
        end = min(len(text), start + SNIPPET_LENGTH)
        if start > 0:
            # Start at a word, unless it is longer than the context.
            space = SPACE.search(text, start, start + LEADING_LENGTH)
            start = space.end() if space else start
        passage = SPACE.sub(" ", "".join(self._highlight(text, matches, start, end)))
        return f"{'…' if start else ''}{passage}{'…' if end < len(text) else ''}"

    def _count_terms(self, matches: Sequence[re.Match[str]], first: int) -> int:
        """Return the number of different terms in the snippet for this first match."""
        end = matches[first].start() + SNIPPET_LENGTH - LEADING_LENGTH
        return len({match.lastindex for match in matches[first:] if match.end() <= end})

    def _highlight(
        self, text: str, matches: Sequence[re.Match[str]], start: int, end: int
    ) -> Iterator[str]:
        position = start
        for match in matches:
            if start <= match.start() < end:
                yield escape(text[position : match.start()])
                position = min(match.end(), end)
                yield f"<mark>{escape(text[match.start() : position])}</mark>"
        yield escape(text[position:end])
