"""WXR, the format of WordPress exports: RSS with elements of its own."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.xmlreader import AttributesNSImpl

from pydantic import ValidationError

from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    TOO_LARGE,
    ArchiveEntry,
    CommentRecord,
    check_slug,
    format_location,
    make_entry,
)
from blog_api.core.characters import VISIBLE_CHARACTER
from blog_api.core.fields import tag_key, utc_now
from blog_api.core.urls import check_picture_address, check_web_address
from blog_api.text.excerpts import make_excerpt
from blog_api.text.markdown import HTML, SANITIZER
from blog_api.text.wordpress import (
    MEMBERS_ONLY,
    Attachment,
    render_comment,
    render_title,
    render_wordpress,
)
from blog_api.text.xml import PathHandler, XMLError, XMLReader

# Without `http://` or `https://`; WordPress' own namespace ends in the version.
NAMESPACES = {
    "wordpress.org/export/": "wp:",
    "purl.org/dc/elements/1.1/": "dc:",
    "purl.org/rss/1.0/modules/content/": "content:",
}
EXCERPT_NAMESPACE = re.compile(r"wordpress\.org/export/[^/]*/excerpt/")
PARENTS = {"wp:comment", "wp:postmeta"}
TAG_DOMAINS = ("post_tag", "category")
NO_CATEGORY = "uncategorized"
NO_TIME = "0000-00-00 00:00:00"
SKIPPED_STATUSES = {"trash": "trash", "auto-draft": "automatic draft", "inherit": "revision"}
# Of the post: a plugin shows it to members alone.
ACCESS_META = re.compile(
    r"_jetpack_newsletter_access|_members_access_role|rcp_.*(?:level|access).*"
)
PUBLIC_ACCESS = {"", "0", "all", "everybody", "everyone", "none"}
COMMENT_TYPES = {"", "comment"}
NO_NAME = "Anonymous"
AUTHOR_KEY_PREFIX = "wordpress:"
MAX_KEY_LENGTH = 255
# Of the HTML that is read for a summary, in characters.
MAX_EXCERPT_LENGTH = 10_000
ITEM = re.compile(rb"<item[\s>]")


@dataclass
class Site:
    """What posts refer to, wherever in the file it is, and the number of entries."""

    path: Path
    address: str = ""
    # Display names and keys by login, and logins by user id.
    authors: dict[str, tuple[str, str]] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    covers: set[str] = field(default_factory=set)
    total: int = 0

    @property
    def identity(self) -> str:
        """Return the address, or else a digest of the file: no two sites share an author."""
        if not self.address:
            with self.path.open("rb") as file:
                self.address = hashlib.file_digest(file, "sha256").hexdigest()
        return self.address


def scan_wxr(path: Path) -> Site:
    """Read what posts refer to, and count the entries. Raises OSError."""
    site = Site(path)
    found = sum(1 for _ in read_wxr(site, is_scan=True))
    site.total = found - len(site.covers & site.attachments.keys())
    return site


def read_wxr(
    site: Site, *, with_pages: bool = False, is_scan: bool = False
) -> Iterator[ArchiveEntry]:
    """Yield the posts of an export; the last entry may be an error that ends the reading.

    Pages are left out, or drafts. Raises OSError.
    """
    handler = WXRHandler(site, with_pages=with_pages, is_scan=is_scan)
    reader = handler.reader
    with site.path.open("rb") as file:
        try:
            for _ in reader.parse(file):
                yield from handler.take_entries()
        except XMLError as error:
            yield from handler.take_entries()
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                unread = sum(1 for _ in ITEM.finditer(content)) - handler.item_count
            told = (
                f"{error}; what follows was not read, {unread} items" if unread > 0 else str(error)
            )
            yield ArchiveEntry(format_location(site.path, error.line), error=told)
            return
    if not handler.is_wxr:
        yield ArchiveEntry(format_location(site.path, 1), error="not a WordPress export")


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
    """Collect the entries in `rss/channel/item`, or in a scan what they refer to."""

    def __init__(self, site: Site, *, with_pages: bool, is_scan: bool) -> None:
        super().__init__()
        self.reader = XMLReader(self)
        self.site = site
        self.with_pages = with_pages
        self.is_scan = is_scan
        self.entries: list[ArchiveEntry] = []
        self.is_wxr = False
        self.item_count = 0
        self.reset_item()

    def take_entries(self) -> list[ArchiveEntry]:
        taken, self.entries = self.entries, []
        return taken

    def reset_item(self) -> None:
        self.line = self.reader.line
        self.values: dict[str, str] = {}
        self.children: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.child: dict[str, str] = {}
        self.tags: dict[str, list[str]] = defaultdict(list)
        self.is_too_large = False

    def startElementNS(
        self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl
    ) -> None:
        super().startElementNS((None, shorten_name(*name)), qname, attrs)
        self.is_wxr = self.is_wxr or self.path[-1].startswith("wp:")
        if len(self.path) == 3:
            self.reset_item()
        elif len(self.path) == 4:
            self.child = {}
            self.domain = attrs.get((None, "domain"))
        self.text: list[str] = []
        self.size = 0

    def characters(self, content: str) -> None:
        self.size += len(content)
        if self.size > MAX_RECORD_BYTES:
            self.is_too_large = True
        else:
            self.text.append(content)

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        text, self.text = "".join(self.text), []
        ended = self.path.pop()
        match self.path:
            case [_, _]:
                self.end_element_of_channel(ended, text.strip())
            case [_, _, _] if ended in PARENTS:
                self.children[ended].append(self.child)
            case [_, _, "item"] if ended == "category":
                self.tags[self.domain or ""].append(unescape(text).strip())
            case [_, _, _]:
                self.values[ended] = text
            case [_, _, _, parent] if parent in PARENTS:
                self.child[ended] = text

    def end_element_of_channel(self, name: str, text: str) -> None:
        if name == "item":
            self.item_count += 1
            if self.is_scan:
                self.scan_item()
            # A cover is a part of its post.
            if self.is_scan or self.get_value("wp:post_id") not in self.site.covers:
                self.entries.append(self.make_entry())
        elif name == "wp:author":
            login = self.get_value("wp:author_login")
            display_name = unescape(self.values.get("wp:author_display_name", ""))
            self.site.authors[login] = (display_name, self.get_value("dc:identifier"))
            self.site.logins[self.get_value("wp:author_id")] = login
        elif name in {"wp:base_site_url", "link"} and re.match(r"https?://\S", text):
            is_first = not self.site.address or name == "wp:base_site_url"
            self.site.address = text if is_first else self.site.address

    def get_value(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def get_meta(self, name: str) -> list[str]:
        return [
            one.get("wp:meta_value", "")
            for one in self.children["wp:postmeta"]
            if one.get("wp:meta_key") == name
        ]

    def scan_item(self) -> None:
        alt = next(iter(self.get_meta("_wp_attachment_image_alt")), "")
        url = self.get_value("wp:attachment_url")
        if url:
            attachment = Attachment(url, alt, self.get_value("wp:post_parent"))
            self.site.attachments[self.get_value("wp:post_id")] = attachment
        self.site.covers.update(self.get_meta("_thumbnail_id"))

    def make_entry(self) -> ArchiveEntry:
        location = format_location(self.site.path, self.line)
        if self.is_scan:
            return ArchiveEntry(location)
        kind = re.sub(r"\W+", " ", self.get_value("wp:post_type"))[:40].strip()
        left_out = (
            SKIPPED_STATUSES.get(self.get_value("wp:status")) if kind != "attachment" else None
        )
        is_kept = kind == "post" or (kind == "page" and self.with_pages)
        if left_out or not is_kept:
            details = self.get_value("wp:attachment_url")
            return ArchiveEntry(location, left_out=left_out or kind or "item", details=details)
        if self.is_too_large:
            return ArchiveEntry(location, error=TOO_LARGE)
        warnings: list[str] = []
        if lines := self.reader.take_lines_left_out():
            warnings.append(f"control characters were left out in lines {lines}")
        return make_entry(self.site.path, self.line, self.make_values(warnings), warnings=warnings)

    def make_values(self, warnings: list[str]) -> dict[str, Any]:
        login = self.get_value("dc:creator")
        content = self.values.get("content:encoded", "")
        post_id = self.get_value("wp:post_id")
        is_own = "dc:format" in self.values  # An export of this program.
        if not is_own:
            content = render_wordpress(content, post_id, self.site.attachments)
        published_at = self.parse_published_at(warnings)
        slug = unquote(self.get_value("wp:post_name"))
        tags = [tag for domain in TAG_DOMAINS for tag in self.tags[domain]]
        cover = self.find_cover()
        return {
            "slug": slug or None,
            "title": render_title(self.values.get("title", "")),
            "author": (self.site.authors.get(login, ("", ""))[0] or login) if login else None,
            "author_key": self.make_author_key(login) if login else None,
            "published_at": published_at,
            "updated_at": self.parse_time("wp:post_modified_gmt"),
            "tags": [tag for tag in tags if tag_key(tag) != NO_CATEGORY],
            "old_slugs": self.find_old_slugs(slug, is_public=published_at is not None),
            "summary": self.parse_summary(),
            "cover_url": cover.url if cover else None,
            "cover_alt": (cover.alt or None) if cover else None,
            "canonical_url": self.find_canonical_url(),
            "comments_open": self.get_value("wp:comment_status") != "closed",
            "comments": self.make_comments(warnings, keeps_waiting=is_own),
            "content_type": HTML,
            "content": content,
        }

    def make_author_key(self, login: str) -> str:
        """Return a key of the site: a login is unique within it only, each may have an `admin`."""
        key = self.site.authors.get(login, ("", ""))[1]
        return (key or f"{AUTHOR_KEY_PREFIX}{self.site.identity}:{login}")[:MAX_KEY_LENGTH]

    def parse_time(self, name: str) -> str | None:
        time = self.get_value(name)
        return None if time in {"", NO_TIME} else time.replace(" ", "T") + "Z"

    def parse_published_at(self, warnings: list[str]) -> str | None:
        """Return the time of a post that is plainly public or scheduled."""
        status = self.get_value("wp:status")
        if status not in {"publish", "future"} or self.values.get("wp:post_password"):
            return None
        if self.get_value("wp:post_type") != "post":
            return None
        metas = self.children["wp:postmeta"]
        if MEMBERS_ONLY.search(self.values.get("content:encoded", "")) or any(
            ACCESS_META.fullmatch(one.get("wp:meta_key", ""))
            and one.get("wp:meta_value", "").strip().casefold() not in PUBLIC_ACCESS
            for one in metas
        ):
            warnings.append("for members, so it is a draft")
            return None
        time = self.parse_time("wp:post_date_gmt")
        if time is None and status == "publish":
            time = self.parse_time("wp:post_date")
        # The format sorts as text.
        if status == "future" and time is not None and time < utc_now().isoformat():
            warnings.append("scheduled for a time that has passed, so it is a draft")
            return None
        return time

    def parse_summary(self) -> str | None:
        """Return the excerpt, which is HTML of any length, as plain text of one line."""
        html = self.values.get("excerpt:encoded", "")[:MAX_EXCERPT_LENGTH]
        summary = make_excerpt(SANITIZER.clean(html)).summary
        return summary if VISIBLE_CHARACTER.search(summary) else None

    def find_cover(self) -> Attachment | None:
        for one in self.get_meta("_thumbnail_id"):
            cover = self.site.attachments.get(one)
            if cover is not None and is_valid(check_picture_address, cover.url):
                return cover
        return None

    def find_canonical_url(self) -> str | None:
        """Return the address of the original, if a plugin has one on another site."""
        found = self.get_meta("_yoast_wpseo_canonical") + self.get_meta("rank_math_canonical_url")
        return next((url for url in found if url and is_valid(check_web_address, url)), None)

    def find_old_slugs(self, slug: str, *, is_public: bool) -> list[str]:
        """Return former slugs, and the last part of the address of a public post."""
        address = urlsplit(self.get_value("link")).path if is_public else ""
        found = [*self.get_meta("_wp_old_slug"), address.rstrip("/").rpartition("/")[2]]
        slugs = dict.fromkeys(unquote(one) for one in found)
        return [one for one in slugs if one != slug and is_valid(check_slug, one)]

    def make_comments(self, warnings: list[str], *, keeps_waiting: bool) -> list[dict[str, Any]]:
        """Return the approved comments, those that are answered first.

        An answer to one that is left out answers the comment above it.
        """
        comments = self.children["wp:comment"]
        parents = {get(one, "wp:comment_id"): get(one, "wp:comment_parent") for one in comments}
        numbers: dict[str, int] = {}
        made: list[dict[str, Any]] = []
        for one in sorted(comments, key=lambda one: get_number(one, "wp:comment_id")):
            approved = get(one, "wp:comment_approved")
            is_waiting = keeps_waiting and approved == "0"
            if get(one, "wp:comment_type") not in COMMENT_TYPES:
                continue
            if approved not in {"1", "approve"} and not is_waiting:
                continue
            parent = get(one, "wp:comment_parent")
            for _ in parents:
                if parent in numbers or parent not in parents:
                    break
                parent = parents[parent]
            values = self.make_comment(one) | {
                "parent": numbers.get(parent), "is_waiting": is_waiting
            }  # fmt: skip
            try:
                CommentRecord.model_validate(values)
            except ValidationError as error:
                message = error.errors(include_url=False, include_input=False)[0]["msg"]
                warnings.append(f"comment {get(one, 'wp:comment_id')} was left out: {message}")
                continue
            made.append(values)
            numbers[get(one, "wp:comment_id")] = len(made)
        return made

    def make_comment(self, comment: dict[str, str]) -> dict[str, Any]:
        name = " ".join(unescape(comment.get("wp:comment_author", "")).split())[:100]
        name = name if VISIBLE_CHARACTER.search(name) else NO_NAME
        login = self.site.logins.get(get(comment, "wp:comment_user_id"))
        email = get(comment, "wp:comment_author_email").casefold()
        key = get(comment, "dc:identifier") or (self.make_author_key(login) if login else None)
        time = get(comment, "wp:comment_date_gmt")
        time = get(comment, "wp:comment_date") if time in {"", NO_TIME} else time
        return {
            "author": name,
            "author_key": key,
            # Whose address two names have stays as unknown as it was.
            "address": None if key else f"{email or self.site.identity}\n{name}",
            "created_at": time.replace(" ", "T") + "Z",
            "content": render_comment(comment.get("wp:comment_content", "")),
        }


def get(values: dict[str, str], name: str) -> str:
    return values.get(name, "").strip()


def get_number(values: dict[str, str], name: str) -> int:
    text = get(values, name)
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def is_valid(check: Callable[[str], str], value: str) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True
