"""Lexemes: the words of a post as the index of the search holds them.

Each word gives a lexeme for each of its forms: itself (`café`), without accents if it has any
(`~cafe`), and its stem if that is another word (`running`: `+run`). A lexeme of the title is there
once more with `^`, one of a tag with `#`, and one that the content has often or at its beginning
with `*`, for the order of results. So an index that knows only whether a post has a lexeme finds
and ranks posts, and needs neither positions nor weights.

Whether words are adjacent is in no index: phrases are looked up in the normalized text, which has
each token between two spaces.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from blog_api.core.processes import CPU_SECONDS, MEMORY_BYTES, limited_resources
from blog_api.text.tokenizer import Token, Word, analyze_match, find_matches

WITHOUT_ACCENTS = "~"
STEM = "+"
IN_TITLE, IN_TAGS, IN_FOCUS = MARKERS = ("^", "#", "*")

# In characters. A longer word is found by its beginning, and by the normalized text.
MAX_LEXEME_LENGTH = 100
# In bytes, of all lexemes of a post. A `tsvector` of Postgres holds a mebibyte.
MAX_LEXEMES_BYTES = 1_000_000

# A lexeme that the content has so often, or among the first tokens, is one that it is about.
FREQUENT = 4
FIRST_TOKENS = 60


class IndexedWords(NamedTuple):
    """Content of the search index for one post."""

    lexemes: str
    """Separated by spaces, each once."""
    folded: str
    """The normalized text without accents; a line for the title, for each tag, for the content."""
    is_cut: bool
    """Whether there are more lexemes than the index holds."""


def make_lexemes(word: Word) -> Iterator[str]:
    yield word.exact[:MAX_LEXEME_LENGTH]
    if word.folded != word.exact:
        yield WITHOUT_ACCENTS + word.folded[:MAX_LEXEME_LENGTH]
    if word.stem:
        yield STEM + word.stem[:MAX_LEXEME_LENGTH]


def lexemes_of(tokens: Iterable[Token]) -> Iterator[str]:
    return chain.from_iterable(make_lexemes(word) for token in tokens for word in token.words)


def fold(tokens: Iterable[Token]) -> str:
    """Return tokens as a line of the normalized text."""
    return f" {' '.join(token.text for token in tokens)} "


def index_words(title: str, tags: Sequence[str], content: str) -> IndexedWords:
    """Return the words of a post. Its time is proportional to the length of the texts."""
    matches = find_matches(content)
    tokens = {match: analyze_match(match) for match in matches}
    counts: Counter[str] = Counter()
    for match, count in Counter(matches).items():
        for lexeme in lexemes_of(tokens[match]):
            counts[lexeme] += count
    of_title, *of_tags = (
        [token for match in find_matches(text) for token in analyze_match(match)]
        for text in (title, *tags)
    )
    first = lexemes_of(chain.from_iterable(tokens[match] for match in matches[:FIRST_TOKENS]))
    frequent = (lexeme for lexeme, count in counts.items() if count >= FREQUENT)
    in_title, in_tags = list(lexemes_of(of_title)), list(lexemes_of(chain(*of_tags)))
    lexemes = dict.fromkeys(
        chain(
            in_title,
            in_tags,
            (IN_TITLE + lexeme for lexeme in in_title),
            (IN_TAGS + lexeme for lexeme in in_tags),
            counts,
            (IN_FOCUS + lexeme for lexeme in chain(first, frequent)),
        )
    )
    of_content = chain.from_iterable(tokens[match] for match in matches)
    folded = "\n".join(map(fold, (of_title, *of_tags, of_content)))
    joined, is_cut = join_within_limit(lexemes)
    return IndexedWords(joined, folded, is_cut)


def join_within_limit(lexemes: Iterable[str]) -> tuple[str, bool]:
    """Return the first lexemes, as many as an index holds, and whether these are not all."""
    joined = " ".join(lexemes)
    if len(joined) * 4 > MAX_LEXEMES_BYTES:
        encoded = joined.encode()
        if len(encoded) > MAX_LEXEMES_BYTES:
            end = encoded.rfind(b" ", 0, MAX_LEXEMES_BYTES)
            return encoded[: max(end, 0)].decode(), True
    return joined, False


def index_words_in_process(
    sources: Sequence[tuple[str, Sequence[str], str]],
) -> list[IndexedWords] | None:
    """Return the words of posts, made with limited memory and CPU time; None over a limit."""
    with limited_resources(MEMORY_BYTES, CPU_SECONDS):
        try:
            return [index_words(*source) for source in sources]
        except MemoryError:
            return None
