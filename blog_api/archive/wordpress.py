"""WXR: posts as WordPress exports and imports them, in RSS with elements of its own."""

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
from blog_api.core.fields import MAX_TAGS, NON_XML_CHARACTERS, casefold_key, unique_tags

CHUNK_BYTES = 64 * 1024


# Of a tag or a comment, which the parser holds, and reads again with every chunk.
MAX_MARKUP = 1024 * 1024


# WordPress' own ends in its version.
NAMESPACES = {
    "http://wordpress.org/export/": "wp:",
    "http://purl.org/dc/elements/1.1/": "dc:",
    "http://purl.org/rss/1.0/modules/content/": "content:",
}


READ_ELEMENTS = {
    "title",
    "category",
    "dc:creator",
    "content:encoded",
    "wp:post_type",
    "wp:status",
    "wp:post_name",
    "wp:post_date",
    "wp:post_date_gmt",
    "wp:post_password",
    "wp:author_login",
    "wp:author_display_name",
}


TAG_DOMAINS = {"post_tag", "category"}


NO_CATEGORY = "uncategorized"


NO_TIME = "0000-00-00 00:00:00"


SKIPPED_STATUSES = {"trash", "auto-draft", "inherit"}


AUTHOR_KEY_PREFIX = "wordpress:"


MAX_AUTHOR_KEY_LENGTH = 255


SITE_ELEMENT = "wp:base_site_url"


HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/" \
xmlns:content="http://purl.org/rss/1.0/modules/content/" \
xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:wp="http://wordpress.org/export/1.2/">
<channel>
"""


TAIL = "</channel>\n</rss>\n"


def read_wxr(path: Path, authors: dict[str, str]) -> Iterator[ArchiveEntry]:
    """The posts of an export; of what breaks it, an entry that is the last.

    `authors`, names by log-ins, grow on the way: they need not come before their posts, so only
    a second reading knows them all. Raises OSError where the file cannot be read.
    """
    parser = make_parser()
    parser.forbid_dtd = True
    parser.setFeature(feature_namespaces, True)
    handler = ExportHandler(path, authors, parser.getLineNumber)
    parser.setContentHandler(handler)
    problem = None
    place, held = (0, 0), 0
    with path.open("rb") as file:
        chunk = b"anything"
        while chunk and problem is None:
            chunk = file.read(CHUNK_BYTES)
            problem = feed_parser(parser, chunk)
            before, place = place, (parser.getLineNumber(), parser.getColumnNumber() or 0)
            held = held + len(chunk) if place == before else 0
            if problem is None and held > MAX_MARKUP:
                problem = "A tag or a comment is too long"
            yield from handler.entries
            handler.entries.clear()
    if problem:
        yield ArchiveEntry(format_location(path, parser.getLineNumber()), problem=problem)
    elif not handler.is_wxr:
        yield ArchiveEntry(format_location(path, 1), problem="This is no export of WordPress")


def feed_parser(parser: DefusedExpatParser, chunk: bytes) -> str | None:
    """Read on, or to the end where there is no more. What is wrong with it is returned."""
    try:
        if chunk:
            parser.feed(chunk)
        else:
            parser.close()
    except DefusedXmlException:
        return "A document type and entities are not allowed"
    except SAXParseException as error:
        return f"The XML is broken: {error.getMessage()}"
    except (LookupError, ValueError):
        return "The encoding is not known"
    return None


def get_short_name(namespace: str | None, name: str) -> str:
    """`wp:status` and the like, whatever the prefixes are in this file."""
    if namespace is None:
        return name
    found = (short for start, short in NAMESPACES.items() if namespace.startswith(start))
    return next(found, "other:") + name


class ExportHandler(ContentHandler):
    """Gathers the entries of `rss/channel/item`, and the authors."""

    def __init__(self, path: Path, authors: dict[str, str], get_line: Callable[[], int]) -> None:
        super().__init__()
        self.file = path
        self.get_line = get_line
        self.authors = authors
        self.entries: list[ArchiveEntry] = []
        self.is_wxr = False
        self.site = ""
        self.path: list[str] = []
        self.start_of_item()

    def start_of_item(self) -> None:
        self.line = self.get_line()
        self.values: dict[str, str] = {}
        self.tags: list[str] = []
        self.is_too_large = False

    def startElementNS(
        self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl
    ) -> None:
        self.path.append(get_short_name(*name))
        self.is_wxr = self.is_wxr or self.path[-1].startswith("wp:")
        if len(self.path) == 3:
            self.start_of_item()
        if len(self.path) in (3, 4):
            self.text: list[str] = []
            self.size = 0
            self.domain = attrs.get((None, "domain"))

    def characters(self, content: str) -> None:
        if (len(self.path) == 4 and self.path[3] in READ_ELEMENTS) or self.path[2:] == [
            SITE_ELEMENT
        ]:
            self.size += len(content)
            if self.size > MAX_RECORD_BYTES:
                self.is_too_large = True
            else:
                self.text.append(content)

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        if len(self.path) == 4:
            self.end_of_field(self.path[3], "".join(self.text))
        elif self.path[2:] == [SITE_ELEMENT]:
            self.site = "".join(self.text).strip()
        elif len(self.path) == 3 and self.path[2] == "item":
            self.end_of_item()
        elif len(self.path) == 3 and self.path[2] == "wp:author":
            login = self.values.get("wp:author_login", "").strip()
            self.authors[login] = unescape(self.values.get("wp:author_display_name", ""))
        self.path.pop()

    def end_of_field(self, name: str, text: str) -> None:
        if name == "category":
            tag = unescape(text).strip()
            if self.domain in TAG_DOMAINS and tag and casefold_key(tag) != NO_CATEGORY:
                # WordPress knows no limit.
                self.tags = unique_tags([*self.tags, tag])[:MAX_TAGS]
        elif name in READ_ELEMENTS:
            self.values[name] = text

    def end_of_item(self) -> None:
        if (
            self.value_of("wp:post_type") != "post"
            or self.value_of("wp:status") in SKIPPED_STATUSES
        ):
            return
        if self.is_too_large:
            self.entries.append(
                ArchiveEntry(format_location(self.file, self.line), problem=TOO_LARGE)
            )
        else:
            self.entries.append(make_entry(self.file, self.line, self.record_values()))

    def value_of(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def record_values(self) -> dict[str, Any]:
        login = self.value_of("dc:creator")
        author = self.authors.get(login) or login
        return {
            "slug": unquote(self.value_of("wp:post_name")) or None,
            # What is text here may be HTML there.
            "title": unescape(self.values.get("title", "")),
            "author": author or None,
            # Log-ins are a site's own: two of them may have an `admin` each.
            "author_key": f"{AUTHOR_KEY_PREFIX}{self.site}:{login}"[:MAX_AUTHOR_KEY_LENGTH]
            if login
            else None,
            "published_at": self.published_at(),
            "tags": self.tags,
            "content": self.values.get("content:encoded", ""),
        }

    def published_at(self) -> str | None:
        status = self.value_of("wp:status")
        if status not in {"publish", "future"} or self.value_of("wp:post_password"):
            return None
        time = self.value_of("wp:post_date_gmt")
        if time in {"", NO_TIME} and status == "publish":
            time = self.value_of("wp:post_date")
        return None if time in {"", NO_TIME} else time.replace(" ", "T") + "Z"


class WXRWriter:
    """Writes an export that WordPress can import, as a context, into a file in UTF-8.

    One that an exception leaves has no end, so that nobody takes it for complete.
    """

    def __init__(self, file: IO[str], *, title: str, link: str) -> None:
        self.file = file
        self.title = title
        self.link = link
        self.logins: dict[str, str] = {}
        self.count = 0

    def __enter__(self) -> Self:
        self.file.write(HEAD + write_element("title", escape(self.title, quote=False)))
        self.file.write(write_element("link", self.link) + write_element("description", ""))
        self.file.write(
            write_element("wp:wxr_version", "1.2") + write_element("wp:base_site_url", self.link)
        )
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self.file.write(TAIL)

    def write(self, record: PostRecord, content_html: str) -> None:
        """Add a post; before the first one of an author, the author."""
        login = self.introduce(record)
        self.count += 1
        time, status = NO_TIME, "draft"
        if record.published_at is not None:
            time = record.published_at.replace(tzinfo=None).isoformat(" ", "seconds")
            # WordPress itself publishes it when its time comes.
            status = "publish"
        if record.taken_down_at is not None:
            status = "private"
        fields = {
            "title": escape(record.title, quote=False),
            "dc:creator": login,
            "content:encoded": content_html,
            "excerpt:encoded": "",
            "wp:post_id": str(self.count),
            "wp:post_date": time,
            "wp:post_date_gmt": time,
            "wp:comment_status": "open",
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
        self.file.writelines(write_element(name, text) for name, text in fields.items())
        self.file.writelines(write_category(tag) for tag in record.tags)
        self.file.write("</item>\n")

    def introduce(self, record: PostRecord) -> str:
        """The log-in of the record's author, who is written if they are new."""
        name = record.author or record.author_key
        identity = record.author_key or record.author
        if name is None or identity is None:
            return ""
        if identity in self.logins:
            return self.logins[identity]
        # WordPress strips a log-in of all that is not ASCII.
        login = identity.rpartition(":")[2]
        if not identity.startswith(AUTHOR_KEY_PREFIX):
            login = slugify(name, max_length=50) or "author"
        if login in self.logins.values():
            login = f"{login}-{len(self.logins) + 1}"
        self.logins[identity] = login
        self.file.write("<wp:author>\n" + write_element("wp:author_login", login))
        self.file.write(write_element("wp:author_email", ""))
        self.file.write(write_element("wp:author_display_name", escape(name, quote=False)))
        self.file.write("</wp:author>\n")
        return login


def write_category(tag: str) -> str:
    # A name of its own in addresses: WordPress would make `c` of both C and C++.
    nicename = quote(casefold_key(tag).replace(" ", "-"), safe="").lower()
    return write_element(
        "category", escape(tag, quote=False), f' domain="post_tag" nicename="{nicename}"'
    )


def write_element(name: str, text: str, attributes: str = "") -> str:
    # XML has no place for control characters, and makes line feeds of carriage returns.
    text = NON_XML_CHARACTERS.sub("", text).replace("]]>", "]]]]><![CDATA[>")
    text = text.replace("\r", "]]>&#13;<![CDATA[")
    return f"<{name}{attributes}><![CDATA[{text}]]></{name}>\n"
