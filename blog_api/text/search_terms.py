"""Split a search query into terms: words, and phrases in quotation marks.

`parse_terms('node.js "async session" caf')` returns three terms: the phrase `node js`, whose last
word may go on, the phrase `async session`, and the beginning `caf` of a word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import regex

from blog_api.text.lexemes import (
    IN_FOCUS,
    IN_TAGS,
    IN_TITLE,
    MAX_LEXEME_LENGTH,
    STEM,
    WITHOUT_ACCENTS,
)
from blog_api.text.tokenizer import Token, Word, tokenize

QUOTES = '"“”„‟«»〝〞〟＂'
QUOTED_OR_WORD = regex.compile(f"[{QUOTES}]([^{QUOTES}]*)[{QUOTES}]|([^\\s{QUOTES}]+)")
# Too many words start with a given letter for a prefix search.
MIN_PREFIX_LENGTH = 2
# Words of a phrase by which the index finds it; all of them are in the normalized text.
MAX_INDEXED_WORDS = 6
# Further terms of a query do not count for the order of results.
MAX_RANKED_TERMS = 8

# Lexemes of which a post must have one; `*` at the end stands for any end.
Alternatives = tuple[str, ...]


class Form(IntEnum):
    """Forms of a word that a term finds, each with those before it."""

    exact = 0
    folded = 1
    stem = 2
    beginning = 3


# The order of results is that of the sum of what each term adds: most in the title, less in a tag,
# in what the post is about, and in all of its words; there more for the word itself. Integers: the
# sum of floats depends on their order. The last column has matches that are excluded because they
# add more already: otherwise the same long list of posts would be read again.
WEIGHTS: tuple[tuple[str, Form, int, tuple[tuple[str, Form], ...]], ...] = (
    (IN_TITLE, Form.folded, 100, ()),
    (IN_TITLE, Form.beginning, 80, ((IN_TITLE, Form.folded),)),
    (IN_TAGS, Form.folded, 50, ()),
    (IN_TAGS, Form.beginning, 40, ((IN_TAGS, Form.folded),)),
    (IN_FOCUS, Form.exact, 31, ()),
    (IN_FOCUS, Form.folded, 28, ((IN_FOCUS, Form.exact),)),
    (IN_FOCUS, Form.beginning, 20, ((IN_FOCUS, Form.folded),)),
    ("", Form.exact, 6, ((IN_FOCUS, Form.exact),)),
    ("", Form.folded, 3, (("", Form.exact), (IN_FOCUS, Form.folded))),
    ("", Form.stem, 1, (("", Form.folded),)),
)


class Tier(NamedTuple):
    """A group of matches, and the weight that each adds to the rank of a post."""

    groups: list[Alternatives]
    """Lexemes that the post has: one of each group."""
    excluded: list[list[Alternatives]]
    """Groups of lexemes; the post matches none of these."""
    weight: int
    term: int = 0
    """The number of the term; that the post has the others is not among the groups."""


@dataclass(frozen=True)
class Term:
    """Adjacent tokens; the last one may be the beginning of a word."""

    tokens: tuple[Token, ...]
    is_quoted: bool = False

    @cached_property
    def last(self) -> Token:
        return self.tokens[-1]

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words that are adjacent in a text with this term."""
        words = [word for token in self.tokens for word in token.words]
        # The last character of a run is a word of its own only where a run of the text ends.
        return tuple(words[:-1] if self.last.is_run and len(self.last.words) > 1 else words)

    @cached_property
    def is_prefix(self) -> bool:
        if self.last.is_run:
            return len(self.last.words) == 1
        return not self.is_quoted and len(self.last.text) >= MIN_PREFIX_LENGTH

    @cached_property
    def has_stems(self) -> bool:
        return not self.is_quoted and len(self.words) == 1 and not self.last.is_run

    @cached_property
    def needle(self) -> str:
        """Text that the normalized text has to contain."""
        start = "" if self.tokens[0].is_run else " "
        end = "" if self.last.is_run or self.is_prefix else " "
        return f"{start}{' '.join(token.text for token in self.tokens)}{end}"

    @cached_property
    def needs_text(self) -> bool:
        """Whether the index is not enough to find it."""
        return len(self.words) > 1 or len(self.words[0].folded) > MAX_LEXEME_LENGTH

    def match(self, form: Form, marker: str = "") -> list[Alternatives]:
        """Return the lexemes that posts with the term have: one of each group."""
        *before, last = self.words
        longest = sorted(dict.fromkeys(before), key=lambda word: len(word.exact), reverse=True)
        groups = [
            self._list_lexemes(word, form, marker) for word in longest[: MAX_INDEXED_WORDS - 1]
        ]
        lexemes = self._list_lexemes(last, form, marker)
        if form is Form.beginning and self.is_prefix:
            beginnings = self._list_lexemes(last, Form.folded, marker)
            others = [lexeme for lexeme in lexemes if not lexeme.startswith(beginnings)]
            lexemes = (*(f"{one}*" for one in beginnings), *others)
        return [*groups, lexemes]

    def _list_lexemes(self, word: Word, form: Form, marker: str) -> Alternatives:
        exact, folded, stem = (text[:MAX_LEXEME_LENGTH] for text in word)
        found = [exact]
        if form >= Form.folded:
            found += [folded, WITHOUT_ACCENTS + folded]
        if form >= Form.stem and self.has_stems:
            found += [marker + (stem or folded) for marker in ("", WITHOUT_ACCENTS, STEM)]
        return tuple(dict.fromkeys(marker + one for one in found))


def parse_terms(q: str) -> list[Term]:
    """Return the distinct terms of a query."""
    terms: dict[Term, None] = {}
    for quoted, word in QUOTED_OR_WORD.findall(q):
        if tokens := tuple(tokenize(quoted or word)):
            terms[Term(tokens, is_quoted=bool(quoted))] = None
    return list(terms)


def match_all(terms: Sequence[Term]) -> list[Alternatives]:
    """Return the lexemes that posts with all terms have: one of each group."""
    groups = (group for term in terms for group in term.match(Form.beginning))
    return list(dict.fromkeys(groups))


def weigh(terms: Sequence[Term]) -> Iterator[Tier]:
    """Yield what each term adds to the rank of the posts that match all of them."""
    for number, term in enumerate(terms[:MAX_RANKED_TERMS]):
        for marker, form, weight, better in WEIGHTS:
            groups = term.match(form, marker)
            excluded = [term.match(other, place) for place, other in better]
            if len(groups) == 1:
                known = set(chain.from_iterable(chain.from_iterable(excluded)))
                groups = [tuple(lexeme for lexeme in groups[0] if lexeme not in known)]
            if groups[-1] and groups not in excluded:
                yield Tier(list(dict.fromkeys(groups)), excluded, weight, number)


def split_matches(terms: Sequence[Term]) -> tuple[list[Tier], list[Tier]]:
    """Return groups that hold each match once, and what else adds to the rank.

    Most posts that match a word have the word itself: their rows are read once, not once for the
    match and again for the rank.
    """
    tiers = list(weigh(terms))
    if len(terms) > 1:
        return [Tier(match_all(terms), [], 0)], tiers
    itself = [term.match(Form.exact, marker) for term in terms for marker in (IN_FOCUS, "")]
    groups = [tier for tier in tiers if tier.groups in itself]
    others = [tier for tier in tiers if tier.groups not in itself]
    return [*groups, Tier(match_all(terms), itself, 0)], others
