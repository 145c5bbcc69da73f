"""Split a search query into terms: words, and phrases in quotation marks.

`parse_terms('Fast API "async session"', max_words=20)` returns the prefixes `fast` and `api`, and
the phrase `async session`. The databases tokenize stored text in their own way; `Term.make_pattern`
finds the same matches in a text in Python.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

QUOTED_OR_WORD_PATTERN = re.compile(r'"([^"]*)"|([^\s"]+)')
# Letters and digits; everything else separates tokens.
TOKEN_PATTERN = re.compile(r"[^\W_]+")

SEPARATOR = r"[\W_]+"
WORD_REST = r"[^\W_]*"
WORD_END = r"(?![^\W_])"


@dataclass(frozen=True)
class Term:
    """Adjacent tokens; the last one may be a prefix."""

    tokens: tuple[str, ...]
    is_prefix: bool

    def make_pattern(self, stems: Mapping[str, str]) -> str:
        """Return a regular expression for the term and for words with the stems of its tokens.

        `stems` has the stem of each token that is not a stop word; it is empty without stemming.
        """
        *heads, last = map(re.escape, self.tokens)
        # With stemming, the database matches a stop word as a whole word only.
        is_prefix = self.is_prefix and not (stems and self.tokens[-1] not in stems)
        last += WORD_REST if is_prefix else WORD_END
        exact = SEPARATOR.join([*heads, last])
        stemmed = SEPARATOR.join(
            re.escape(stems.get(token, token)) + WORD_REST for token in self.tokens
        )
        return f"{exact}|{stemmed}" if stems else exact


def parse_terms(q: str, *, max_words: int) -> list[Term]:
    """Return the distinct terms of a query, with at most `max_words` words in all of them."""
    terms: dict[Term, None] = {}
    remaining = max_words
    for quoted, word in QUOTED_OR_WORD_PATTERN.findall(q):
        tokens = tuple(TOKEN_PATTERN.findall((quoted or word).lower())[:remaining])
        if tokens:
            # Too many words start with a given letter for a prefix search.
            term = Term(tokens, is_prefix=not quoted and len(tokens[-1]) > 1)
            remaining -= 0 if term in terms else len(tokens)
            terms[term] = None
    return list(terms)
