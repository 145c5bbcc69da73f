"""Words of a text: the only tokenizer of the search, for its index, its queries and its snippets.

    [word.folded for token in tokenize("Fußball im Café") for word in token.words]
    # ['fussball', 'im', 'cafe']

A token is a run of letters, digits and their marks (UAX #29); everything else separates tokens,
punctuation within words too, so that `rust` finds `docs.rs/rust`. Scripts without spaces between
words give a word for each two adjacent characters, and one for the last: two characters find.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from itertools import pairwise
from typing import NamedTuple, TypeVar

import regex
import Stemmer

from blog_api.core.fields import tag_key

T = TypeVar("T")

# Increase it with every change of the words that a text gives: posts are indexed again then.
VERSION = 1

# Words that are not longer are cached, in characters.
MAX_CACHED_LENGTH = 40
CACHED_WORDS = 10_000

# Chinese, Japanese, Korean, and the scripts of South East Asia (UAX #14, complex context).
NO_SPACES = (
    r"[[\p{LB=SA}\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Hangul}\p{scx=Bopomofo}"
    r"\p{sc=Yi}]&&[\p{L}\p{M}\p{Nl}]]"
)
# Not enclosing marks: they make an emoji of a digit.
MARKS = r"[\p{M}--\p{Me}]"
CHARACTERS = rf"[[\p{{L}}\p{{N}}{MARKS}]--{NO_SPACES}]"
# A zero-width space separates words.
INNER_CHARACTERS = rf"[{CHARACTERS}{MARKS}[\p{{DI}}--\u200b]]"
RUN_PATTERN = rf"{NO_SPACES}[{NO_SPACES}{MARKS}\p{{DI}}]*"
TOKEN = regex.compile(f"{RUN_PATTERN}|{CHARACTERS}{INNER_CHARACTERS}*", regex.V1)
# Slower, for texts with digits that are emoji, which separate words.
KEYCAP = "\u20e3"
TOKEN_BESIDE_KEYCAPS = regex.compile(
    rf"{RUN_PATTERN}|[0-9](?=\ufe0f?{KEYCAP})"
    rf"|{CHARACTERS}(?:(?![0-9]\ufe0f?{KEYCAP}){INNER_CHARACTERS})*",
    regex.V1,
)
# The same in texts of Latin and Cyrillic letters, without marks of their own, for which it is five
# times as fast.
PLAIN_TEXT = re.compile(r"[\0-\xac\xae-\u02af\u0400-\u0482\u048a-\u052f\u2010-\u2027]*")
PLAIN_TOKEN = re.compile(r"[^\W_]+")
RUN = regex.compile(rf"[{NO_SPACES}{MARKS}\p{{DI}}]+", regex.V1)
CLUSTER = regex.compile(r"\X")
SINGLE_CHARACTERS = regex.compile(r"[\p{GCB=Other}\p{GCB=LV}\p{GCB=LVT}]+", regex.V1)

# Letters that Unicode does not decompose into a base letter and marks.
BASE_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"}
)
# Combining classes of accents and of Hebrew and Arabic points. Those of other scripts are vowels,
# tones and voicing, which distinguish words as letters do.
POINTS = range(10, 37)
ACCENTS = range(200, 241)
# A letter of its own: an accent on `и` is rare.
SHORT_I = ("и", "\u0306")

ENGLISH = Stemmer.Stemmer("english", 0)
RUSSIAN = Stemmer.Stemmer("russian", 0)
RUSSIAN_WORD = regex.compile("[а-я]+")
MIN_STEMMED_LENGTH = 3


class Word(NamedTuple):
    """The forms of a word: normalized, without accents, and its stem if it has another one."""

    exact: str
    folded: str
    stem: str = ""


class Token(NamedTuple):
    """The words that a part of a text gives, and the part as it is in the normalized text."""

    text: str
    words: tuple[Word, ...]
    is_run: bool
    """Whether the text is of a script without spaces; each word but the last has two characters."""
    offsets: tuple[int, ...] = ()
    """Positions of the characters of a run in the text that was tokenized."""


def fold_accents(text: str) -> str:
    """Return a normalized text without accents, for Russian with `е` for `ё`."""
    if text.isascii():
        return text
    folded: list[str] = []
    for character in unicodedata.normalize("NFD", text):
        combining = unicodedata.combining(character)
        is_accent = combining in ACCENTS or combining in POINTS
        if not is_accent or (folded and (folded[-1], character) == SHORT_I):
            folded.append(character)
    return unicodedata.normalize("NFC", "".join(folded)).translate(BASE_LETTERS) or text


def stem(folded: str) -> str:
    """Return the stem of an English or Russian word if it is another word."""
    if len(folded) < MIN_STEMMED_LENGTH:
        return ""
    if folded.isascii():
        found: str = ENGLISH.stemWord(folded) if folded.isalpha() else folded
    else:
        found = RUSSIAN.stemWord(folded) if RUSSIAN_WORD.fullmatch(folded) else folded
    return "" if found == folded else found


def normalize(text: str) -> str:
    """Return the form that all spellings of a text have in common: NFKC, casefolded."""
    return text.lower() if text.isascii() else tag_key(unicodedata.normalize("NFD", text))


def analyze_run(text: str) -> Token:
    """Return the words of a text of a script without spaces."""
    if SINGLE_CHARACTERS.fullmatch(text) and normalize(text) == text:
        units, offsets = list(text), list(range(len(text)))
    else:
        clusters = [(normalize(match[0]), match.start()) for match in CLUSTER.finditer(text)]
        units = [unit for unit, _ in clusters if unit]
        offsets = [offset for unit, offset in clusters if unit]
    pairs = map("".join, pairwise(units))
    words = tuple(Word(word, word) for word in [*pairs, *units[-1:]])
    return Token("".join(units), words, True, tuple(offsets))


def cached_if_short(analyze: Callable[[str], T]) -> Callable[[str], T]:
    """Cache what a function returns for words; a run of Chinese can be as long as the text."""
    analyze_cached = lru_cache(CACHED_WORDS)(analyze)

    @wraps(analyze)
    def analyze_or_get(text: str) -> T:
        return (analyze_cached if len(text) <= MAX_CACHED_LENGTH else analyze)(text)

    return analyze_or_get


@cached_if_short
def analyze_match(text: str) -> tuple[Token, ...]:
    """Return the tokens of a match of `TOKEN`: one, unless its normalization gives several."""
    exact = normalize(text)
    if RUN.fullmatch(text):
        return (analyze_run(text),) if exact else ()
    if not text.isascii():
        parts = TOKEN.findall(exact)
        if parts != [exact] or RUN.fullmatch(exact):
            # Ligatures of words, fractions, numbers in circles.
            return tuple(token for part in parts if part != text for token in analyze_match(part))
    folded = fold_accents(exact)
    return (Token(folded, (Word(exact, folded, stem(folded)),), False),)


def get_pattern(text: str) -> re.Pattern[str] | regex.Pattern[str]:
    if PLAIN_TEXT.fullmatch(text):
        return PLAIN_TOKEN
    return TOKEN_BESIDE_KEYCAPS if KEYCAP in text else TOKEN


def find_matches(text: str) -> list[str]:
    """Return the parts of a text that give tokens."""
    found: list[str] = get_pattern(text).findall(text)
    return found


def find_spans(text: str) -> list[tuple[str, int]]:
    """Return the parts of a text that give tokens, each with its start."""
    return [(match[0], match.start()) for match in get_pattern(text).finditer(text)]


def tokenize(text: str) -> Iterator[Token]:
    """Yield the tokens of a text in their order."""
    for match in find_matches(text):
        yield from analyze_match(match)
