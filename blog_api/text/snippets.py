"""Snippets: of a text, the part where the words of a search stand."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice

from blog_api.text.tokenizer import Term

# How much of a text is shown, and how much before what was found, in characters.
SNIPPET_LENGTH = 240


LEADING_LENGTH = 60


# Of a text that is full of them, the first places are enough to choose from.
MAX_MATCHES = 200


SPACE = re.compile(r"\s+")


class Highlighter:
    """Finds where most of the terms stand together, and marks them."""

    def __init__(self, terms: Sequence[Term], stems: Mapping[str, str]) -> None:
        alternatives = "|".join(f"({term.pattern(stems)})" for term in terms)
        self._pattern = re.compile(rf"(?<![^\W_])(?:{alternatives})", re.IGNORECASE)

    def snippet(self, text: str) -> str:
        """The part of a text, as HTML with `<mark>` and nothing else; its beginning, where the
        terms do not stand in it."""
        places = list(islice(self._pattern.finditer(text), MAX_MATCHES))
        first = max(
            range(len(places)), key=lambda place: self.count_near(places, place), default=None
        )
        begin = 0 if first is None else max(0, places[first].start() - LEADING_LENGTH)
        end = min(len(text), begin + SNIPPET_LENGTH)
        if begin > 0:
            # Not in the middle of a word, if words are as long as words are.
            space = SPACE.search(text, begin, begin + LEADING_LENGTH)
            begin = space.end() if space else begin
        parts = "".join(self.parts(text, places, begin, end))
        return f"{'…' if begin else ''}{SPACE.sub(' ', parts)}{'…' if end < len(text) else ''}"

    def count_near(self, places: Sequence[re.Match[str]], first: int) -> int:
        """How many different terms there are in the snippet that begins with a place."""
        end = places[first].start() + SNIPPET_LENGTH - LEADING_LENGTH
        near = {place.lastindex for place in places[first:] if place.end() <= end}
        return len(near)

    def parts(
        self, text: str, places: Sequence[re.Match[str]], begin: int, end: int
    ) -> Iterator[str]:
        at = begin
        for place in places:
            if begin <= place.start() < end:
                yield escape(text[at : place.start()])
                at = min(place.end(), end)
                yield f"<mark>{escape(text[place.start() : at])}</mark>"
        yield escape(text[at:end])
