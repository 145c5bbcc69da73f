"""Checks of sanitized HTML, independent of the sanitizer."""

import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import NoReturn

# The allowed elements and attributes, written once more: the service's own lists are under test.
ELEMENTS = set(
    re.findall(
        r"\w+",
        """
        a abbr acronym area article aside b bdi bdo blockquote br caption center cite code col
        colgroup data dd del details dfn div dl dt em figcaption figure footer h1 h2 h3 h4 h5 h6
        header hgroup hr i img ins kbd li map mark nav ol p pre q rp rt rtc ruby s samp small span
        strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr
        """,
    )
)
GLOBAL_ATTRIBUTES = {"lang", "title"}
CELL_ATTRIBUTES = {"align", "char", "charoff"}
ATTRIBUTES = {
    "a": {"href", "hreflang", "rel"},
    "bdo": {"dir"},
    "blockquote": {"cite"},
    "code": {"class"},
    "col": CELL_ATTRIBUTES | {"span"},
    "colgroup": CELL_ATTRIBUTES | {"span"},
    "del": {"cite", "datetime"},
    "hr": {"align", "size", "width"},
    "img": {"align", "alt", "height", "src", "width"},
    "ins": {"cite", "datetime"},
    "ol": {"start"},
    "q": {"cite"},
    "table": CELL_ATTRIBUTES | {"summary"},
    "tbody": CELL_ATTRIBUTES,
    "td": CELL_ATTRIBUTES | {"colspan", "headers", "rowspan", "style"},
    "tfoot": CELL_ATTRIBUTES,
    "th": CELL_ATTRIBUTES | {"colspan", "headers", "rowspan", "scope", "style"},
    "thead": CELL_ATTRIBUTES,
    "tr": CELL_ATTRIBUTES,
}
URL_ATTRIBUTES = {"cite", "href", "src"}
SCHEMES = {"http", "https", "mailto"}
REL = "nofollow noopener noreferrer ugc"

# A URL parser removes these around a URL and in it: https://url.spec.whatwg.org/#url-parsing
REMOVED_AROUND_URLS = "".join(map(chr, range(0x21)))
REMOVED_IN_URLS = re.compile("[\t\n\r]")
SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]*):")
# XML 1.0, section 2.2
XML_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")

Attributes = Mapping[str, str | None]


class Elements(HTMLParser):
    """The elements of HTML with their attributes; comments and declarations are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Attributes]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), self.get_starttag_text()
        self.found.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> NoReturn:
        raise AssertionError(f"comment or declaration: {data}")

    def handle_decl(self, decl: str) -> NoReturn:
        self.handle_comment(decl)

    def handle_pi(self, data: str) -> NoReturn:
        self.handle_comment(data)

    def unknown_decl(self, data: str) -> NoReturn:
        self.handle_comment(data)


def scheme_of(url: str) -> str | None:
    """Return the scheme as a browser reads it; None if the URL is relative."""
    match = SCHEME.match(REMOVED_IN_URLS.sub("", url.strip(REMOVED_AROUND_URLS)))
    return match and match[1].lower()


def assert_harmless(elements: Iterable[tuple[str, Attributes]]) -> None:
    """Check that all elements and attributes are allowed, and no attribute is executable."""
    for element, attributes in elements:
        assert element in ELEMENTS
        for name, value in attributes.items():
            shown = f"{element} {name}={value!r}"
            assert name in GLOBAL_ATTRIBUTES | ATTRIBUTES.get(element, set()), shown
            assert not name.startswith("on"), shown
            assert value is not None, shown
            if name in URL_ATTRIBUTES:
                assert scheme_of(value) in SCHEMES | {None}, shown
            elif name == "style":
                assert re.fullmatch(r"text-align:\w*", value), shown
            elif name == "class":
                # A single class, so that no other class of the page can be used.
                assert re.fullmatch(r"language-\S*", value), shown
            elif name == "rel":
                assert value == REL, shown
