"""Search snippets: the passage of a text with most of the search terms, which are highlighted."""

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import islice
from typing import NamedTuple

from blog_api.text.search_terms import Term
from blog_api.text.tokenizer import Word, analyze_match, find_spans

# In characters, before `…` and HTML are added.
SNIPPET_LENGTH = 240
# Context before the first match.
LEADING_LENGTH = 60
# Further matches do not make the snippet better, only slower.
MAX_MATCHES = 200
# Words of a text that start like a term; most of them go on in another way then.
MAX_ATTEMPTS = 20_000
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


def locate_words(part: str, start: int) -> Iterator[Position]:
    """Yield the words of a part of a text, which gives tokens."""
    end = start + len(part)
    for token in analyze_match(part):
        if not token.offsets:
            for word in token.words:
                yield Position(word, start, end)
            continue
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
        self._longest = max(map(len, self._tests), default=1)
        self._starts: dict[str, list[tuple[int, int]]] = {}

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
        parts = find_spans(text)
        matches: list[Match] = []
        attempts = 0
        for place, part in enumerate(parts):
            if (starts := self._starts.get(part[0])) is None:
                starts = list(islice(self._find_starts(part[0]), MAX_ATTEMPTS))
                self._starts[part[0]] = starts
            if not starts:
                continue
            words = list(locate_words(*part))
            following = (
                word
                for later in range(place + 1, len(parts))
                for word in locate_words(*parts[later])
            )
            words += islice(following, self._longest - 1)
            attempts += len(starts)
            for start, number in starts:
                tests = self._tests[number]
                found = words[start : start + len(tests)]
                is_match = len(found) == len(tests) and all(
                    test(one.word) for test, one in zip(tests, found, strict=True)
                )
                if is_match:
                    add_match(matches, Match(found[0].start, found[-1].end, number))
                if len(matches) >= MAX_MATCHES:
                    return matches
            if attempts >= MAX_ATTEMPTS:
                return matches
        return matches

    def _find_starts(self, part: str) -> Iterator[tuple[int, int]]:
        """Yield the words of a part, and the terms, that start with the same word, by number."""
        words = (word for token in analyze_match(part) for word in token.words)
        # A run of a script without spaces has the same word often.
        results: dict[Word, list[int]] = {}
        for start, word in enumerate(words):
            if (numbers := results.get(word)) is None:
                numbers = [n for n, tests in enumerate(self._tests) if tests[0](word)]
                results[word] = numbers
            for number in numbers:
                yield start, number

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
