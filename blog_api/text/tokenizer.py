"""Split a search query into terms."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

QUOTED_OR_WORD_PATTERN = re.compile(r'"([^"]*)"|([^\s"]+)')


# Letters and digits: where punctuation begins, a word ends.
TOKEN_PATTERN = re.compile(r"[^\W_]+")


# Between two words, of a word that has begun, and where a word must end.
GAP_PATTERN = r"[\W_]+"


REST_PATTERN = r"[^\W_]*"


END_PATTERN = r"(?![^\W_])"


@dataclass(frozen=True)
class Term:
    """What is looked for: tokens side by side; of the last, the beginning is enough."""

    tokens: tuple[str, ...]
    is_prefix: bool

    def pattern(self, stems: Mapping[str, str]) -> str:
        """A regular expression for it, and for other forms of its words where those are known."""
        *heads, last = map(re.escape, self.tokens)
        # Where forms are known, a word without one says so little that its beginning says nothing.
        is_begun = self.is_prefix and not (stems and self.tokens[-1] not in stems)
        last += REST_PATTERN if is_begun else END_PATTERN
        exact = GAP_PATTERN.join([*heads, last])
        forms = GAP_PATTERN.join(
            re.escape(stems.get(token, token)) + REST_PATTERN for token in self.tokens
        )
        return f"{exact}|{forms}" if stems else exact


def parse_terms(q: str, *, max_words: int) -> list[Term]:
    """What to look for: words, and phrases in quotation marks."""
    terms: dict[Term, None] = {}
    for quoted, word in QUOTED_OR_WORD_PATTERN.findall(q):
        tokens = tuple(TOKEN_PATTERN.findall((quoted or word).lower())[:max_words])
        if tokens:
            # One letter begins too many words. What is said twice is looked for once.
            terms[Term(tokens, is_prefix=not quoted and len(tokens[-1]) > 1)] = None
    return list(terms)[:max_words]
