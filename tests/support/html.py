"""Checks of sanitized HTML, independent of the sanitizer."""

import re
from collections.abc import Collection, Iterable, Mapping
from html.parser import HTMLParser
from typing import NoReturn

# The allowed elements and attributes, written once more: the service's own lists are under test.
ELEMENTS = set(
    re.findall(
        r"\w+",
        """
        a abbr acronym area article aside audio b bdi bdo blockquote br caption center cite code col
        colgroup data dd del details dfn div dl dt em figcaption figure footer h1 h2 h3 h4 h5 h6
        header hgroup hr i img input ins kbd li map mark nav ol p picture pre q rp rt rtc ruby s
        samp section small source span strike strong sub summary sup table tbody td tfoot th thead
        time tr tt u ul var video wbr
        """,
    )
)
GLOBAL_ATTRIBUTES = {"id", "lang", "title"}
CELL_ATTRIBUTES = {"align", "char", "charoff"}
PLAYER_ATTRIBUTES = {"controls", "loop", "muted", "preload", "src"}
ATTRIBUTES = {
    "a": {"class", "href", "hreflang", "name", "rel"},
    "audio": PLAYER_ATTRIBUTES,
    "bdo": {"dir"},
    "code": {"class"},
    "col": CELL_ATTRIBUTES | {"span"},
    "colgroup": CELL_ATTRIBUTES | {"span"},
    "del": {"datetime"},
    "hr": {"align", "size", "width"},
    "img": {"align", "alt", "height", "loading", "sizes", "src", "srcset", "width"},
    "input": {"checked", "disabled", "type"},
    "ins": {"datetime"},
    "li": {"class"},
    "ol": {"class", "start"},
    "section": {"class"},
    "source": {"height", "media", "sizes", "src", "srcset", "type", "width"},
    "sup": {"class"},
    "table": CELL_ATTRIBUTES | {"summary"},
    "tbody": CELL_ATTRIBUTES,
    "td": CELL_ATTRIBUTES | {"colspan", "headers", "rowspan", "style"},
    "tfoot": CELL_ATTRIBUTES,
    "th": CELL_ATTRIBUTES | {"colspan", "headers", "rowspan", "scope", "style"},
    "thead": CELL_ATTRIBUTES,
    "tr": CELL_ATTRIBUTES,
    "ul": {"class"},
    "video": PLAYER_ATTRIBUTES | {"height", "playsinline", "poster", "width"},
}
# A single class, so that no other class of the page can be used.
CLASSES = {
    "a": "footnote-backref",
    "code": r"language-\S*",
    "li": "task-list-item",
    "ol": "contains-task-list",
    "section": "footnotes",
    "sup": "footnote-ref",
    "ul": "contains-task-list",
}
IFRAME_ATTRIBUTES = {"allowfullscreen", "height", "id", "lang", "src", "title", "width"}
IFRAME = {
    "sandbox": "allow-popups allow-same-origin allow-scripts",
    "referrerpolicy": "strict-origin-when-cross-origin",
    "loading": "lazy",
}
PREFIX = "user-content-"
URL_ATTRIBUTES = {"href", "poster", "src"}
SCHEMES = {"http", "https", "mailto", "tel"}
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


def assert_harmless(
    elements: Iterable[tuple[str, Attributes]], iframe_hosts: Collection[str] = ()
) -> None:
    """Check that all elements and attributes are allowed, and no attribute is executable."""
    for element, attributes in elements:
        if element == "iframe":
            assert_harmless_iframe(attributes, iframe_hosts)
            continue
        assert element in ELEMENTS
        if element == "input":
            assert attributes.get("type") == "checkbox" and "disabled" in attributes, attributes
        for name, value in attributes.items():
            shown = f"{element} {name}={value!r}"
            assert name in GLOBAL_ATTRIBUTES | ATTRIBUTES.get(element, set()), shown
            assert not name.startswith("on"), shown
            assert value is not None, shown
            if name in URL_ATTRIBUTES:
                assert scheme_of(value) in SCHEMES | {None}, shown
            elif name == "srcset":
                for candidate in value.split(", "):
                    url, _, descriptor = candidate.partition(" ")
                    assert scheme_of(url) in {"http", "https", None}, shown
                    assert re.fullmatch(r"([\d.]+[wxh])?", descriptor), shown
            elif name in ("id", "name"):
                assert value.startswith(PREFIX), shown
            elif name == "headers":
                assert all(one.startswith(PREFIX) for one in value.split()), shown
            elif name == "style":
                assert re.fullmatch(r"text-align:\w*", value), shown
            elif name == "class":
                assert re.fullmatch(CLASSES[element], value), shown
            elif name == "rel":
                assert value == REL, shown


def assert_harmless_iframe(attributes: Attributes, hosts: Collection[str]) -> None:
    """Check that a browser loads the frame from one of the hosts, in a sandbox."""
    assert attributes.keys() <= IFRAME_ATTRIBUTES | IFRAME.keys(), attributes
    assert attributes.items() >= IFRAME.items(), attributes
    url = attributes["src"]
    # Nothing that a URL parser would change: what follows the host ends it.
    assert url and url.isascii() and url.isprintable() and "\\" not in url, url
    assert any(re.match(rf"https://{re.escape(host)}(?:[/?#]|\Z)", url) for host in hosts), url
