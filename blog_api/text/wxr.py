"""Elements of WXR, the format of WordPress exports: RSS with elements of its own."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from html import escape, unescape
from mmap import ACCESS_READ, mmap
from pathlib import Path
from urllib.parse import quote
from xml.sax.xmlreader import AttributesNSImpl

from blog_api.core.fields import tag_key
from blog_api.text.times import parse_time
from blog_api.text.xml import PathHandler, XMLError, XMLReader, format_element

# Without `http://` or `https://`; WordPress' own namespace ends in the version.
NAMESPACES = {
    "wordpress.org/export/": "wp:",
    "purl.org/dc/elements/1.1/": "dc:",
    "purl.org/rss/1.0/modules/content/": "content:",
}
EXCERPT_NAMESPACE = re.compile(r"wordpress\.org/export/[^/]*/excerpt/")
PARENTS = {"wp:comment", "wp:postmeta"}
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/" \
xmlns:content="http://purl.org/rss/1.0/modules/content/" \
xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:wp="http://wordpress.org/export/1.2/">
<channel>
"""
TAIL = "</channel>\n</rss>\n"
NO_TIME = "0000-00-00 00:00:00"
# WordPress formats NO_TIME as `Wed, 30 Nov -0001`.
YEAR_ZERO = re.compile(r" -\d{4} ")
NOT_WXR = "not a WordPress export"
ITEM = re.compile(rb"<item[\s>]")


class WXRElement:
    """An element of the channel, such as an item or an author."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.name = ""
        self.text = ""
        self.values: dict[str, str] = {}
        # Of comments and metadata.
        self.children: dict[str, list[dict[str, str]]] = defaultdict(list)
        # By their domains.
        self.categories: dict[str, list[str]] = defaultdict(list)
        self.is_too_large = False
        # Lines in which control characters were left out since the element before.
        self.lines_left_out = ""

    def get(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def get_pub_date(self) -> str | None:
        """Return the time that every item of RSS may have, if it can be read."""
        value = self.get("pubDate")
        with suppress(ValueError, OverflowError):
            if not YEAR_ZERO.search(value):
                return parse_time(value).astimezone(UTC).isoformat()
        return None

    def get_meta(self, name: str) -> list[str]:
        return [
            one.get("wp:meta_value", "")
            for one in self.children["wp:postmeta"]
            if one.get("wp:meta_key") == name
        ]


def read_elements(path: Path, *, max_bytes: int) -> Iterator[WXRElement]:
    """Yield the elements of the channel; a text over `max_bytes` is cut.

    Raises XMLError with the number of items that were not read, and OSError.
    """
    handler = WXRHandler(max_bytes)
    with path.open("rb") as file:
        try:
            for _ in handler.reader.parse(file):
                yield from handler.take_elements()
        except XMLError as error:
            yield from handler.take_elements()
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                unread = sum(1 for _ in ITEM.finditer(content)) - handler.item_count
            told = f"; what follows was not read, {unread} items" if unread > 0 else ""
            raise XMLError(f"{error}{told}", error.line) from None
    if not handler.is_wxr:
        raise XMLError(NOT_WXR, 1)


def shorten_name(namespace: str | None, name: str) -> str:
    """Return a name such as `wp:status`, whatever prefix the file declares."""
    if namespace is None:
        return name
    address = namespace.partition("://")[2]
    if EXCERPT_NAMESPACE.fullmatch(address):
        return f"excerpt:{name}"
    found = (short for start, short in NAMESPACES.items() if address.startswith(start))
    return next(found, "other:") + name


class WXRHandler(PathHandler):
    """Collect the elements in `rss/channel`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.reader = XMLReader(self)
        self.max_bytes = max_bytes
        self.is_wxr = False
        self.item_count = 0
        self._elements: list[WXRElement] = []
        self._element = WXRElement(1)
        self._child: dict[str, str] = {}
        self._domain = ""
        self._text: list[str] = []
        self._size = 0

    def take_elements(self) -> list[WXRElement]:
        taken, self._elements = self._elements, []
        return taken

    def startElementNS(
        self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl
    ) -> None:
        super().startElementNS((None, shorten_name(*name)), qname, attrs)
        self.is_wxr = self.is_wxr or self.path[-1].startswith("wp:")
        if len(self.path) == 3:
            self._element = WXRElement(self.reader.line)
        elif len(self.path) == 4:
            self._child = {}
            self._domain = attrs.get((None, "domain"), "")
        self._text, self._size = [], 0

    def characters(self, content: str) -> None:
        self._size += len(content)
        if self._size > self.max_bytes:
            self._element.is_too_large = True
        else:
            self._text.append(content)

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        text, self._text = "".join(self._text), []
        ended = self.path.pop()
        match self.path:
            case [_, _]:
                self.item_count += ended == "item"
                self._element.name, self._element.text = ended, text.strip()
                if ended == "item":
                    self._element.lines_left_out = self.reader.take_lines_left_out()
                self._elements.append(self._element)
            case [_, _, _] if ended in PARENTS:
                self._element.children[ended].append(self._child)
            case [_, _, _] if ended == "category":
                self._element.categories[self._domain].append(unescape(text).strip())
            case [_, _, _]:
                self._element.values[ended] = text
            case [_, _, _, parent] if parent in PARENTS:
                self._child[ended] = text


def get(values: dict[str, str], name: str) -> str:
    return values.get(name, "").strip()


def get_number(values: dict[str, str], name: str) -> int:
    text = get(values, name)
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def format_time(time: datetime | None) -> str:
    return NO_TIME if time is None else time.replace(tzinfo=None).isoformat(" ", "seconds")


def format_category(tag: str) -> str:
    # Without a nicename WordPress would give C and C++ the same one, `c`.
    nicename = quote(tag_key(tag).replace(" ", "-"), safe="").lower()
    return format_element(
        "category", escape(tag, quote=False), f' domain="post_tag" nicename="{nicename}"'
    )
