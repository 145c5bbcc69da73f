"""Addresses of links and pictures in texts: find those that readers get, and change them.

Characters that look like a link may be code, or a comment. So each possible address is replaced by
a marker, and the marked text is rendered: a marker that is the address of a link or a picture in
the sanitized HTML marks an address, and every other one is left alone. Example: of the addresses in
``![](a.png) `![](b.png)` ``, rendering shows `<img src="…0n">` and `<code>![](…1n)</code>`.
"""

import re
from collections.abc import Callable, Sequence
from html import unescape
from secrets import token_hex
from typing import NamedTuple

from blog_api.core.urls import is_media_path
from blog_api.text.attributes import TAG_WITH_ATTRIBUTES, join_srcset, split_srcset
from blog_api.text.markdown import HTML, MARKDOWN, Source

# As the sanitizer writes them.
ADDRESS = re.compile(r' (src|srcset|href|poster|cite)="([^"]*)"')

MAX_LENGTH = 2_048
# Of HTML, also within Markdown.
ATTRIBUTE = (
    rf"\b(?:src|href|poster)\s*=\s*(?:\"([^\"<>\n]{{1,{MAX_LENGTH}}})\""
    rf"|'([^'<>\n]{{1,{MAX_LENGTH}}})'|([^\s\"'<>=`]{{1,{MAX_LENGTH}}}))"
)
SRCSET = (
    rf"\bsrcset\s*=\s*(?:\"(?P<in_double>[^\"<>]{{1,{MAX_LENGTH}}})\""
    rf"|'(?P<in_single>[^'<>]{{1,{MAX_LENGTH}}})')"
)
# Links and pictures, and the definitions of references. A character that could begin or end another
# construct is no part of an address here, so that a marker in its place changes nothing else. A tag
# after a bracket has an address of its own.
LINK = (
    rf"\](?:\(|:)\s*(?:<(?!(?:a|audio|img|source|video)\s[^<>\n]*=)([^<>\n`|]{{1,{MAX_LENGTH}}})>"
    r"|((?:\\[^\s`|]|[^\s<>()\\`|\[\]]|\([^\s<>()\\`|\[\]]*\))+))"
)
PATTERNS = {
    HTML: re.compile(f"{ATTRIBUTE}|{SRCSET}", re.IGNORECASE),
    MARKDOWN: re.compile(f"{LINK}|{ATTRIBUTE}|{SRCSET}", re.IGNORECASE),
}
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


def change_addresses(html: str, change: Callable[[str], str | None]) -> str:
    """Return sanitized HTML with each address changed; one stays if the change is None."""

    def replace(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name != "srcset":
            changed = change(value)
            return found[0] if changed is None else f' {name}="{changed}"'
        candidates = [one._replace(url=change(one.url) or one.url) for one in split_srcset(value)]
        return f' {name}="{join_srcset(candidates)}"'

    return TAG_WITH_ATTRIBUTES.sub(lambda tag: ADDRESS.sub(replace, tag[0]), html)


def make_media_absolute(html: str, service_url: str) -> str:
    """Return sanitized HTML with absolute addresses of uploaded pictures."""
    return change_addresses(html, lambda url: service_url + url if is_media_path(url) else None)


class Address(NamedTuple):
    """A possible address: its positions in a text, and its value without escapes."""

    start: int
    end: int
    value: str


class ShownAddress(NamedTuple):
    """The address of a link or a picture that readers get."""

    address: Address
    is_picture: bool


def find_addresses(source: Source, is_wanted: Callable[[str], bool]) -> list[Address]:
    """Return the wanted addresses, and others that look like them, in code for example."""
    found = []
    for match in PATTERNS[source.content_type].finditer(source.content):
        (group,) = (n for n, text in enumerate(match.groups(), 1) if text is not None)
        start, text = match.start(group), match[group]
        if match.lastgroup:
            parts = [(start + one.start, one.url) for one in split_srcset(text)]
        else:
            parts = [(start, text)]
        is_markdown = group <= 2 and source.content_type != HTML
        for start, text in parts:
            value = unescape(ESCAPED.sub(r"\1", text) if is_markdown else text)
            if is_wanted(value):
                found.append(Address(start, start + len(text), value))
    return found


class MarkedText:
    """A text with a marker in place of each possible address."""

    def __init__(self, source: Source, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        # Random: no text has it.
        prefix = f"m{token_hex(8)}x"
        markers = [f"{prefix}{n}n" for n in range(len(addresses))]
        self._marker = re.compile(rf"{prefix}(\d+)n", re.ASCII)
        self.source = source._replace(content=replace_all(source.content, addresses, markers))

    def find_shown(self, html: str) -> list[ShownAddress]:
        """Return the addresses whose markers are addresses in the HTML of the marked text."""
        pictures: dict[int, bool] = {}
        for tag in TAG_WITH_ATTRIBUTES.finditer(html):
            for name, value in ADDRESS.findall(tag[0]):
                is_picture = tag[0].startswith("<img ") or name in ("srcset", "poster")
                urls = [one.url for one in split_srcset(value)] if name == "srcset" else [value]
                for marker in filter(None, map(self._marker.fullmatch, urls)):
                    number = int(marker[1])
                    pictures[number] = pictures.get(number, False) or is_picture
        return [ShownAddress(self._addresses[n], pictures[n]) for n in sorted(pictures)]


def replace_all(text: str, addresses: Sequence[Address], values: Sequence[str]) -> str:
    """Return the text with other values in place of some addresses, which are in their order."""
    parts = []
    end = 0
    for address, value in zip(addresses, values, strict=True):
        parts += [text[end : address.start], value]
        end = address.end
    return "".join([*parts, text[end:]])
