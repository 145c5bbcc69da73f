"""Full-text search of posts."""

import itertools
import random
import re
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from anyio import fail_after
from fastapi import FastAPI
from httpx import AsyncClient

from blog_api.db.base import identify_row
from blog_api.db.session import Database
from blog_api.posts import search_sql
from blog_api.posts.lists import found_posts
from blog_api.posts.search_index import make_words_of_posts, save_pending
from blog_api.text import lexemes
from tests.support.clients import PASSWORD, publish


async def search(client: AsyncClient, q: str, path: str = "/posts", **query: str) -> list[str]:
    """Return the titles of the posts that are found."""
    response = await client.get(path, params={"q": q, "size": "100", **query})
    assert response.status_code == 200, response.text
    page = response.json()
    assert page["total_count"] == len(page["results"])
    return [post["title"] for post in page["results"]]


async def read_snippet(client: AsyncClient, q: str) -> str:
    """Return the snippet of the only post that is found."""
    (post,) = (await client.get("/posts", params={"q": q})).json()["results"]
    snippet: str = post["snippet"]
    return snippet


def remove_marks(text: str) -> str:
    return re.sub("</?mark>", "", text)


async def test_search_covers_title_tags_and_content(ann: AsyncClient):
    await publish(ann, title="One two", content="Three *four*.", tags=["Five", "six seven"])
    await publish(ann, title="Other", content="Nothing of it", tags=["else"])

    for q in ("one", "TWO", "three", "four", "five", "seven", "one seven four", "two, FIVE!"):
        assert await search(ann, q) == ["One two"], q
    for q in ("eight", "one eight", "one nothing", "four else"):
        assert await search(ann, q) == [], q
    # Prefixes have at least two letters.
    assert await search(ann, "o") == await search(ann, "o*") == []


async def test_a_search_result_is_a_listed_post_with_a_snippet(
    ann: AsyncClient, anonymous: AsyncClient
):
    post = await publish(ann, tags=["Python"])

    found = (await anonymous.get("/posts?q=world")).json()
    listed = (await anonymous.get("/posts")).json()

    assert found == {
        "total_count": 1,
        "results": [post | {"snippet": "<mark>World</mark>"}],
        "next_cursor": None,
    }
    assert listed["results"] == [post]


async def test_search_ignores_case_in_every_script(ann: AsyncClient):
    await publish(ann, title="Привет, МИР", content="ÉCOLE straße")

    for q in ("привет", "ПРИВЕТ", "мир", "école", "École", "STRASSE", "straße"):
        assert await search(ann, q) == ["Привет, МИР"], q


UNUSUAL_QUERIES = (
    "async await", "c++", "it's", '"error handling"', "зависимости", "%", "'", '"', "*", "AND",
    "OR", "NOT", "NEAR(", "NEAR(a b)", "a:b", "title:hello", "^", "^hello", "-hello", "!", "!!",
    "hello & | !", "hello <-> world", "<0>", ":*", "hello:*A", "(", ")", "(()", "\\", "\\'", "''",
    "'';--", '""', '"""', '"hello', 'hello"', '"\'"', "hello*", "{title} : hello", "post_search",
    "foo-bar", "a_b", "_", "__", "user@example.com", "https://example.com/a?b=c#d", "/usr/bin",
    "<b>hello</b>", "&amp;", "1.5", "-1", "1e10", "🎉", "🎉🎉 🚀", "👩‍👩‍👧", "\x00", "a\x00b",
    "\x01\x02\x03", "\ufffd", "\uffff", "\u202e", "\u0301", "e\u0301", "İ", "ﬁ", "ß", "日本語",
    "नमस्ते", "ابحث", "٣", "½", "a" * 1000, "ж" * 1000, "日" * 1000, "\U0001d54f" * 1000,
    "a " * 500, '"' * 1000, "* " * 500, '"a" ' * 250, "a-" * 500, "a:" * 500, "🎉" * 1000,
    " ".join(string.ascii_lowercase), "the", "и в на", "hello the", '"the"', '"to be or not to be"',
)  # fmt: skip


async def test_no_query_causes_an_error(ann: AsyncClient):
    # The post has most of the words, so that snippets are computed too.
    text = re.sub("[\x00-\x08\ufffe\uffff]", "", "\n".join(UNUSUAL_QUERIES))
    await publish(ann, content=f"{text}\n{text[::-1]}")

    for q in UNUSUAL_QUERIES:
        response = await ann.get("/posts", params={"q": q})
        assert response.status_code == 200, ascii(q)
    for q in UNUSUAL_QUERIES[::5]:
        assert (await ann.get("/feed.json", params={"q": q})).status_code == 200, ascii(q)


async def test_random_bytes_and_characters_cause_no_error(ann: AsyncClient):
    await publish(ann)
    chance = random.Random(5)

    for _ in range(10):
        response = await ann.get(f"/posts?q={quote(chance.randbytes(200))}")
        assert response.status_code == 200
    # Random letters form words more often than random bytes.
    for _ in range(10):
        q = "".join(chr(chance.choice((chance.randrange(32, 0x600), 34, 32))) for _ in range(99))
        assert (await ann.get("/posts", params={"q": q})).status_code == 200, ascii(q)


@pytest.mark.parametrize("path", ["/posts", "/users/me/feed", "/feed.json"])
async def test_a_query_that_is_too_long_is_rejected(ann: AsyncClient, path: str):
    assert (await ann.get(path, params={"q": "a" * 1000})).status_code == 200
    assert (await ann.get(path, params={"q": "a" * 1001})).status_code == 422


@pytest.mark.parametrize("q", ["", " ", "\t\n"])
async def test_an_empty_query_lists_all_posts(ann: AsyncClient, q: str):
    post = await publish(ann)

    page = (await ann.get("/posts", params={"q": q})).json()

    assert page["results"] == [post]
    assert page["total_count"] == 1


async def test_a_query_without_words_finds_nothing(ann: AsyncClient):
    await publish(ann, content="? ! 🎉")

    for q in ("?", "!", "🎉", "...", '""', "_"):
        assert await search(ann, q) == [], q


async def test_all_words_of_a_query_count(ann: AsyncClient):
    words = [f"word{number}" for number in range(50)]
    await publish(ann, content=" ".join(words))
    phrases = [f'"{" ".join(words[start : start + 25])}"' for start in range(0, 50, 25)]

    assert await search(ann, " ".join(words)) == ["Hello"]
    assert await search(ann, " ".join([*words[1:], "nowhere"])) == []
    # The same words again are no further words.
    assert await search(ann, " ".join([*words, *words])) == ["Hello"]
    assert await search(ann, " ".join(phrases)) == ["Hello"]
    assert await search(ann, f"{phrases[0]} no") == []
    assert await search(ann, f'{phrases[0]} "{words[26]} {words[25]}"') == []
    assert await search(ann, f'"{" ".join(words)} nowhere"') == []


@pytest.mark.parametrize("path", ["/posts", "/users/me/feed", "/feed.json"])
async def test_a_query_of_too_many_words_is_rejected(ann: AsyncClient, path: str):
    q = " ".join(f"word{number}" for number in range(51))

    response = await ann.get(path, params={"q": q})

    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["loc"], error["type"]) == (["query", "q"], "too_many_words")
    assert error["msg"].startswith("The search is too long")


async def test_search_matches_prefixes_of_words(ann: AsyncClient):
    await publish(ann, title="Dependencies", content="Зависимости и обработка ошибок")

    for q in ("depend", "DEP", "зав", "завис", "обработ завис"):
        assert await search(ann, q) == ["Dependencies"], q
    # One letter is too short, and the middle of a word is not a prefix.
    for q in ("d", "з", "pendencies", "висимости"):
        assert await search(ann, q) == [], q


async def test_quoted_words_are_matched_as_a_phrase(ann: AsyncClient):
    await publish(ann, title="Together", content="All about error handling in Rust.")
    await publish(ann, title="Apart", content="Handling of an error, in Rust.")

    assert sorted(await search(ann, "error handling")) == ["Apart", "Together"]
    assert await search(ann, '"error handling"') == ["Together"]
    assert await search(ann, '"ERROR  Handling" rust') == ["Together"]
    assert await search(ann, '"handling error"') == []
    assert sorted(await search(ann, '"in Rust"')) == ["Apart", "Together"]
    # In a phrase, the last word is not a prefix either.
    assert await search(ann, '"error hand"') == []


async def test_words_joined_by_punctuation_are_matched_as_a_phrase(ann: AsyncClient):
    await publish(
        ann,
        title="Code",
        content="`docs.rs/serde`, user@example.com, it's C++17, foo-bar, snake_case, a<b>c, x:y",
    )
    await publish(ann, title="Other", content="serde rs docs; bar foo; case snake; s it")

    for q in (
        "serde", "docs.rs/serde", "rs/serde", "example", "user@example.com", "it's", "C++17",
        "foo-bar", "bar", "snake_case", "case", "x:y",
    ):  # fmt: skip
        assert "Code" in await search(ann, q), q
    for q in ("docs.rs/serde", "user@example.com", "it's", "foo-bar", "snake_case"):
        assert await search(ann, q) == ["Code"], q


async def test_other_forms_of_a_word_are_found(ann: AsyncClient):
    await publish(ann, title="Russian", content="Зависимости проекта, обработка ошибок")
    await publish(ann, title="English", content="Errors were handled; running dependencies")

    for q in ("зависимостей", "зависимость", "проектов", "обработке ошибок"):
        assert await search(ann, q) == ["Russian"], q
    for q in ("handling errors", "run dependency"):
        assert await search(ann, q) == ["English"], q
    # In quotation marks, only the words themselves.
    assert await search(ann, '"зависимостей"') == await search(ann, '"run"') == []
    assert await search(ann, "зависим") == ["Russian"]
    assert await search(ann, "error") == ["English"]


async def test_stop_words_do_not_prevent_a_match(ann: AsyncClient):
    await publish(ann, content="To be or not to be, that is the question")

    for q in ("the question", "question the", "to be", "the"):
        assert await search(ann, q) == ["Hello"], q


async def test_titles_rank_above_tags_and_tags_above_content(ann: AsyncClient):
    text = "Something of about the same length as the others have"
    await publish(ann, title="Moon in the title", content=text)
    await publish(ann, title="Nothing in this one", content=text, tags=["moon"])
    await publish(ann, title="Nothing in that one", content=f"moon {text}")
    await publish(ann, title="Nothing at all", content=text)

    assert await search(ann, "moon") == [
        "Moon in the title", "Nothing in this one", "Nothing in that one",
    ]  # fmt: skip


async def test_hidden_posts_do_not_change_the_order(ann: AsyncClient, bob: AsyncClient):
    """A common word weighs less in `bm25()`, which counts the words of hidden posts too."""
    for number, content in enumerate(("alpha beta beta", "alpha alpha beta", "beta alpha")):
        await publish(ann, title=f"Post {number}", content=content)
    await publish(ann, title="alpha", content="beta")
    await publish(ann, title="beta", content="alpha", tags=["beta"])
    queries = ("alpha beta", "alpha", "beta", '"alpha beta"')
    before = [await search(ann, q) for q in queries]

    for hidden in ("alpha", "beta"):
        for _ in range(20):
            await publish(bob, title=hidden, content=hidden, published_at=None)

        assert [await search(ann, q) for q in queries] == before


async def test_equally_ranked_posts_are_sorted_newest_first(ann: AsyncClient):
    for _ in range(3):
        await publish(ann)

    ids = [post["id"] for post in (await ann.get("/posts?q=hello")).json()["results"]]

    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3


@pytest.mark.parametrize("limit", [1, 3, 20_000])
async def test_the_order_does_not_depend_on_which_words_are_frequent(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch, limit: int
):
    found_posts.cache_clear()
    monkeypatch.setitem(search_sql.LIMITS, "max_counted_posts", limit)
    for title in ("Alpha gamma", "Beta gamma", "Gamma", "Alphabet gamma"):
        await publish(ann, title=title, content="alpha beta")
    await publish(ann, title="Alpha beta", content="gamma")
    await publish(ann, title="Alpha", content="nothing else")

    found = [await search(ann, q) for q in ("alpha beta gamma", "gamma alpha")]

    found_posts.cache_clear()
    assert found == [
        ["Beta gamma", "Alpha gamma", "Alphabet gamma", "Alpha beta", "Gamma"],
        ["Alpha gamma", "Alphabet gamma", "Gamma", "Alpha beta", "Beta gamma"],
    ]


@pytest.fixture
def four_ranked_posts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found_posts.cache_clear()
    monkeypatch.setitem(search_sql.LIMITS, "max_ranked_posts", 4)
    yield
    found_posts.cache_clear()


@pytest.mark.usefixtures("four_ranked_posts")
async def test_the_newest_matches_are_ranked_and_all_are_counted(
    ann: AsyncClient, bob: AsyncClient
):
    for title in ("Moon", "Nr. 1", "Nr. 2", "Moon, Nr. 3", "Nr. 4"):
        await publish(ann, title=title, content="moon")
    for hidden in (None, "2999-01-01T00:00:00Z"):
        for _ in range(4):
            await publish(bob, title="Moon", content="moon", published_at=hidden)
    ann_id = str((await ann.get("/users/me")).json()["id"])

    pages = [
        (await ann.get("/posts", params={"q": "moon", "size": "3", "page": page})).json()
        for page in ("1", "2", "3")
    ]
    of_author = await search(ann, "moon", author=ann_id)

    found = [[post["title"] for post in page["results"]] for page in pages]
    assert found == [["Moon, Nr. 3", "Nr. 4", "Nr. 2"], ["Nr. 1"], []]
    assert [page["total_count"] for page in pages[:2]] == [5, 5]
    # Filters choose among all of them.
    assert of_author == ["Moon, Nr. 3", "Nr. 4", "Nr. 2", "Nr. 1", "Moon"]


async def test_a_post_is_weighed_once_in_each_place(ann: AsyncClient):
    """A title with a word and with another that begins so is not better than one with the word."""
    await publish(ann, title="moon x moons", content="-", tags=["moon", "moons"])
    await publish(ann, title="a moon", content="-", tags=["moon"])

    assert await search(ann, "moon") == ["a moon", "moon x moons"]
    assert await search(ann, "moo") == ["a moon", "moon x moons"]


async def test_a_snippet_is_escaped_html_with_mark_elements_only(ann: AsyncClient):
    await publish(
        ann, content='<script>alert("moon")</script> <mark>sun</mark> & &lt;b&gt; <b>star</b>'
    )

    for q in ("moon", "sun", "star", "script", "mark", "hello", "alert moon"):
        snippet = await read_snippet(ann, q)
        assert not re.search("<(?!/?mark>)", snippet), snippet
        assert re.fullmatch(r"([^<]*<mark>[^<]+</mark>)*[^<]*", snippet), snippet
    assert await read_snippet(ann, "sun") == "<mark>sun</mark> &amp; &lt;b&gt; star"
    assert await read_snippet(ann, "star") == "sun &amp; &lt;b&gt; <mark>star</mark>"
    # The script is removed from the HTML of the post, and so from the snippet.
    assert await read_snippet(ann, "moon") == "sun &amp; &lt;b&gt; star"
    assert await read_snippet(ann, '"mark sun"') == "sun &amp; &lt;b&gt; star"


async def test_a_snippet_has_no_markup(ann: AsyncClient):
    content = "# The *Moon* rises\n\n- over [the **lake**](https://example.com/moon)\n- `x < y`"
    await publish(ann, title="Other", content=content)

    assert await read_snippet(ann, "moon") == ("The <mark>Moon</mark> rises over the lake x &lt; y")
    assert "over <mark>the lake</mark> x" in await read_snippet(ann, '"the lake"')


async def test_a_snippet_shows_the_passage_with_the_matching_words(ann: AsyncClient):
    padding = " ".join(["padding"] * 500)
    await publish(ann, content=f"{padding} over the moon and\nfar away {padding}")

    snippet = await read_snippet(ann, "moon")

    assert "the <mark>moon</mark> and" in snippet
    assert len(snippet) < 500
    # If only the title matches, the snippet is the beginning of the content.
    assert remove_marks(await read_snippet(ann, "hello")).startswith("padding padding")


async def test_hidden_posts_are_neither_found_nor_counted(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    await publish(ann, title="draft", content="moon", published_at=None)
    await publish(ann, title="scheduled", content="moon", published_at="2999-01-01T00:00:00Z")
    down = await publish(ann, title="down", content="moon")
    deleted = await publish(ann, title="deleted", content="moon")
    unpublished = await publish(ann, title="unpublished", content="moon")
    await publish(ann, title="public", content="moon")
    await admin.put(f"/admin/posts/{down['id']}/takedown")
    await ann.delete(f"/posts/{deleted['id']}")
    await ann.patch(f"/posts/{unpublished['id']}", json={"published_at": None})

    for client in (ann, bob, admin):
        assert await search(client, "moon") == ["public"]
        assert await search(client, "moon", sort="published_at") == ["public"]
        for q in ("draft", "scheduled", "down", "deleted", "unpublished"):
            assert await search(client, q) == [], q
    feed = (await ann.get("/feed.json?q=moon")).json()
    assert [item["title"] for item in feed["items"]] == ["public"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_edited_post_is_found_by_its_new_words_only(ann: AsyncClient, method: str):
    post = await publish(ann, title="Old title", content="old content", tags=["old-tag"])

    body = {"title": "Moon", "content": "sun", "tags": ["star"]}
    await ann.request(method, f"/posts/{post['id']}", json=body)

    for q in ("old", "title", "content", "tag"):
        assert await search(ann, q) == [], q
    for q in ("moon", "sun", "star", "moon sun star"):
        assert await search(ann, q) == ["Moon"], q


async def test_a_deleted_post_is_not_found(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann)
    await publish(bob)

    await ann.delete(f"/posts/{post['id']}")
    remaining = await search(bob, "world")
    await bob.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert remaining == ["Hello"]
    assert await search(ann, "world") == []


async def test_filters_and_sort_orders_can_be_combined_with_a_search(
    ann: AsyncClient, bob: AsyncClient
):
    for number, (author, tag, word) in enumerate(
        ((ann, "x", "moon"), (bob, "x", "moon"), (ann, "y", "moon"), (ann, "x", "sun")), start=1
    ):
        at = f"2020-01-0{number}T00:00:00Z"
        post = await publish(author, title=str(number), content=word, tags=[tag], published_at=at)
    ann_id = str(post["user_id"])

    assert sorted(await search(ann, "moon")) == ["1", "2", "3"]
    assert await search(ann, "moon", sort="-published_at") == ["3", "2", "1"]
    assert await search(ann, "moon", sort="published_at") == ["1", "2", "3"]
    assert await search(ann, "moon", sort="-published_at", tag="X") == ["2", "1"]
    assert await search(ann, "moon", tag="x", author=ann_id) == ["1"]
    assert await search(ann, "moon", since="2020-01-03T00:00:00Z") == ["3"]
    assert await search(ann, "sun", until="2020-01-04T00:00:00Z") == []
    assert sorted(await search(ann, "moon", f"/users/{ann_id}/posts")) == ["1", "3"]
    await bob.put(f"/users/me/following/{ann_id}")
    assert sorted(await search(bob, "moon", "/users/me/feed")) == ["1", "3"]


@pytest.mark.parametrize("sort", ["-published_at", "published_at", "-updated_at", "updated_at"])
async def test_a_sorted_search_supports_cursors(ann: AsyncClient, sort: str):
    for number in range(5):
        await publish(ann, title=str(number), content="moon", tags=["x"])
        await publish(ann, title="no", content="sun", tags=["x"])
        await publish(ann, title="no", content="moon", tags=["y"])
    query = {"q": "moon", "tag": "X", "sort": sort, "size": "2"}

    pages: list[dict[str, Any]] = [(await ann.get("/posts", params=query)).json()]
    while pages[-1]["next_cursor"]:
        more = query | {"cursor": pages[-1]["next_cursor"]}
        pages.append((await ann.get("/posts", params=more)).json())

    titles = [post["title"] for page in pages for post in page["results"]]
    assert titles == (["4", "3", "2", "1", "0"] if sort[0] == "-" else ["0", "1", "2", "3", "4"])
    assert {page["total_count"] for page in pages} == {5}
    assert {post["snippet"] for page in pages for post in page["results"]} == {"<mark>moon</mark>"}


async def test_a_ranked_search_supports_page_numbers_but_no_cursors(ann: AsyncClient):
    for _ in range(5):
        await publish(ann)
    sorted_page = (await ann.get("/posts?sort=-published_at&size=2")).json()

    pages = [(await ann.get(f"/posts?q=hello&size=2&page={page}")).json() for page in (1, 2, 3)]
    rejected = await ann.get(f"/posts?q=hello&cursor={sorted_page['next_cursor']}")

    ids = [post["id"] for page in pages for post in page["results"]]
    assert len(set(ids)) == len(ids) == 5
    assert {page["next_cursor"] for page in pages} == {None}
    assert rejected.status_code == 422
    assert rejected.json()["errors"][0]["loc"] == ["query", "cursor"]


@pytest.mark.parametrize("letters", [string.ascii_lowercase, "абвгдежзиклмнопрстуфхцчшщ"])
async def test_a_text_with_more_words_than_the_index_holds_is_saved_and_found(
    ann: AsyncClient, letters: str
):
    """Postgres indexes as many words as fit."""
    words = map("".join, itertools.product(letters, repeat=5))
    content = " ".join(itertools.islice(words, 500_000 // 6))

    post = await publish(ann, title="Long", content=content)

    assert (await ann.get(f"/posts/{post['id']}")).json()["content"] == content
    assert await search(ann, content[:17]) == ["Long"]
    assert await search(ann, f'"{content[:17]}"') == ["Long"]
    assert await search(ann, "long") == ["Long"]
    assert f"<mark>{content[:5]}</mark>" in await read_snippet(ann, content[:5])


async def test_the_rank_of_a_text_with_too_many_words_does_not_depend_on_other_posts(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lexemes, "MAX_LEXEMES_BYTES", 500)
    words = " ".join(map("".join, itertools.product("abcd", repeat=4)))
    # The index does not have its last word.
    await publish(ann, title="Moon", content=f"{words} sun", tags=["of-all"])
    await publish(ann, title="Short", content="moon sun", tags=["of-all"])
    found = []

    # Either word is the rarest one once.
    for content in ("moon", "sun", "sun", "sun"):
        await publish(ann, title="Other", content=content)
        found += [await search(ann, "moon sun"), await search(ann, "moon sun", tag="of-all")]

    assert found == [["Short", "Moon"]] * 8


async def test_a_text_with_words_too_long_for_the_index_is_found(ann: AsyncClient):
    await publish(ann, content=f"{'ж' * 15_000} moon {'日' * 5000}")

    assert await search(ann, "moon") == ["Hello"]
    assert "<mark>moon</mark>" in await read_snippet(ann, "moon")


async def test_a_snippet_of_a_text_of_one_repeated_word_is_fast(ann: AsyncClient):
    """The snippet functions of both databases take minutes and gigabytes for such a text."""
    await publish(ann, content="ab " * 166_000)

    for q in ("ab", "ab ab", '"ab ab"', "ab-ab", '"ab ab ab" ab ab', "ab " * 20):
        with fail_after(30):
            assert "<mark>ab" in await read_snippet(ann, q), q


async def test_indexing_a_post_leaves_others_in_the_cache(empty_app: FastAPI, ann: AsyncClient):
    post = await publish(ann, content="moon")
    database: Database = empty_app.state.database
    before = database.cache_version

    pending = await make_words_of_posts(database, empty_app.state.renderer, [post["id"]])
    async with database.session(writes=True) as session:
        await save_pending(session, pending)

    after = database.cache_version
    assert after.tables == before.tables
    # Searches are lists.
    assert after.lists > before.lists
    assert after.changed_rows[identify_row("posts", post["id"])] == after.lists
