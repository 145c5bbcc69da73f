"""Search snippets: the passage of a text with most of the search terms, which are highlighted."""

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from blog_api.text.search_terms import Term
from blog_api.text.tokenizer import Token, Word, tokenize_with_spans

# In characters, before `…` and HTML are added.
SNIPPET_LENGTH = 240
# Context before the first match.
LEADING_LENGTH = 60
# Further matches do not make the snippet better, only slower.
MAX_MATCHES = 200
# Of a phrase; the search has found all of it.
MAX_HIGHLIGHTED_WORDS = 8

SPACE = re.compile(r"\s+")


class Position(NamedTuple):
    """A word of a text, with the start and end of the characters that give it."""

    word: Word
    start: int
    end: int


class Match(NamedTuple):
    """A part of a text that matches the term of this number."""

    start: int
    end: int
    term: int


def find_words(text: str) -> Iterator[Position]:
    for token, start, end in tokenize_with_spans(text):
        yield from locate_words(token, start, end)


def locate_words(token: Token, start: int, end: int) -> Iterator[Position]:
    if not token.offsets:
        for word in token.words:
            yield Position(word, start, end)
        return
    bounds = [*(start + offset for offset in token.offsets), end]
    for number, word in enumerate(token.words):
        # Each word has two characters, but the last has one.
        yield Position(word, bounds[number], bounds[min(number + 2, len(bounds) - 1)])


def make_test(term: Term, word: Word, *, is_last: bool) -> Callable[[Word], bool]:
    """Return whether a word of a text matches a word of a term."""
    folded, stem = word.folded, word.stem or word.folded
    if is_last and term.is_prefix:
        beginnings = (folded, word.exact)
        if term.has_stems:
            return lambda other: (
                other.folded.startswith(folded)
                or other.exact.startswith(beginnings)
                or (other.stem or other.folded) == stem
            )
        return lambda other: other.folded.startswith(folded)
    return lambda other: other.folded == folded


class Highlighter:
    """Makes the snippets of one search."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._tests = [
            [
                make_test(term, word, is_last=number == len(term.words))
                for number, word in enumerate(term.words[:MAX_HIGHLIGHTED_WORDS], 1)
            ]
            for term in terms
        ]

    def snippet(self, text: str) -> str:
        """Return the passage as HTML with `<mark>` only; without a match, the start of the text."""
        matches = self._find_matches(text)
        first = max(
            range(len(matches)), key=lambda index: self._count_terms(matches, index), default=None
        )
        start = 0 if first is None else max(0, matches[first].start - LEADING_LENGTH)
        end = min(len(text), start + SNIPPET_LENGTH)
        if start > 0:
            # Start at a word, unless it is longer than the context.
            space = SPACE.search(text, start, start + LEADING_LENGTH)
            start = space.end() if space else start
        passage = SPACE.sub(" ", "".join(self._highlight(text, matches, start, end)))
        return f"{'…' if start else ''}{passage}{'…' if end < len(text) else ''}"

    def _find_matches(self, text: str) -> list[Match]:
        """Return the matches in their order. They do not overlap."""
        words = list(find_words(text))
        matches: list[Match] = []
        results: dict[Word, list[int]] = {}
        for start, position in enumerate(words):
            if (found := results.get(position.word)) is None:
                found = [n for n, tests in enumerate(self._tests) if tests[0](position.word)]
                results[position.word] = found
            for number in found:
                tests = self._tests[number]
                part = words[start : start + len(tests)]
                is_match = len(part) == len(tests) and all(
                    test(one.word) for test, one in zip(tests[1:], part[1:], strict=True)
                )
                if is_match:
                    add_match(matches, Match(position.start, part[-1].end, number))
            if len(matches) >= MAX_MATCHES:
                break
        return matches

    def _count_terms(self, matches: Sequence[Match], first: int) -> int:
        """Return the number of different terms in the snippet for this first match."""
        end = matches[first].start + SNIPPET_LENGTH - LEADING_LENGTH
        return len({match.term for match in matches[first:] if match.end <= end})

    def _highlight(
        self, text: str, matches: Sequence[Match], start: int, end: int
    ) -> Iterator[str]:
        position = start
        for match in matches:
            if start <= match.start < end:
                yield escape(text[position : match.start])
                position = min(match.end, end)
                yield f"<mark>{escape(text[match.start : position])}</mark>"
        yield escape(text[position:end])


def add_match(matches: list[Match], match: Match) -> None:
    """Add a match; one that overlaps the last one extends it."""
    if matches and match.start < matches[-1].end:
        last = matches[-1]
        matches[-1] = last._replace(end=max(last.end, match.end))
    else:
        matches.append(match)
