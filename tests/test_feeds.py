"""Feeds: JSON Feed, Atom and RSS, as programs read them."""

import re
from calendar import timegm
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree.ElementTree import Element

import feedparser
import pytest
import time_machine
from defusedxml.ElementTree import fromstring
from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.support.clients import CHEAP_HASHING as CHEAP
from tests.support.clients import PASSWORD, client_of, make_settings, running, sign_up

HELLO = {"title": "Hello", "content": "World"}
MEDIA_TYPES = {
    "/feed.json": "application/feed+json",
    "/feed.atom": "application/atom+xml",
    "/feed.rss": "application/rss+xml",
}
FEEDS = list(MEDIA_TYPES)
XML_FEEDS = ["/feed.atom", "/feed.rss"]

ATOM = "{http://www.w3.org/2005/Atom}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
RFC_822_TIME = (
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (\+0000|GMT)"
)

# What XML, HTML and the readers of either trip over.
TITLES = [
    "<b>&\"']]>",
    "<![CDATA[a]]> <!-- b --> <?c?> &amp; &#38; &bogus;",
    "<script>alert(1)</script>",
    "Привет, «мир» — ёлка",
    "🎉 👩‍👩‍👧‍👦 \U0001f1fa\U0001f1e6",
    "שלום עולם \u202eolleh\u202c مرحبا",
    " spaces  around ",
    "\u00a0\u2028\u200b\ufeff日本語\U0010fffd",
    "🎉" * 255,
    "&" * 255,
]
CONTENTS = [
    "a ]]> b <![CDATA[c]]> `]]>`",
    "&#1; &#xfffe; &#xD800; &#8; &#x1b; &#xffff;",
    "&#13; &#10; &#9; &#x85; &#x2028;",
    "&lt;b&gt; &amp;amp; <b>b</b> <!-- c --> <?d?>",
    "```python\n<a href='x'>\n```\n\n| a |\n|:-:|\n| b |",
    "Привет 🎉 שלום \u202eolleh\u202c \U0010fffd",
    '[a](/b?c&d "e\'f") ![g](https://example.com/h.png)',
    "- a\n\n  b\n\n\n      c",
]


@dataclass(frozen=True)
class Item:
    """What a feed tells of a post."""

    id: str
    url: str
    title: str
    content_html: str
    authors: list[str]
    tags: list[str]
    published_at: datetime
    # RSS does not tell it.
    updated_at: datetime | None


@dataclass(frozen=True)
class Feed:
    title: str
    url: str
    home: str | None
    items: list[Item]

    @property
    def titles(self) -> list[str]:
        return [item.title for item in self.items]


def text_of(element: Element, path: str) -> str:
    found = element.find(path)
    assert found is not None, path
    return found.text or ""


def texts_of(element: Element, path: str) -> list[str]:
    return [found.text or "" for found in element.iterfind(path)]


def address_of(element: Element, rel: str) -> str:
    """The one link of a kind; without a kind it is the alternate (RFC 4287, 4.2.7.2)."""
    links = [
        link for link in element.iterfind(f"{ATOM}link") if link.get("rel", "alternate") == rel
    ]
    assert len(links) == 1, rel
    return links[0].attrib["href"]


def read_json(response: Response) -> Feed:
    feed = response.json()
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    items = [
        Item(
            id=item["id"],
            url=item["url"],
            title=item["title"],
            content_html=item["content_html"],
            authors=[author["name"] for author in item["authors"]],
            tags=item["tags"],
            published_at=datetime.fromisoformat(item["date_published"]),
            updated_at=datetime.fromisoformat(item["date_modified"]),
        )
        for item in feed["items"]
    ]
    return Feed(feed["title"], feed["feed_url"], feed.get("home_page_url"), items)


def read_atom(response: Response) -> Feed:
    feed = fromstring(response.content)
    assert feed.tag == f"{ATOM}feed"
    # Required of every feed (RFC 4287, 4.1.1).
    assert text_of(feed, f"{ATOM}id")
    assert datetime.fromisoformat(text_of(feed, f"{ATOM}updated")).tzinfo
    items = []
    for entry in feed.iterfind(f"{ATOM}entry"):
        content = entry.find(f"{ATOM}content")
        assert content is not None
        assert content.get("type") == "html"
        title = entry.find(f"{ATOM}title")
        assert title is not None
        assert title.get("type", "text") == "text"
        items.append(
            Item(
                id=text_of(entry, f"{ATOM}id"),
                url=address_of(entry, "alternate"),
                title=title.text or "",
                content_html=content.text or "",
                authors=texts_of(entry, f"{ATOM}author/{ATOM}name"),
                tags=[tag.attrib["term"] for tag in entry.iterfind(f"{ATOM}category")],
                published_at=datetime.fromisoformat(text_of(entry, f"{ATOM}published")),
                updated_at=datetime.fromisoformat(text_of(entry, f"{ATOM}updated")),
            )
        )
    home = address_of(feed, "alternate")
    return Feed(text_of(feed, f"{ATOM}title"), address_of(feed, "self"), home, items)


def read_rss(response: Response) -> Feed:
    rss = fromstring(response.content)
    assert (rss.tag, rss.get("version")) == ("rss", "2.0")
    (channel,) = rss
    # Required of every channel: title, link and description.
    assert text_of(channel, "description")
    assert re.fullmatch(RFC_822_TIME, text_of(channel, "lastBuildDate"))
    items = []
    for item in channel.iterfind("item"):
        guid = item.find("guid")
        assert guid is not None
        assert guid.get("isPermaLink") == "false"
        published_at = text_of(item, "pubDate")
        assert re.fullmatch(RFC_822_TIME, published_at)
        items.append(
            Item(
                id=guid.text or "",
                url=text_of(item, "link"),
                title=text_of(item, "title"),
                content_html=text_of(item, "description"),
                authors=texts_of(item, f"{DUBLIN_CORE}creator"),
                tags=texts_of(item, "category"),
                published_at=parsedate_to_datetime(published_at),
                updated_at=None,
            )
        )
    title, home = text_of(channel, "title"), text_of(channel, "link")
    return Feed(title, address_of(channel, "self"), home, items)


READERS: dict[str, Callable[[Response], Feed]] = {
    "application/feed+json": read_json,
    "application/atom+xml": read_atom,
    "application/rss+xml": read_rss,
}


async def read(client: AsyncClient, path: str, **params: str | int) -> Feed:
    # No parameters at all would take off those that stand in the path.
    response = await client.get(path, params=params or None)
    assert response.status_code == 200, response.text
    return READERS[response.headers["Content-Type"]](response)


async def publish(client: AsyncClient, **values: object) -> dict[str, Any]:
    """A post, with its HTML."""
    response = await client.post("/posts", json=HELLO | values)
    assert response.status_code == 201, response.text
    post: dict[str, Any] = (await client.get(f"/posts/{response.json()['id']}")).json()
    return post


def item_of(post: dict[str, Any], path: str, public_url: str | None = None) -> Item:
    """What a feed at a path should tell of a post."""
    published_at = datetime.fromisoformat(post["published_at"])
    item = Item(
        id=f"{public_url}/posts/{post['id']}" if public_url else f"urn:blog-api:post:{post['id']}",
        url=f"{public_url or ''}/posts/slug/{post['slug']}",
        title=post["title"],
        content_html=post["content_html"],
        authors=[post["user_name"]],
        tags=post["tags"],
        published_at=published_at,
        updated_at=datetime.fromisoformat(post["updated_at"]),
    )
    if path.endswith(".rss"):
        return replace(item, published_at=published_at.replace(microsecond=0), updated_at=None)
    return item


@pytest.fixture(scope="module")
async def public_app() -> AsyncGenerator[FastAPI]:
    """A blog that knows where it is, with one post."""
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", title="A & B's", **CHEAP
    )
    async with running(settings) as app:
        async with client_of(app) as client:
            await sign_up(client, "Ann")
            app.state.post = await publish(client, title="Hello, World")
        yield app


@pytest.mark.parametrize("path", FEEDS)
async def test_a_feed_tells_all_of_a_post(ann: AsyncClient, anonymous: AsyncClient, path: str):
    post = await publish(
        ann, content="*World*", tags=["Python", "c++"], published_at="2020-02-29T23:30:00.5-01:00"
    )

    response = await anonymous.get(path)
    feed = await read(anonymous, path)

    assert response.headers["Content-Type"] == MEDIA_TYPES[path]
    assert feed.items == [item_of(post, path)]
    assert (feed.title, feed.url) == ("Blog API", path)


async def test_every_feed_has_the_newest_first(ann: AsyncClient, anonymous: AsyncClient):
    for number in (3, 1, 2):
        await publish(ann, title=f"{number}", published_at=f"2020-01-0{number}T00:00:00Z")

    for path in FEEDS:
        assert (await read(anonymous, path)).titles == ["3", "2", "1"]
        assert (await read(anonymous, path, size=2)).titles == ["3", "2"]


async def test_every_feed_has_twenty_posts_or_as_many_as_one_likes(
    ann: AsyncClient, anonymous: AsyncClient
):
    for _ in range(21):
        await ann.post("/posts", json=HELLO)

    for path in FEEDS:
        assert len((await read(anonymous, path)).items) == 20
        assert len((await read(anonymous, path, size=100)).items) == 21


async def test_every_feed_has_the_filters_of_posts(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient
):
    for client, title, tags, year in (
        (ann, "Apples and pears", ["Fruit"], 2019),
        (ann, "Pears", ["fruit", "C & C++"], 2020),
        (bob, "Plums", ["fruit"], 2021),
        (bob, "Cars", [], 2022),
    ):
        await publish(client, title=title, tags=tags, published_at=f"{year}-01-01T00:00:00Z")
    ann_id = (await ann.get("/users/me")).json()["id"]
    expected: list[tuple[dict[str, str | int], list[str]]] = [
        ({}, ["Cars", "Plums", "Pears", "Apples and pears"]),
        ({"tag": "FRUIT"}, ["Plums", "Pears", "Apples and pears"]),
        ({"tag": "C & C++"}, ["Pears"]),
        ({"tag": "nobody's"}, []),
        ({"author": ann_id}, ["Pears", "Apples and pears"]),
        ({"since": "2020-01-01T00:00:00Z"}, ["Cars", "Plums", "Pears"]),
        ({"until": "2020-01-01T00:00:00Z"}, ["Apples and pears"]),
        ({"since": "2020-01-01T00:00:00Z", "until": "2022-01-01T00:00:00Z"}, ["Plums", "Pears"]),
        ({"q": "pear"}, ["Pears", "Apples and pears"]),
        ({"q": '"apples and"'}, ["Apples and pears"]),
        ({"q": " "}, ["Cars", "Plums", "Pears", "Apples and pears"]),
        ({"tag": "fruit", "author": ann_id, "q": "pears", "size": 1}, ["Pears"]),
    ]

    for params, titles in expected:
        listed = await anonymous.get("/posts", params={**params, "sort": "-published_at"})
        assert [post["title"] for post in listed.json()["results"]] == titles
        for path in FEEDS:
            feed = await read(anonymous, path, **params)
            assert feed.titles == titles
            # Whoever follows the feed by its own link gets the same.
            assert (await read(anonymous, feed.url)).titles == titles


@pytest.mark.parametrize(
    "query",
    ["size=0", "size=101", "size=x", "since=2020", "until=now", "author=0", "author=x", "tag="],
)
async def test_no_feed_takes_a_wrong_filter(anonymous: AsyncClient, query: str):
    for path in FEEDS:
        response = await anonymous.get(f"{path}?{query}")
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_no_feed_has_what_is_not_published(
    ann: AsyncClient, admin: AsyncClient, anonymous: AsyncClient
):
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await publish(ann, title="Draft", published_at=None)
    await publish(ann, title="Scheduled", published_at=later)
    taken_down = await publish(ann, title="Taken down")
    deleted = await publish(ann, title="Deleted")
    await admin.put(f"/admin/posts/{taken_down['id']}/takedown")
    await ann.delete(f"/posts/{deleted['id']}")
    await publish(ann, title="Published")

    for path in FEEDS:
        # Nor for its author: a feed is what readers see.
        for client in (anonymous, ann, admin):
            assert (await read(client, path)).titles == ["Published"]


async def test_a_scheduled_post_is_news_when_it_comes_out(ann: AsyncClient, anonymous: AsyncClient):
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    await publish(ann, title="Scheduled", published_at=at.isoformat())
    await publish(ann, title="Old")

    for path in FEEDS:
        before = await anonymous.get(path)
        with time_machine.travel(at + timedelta(seconds=1), tick=False):
            feed = await read(anonymous, path)
            after = await anonymous.get(path, headers={"If-None-Match": before.headers["ETag"]})
        assert feed.titles == ["Scheduled", "Old"]
        assert feed.items[0].published_at == at
        assert feed.items[0].updated_at in (at, None)
        assert after.status_code == 200
        assert parsedate_to_datetime(after.headers["Last-Modified"]) == at


@pytest.mark.parametrize("path", FEEDS)
async def test_a_feed_that_is_known_is_not_sent_again(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    post = await publish(ann)
    first = await anonymous.get(path)
    etag, last_modified = first.headers["ETag"], first.headers["Last-Modified"]

    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"x", W/{etag}'}, 304),
        # A change of the author's name leaves that time, and so does an older post that goes.
        ({"If-Modified-Since": last_modified}, 200),
        ({"If-None-Match": etag, "If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 304),
        ({"If-None-Match": '"x"', "If-Modified-Since": last_modified}, 200),
        ({"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
    ):
        response = await anonymous.get(path, headers=headers)
        assert response.status_code == status
        assert response.headers["ETag"] == etag
        assert response.headers["Last-Modified"] == last_modified
        assert (response.content == b"") == (status == 304)
    updated_at = datetime.fromisoformat(post["updated_at"])
    assert parsedate_to_datetime(last_modified) == updated_at.replace(microsecond=0)


@pytest.mark.parametrize("path", FEEDS)
async def test_a_feed_that_changed_is_sent_again(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    changed, deleted = await publish(ann, title="Changed"), await publish(ann, title="Deleted")
    seen: list[Response] = []

    async def look() -> None:
        """As a reader does that remembers the last ETag."""
        known = {"If-None-Match": seen[-1].headers["ETag"]} if seen else {}
        seen.append(await anonymous.get(path, headers=known))

    await look()
    await ann.patch(f"/posts/{changed['id']}", json={"content": "Moon"})
    await look()
    await ann.delete(f"/posts/{deleted['id']}")
    await look()
    await ann.patch("/users/me", json={"name": "Bea"})
    await look()

    assert [response.status_code for response in seen] == [200] * 4
    assert len({response.headers["ETag"] for response in seen}) == 4


@pytest.mark.parametrize("path", FEEDS)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_links_are_absolute_where_the_blog_knows_where_it_is(
    public_app: FastAPI, path: str, prefix: str
):
    base = "https://example.com/blog"
    async with client_of(public_app) as anonymous:
        feed = await read(anonymous, f"{prefix}{path}", tag="none", q="a b&c")
        whole = await read(anonymous, f"{prefix}{path}")

    assert feed.url == f"{base}{prefix}{path}?tag=none&q=a+b%26c"
    assert (whole.url, whole.home, whole.title) == (f"{base}{prefix}{path}", base, "A & B's")
    (item,) = whole.items
    assert item.url == f"{base}{prefix}/posts/slug/hello-world"
    # Whichever way it is read: to a reader another id is another post.
    assert item.id == f"{base}/posts/{public_app.state.post['id']}"


@pytest.mark.parametrize("path", FEEDS)
@pytest.mark.parametrize("is_public", [True, False])
async def test_what_a_request_says_of_its_host_changes_nothing(
    public_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient, path: str, is_public: bool
):
    await publish(ann)
    forged = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "host=evil.example;proto=gopher",
        "X-Original-URL": "/evil",
    }
    async with client_of(public_app) as client:
        reader = client if is_public else anonymous

        honest = await reader.get(path)
        response = await reader.get(path, headers=forged)
        absolute = await reader.get(f"https://evil.example{path}")

    assert response.content == absolute.content == honest.content
    assert response.headers["ETag"] == honest.headers["ETag"]


@pytest.mark.parametrize("path", FEEDS)
async def test_every_title_and_content_arrives_as_it_is(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    posts = [
        *[await publish(ann, title=title) for title in TITLES],
        *[await publish(ann, content=content) for content in CONTENTS],
    ]

    feed = await read(anonymous, path, size=100)

    assert feed.items == [item_of(post, path) for post in reversed(posts)]
    assert feed.titles[::-1][: len(TITLES)] == TITLES


@pytest.mark.parametrize("name", ["A & B <x>", "<b>]]>", '"Анна" 🎉', "O'Neil@example.com (x)"])
async def test_an_author_may_have_any_name(anonymous: AsyncClient, name: str):
    body = {"email": "a@example.com", "name": name, "password": PASSWORD}
    token = (await anonymous.post("/sign-up", json=body)).json()["token"]["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    await anonymous.post("/posts", json=HELLO | {"tags": [name]}, headers=headers)

    for path in FEEDS:
        (item,) = (await read(anonymous, path)).items
        assert (item.authors, item.tags) == ([name], [name])


@pytest.mark.parametrize(
    ("path", "year"), [("/feed.json", 1), ("/feed.atom", 1), ("/feed.rss", 1900)]
)
async def test_a_post_may_have_any_time(
    ann: AsyncClient, anonymous: AsyncClient, path: str, year: int
):
    # In RSS there is no time before 1900 (RFC 5322, 3.3).
    at = datetime(year, 1, 1, tzinfo=UTC)
    await publish(ann, published_at=at.isoformat())

    (item,) = (await read(anonymous, path)).items

    assert item.published_at == at


@pytest.mark.parametrize("path", FEEDS)
async def test_an_empty_feed_is_a_feed(anonymous: AsyncClient, path: str):
    response = await anonymous.get(path)
    feed = await read(anonymous, path)

    assert (feed.title, feed.items) == ("Blog API", [])
    assert "Last-Modified" not in response.headers
    again = await anonymous.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", XML_FEEDS)
async def test_another_program_reads_all_of_a_feed(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    posts = [
        await publish(ann, title=title, tags=["Python", "C & <C++>"], content="*a* & ]]>")
        for title in TITLES
    ]

    response = await anonymous.get(path)
    parsed = feedparser.parse(response.content, response_headers=dict(response.headers))

    assert not parsed.bozo, parsed.get("bozo_exception")
    assert parsed.version == {"/feed.atom": "atom10", "/feed.rss": "rss20"}[path]
    assert parsed.feed.title == "Blog API"
    for entry, post in zip(parsed.entries, reversed(posts), strict=True):
        item = item_of(post, path)
        # In RSS nobody knows whether a title is HTML, and it leaves scripts out of those.
        if "</script>" not in item.title or path == "/feed.atom":
            assert entry.title == item.title.strip()
        assert (entry.id, entry.link) == (item.id, item.url)
        assert [author["name"] for author in entry.authors] == item.authors
        assert [tag["term"] for tag in entry.tags] == item.tags
        assert entry.summary == item.content_html.strip() == "<p><em>a</em> &amp; ]]&gt;</p>"
        assert timegm(entry.published_parsed) == int(item.published_at.timestamp())


@pytest.mark.parametrize("path", XML_FEEDS)
async def test_another_program_reads_an_empty_feed(public_app: FastAPI, path: str):
    async with client_of(public_app) as anonymous:
        response = await anonymous.get(path, params={"tag": "none"})
    parsed = feedparser.parse(response.content, response_headers=dict(response.headers))

    assert not parsed.bozo, parsed.get("bozo_exception")
    assert (parsed.feed.title, parsed.feed.link) == ("A & B's", "https://example.com/blog")
    assert parsed.entries == []


async def test_a_feed_leads_to_where_posts_are_read():
    settings = make_settings(
        database_url="sqlite://", post_url="https://example.com/read/{slug}?id={id}", **CHEAP
    )
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann, title="Hello, World")

        (item,) = (await ann.get("/feed.json")).json()["items"]

    assert item["url"] == "https://example.com/read/hello-world?id=1"


async def test_a_feed_holds_so_much_and_no_more(ann: AsyncClient):
    for number in range(4):
        await publish(ann, title=f"Post {number}", content="&" * 150_000)

    # Each `&` has five characters in HTML.
    items = (await ann.get("/feed.json")).json()["items"]

    assert [item["title"] for item in items] == ["Post 3", "Post 2"]
