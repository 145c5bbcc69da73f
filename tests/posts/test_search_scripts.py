"""Words of any script are found, in any spelling, on both databases."""

import os
import random
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Literal, NamedTuple

import pytest
import regex
from httpx import AsyncClient

from blog_api.text import lexemes
from tests.posts.test_search import read_snippet, search
from tests.support.clients import publish


class Case(NamedTuple):
    """A text, queries that find it, and some that do not."""

    text: str
    found_by: Sequence[str]
    not_found_by: Sequence[str] = ()


NFD_RESUME = unicodedata.normalize("NFD", "résumé")

CASES = (
    Case("हिन्दी भाषा", ["हिन्दी", "हिन्दी भाषा", '"हिन्दी भाषा"']),
    Case("தமிழ்", ["தமிழ்"]),
    Case("తెలుగు", ["తెలుగు"]),
    Case("မြန်မာ", ["မြန်မာ"]),
    Case("ខ្មែរ", ["ខ្មែរ"]),
    Case("שָׁלוֹם", ["שָׁלוֹם", "שלום"]),
    Case("سَلام عليكم", ["سلام", "سَلام"]),
    Case(NFD_RESUME, ["résumé", NFD_RESUME, "resume", "RÉSUMÉ"]),
    Case("İstanbul", ["İstanbul", "istanbul", "ISTANBUL", "i\u0307stanbul"], ["stanbul"]),
    Case("ΟΔΟΣ", ["ΟΔΟΣ", "οδος", "οδός"]),
    Case("Ο ΔΡΟΜΟΣ", ["δρόμος", "δρομοσ"]),
    Case("Жанна", ["Жанна", "жанна", "ЖАННА"]),
    Case("Ёлка", ["елка", "ёлка", "ЁЛКИ"]),
    Case("майка", ["майка", "МАЙКИ"], ["маика"]),
    Case("café noir", ["cafe", "café", "cafés", '"cafe noir"', '"CAFÉ NOIR"'], ['"noir café"']),
    Case("🦀Rust", ["rust", "🦀Rust"]),
    Case("🤔Hmm", ["hmm", "🤔Hmm"]),
    Case("👍🏽Great", ["great", "👍🏽Great"]),
    Case("❤️Love", ["love", "❤️Love"]),
    Case("₺100", ["100", "₺100"]),
    Case("1️⃣First", ["first", "1️⃣First"]),
    Case("first1️⃣second", ["first", "1", "second", '"first 1 second"'], ['"first1"']),
    Case("Trademark™", ["trademark", "Trademark™"]),
    Case("Fußball", ["FUSSBALL", "fussball", "Fußball"]),
    Case(
        "我喜欢编程语言", ["编程", "语言", "我喜欢编程语言", "言", '"编程语言"'], ["编语", "程编"]
    ),
    Case("東京都に住んでいます", ["東京", "住んで", "京都", "都"], ["京東", "東都"]),
    Case("한국어는 어렵다", ["한국", "국어", "한국어", "어렵다"], ["국한"]),
    Case("ภาษาไทย", ["ภาษา", "ไทย"]),
    Case("Pythonで書く", ["python", "書く", "pythonで"]),
    Case("ＡＢＣ ﾊﾟﾋﾟ", ["abc", "パピ"]),
    Case("naïve bayes", ["naive", "naïve"]),
    Case("smørrebrød", ["smorrebrod", "SMØRREBRØD"]),
    Case("می‌خواهم", ["می‌خواهم", "میخواهم"]),
    Case("co\u00adoperate", ["cooperate"]),
    Case("«Цитата дня»", ["«Цитата дня»", '"цитата дня"'], ["«дня цитата»"]),
)


@pytest.mark.parametrize("place", ["title", "tag", "content"])
async def test_texts_are_found(ann: AsyncClient, place: str):
    for number, case in enumerate(CASES):
        title = case.text if place == "title" else f"Nr. {number}"
        values = {
            "title": title,
            "content": case.text if place == "content" else "-",
            "tags": [case.text] if place == "tag" else [],
        }
        post = await publish(ann, **values)

        for q in (case.text, *case.found_by):
            assert await search(ann, q) == [post["title"]], q
            if place == "content":
                assert "<mark>" in await read_snippet(ann, q), q
        for q in case.not_found_by:
            assert await search(ann, q) == [], q
        await ann.delete(f"/posts/{post['id']}")


async def test_tags_are_indexed_as_text(ann: AsyncClient):
    await publish(ann, tags=["été", "日本"])

    for q in ("été", "日本", "ete", "ÉTÉ"):
        assert await search(ann, q) == ["Hello"], q
    for q in ("u00e9t", "u65e5", "00e9", "日 été日"):
        assert await search(ann, q) == [], q


async def test_a_phrase_does_not_reach_from_one_text_into_the_next(ann: AsyncClient):
    await publish(ann, title="One two", tags=["three", "four"], content="five six")

    for q in ('"one two"', '"five six"', "one-two"):
        assert await search(ann, q) == ["One two"], q
    for q in ('"two three"', '"three four"', '"four five"', '"two five"', "two-three"):
        assert await search(ann, q) == [], q


async def test_a_phrase_is_found_after_many_words(ann: AsyncClient):
    await publish(
        ann, title="A", content=" ".join(f"the w{n}" for n in range(300)) + " the unicorn"
    )
    words = " ".join(f"word{n}" for n in range(17_000))
    await publish(ann, title="B", content=f"{words} node.js and don't")

    assert await search(ann, '"the unicorn"') == ["A"]
    for q in ("node.js", "don't", '"node.js and"', "don’t", '"word16999 node"'):
        assert await search(ann, q) == ["B"], q
    for q in ('"unicorn the"', "js.node", '"word16998 node"'):
        assert await search(ann, q) == [], q


async def test_curly_quotation_marks_are_quotation_marks(ann: AsyncClient):
    await publish(ann, title="First", content="a b")
    await publish(ann, title="Second", content="b a")

    for q in ('"a b"', "“a b”", "„a b“", "«a b»"):
        assert await search(ann, q) == ["First"], q


async def test_the_21st_word_counts(ann: AsyncClient):
    words = [f"w{number}" for number in range(20)]
    await publish(ann, content=" ".join(words))

    assert await search(ann, " ".join(words)) == ["Hello"]
    assert await search(ann, " ".join([*words, "nowhere"])) == []


async def test_the_word_itself_ranks_before_its_other_forms(ann: AsyncClient):
    for number, word in enumerate(("cafeteria", "cafes", "café", "cafe")):
        await publish(ann, title=f"Nr. {number}", content=f"x {word} y")

    assert await search(ann, "cafe") == ["Nr. 3", "Nr. 2", "Nr. 1", "Nr. 0"]
    assert await search(ann, "café") == ["Nr. 2", "Nr. 3", "Nr. 1", "Nr. 0"]


async def test_words_of_any_length_are_found(ann: AsyncClient):
    long = "ж" * 400
    await publish(ann, title="Long", content=f"{long}! {long}ы")

    for q in (long, f"{long}ы", f'"{long}"', long[:150], f"{long}-{long}ы"):
        assert await search(ann, q) == ["Long"], q
    for q in (f"{long}я", f'"{long[:150]}"', f'"{long}ж"'):
        assert await search(ann, q) == [], q


async def test_a_text_with_more_words_than_an_index_holds_is_found(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lexemes, "MAX_LEXEMES_BYTES", 500)
    characters = [chr(0x4E00 + number) for number in range(30)]
    content = "".join(one + other for n, one in enumerate(characters) for other in characters[n:])
    await publish(ann, title="Long", content=f"{content} end of it")
    await publish(ann, title="Short", content="end of it")

    for q in (content[:4], content[-30:], "Lon", f'{content[-9:]} "end of it"', content[400:]):
        assert await search(ann, q) == ["Long"], q
    assert sorted(await search(ann, '"end of it"')) == ["Long", "Short"]
    assert sorted(await search(ann, "end", sort="published_at")) == ["Long", "Short"]
    for q in ("nothing", '"of end"', f"{content[:4]} nothing", content[:4] + content[:2]):
        assert await search(ann, q) == [], q


SCRIPTS = (
    "Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Syriac", "Thaana", "Devanagari",
    "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam",
    "Sinhala", "Thai", "Lao", "Tibetan", "Myanmar", "Georgian", "Hangul", "Ethiopic", "Cherokee",
    "Canadian_Aboriginal", "Ogham", "Runic", "Khmer", "Mongolian", "Hiragana", "Katakana",
    "Bopomofo", "Han", "Yi", "Gothic", "Deseret", "Coptic", "Tifinagh", "Javanese", "Balinese",
    "Glagolitic", "Nko", "Vai", "Adlam", "Osage", "Tai_Tham",
)  # fmt: skip
SEPARATORS = (
    " ",
    "🦀",
    " 👍🏽 ",
    "👩‍👩‍👧",
    "1️⃣ ",
    "❤️",
    "™ ",
    " — ",
    "₺",
    "\n",
    "…",
    "🇩🇪",
    "/",
    "_",
    "’",
)
CASES_OF_LETTERS = (str.upper, str.lower, str.title, str.casefold, str.swapcase)
FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
RUNS = int(os.environ.get("SEARCH_RUNS", "60"))


@cache
def characters_of(script: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return letters and marks of a script; marks of many scripts are in none."""
    every = "".join(map(chr, range(0x20000)))
    letters = regex.findall(rf"[\p{{sc={script}}}&&\p{{L}}&&\P{{DI}}]", every, regex.V1)
    marks = regex.findall(rf"[\p{{sc={script}}}&&[\p{{Mn}}\p{{Mc}}]&&\P{{DI}}]", every, regex.V1)
    return letters, marks or ["\u0301", "\u0308", "\u0323"]


def make_word(chance: random.Random, script: str) -> str:
    letters, marks = characters_of(script)
    word = ""
    for _ in range(chance.randint(2, 7)):
        word += chance.choice(letters)
        if chance.random() < 0.3:
            word += chance.choice(marks)
    return unicodedata.normalize(chance.choice(FORMS), word)


async def test_random_texts_of_many_scripts_are_found(ann: AsyncClient):
    """Each text is found by itself, and by each word in another case and normalization."""
    chance = random.Random(6)
    for number in range(RUNS):
        script = SCRIPTS[number % len(SCRIPTS)]
        words = [make_word(chance, script) for _ in range(3)]
        separators = [chance.choice(SEPARATORS) for _ in words]
        text = "".join(chain(*zip(words, separators, strict=True)))
        place = chance.choice(("title", "content", "tag"))
        values = {
            "title": text.replace("\n", " ") if place == "title" else "Title",
            "content": text if place == "content" else "-",
            "tags": [words[0]] if place == "tag" else [],
        }
        post = await publish(ann, **values)

        found_by = [text, *words] if place != "tag" else words[:1]
        changed = [
            unicodedata.normalize(chance.choice(FORMS), chance.choice(CASES_OF_LETTERS)(q))
            for q in found_by
        ]
        for q in (found_by[0], *changed):
            page = (await ann.get("/posts", params={"q": q, "body": "none"})).json()
            assert [one["id"] for one in page["results"]] == [post["id"]], (script, q, text)
        await ann.delete(f"/posts/{post['id']}")
