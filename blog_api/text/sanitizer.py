"""Sanitize HTML: keep the elements and attributes that are listed here, and nothing executable.

Ids and names of texts get a prefix, so that none is that of an element or a script of the page that
shows them; links to them (`#notes`) follow. Headings get ids as GitHub makes them. Frames stay only
from hosts of the setting `BLOG_IFRAME_HOSTS`; a link replaces each other one. Example: `<h2>Dates &
times</h2>` becomes `<h2 id="user-content-dates--times">…`.
"""

import re
import unicodedata
from collections.abc import Collection
from html import unescape
from typing import Final

import nh3

from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.text.attributes import (
    ATTRIBUTES,
    TAG_WITH_ATTRIBUTES,
    is_web_address,
    join_srcset,
    split_srcset,
)
from blog_api.text.excerpts import extract_text

# As on GitHub.
ID_PREFIX: Final = "user-content-"
REL = "nofollow noopener noreferrer ugc"

# nh3 does not check the URL scheme of `cite`, which browsers do not show.
ALLOWED_ATTRIBUTES = {
    **{tag: names - {"cite"} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()},
    "*": {"id", "lang", "title"},
    "a": nh3.ALLOWED_ATTRIBUTES["a"] | {"class", "name"},
    "audio": {"loop", "muted", "preload", "src"},
    "code": {"class"},
    "iframe": {
        "allowfullscreen",
        "height",
        "loading",
        "referrerpolicy",
        "sandbox",
        "src",
        "width",
    },
    "img": nh3.ALLOWED_ATTRIBUTES["img"] | {"loading", "sizes", "srcset"},
    "input": {"checked", "type"},
    "li": {"class"},
    "ol": nh3.ALLOWED_ATTRIBUTES["ol"] | {"class"},
    "section": {"class"},
    "source": {"height", "media", "sizes", "src", "srcset", "type", "width"},
    "sup": {"class"},
    "td": nh3.ALLOWED_ATTRIBUTES["td"] | {"style"},
    "th": nh3.ALLOWED_ATTRIBUTES["th"] | {"style"},
    "ul": {"class"},
    "video": {"height", "loop", "muted", "playsinline", "poster", "preload", "src", "width"},
}
# One for each element: nh3 writes several in any order.
FORCED_ATTRIBUTES = {
    "audio": {"controls": ""},
    "input": {"disabled": ""},
    "video": {"controls": ""},
}
# A frame needs its origin for its own storage. It can do no more to the page than any other site,
# unless it is a page of the same site. YouTube plays nothing without a referrer.
IFRAME_ATTRIBUTES = (
    ' sandbox="allow-popups allow-same-origin allow-scripts"'
    ' referrerpolicy="strict-origin-when-cross-origin" loading="lazy"'
)
# The language of a code block, and what Markdown makes of task lists and footnotes, are classes;
# the alignment of a column is a style.
VALUES = {
    ("a", "class"): re.compile("footnote-backref"),
    ("code", "class"): re.compile(r"language-\S+"),
    ("input", "type"): re.compile("checkbox"),
    ("li", "class"): re.compile("task-list-item"),
    ("ol", "class"): re.compile("contains-task-list"),
    ("section", "class"): re.compile("footnotes"),
    ("sup", "class"): re.compile("footnote-ref"),
    ("td", "style"): re.compile("text-align: ?(left|center|right);?"),
    ("th", "style"): re.compile("text-align: ?(left|center|right);?"),
    ("ul", "class"): re.compile("contains-task-list"),
    ("img", "loading"): re.compile("eager|lazy"),
    # `auto` may load a whole film.
    ("audio", "preload"): re.compile("none|metadata"),
    ("video", "preload"): re.compile("none|metadata"),
}

# Elements of the HTML that nh3 writes. The text in a frame is that of browsers without frames.
HEADING = re.compile(rf"<(h[1-6])({ATTRIBUTES})>(.*?)</\1>", re.DOTALL)
INPUT = re.compile(rf"<input{ATTRIBUTES}>")
IFRAME = re.compile(rf"<iframe({ATTRIBUTES})>.*?</iframe>", re.DOTALL)
ID = re.compile(r' id="([^"]*)"')
SRC = re.compile(r' src="([^"]*)"')
TITLE = re.compile(r' title="([^"]*)"')
IFRAME_FORCED = re.compile(r' (?:loading|referrerpolicy|sandbox)="[^"]*"')
# Everything else that browsers take for an https address, such as one with a user, a port or a
# tab, is not compared: its host is not certain.
HTTPS = re.compile(r"https://([a-z0-9.-]+)(?:[/?#][!-\[\]-~]*)?")

IFRAME_START = re.compile(r"(?=<iframe\b)", re.IGNORECASE)
IFRAME_TAG = re.compile(r"<iframe\b(?:[^<>\"']|\"[^\"]*\"|'[^']*')*+>", re.IGNORECASE)
IFRAME_END = re.compile("</iframe", re.IGNORECASE)


def add_prefix(name: str) -> str:
    return name if name.startswith(ID_PREFIX) else ID_PREFIX + name


def filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value of an allowed attribute, changed if need be, or None to remove it."""
    if name in ("id", "name"):
        return add_prefix(value) if value else None
    if name == "headers":
        return " ".join(map(add_prefix, value.split()))
    # `#` and `#top` lead to the top of the page without an element of that id.
    if name == "href" and value.startswith("#") and value not in ("#", "#top"):
        return f"#{add_prefix(value[1:])}"
    if name == "srcset":
        candidates = [one for one in split_srcset(value) if is_web_address(one.url)]
        return join_srcset(candidates) or None
    pattern = VALUES.get((tag, name))
    return value if pattern is None or pattern.fullmatch(value) else None


CLEANER = nh3.Cleaner(
    tags=nh3.ALLOWED_TAGS | {"audio", "iframe", "input", "picture", "section", "source", "video"},
    attributes=ALLOWED_ATTRIBUTES,
    attribute_filter=filter_attribute,
    set_tag_attribute_values=FORCED_ATTRIBUTES,
    url_schemes={"http", "https", "mailto", "tel"},
    # Links of users do not count for search engines.
    link_rel=REL,
)


def sanitize_html(html: str, iframe_hosts: Collection[str] = ()) -> str:
    """Return HTML that is safe in a page; frames stay from these hosts."""
    html = CLEANER.clean(close_iframes(html))
    if "<iframe" in html:
        # Again: a link within a link is none.
        html = CLEANER.clean(IFRAME.sub(lambda frame: check_iframe(frame, iframe_hosts), html))
    if "<input" in html:
        html = INPUT.sub(lambda tag: tag[0] if ' type="checkbox"' in tag[0] else "", html)
    # HTML entities can name characters that XML, and so a feed, does not allow.
    return NON_XML_CHARACTERS.sub("\ufffd", make_ids(html))


def close_iframes(html: str) -> str:
    """Return HTML in which no frame contains the rest of the text, as `<iframe />` would."""
    first, *frames = IFRAME_START.split(html)
    for number, frame in enumerate(frames):
        if not IFRAME_END.search(frame) and (tag := IFRAME_TAG.match(frame)):
            frames[number] = f"{tag[0]}</iframe>{frame[tag.end() :]}"
    return "".join([first, *frames])


def check_iframe(frame: re.Match[str], hosts: Collection[str]) -> str:
    """Return the frame if it is from one of the hosts, and a link to its address otherwise."""
    found = SRC.search(frame[1])
    address = found[1] if found else ""
    url = HTTPS.fullmatch(unescape(address))
    if url and url[1] in hosts:
        return f"<iframe{IFRAME_FORCED.sub('', frame[1])}{IFRAME_ATTRIBUTES}></iframe>"
    title = TITLE.search(frame[1])
    text = (title and title[1].strip()) or address or "[iframe]"
    return f'<a href="{address}">{text}</a>' if address else text


def make_ids(html: str) -> str:
    """Return HTML in which all headings have an id, and no two elements the same one."""
    used: set[str] = set()

    def remove_used(found: re.Match[str]) -> str:
        if found[1] in used:
            return ""
        used.add(found[1])
        return found[0]

    def add_id(heading: re.Match[str]) -> str:
        tag, attributes, content = heading.groups()
        slug = make_slug(extract_text(content))
        if not slug or ID.search(attributes):
            return heading[0]
        name = ID_PREFIX + slug
        while name in used:
            numbers[slug] = numbers.get(slug, 0) + 1
            name = f"{ID_PREFIX}{slug}-{numbers[slug]}"
        used.add(name)
        return f'<{tag} id="{name}"{attributes}>{content}</{tag}>'

    numbers: dict[str, int] = {}
    if ' id="' in html:
        html = TAG_WITH_ATTRIBUTES.sub(lambda tag: ID.sub(remove_used, tag[0]), html)
    return HEADING.sub(add_id, html)


def make_slug(text: str) -> str:
    """Return the text as GitHub writes it in the id of a heading, in any script."""
    return "".join(filter(is_in_slug, text.lower())).replace(" ", "-")


def is_in_slug(character: str) -> bool:
    category = unicodedata.category(character)
    return character in " -" or category[0] in "LM" or category in ("Nd", "Nl", "Pc")
