"""WXR, the format of WordPress exports: RSS with elements of its own."""

import re
from collections.abc import Callable, Iterator
from html import escape, unescape
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote, unquote
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler, feature_namespaces
from xml.sax.xmlreader import AttributesNSImpl

from defusedxml import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser
from defusedxml.sax import make_parser
from slugify import slugify

from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    TOO_LARGE,
    ArchiveEntry,
    PostRecord,
    format_location,
    make_entry,
)
from blog_api.core.characters import NON_XML_CHARACTERS, VISIBLE_CHARACTER
from blog_api.core.fields import MAX_TAGS, tag_key
from blog_api.text.addresses import make_media_absolute
from blog_api.text.excerpts import make_excerpt
from blog_api.text.markdown import HTML, MARKDOWN
from blog_api.text.sanitizer import sanitize_html

CHUNK_BYTES = 64 * 1024
# The parser buffers a tag or a comment, and scans it again with every chunk.
MAX_MARKUP_BYTES = 1024 * 1024
MAX_DEPTH = 100

# Without `http://` or `https://`; WordPress' own namespace ends in the version.
NAMESPACES = {
    "wordpress.org/export/": "wp:",
    "purl.org/dc/elements/1.1/": "dc:",
    "purl.org/rss/1.0/modules/content/": "content:",
}
EXCERPT_NAMESPACE = re.compile(r"wordpress\.org/export/[^/]*/excerpt/")
READ_ELEMENTS = {
    "title", "category", "dc:creator", "dc:format", "content:encoded", "excerpt:encoded",
    "wp:post_type", "wp:status", "wp:post_name", "wp:post_date", "wp:post_date_gmt",
    "wp:post_password", "wp:author_login", "wp:author_display_name", "wp:comment_status",
}  # fmt: skip
SITE_PATH = ["wp:base_site_url"]
TAG_DOMAINS = {"post_tag", "category"}
NO_CATEGORY = "uncategorized"
NO_TIME = "0000-00-00 00:00:00"
SKIPPED_STATUSES = {"trash", "auto-draft", "inherit"}
AUTHOR_KEY_PREFIX = "wordpress:"
MAX_AUTHOR_KEY_LENGTH = 255
# Of the HTML that is read for a summary, in characters.
MAX_EXCERPT_LENGTH = 10_000

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/" \
xmlns:content="http://purl.org/rss/1.0/modules/content/" \
xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:wp="http://wordpress.org/export/1.2/">
<channel>
"""
TAIL = "</channel>\n</rss>\n"


def read_wxr(path: Path, authors: dict[str, str]) -> Iterator[ArchiveEntry]:
    """Yield the posts of an export; the last entry may be an error that ends the reading.

    Adds display names by login to `authors`. Authors may follow their posts, so only a second
    pass finds all names. Raises OSError.
    """
    parser = make_parser()
    parser.forbid_dtd = True
    parser.setFeature(feature_namespaces, True)
    handler = WXRHandler(path, authors, parser.getLineNumber)
    parser.setContentHandler(handler)
    error = None
    position, buffered = (0, 0), 0
    with path.open("rb") as file:
        chunk = b"first"
        while chunk and error is None:
            chunk = file.read(CHUNK_BYTES)
            error = feed_parser(parser, chunk)
            last, position = position, (parser.getLineNumber(), parser.getColumnNumber() or 0)
            buffered = buffered + len(chunk) if position == last else 0
            if error is None and buffered > MAX_MARKUP_BYTES:
                error = f"a tag or a comment is larger than {MAX_MARKUP_BYTES // 1024**2} MiB"
            yield from handler.entries
            handler.entries.clear()
    if error:
        yield ArchiveEntry(format_location(path, parser.getLineNumber()), error=error)
    elif not handler.is_wxr:
        yield ArchiveEntry(format_location(path, 1), error="not a WordPress export")


def feed_parser(parser: DefusedExpatParser, chunk: bytes) -> str | None:
    """Parse a chunk; an empty one is the end. Returns an error message, or None."""
    try:
        if chunk:
            parser.feed(chunk)
        else:
            parser.close()
    except NestedTooDeeply:
        return f"elements are nested more than {MAX_DEPTH} deep"
    except DefusedXmlException:
        return "document types and entities are not allowed"
    except SAXParseException as error:
        return f"invalid XML: {error.getMessage()}"
    except (LookupError, ValueError):
        return "unknown encoding"
    return None


def shorten_name(namespace: str | None, name: str) -> str:
    """Return a name such as `wp:status`, whatever prefix the file declares."""
    if namespace is None:
        return name
    address = namespace.partition("://")[2]
    if EXCERPT_NAMESPACE.fullmatch(address):
        return f"excerpt:{name}"
    found = (short for start, short in NAMESPACES.items() if address.startswith(start))
    return next(found, "other:") + name


class NestedTooDeeply(Exception):
    """An element has more than MAX_DEPTH ancestors: expat takes quadratic time for them."""


class WXRHandler(ContentHandler):
    """Collect the entries in `rss/channel/item`, and the authors."""

    def __init__(self, path: Path, authors: dict[str, str], get_line: Callable[[], int]) -> None:
        super().__init__()
        self.file = path
        self.get_line = get_line
        self.authors = authors
        self.entries: list[ArchiveEntry] = []
        self.is_wxr = False
        self.site = ""
        self.path: list[str] = []
        self.reset_item()

    def reset_item(self) -> None:
        self.line = self.get_line()
        self.values: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.is_too_large = False

    def startElementNS(
        self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl
    ) -> None:
        if len(self.path) >= MAX_DEPTH:
            raise NestedTooDeeply
        self.path.append(shorten_name(*name))
        self.is_wxr = self.is_wxr or self.path[-1].startswith("wp:")
        if len(self.path) == 3:
            self.reset_item()
        if len(self.path) in (3, 4):
            self.text: list[str] = []
            self.size = 0
            self.domain = attrs.get((None, "domain"))

    def characters(self, content: str) -> None:
        if self.path[2:] == SITE_PATH or (len(self.path) == 4 and self.path[3] in READ_ELEMENTS):
            self.size += len(content)
            if self.size > MAX_RECORD_BYTES:
                self.is_too_large = True
            else:
                self.text.append(content)

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        if len(self.path) == 4:
            self.add_field(self.path[3], "".join(self.text))
        elif self.path[2:] == SITE_PATH:
            self.site = "".join(self.text).strip()
        elif len(self.path) == 3 and self.path[2] == "item":
            self.add_entry()
        elif len(self.path) == 3 and self.path[2] == "wp:author":
            login = self.values.get("wp:author_login", "").strip()
            self.authors[login] = unescape(self.values.get("wp:author_display_name", ""))
        self.path.pop()

    def add_field(self, name: str, text: str) -> None:
        if name == "category":
            # WordPress has no maximum.
            if self.domain in TAG_DOMAINS and len(self.tags) < MAX_TAGS:
                tag = unescape(text).strip()
                key = tag_key(tag)
                if tag and key != NO_CATEGORY:
                    self.tags.setdefault(key, tag)
        elif name in READ_ELEMENTS:
            self.values[name] = text

    def add_entry(self) -> None:
        is_post = self.get_value("wp:post_type") == "post"
        if not is_post or self.get_value("wp:status") in SKIPPED_STATUSES:
            return
        if self.is_too_large:
            entry = ArchiveEntry(format_location(self.file, self.line), error=TOO_LARGE)
        else:
            entry = make_entry(self.file, self.line, self.make_values())
        self.entries.append(entry)

    def get_value(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def make_values(self) -> dict[str, Any]:
        login = self.get_value("dc:creator")
        author = self.authors.get(login) or login
        # A login is unique within its site only: each may have an `admin`.
        key = f"{AUTHOR_KEY_PREFIX}{self.site}:{login}"
        return {
            "slug": unquote(self.get_value("wp:post_name")) or None,
            # Titles are HTML in WordPress, plain text here.
            "title": unescape(self.values.get("title", "")),
            "author": author or None,
            "author_key": key[:MAX_AUTHOR_KEY_LENGTH] if login else None,
            "published_at": self.parse_published_at(),
            "tags": list(self.tags.values()),
            "summary": self.parse_summary(),
            "comments_open": self.get_value("wp:comment_status") != "closed",
            # Of an export of this program. Markdown makes paragraphs of WordPress' blank lines.
            "content_type": HTML if self.get_value("dc:format") == HTML else MARKDOWN,
            "content": self.values.get("content:encoded", ""),
        }

    def parse_summary(self) -> str | None:
        """Return the excerpt, which is HTML of any length, as plain text of one line."""
        html = self.values.get("excerpt:encoded", "")[:MAX_EXCERPT_LENGTH]
        summary = make_excerpt(sanitize_html(html)).summary
        return summary if VISIBLE_CHARACTER.search(summary) else None

    def parse_published_at(self) -> str | None:
        status = self.get_value("wp:status")
        if status not in {"publish", "future"} or self.values.get("wp:post_password"):
            return None
        time = self.get_value("wp:post_date_gmt")
        if time in {"", NO_TIME} and status == "publish":
            time = self.get_value("wp:post_date")
        return None if time in {"", NO_TIME} else time.replace(" ", "T") + "Z"


class WXRWriter:
    """Write an export that WordPress can import, in a `with` block, into a file in UTF-8.

    After an exception the end tags are missing, so that the file is not taken for complete.
    """

    def __init__(self, file: IO[str], *, title: str, link: str) -> None:
        self.file = file
        self.title = title
        self.link = link
        self.logins: dict[str, str] = {}
        self.count = 0

    def __enter__(self) -> Self:
        self.file.write(HEAD + format_element("title", escape(self.title, quote=False)))
        self.file.write(format_element("link", self.link) + format_element("description", ""))
        self.file.write(format_element("wp:wxr_version", "1.2"))
        self.file.write(format_element("wp:base_site_url", self.link))
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self.file.write(TAIL)

    def write_post(self, record: PostRecord, content_html: str) -> None:
        """Write a post, after its author if the author is new."""
        login = self.write_author(record)
        self.count += 1
        time, status = NO_TIME, "draft"
        if record.published_at is not None:
            time = record.published_at.replace(tzinfo=None).isoformat(" ", "seconds")
            # WordPress itself schedules a post whose date is in the future.
            status = "publish"
        if record.taken_down_at is not None:
            status = "private"
        fields = {
            "title": escape(record.title, quote=False),
            "dc:creator": login,
            "dc:format": record.content_type,
            "content:encoded": make_media_absolute(content_html, self.link.rstrip("/")),
            "excerpt:encoded": escape(record.summary or "", quote=False),
            "wp:post_id": str(self.count),
            "wp:post_date": time,
            "wp:post_date_gmt": time,
            "wp:comment_status": "open" if record.comments_open else "closed",
            "wp:ping_status": "closed",
            "wp:post_name": quote(record.slug or ""),
            "wp:status": status,
            "wp:post_parent": "0",
            "wp:menu_order": "0",
            "wp:post_type": "post",
            "wp:post_password": "",
            "wp:is_sticky": "0",
        }
        self.file.write("<item>\n")
        self.file.writelines(format_element(name, text) for name, text in fields.items())
        self.file.writelines(format_category(tag) for tag in record.tags)
        self.file.write("</item>\n")

    def write_author(self, record: PostRecord) -> str:
        """Return the login of the author; the author is written first if new."""
        name = record.author or record.author_key
        identity = record.author_key or record.author
        if name is None or identity is None:
            return ""
        if identity in self.logins:
            return self.logins[identity]
        # WordPress removes non-ASCII characters from a login.
        login = identity.rpartition(":")[2]
        if not identity.startswith(AUTHOR_KEY_PREFIX):
            login = slugify(name, max_length=50) or "author"
        if login in self.logins.values():
            login = f"{login}-{len(self.logins) + 1}"
        self.logins[identity] = login
        self.file.write("<wp:author>\n" + format_element("wp:author_login", login))
        self.file.write(format_element("wp:author_email", ""))
        self.file.write(format_element("wp:author_display_name", escape(name, quote=False)))
        self.file.write("</wp:author>\n")
        return login


def format_category(tag: str) -> str:
    # Without a nicename WordPress would give C and C++ the same one, `c`.
    nicename = quote(tag_key(tag).replace(" ", "-"), safe="").lower()
    return format_element(
        "category", escape(tag, quote=False), f' domain="post_tag" nicename="{nicename}"'
    )


def format_element(name: str, text: str, attributes: str = "") -> str:
    # XML excludes control characters, and turns carriage returns into line feeds.
    text = NON_XML_CHARACTERS.sub("", text).replace("]]>", "]]]]><![CDATA[>")
    text = text.replace("\r", "]]>&#13;<![CDATA[")
    return f"<{name}{attributes}><![CDATA[{text}]]></{name}>\n"
