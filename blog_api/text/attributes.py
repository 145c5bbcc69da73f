"""Attributes of HTML as the sanitizer writes them, and the addresses in them."""

import re
from collections.abc import Iterable
from typing import NamedTuple

ATTRIBUTES = r'(?: [a-z-]+="[^"]*")*'
TAG_WITH_ATTRIBUTES = re.compile(r'<[a-z][a-z0-9]*(?: [a-z-]+="[^"]*")+')

# A URL parser removes these around a URL and in it: https://url.spec.whatwg.org/#url-parsing
REMOVED_AROUND_URLS = "".join(map(chr, range(0x21)))
REMOVED_IN_URLS = re.compile("[\t\n\r]")
SCHEME = re.compile("([a-z][a-z0-9+.-]*):", re.IGNORECASE)

# An address and the width or density of its picture. An address may have commas, but not at its
# end. None of this backtracks.
CANDIDATE = re.compile(
    r"([^\s,]++(?:,++[^\s,]++)*+)(?:,|\s++(\d{1,9}(?:\.\d{1,9})?[wxh])?+[^,]*+,?+|\Z)", re.ASCII
)


class Candidate(NamedTuple):
    """An address in `srcset`, its position, and the width or density of its picture."""

    url: str
    start: int = 0
    descriptor: str = ""


def split_srcset(value: str) -> list[Candidate]:
    return [
        Candidate(found[1], found.start(1), found[2] or "") for found in CANDIDATE.finditer(value)
    ]


def join_srcset(candidates: Iterable[Candidate]) -> str:
    return ", ".join(f"{one.url} {one.descriptor}".rstrip() for one in candidates)


def is_web_address(address: str) -> bool:
    """Return whether a browser takes an address for a relative one, or one of http or https."""
    found = SCHEME.match(REMOVED_IN_URLS.sub("", address.strip(REMOVED_AROUND_URLS)))
    return found is None or found[1].lower() in ("http", "https")
