"""Feeds in JSON Feed, Atom and RSS, parsed as feed readers parse them."""

import re
from calendar import timegm
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from xml.etree.ElementTree import Element

import feedparser
import pytest
import time_machine
from defusedxml.ElementTree import fromstring
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlmodel import update

from blog_api.posts.models import Post
from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    client_of,
    make_settings,
    running,
    sign_up,
)

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

# Characters that XML or HTML treat specially, and text that parsers tend to change.
TITLES = [
    "<b>&\"']]>",
    "<![CDATA[a]]> <!-- b --> <?c?> &amp; &#38; &bogus;",
    "<script>alert(1)</script>",
    "Привет, «мир» — ёлка",
    "🎉 👩‍👩‍👧‍👦 \U0001f1fa\U0001f1e6",
    "שלום עולם \u202eolleh\u202c مرحبا",
    "spaces  within",
    "日\u00a0\u200b\ufeff本語\U0010fffd",
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
    '[a](https://example.com/b?c&d "e\'f") ![g](https://example.com/h.png)',
    "- a\n\n  b\n\n\n      c",
]


@dataclass(frozen=True)
class Item:
    """A post, parsed from a feed."""

    id: str
    url: str
    title: str
    content_html: str
    authors: list[str]
    tags: list[str]
    published_at: datetime
    # None in RSS, which has no such element.
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


def find_text(element: Element, path: str) -> str:
    found = element.find(path)
    assert found is not None, path
    return found.text or ""


def find_texts(element: Element, path: str) -> list[str]:
    return [found.text or "" for found in element.iterfind(path)]


def find_link(element: Element, rel: str) -> str:
    """Return the only link of a relation; the default is `alternate` (RFC 4287, 4.2.7.2)."""
    links = [
        link for link in element.iterfind(f"{ATOM}link") if link.get("rel", "alternate") == rel
    ]
    assert len(links) == 1, rel
    return links[0].attrib["href"]


def parse_json(response: Response) -> Feed:
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


def parse_atom(response: Response) -> Feed:
    feed = fromstring(response.content)
    assert feed.tag == f"{ATOM}feed"
    # Required of every feed (RFC 4287, 4.1.1).
    assert find_text(feed, f"{ATOM}id")
    assert datetime.fromisoformat(find_text(feed, f"{ATOM}updated")).tzinfo
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
                id=find_text(entry, f"{ATOM}id"),
                url=find_link(entry, "alternate"),
                title=title.text or "",
                content_html=content.text or "",
                authors=find_texts(entry, f"{ATOM}author/{ATOM}name"),
                tags=[tag.attrib["term"] for tag in entry.iterfind(f"{ATOM}category")],
                published_at=datetime.fromisoformat(find_text(entry, f"{ATOM}published")),
                updated_at=datetime.fromisoformat(find_text(entry, f"{ATOM}updated")),
            )
        )
    home = find_link(feed, "alternate")
    return Feed(find_text(feed, f"{ATOM}title"), find_link(feed, "self"), home, items)


def parse_rss(response: Response) -> Feed:
    rss = fromstring(response.content)
    assert (rss.tag, rss.get("version")) == ("rss", "2.0")
    (channel,) = rss
    # Required of every channel: title, link and description.
    assert find_text(channel, "description")
    assert re.fullmatch(RFC_822_TIME, find_text(channel, "lastBuildDate"))
    items = []
    for item in channel.iterfind("item"):
        guid = item.find("guid")
        assert guid is not None
        assert guid.get("isPermaLink") == "false"
        published_at = find_text(item, "pubDate")
        assert re.fullmatch(RFC_822_TIME, published_at)
        items.append(
            Item(
                id=guid.text or "",
                url=find_text(item, "link"),
                title=find_text(item, "title"),
                content_html=find_text(item, "description"),
                authors=find_texts(item, f"{DUBLIN_CORE}creator"),
                tags=find_texts(item, "category"),
                published_at=parsedate_to_datetime(published_at),
                updated_at=None,
            )
        )
    title, home = find_text(channel, "title"), find_text(channel, "link")
    return Feed(title, find_link(channel, "self"), home, items)


# Links of a blog without `BLOG_PUBLIC_URL` begin with it.
LOCAL = "http://127.0.0.1:8000"


PARSERS: dict[str, Callable[[Response], Feed]] = {
    "application/feed+json": parse_json,
    "application/atom+xml": parse_atom,
    "application/rss+xml": parse_rss,
}


async def fetch_feed(client: AsyncClient, path: str, **params: str | int) -> Feed:
    # Empty parameters would remove the query of the path.
    response = await client.get(path, params=params or None)
    assert response.status_code == 200, response.text
    return PARSERS[response.headers["Content-Type"]](response)


async def publish(client: AsyncClient, **values: object) -> dict[str, Any]:
    """Publish a post and return it with its HTML."""
    response = await client.post("/posts", json=HELLO | values)
    assert response.status_code == 201, response.text
    post: dict[str, Any] = (await client.get(f"/posts/{response.json()['id']}")).json()
    return post


def expected_item(post: dict[str, Any], path: str, public_url: str | None = None) -> Item:
    """Return the item that the feed at a path should have for a post."""
    published_at = datetime.fromisoformat(post["published_at"])
    item = Item(
        id=f"{public_url}/posts/{post['id']}" if public_url else f"urn:blog-api:post:{post['id']}",
        url=f"{public_url or LOCAL}/posts/slug/{post['slug']}",
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
async def public_app(app: FastAPI) -> AsyncGenerator[FastAPI]:
    """A blog with `BLOG_PUBLIC_URL` set and one post."""
    settings = make_settings(
        database_url="sqlite://",
        public_url="https://example.com/blog",
        title="A & B's",
        **CHEAP_HASHING,
    )
    async with running(settings) as public:
        async with client_of(public) as client:
            await sign_up(client, "Ann")
            public.state.post = await publish(client, title="Hello, World")
        yield public


@pytest.mark.parametrize("path", FEEDS)
async def test_a_feed_has_every_field_of_a_post(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    post = await publish(
        ann, content="*World*", tags=["Python", "c++"], published_at="2020-02-29T23:30:00.5-01:00"
    )

    response = await anonymous.get(path)
    feed = await fetch_feed(anonymous, path)

    assert response.headers["Content-Type"] == MEDIA_TYPES[path]
    assert feed.items == [expected_item(post, path)]
    assert (feed.title, feed.url) == ("Blog API", f"{LOCAL}{path}")


async def test_feeds_list_the_newest_posts_first(ann: AsyncClient, anonymous: AsyncClient):
    for number in (3, 1, 2):
        await publish(ann, title=f"{number}", published_at=f"2020-01-0{number}T00:00:00Z")

    for path in FEEDS:
        assert (await fetch_feed(anonymous, path)).titles == ["3", "2", "1"]
        assert (await fetch_feed(anonymous, path, size=2)).titles == ["3", "2"]


async def test_a_feed_has_twenty_posts_unless_a_size_is_given(
    ann: AsyncClient, anonymous: AsyncClient
):
    for _ in range(21):
        await ann.post("/posts", json=HELLO)

    for path in FEEDS:
        assert len((await fetch_feed(anonymous, path)).items) == 20
        assert len((await fetch_feed(anonymous, path, size=100)).items) == 21


async def test_feeds_accept_the_filters_of_the_list_of_posts(
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
        ({"tag": "unused"}, []),
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
            feed = await fetch_feed(anonymous, path, **params)
            assert feed.titles == titles
            # The self link repeats the filters.
            assert (await fetch_feed(anonymous, feed.url)).titles == titles


@pytest.mark.parametrize(
    "query",
    ["size=0", "size=101", "size=x", "since=2020", "until=now", "author=0", "author=x", "tag="],
)
async def test_feeds_reject_an_invalid_filter(anonymous: AsyncClient, query: str):
    for path in FEEDS:
        response = await anonymous.get(f"{path}?{query}")
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_feeds_omit_posts_that_are_not_public(
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
        # Authors and administrators get the public feed too.
        for client in (anonymous, ann, admin):
            assert (await fetch_feed(client, path)).titles == ["Published"]


async def test_a_scheduled_post_is_new_at_its_publication(ann: AsyncClient, anonymous: AsyncClient):
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    await publish(ann, title="Scheduled", published_at=at.isoformat())
    await publish(ann, title="Old")

    for path in FEEDS:
        before = await anonymous.get(path)
        with time_machine.travel(at + timedelta(seconds=1), tick=False):
            feed = await fetch_feed(anonymous, path)
            after = await anonymous.get(path, headers={"If-None-Match": before.headers["ETag"]})
        assert feed.titles == ["Scheduled", "Old"]
        assert feed.items[0].published_at == at
        assert feed.items[0].updated_at in (at, None)
        assert after.status_code == 200


@pytest.mark.parametrize("path", FEEDS)
async def test_a_matching_etag_gets_304(ann: AsyncClient, anonymous: AsyncClient, path: str):
    await publish(ann)
    first = await anonymous.get(path)
    etag, now = first.headers["ETag"], format_datetime(datetime.now(UTC), usegmt=True)

    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"x", W/{etag}'}, 304),
        # A post that leaves a feed changes no date in it.
        ({"If-Modified-Since": now}, 200),
        ({"If-None-Match": etag, "If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 304),
        ({"If-None-Match": '"x"', "If-Modified-Since": now}, 200),
        ({"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
    ):
        response = await anonymous.get(path, headers=headers)
        assert response.status_code == status
        assert response.headers["ETag"] == etag
        assert "Last-Modified" not in response.headers
        assert (response.content == b"") == (status == 304)


@pytest.mark.parametrize("path", FEEDS)
async def test_changing_a_post_or_its_author_changes_the_etag(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    changed, deleted = await publish(ann, title="Changed"), await publish(ann, title="Deleted")
    responses: list[Response] = []

    async def revalidate() -> None:
        """Send the ETag of the last response."""
        headers = {"If-None-Match": responses[-1].headers["ETag"]} if responses else {}
        responses.append(await anonymous.get(path, headers=headers))

    await revalidate()
    await ann.patch(f"/posts/{changed['id']}", json={"content": "Moon"})
    await revalidate()
    await ann.delete(f"/posts/{deleted['id']}")
    await revalidate()
    await ann.patch("/users/me", json={"name": "Bea"})
    await revalidate()

    assert [response.status_code for response in responses] == [200] * 4
    assert len({response.headers["ETag"] for response in responses}) == 4


@pytest.mark.parametrize("path", FEEDS)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_links_are_absolute_with_a_public_url(public_app: FastAPI, path: str, prefix: str):
    base = "https://example.com/blog"
    async with client_of(public_app) as anonymous:
        feed = await fetch_feed(anonymous, f"{prefix}{path}", tag="none", q="a b&c")
        whole = await fetch_feed(anonymous, f"{prefix}{path}")

    assert feed.url == f"{base}{prefix}{path}?tag=none&q=a+b%26c"
    assert (whole.url, whole.home, whole.title) == (f"{base}{prefix}{path}", base, "A & B's")
    (item,) = whole.items
    assert item.url == f"{base}{prefix}/posts/slug/hello-world"
    # With or without the prefix: a feed reader takes another id for another post.
    assert item.id == f"{base}/posts/{public_app.state.post['id']}"


@pytest.mark.parametrize("path", FEEDS)
@pytest.mark.parametrize("is_public", [True, False])
async def test_the_host_of_a_request_does_not_change_a_feed(
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
async def test_titles_and_contents_survive_escaping(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    posts = [
        *[await publish(ann, title=title) for title in TITLES],
        *[await publish(ann, content=content) for content in CONTENTS],
    ]

    feed = await fetch_feed(anonymous, path, size=100)

    assert feed.items == [expected_item(post, path) for post in reversed(posts)]
    assert feed.titles[::-1][: len(TITLES)] == TITLES


@pytest.mark.parametrize("name", ["A & B <x>", "<b>]]>", '"Анна" 🎉', "O'Neil@example.com (x)"])
async def test_author_names_and_tags_survive_escaping(anonymous: AsyncClient, name: str):
    body = {"email": "a@example.com", "name": name, "password": PASSWORD}
    token = (await anonymous.post("/sign-up", json=body)).json()["token"]["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    await anonymous.post("/posts", json=HELLO | {"tags": [name]}, headers=headers)

    for path in FEEDS:
        (item,) = (await fetch_feed(anonymous, path)).items
        assert (item.authors, item.tags) == ([name], [name])


@pytest.mark.parametrize(
    ("path", "year"), [("/feed.json", 1), ("/feed.atom", 1), ("/feed.rss", 1900)]
)
async def test_early_publication_times_are_allowed(
    ann: AsyncClient, anonymous: AsyncClient, path: str, year: int
):
    # RSS has no dates before 1900 (RFC 5322, 3.3).
    at = datetime(year, 1, 1, tzinfo=UTC)
    await publish(ann, published_at=at.isoformat())

    (item,) = (await fetch_feed(anonymous, path)).items

    assert item.published_at == at


@pytest.mark.parametrize("path", FEEDS)
async def test_a_feed_without_posts_is_valid(anonymous: AsyncClient, path: str):
    response = await anonymous.get(path)
    feed = await fetch_feed(anonymous, path)

    assert (feed.title, feed.items) == ("Blog API", [])
    assert "Last-Modified" not in response.headers
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=False):
        again = await anonymous.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", XML_FEEDS)
async def test_feedparser_reads_every_field(ann: AsyncClient, anonymous: AsyncClient, path: str):
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
        item = expected_item(post, path)
        # RSS does not say whether a title is HTML: feedparser removes scripts from it.
        if "</script>" not in item.title or path == "/feed.atom":
            assert entry.title == item.title.strip()
        assert (entry.id, entry.link) == (item.id, item.url)
        assert [author["name"] for author in entry.authors] == item.authors
        assert [tag["term"] for tag in entry.tags] == item.tags
        html = entry.content[0].value if path == "/feed.atom" else entry.summary
        assert html == item.content_html.strip() == "<p><em>a</em> &amp; ]]&gt;</p>"
        if path == "/feed.atom":
            assert entry.summary == post["summary"] == "a & ]]>"
        assert timegm(entry.published_parsed) == int(item.published_at.timestamp())


@pytest.mark.parametrize("path", XML_FEEDS)
async def test_feedparser_reads_a_feed_without_posts(public_app: FastAPI, path: str):
    async with client_of(public_app) as anonymous:
        response = await anonymous.get(path, params={"tag": "none"})
    parsed = feedparser.parse(response.content, response_headers=dict(response.headers))

    assert not parsed.bozo, parsed.get("bozo_exception")
    assert (parsed.feed.title, parsed.feed.link) == ("A & B's", "https://example.com/blog")
    assert parsed.entries == []
    # Feed validators call earlier dates implausible.
    assert parsed.feed.updated_parsed.tm_year >= 1990


async def test_links_to_posts_follow_the_post_url_setting():
    settings = make_settings(
        database_url="sqlite://",
        post_url="https://пример.example/read/{slug}?id={id}&a=b",
        **CHEAP_HASHING,
    )
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann, title="Hello, World")

        for path in FEEDS:
            (item,) = (await fetch_feed(ann, path)).items
            assert item.url == "https://пример.example/read/hello-world?id=1&a=b"


@pytest.mark.parametrize("path", FEEDS)
async def test_carriage_returns_survive(
    empty_app: FastAPI, ann: AsyncClient, anonymous: AsyncClient, path: str
):
    # Text that takes too long to render is stored with its line endings.
    await publish(ann)
    async with empty_app.state.database.session(writes=True) as session:
        await session.exec(update(Post).values(content_html="<pre>a\r\nb</pre>"))

    (item,) = (await fetch_feed(anonymous, path)).items

    assert item.content_html == "<pre>a\r\nb</pre>"


async def test_the_documented_examples_are_feeds(public_app: FastAPI):
    expected = Item(
        id="https://example.com/posts/1",
        url="https://example.com/posts/slug/hello-world",
        title="Hello, World",
        content_html="<p>My <em>first</em> post.</p>",
        authors=["Ann"],
        tags=["Python"],
        published_at=datetime(2026, 1, 31, 9, tzinfo=UTC),
        updated_at=datetime(2026, 1, 31, 9, tzinfo=UTC),
    )
    paths = public_app.openapi()["paths"]

    for path in XML_FEEDS:
        media_type = MEDIA_TYPES[path]
        example = paths[path]["get"]["responses"]["200"]["content"][media_type]["example"]
        feed = PARSERS[media_type](Response(200, text=example))

        item = expected if path == "/feed.atom" else replace(expected, updated_at=None)
        assert (feed.title, feed.url) == ("Blog API", f"https://example.com{path}")
        assert feed.items == [item]


async def test_the_html_in_a_feed_is_limited(ann: AsyncClient):
    for number in range(4):
        await publish(ann, title=f"Post {number}", content="&" * 150_000)

    # In HTML, each `&` takes five characters.
    items = (await ann.get("/feed.json")).json()["items"]

    assert [item["title"] for item in items] == ["Post 3", "Post 2"]


@pytest.mark.parametrize("path", FEEDS)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_uploaded_pictures_in_a_feed_are_at_the_service(path: str, prefix: str):
    settings = make_settings(
        database_url="sqlite://",
        public_url="https://example.com/blog",
        post_url="https://front.example/read/{slug}",
        **CHEAP_HASHING,
    )
    media = f"/media/{'a' * 64}.png"
    content = f"![A]({media}) [B]({media}) `![A]({media})` ![C](/media/c.png)"
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        await publish(ann, content=content, cover_url=media)
        response = await ann.get(f"{prefix}{path}")
        (item,) = PARSERS[MEDIA_TYPES[path]](response).items
        (post,) = (await ann.get("/posts?body=html")).json()["results"]

    url = f"https://example.com/blog{media}"
    assert f'<img src="{url}" alt="A">' in item.content_html
    assert f'<a href="{url}"' in item.content_html
    assert f"<code>![A]({media})</code>" in item.content_html
    assert 'src="https://front.example/media/c.png"' in item.content_html
    if path == "/feed.json":
        assert response.json()["items"][0]["image"] == url
    # JSON for the front end stays relative.
    assert post["cover_url"] == media
    assert f'<img src="{media}" alt="A">' in post["content_html"]


@pytest.mark.parametrize("path", FEEDS)
async def test_without_a_public_url_uploaded_pictures_are_at_the_socket(
    ann: AsyncClient, anonymous: AsyncClient, path: str
):
    media = f"/media/{'a' * 64}.png"
    await publish(ann, content=f"![A]({media})", cover_url=media)

    response = await anonymous.get(path)

    assert f"{LOCAL}{media}" in response.text
    if path == "/feed.json":
        assert response.json()["items"][0]["image"] == f"{LOCAL}{media}"


@pytest.mark.parametrize("path", FEEDS)
async def test_the_relative_addresses_in_a_feed_are_limited(ann: AsyncClient, path: str):
    for number in range(3):
        await publish(ann, title=f"Post {number}", content="![](a)" * 100)
    limit = "blog_api.posts.feed_formats.MAX_RELATIVE_ADDRESSES"

    counts: list[list[int]] = []
    for allowed in (1000, 300, 60):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limit, allowed)
            feed = await fetch_feed(ann, f"{path}?size={50 + len(counts)}")
        counts.append([item.content_html.count(f'src="{LOCAL}') for item in feed.items])

    # Of a single post the first ones are absolute.
    assert counts == [[100, 100, 100], [100, 100, 100], [60]]


async def test_addresses_in_the_content_are_absolute(ann: AsyncClient, anonymous: AsyncClient):
    content = (
        '![A](/media/a.png "a>b") [B](b?c=1&d=2) [C](#c) [D](https://example.com/d) '
        '[E](mailto:a@example.com) `<a href="/f">` '
        '<video src="g.mp4" poster="/media/h.png"></video> <img srcset="i.png 1x, /media/j.png 2x">'
    )
    post = await publish(ann, content=content)

    for path in FEEDS:
        (item,) = (await fetch_feed(anonymous, path)).items
        for address in (
            f'src="{LOCAL}/media/a.png"', f'href="{LOCAL}/posts/slug/b?c=1&amp;d=2"',
            f'href="{LOCAL}/posts/slug/{post["slug"]}#user-content-c"', 'href="https://example.com/d"',
            'href="mailto:a@example.com"', f'src="{LOCAL}/posts/slug/g.mp4"',
            f'poster="{LOCAL}/media/h.png"',
            f'srcset="{LOCAL}/posts/slug/i.png 1x, {LOCAL}/media/j.png 2x"',
        ):  # fmt: skip
            assert address in item.content_html, (address, item.content_html)
        assert f"{LOCAL}/f" not in item.content_html
