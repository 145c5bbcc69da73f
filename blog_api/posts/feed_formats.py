"""Feed formats: JSON Feed 1.1, Atom (RFC 4287) and RSS 2.0.

JSON Feed is a response model; feedgenerator writes the XML formats. All have the full HTML of the
posts. JSON Feed and Atom have the summary too; RSS has one description, which is the HTML, and no
time of modification. The cover is the `image` of JSON Feed; the elements for it in the XML formats
require its type and size, which are unknown. The canonical address is the `external_url` of JSON
Feed and a link with `rel="via"` in Atom (RFC 4287, 4.2.7.2).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urljoin

from feedgenerator import Atom1Feed, Rss201rev2Feed, SyndicationFeed
from pydantic import Field

from blog_api.core.fields import ResponseModel
from blog_api.core.urls import is_media_path
from blog_api.posts.models import Post
from blog_api.text.addresses import change_addresses

# Date of a feed without posts: Atom requires one, and the current time would change the ETag. Feed
# validators reject dates before 1990.
DATE_OF_EMPTY_FEED = datetime(2000, 1, 1, tzinfo=UTC)


SCHEME = re.compile("[a-z][a-z0-9+.-]*:", re.IGNORECASE)

# Characters of HTML in a feed, and relative addresses in it; a single post may have more. Each
# address takes some microseconds.
MAX_HTML_LENGTH = 2_000_000
MAX_RELATIVE_ADDRESSES = 10_000


def make_addresses_absolute(html: str, base: str, service_url: str) -> tuple[str, int]:
    """Return sanitized HTML without relative addresses, and their number.

    Uploaded pictures are at the service; the base, a post, may be at a front end. Those after
    MAX_RELATIVE_ADDRESSES stay relative.
    """
    count = 0

    def join(address: str) -> str | None:
        nonlocal count
        if SCHEME.match(address):
            return None
        count += 1
        if count > MAX_RELATIVE_ADDRESSES:
            return None
        if is_media_path(address):
            return service_url + address
        try:
            return urljoin(base, address)
        except ValueError:
            # Not a URL, such as `//[`.
            return None

    return change_addresses(html, join), count


@dataclass(frozen=True)
class FeedEntry:
    """A published post with its id and link in feeds."""

    id: str
    url: str
    post: Post
    content_html: str

    @property
    def published_at(self) -> datetime:
        return self.post.published_at or self.post.created_at

    @property
    def updated_at(self) -> datetime:
        """Return the time of the last change or, if later, the scheduled publication."""
        return max(self.post.updated_at, self.published_at)


@dataclass(frozen=True)
class Feed:
    """Data of a feed for every format. Links are absolute."""

    id: str
    title: str
    public_url: str | None
    home_url: str
    # Of this service, without a trailing slash.
    service_url: str
    url: str
    entries: Sequence[FeedEntry]

    def complete(self) -> "Feed":
        """Return the feed with absolute addresses, and with at least one entry of those that fit.

        Takes tenths of a second for long texts: called in a thread.
        """
        entries: list[FeedEntry] = []
        length = addresses = 0
        for entry in self.entries:
            html, count = make_addresses_absolute(entry.content_html, entry.url, self.service_url)
            length, addresses = length + len(html), addresses + count
            if entries and (length > MAX_HTML_LENGTH or addresses > MAX_RELATIVE_ADDRESSES):
                break
            entries.append(replace(entry, content_html=html))
        return replace(self, entries=entries)

    def make_picture_url(self, address: str | None) -> str | None:
        """Return the absolute address of a picture."""
        return self.service_url + address if address and is_media_path(address) else address

    @property
    def updated_at(self) -> datetime | None:
        return max((entry.updated_at for entry in self.entries), default=None)


def is_none(value: object) -> bool:
    return value is None


class FeedAuthor(ResponseModel):
    """The author of a post."""

    name: str = Field(examples=["Ann"])
    """Name of the author."""


class FeedItem(ResponseModel):
    """A post in a JSON Feed."""

    id: str = Field(examples=["https://example.com/posts/1"])
    """Identifier of the post, the same in every feed."""
    url: str = Field(examples=["https://example.com/posts/slug/hello-world"])
    """Link to the post."""
    external_url: str | None = Field(
        default=None, exclude_if=is_none, examples=["https://example.com/first"]
    )
    """Address of the original; absent if it is the post."""
    title: str = Field(examples=["Hello, World"])
    """Title of the post."""
    content_html: str = Field(examples=["<p>My <em>first</em> post.</p>\n"])
    """Content as sanitized HTML."""
    summary: str | None = Field(default=None, exclude_if=is_none, examples=["My first post."])
    """The author's summary or the beginning of the text; absent if there is no text."""
    image: str | None = Field(
        default=None, exclude_if=is_none, examples=["https://example.com/river.jpg"]
    )
    """Address of the cover; absent if there is none."""
    date_published: datetime = Field(examples=["2026-01-31T09:00:00Z"])
    """Time of publication."""
    date_modified: datetime = Field(examples=["2026-01-31T09:00:00Z"])
    """Time of the last change; not before `date_published`."""
    authors: list[FeedAuthor] = Field(examples=[[{"name": "Ann"}]])
    """The author, in a list of one."""
    tags: list[str] = Field(examples=[["Python"]])
    """Tags of the post."""


class JSONFeed(ResponseModel):
    """A feed in the format of https://www.jsonfeed.org/version/1.1/."""

    version: Literal["https://jsonfeed.org/version/1.1"]
    """Version of the format."""
    title: str = Field(examples=["Blog API"])
    """Title of the blog."""
    home_page_url: str | None = Field(
        default=None, exclude_if=is_none, examples=["https://example.com"]
    )
    """`BLOG_PUBLIC_URL`; absent if it is not set."""
    feed_url: str = Field(examples=["https://example.com/feed.json"])
    """Link to this feed, with its filters."""
    items: list[FeedItem]
    """Posts, newest first."""


def make_json_feed(feed: Feed) -> JSONFeed:
    feed = feed.complete()
    return JSONFeed(
        version="https://jsonfeed.org/version/1.1",
        title=feed.title,
        home_page_url=feed.public_url,
        feed_url=feed.url,
        items=[
            FeedItem(
                id=entry.id,
                url=entry.url,
                title=entry.post.title,
                external_url=entry.post.canonical_url,
                content_html=entry.content_html,
                summary=entry.post.summary or None,
                image=feed.make_picture_url(entry.post.cover_url),
                date_published=entry.published_at,
                date_modified=entry.updated_at,
                authors=[FeedAuthor(name=entry.post.user_name)],
                tags=entry.post.tags,
            )
            for entry in feed.entries
        ],
    )


class XMLFeed(SyndicationFeed):
    """XML document; `html_argument` of `add_item()` is the HTML of a post."""

    html_argument: ClassVar[str]

    def __init__(self, feed: Feed) -> None:
        super().__init__(
            title=feed.title,
            link=feed.home_url,
            description=feed.title,
            feed_url=feed.url,
            feed_guid=feed.id,
        )
        self.updated_at = feed.updated_at or DATE_OF_EMPTY_FEED
        for entry in feed.entries:
            self.add_item(
                title=entry.post.title,
                link=entry.url,
                author_name=entry.post.user_name,
                pubdate=entry.published_at,
                updateddate=entry.updated_at,
                unique_id=entry.id,
                unique_id_is_permalink=False,
                categories=entry.post.tags,
                summary=entry.post.summary,
                canonical_url=entry.post.canonical_url,
                **{"description": None, self.html_argument: entry.content_html},
            )
            # The library percent-encodes non-ASCII characters, even those of the host.
            self.items[-1]["link"] = entry.url

    def latest_post_date(self) -> datetime:
        return self.updated_at

    @classmethod
    def write_xml(cls, feed: Feed) -> str:
        # XML parsers replace a literal carriage return by a line feed.
        return str(cls(feed.complete()).writeString("utf-8")).replace("\r", "&#13;")


class AtomFeed(XMLFeed, Atom1Feed):
    html_argument = "content"

    def add_item_elements(self, handler: Any, item: dict[str, Any]) -> None:
        super().add_item_elements(handler, item)
        # The library writes a summary as HTML.
        if item["summary"]:
            handler.addQuickElement("summary", item["summary"], {"type": "text"})
        if item["canonical_url"]:
            handler.addQuickElement("link", None, {"rel": "via", "href": item["canonical_url"]})


class RSSFeed(XMLFeed, Rss201rev2Feed):
    html_argument = "description"


ATOM_EXAMPLE = """\
<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title>Blog API</title>
  <link href="https://example.com" rel="alternate"/>
  <link href="https://example.com/feed.atom" rel="self"/>
  <id>https://example.com/feed.atom</id>
  <updated>2026-01-31T09:00:00+00:00</updated>
  <subtitle>Blog API</subtitle>
  <entry>
    <title>Hello, World</title>
    <link href="https://example.com/posts/slug/hello-world" rel="alternate"/>
    <published>2026-01-31T09:00:00+00:00</published>
    <updated>2026-01-31T09:00:00+00:00</updated>
    <author><name>Ann</name></author>
    <id>https://example.com/posts/1</id>
    <content type="html">&lt;p&gt;My &lt;em&gt;first&lt;/em&gt; post.&lt;/p&gt;</content>
    <category term="Python"/>
    <summary type="text">My first post.</summary>
  </entry>
</feed>
"""

RSS_EXAMPLE = """\
<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">
  <channel>
    <title>Blog API</title>
    <link>https://example.com</link>
    <description>Blog API</description>
    <atom:link href="https://example.com/feed.rss" rel="self"/>
    <lastBuildDate>Sat, 31 Jan 2026 09:00:00 +0000</lastBuildDate>
    <item>
      <title>Hello, World</title>
      <link>https://example.com/posts/slug/hello-world</link>
      <description>&lt;p&gt;My &lt;em&gt;first&lt;/em&gt; post.&lt;/p&gt;</description>
      <dc:creator xmlns:dc="http://purl.org/dc/elements/1.1/">Ann</dc:creator>
      <pubDate>Sat, 31 Jan 2026 09:00:00 +0000</pubDate>
      <guid isPermaLink="false">https://example.com/posts/1</guid>
      <category>Python</category>
    </item>
  </channel>
</rss>
"""
