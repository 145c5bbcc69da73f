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
from blog_api.text.tokenizer import Word, analyze_match, cached_if_short, find_matches

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


class Part(NamedTuple):
    """Lexemes and normalized text of a part of a text."""

    lexemes: tuple[str, ...]
    text: str


def make_lexemes(word: Word) -> Iterator[str]:
    yield word.exact[:MAX_LEXEME_LENGTH]
    if word.folded != word.exact:
        yield WITHOUT_ACCENTS + word.folded[:MAX_LEXEME_LENGTH]
    if word.stem:
        yield STEM + word.stem[:MAX_LEXEME_LENGTH]


@cached_if_short
def make_part(match: str) -> Part:
    """Return what a match of the tokenizer adds to the index."""
    tokens = analyze_match(match)
    words = chain.from_iterable(token.words for token in tokens)
    lexemes = chain.from_iterable(map(make_lexemes, words))
    return Part(tuple(lexemes), " ".join(token.text for token in tokens))


def lexemes_of(parts: Iterable[Part]) -> list[str]:
    return [lexeme for part in parts for lexeme in part.lexemes]


def fold(parts: Iterable[Part]) -> str:
    """Return a line of the normalized text."""
    return f" {' '.join([part.text for part in parts if part.text])} "


def index_words(title: str, tags: Sequence[str], content: str) -> IndexedWords:
    """Return the words of a post. Its time is proportional to the length of the texts."""
    matches = find_matches(content)
    counts_of_matches = Counter(matches)
    parts = {match: make_part(match) for match in counts_of_matches}
    counts: dict[str, int] = {}
    for match, count in counts_of_matches.items():
        for lexeme in parts[match].lexemes:
            counts[lexeme] = counts.get(lexeme, 0) + count
    of_title, *of_tags = (
        [make_part(match) for match in find_matches(text)] for text in (title, *tags)
    )
    of_content = [parts[match] for match in matches]
    in_title, in_tags = lexemes_of(of_title), lexemes_of(chain(*of_tags))
    in_focus = lexemes_of(of_content[:FIRST_TOKENS])
    in_focus += [lexeme for lexeme, count in counts.items() if count >= FREQUENT]
    lexemes = dict.fromkeys(
        [
            *in_title,
            *in_tags,
            *[IN_TITLE + lexeme for lexeme in in_title],
            *[IN_TAGS + lexeme for lexeme in in_tags],
            *counts,
            *[IN_FOCUS + lexeme for lexeme in in_focus],
        ]
    )
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
