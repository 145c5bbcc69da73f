"""WXR, the format of WordPress exports: RSS with elements of its own."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from blog_api.archive.record import (
    SUPPORTED,
    ArchiveEntry,
    check_slug,
    format_location,
    make_entry,
)
from blog_api.comments.imported import CommentRecord
from blog_api.comments.models import MAX_COMMENT_LENGTH
from blog_api.core.characters import VISIBLE_CHARACTER, escape_unprintable
from blog_api.core.fields import tag_key, utc_now
from blog_api.core.urls import check_picture_address, check_web_address
from blog_api.text.encodings import MAX_FILE_BYTES, TOO_LARGE
from blog_api.text.excerpts import make_excerpt
from blog_api.text.markdown import HTML
from blog_api.text.sanitizer import sanitize_html
from blog_api.text.times import parse_time
from blog_api.text.wordpress import (
    MEMBERS_ONLY,
    Attachment,
    render_comment,
    render_title,
    render_wordpress,
)
from blog_api.text.wxr import NO_TIME, NOT_WXR, WXRElement, get, get_number, read_elements
from blog_api.text.xml import XMLError

TAG_DOMAINS = ("post_tag", "category")
NO_CATEGORY = "uncategorized"
SKIPPED_STATUSES = {"trash": "trash", "auto-draft": "automatic draft", "inherit": "revision"}
# Of the post: a plugin shows it to members alone.
ACCESS_META = re.compile(
    r"_jetpack_newsletter_access|_members_access_role|_wpmem_block|rcp_.*(?:level|access).*"
)
PUBLIC_ACCESS = {"", "0", "all", "everybody", "everyone", "none"}
AUTHOR_KEY_PREFIX = "wordpress:"
# Of the HTML that is read for a summary, in characters.
MAX_EXCERPT_LENGTH = 10_000


@dataclass
class Site:
    """Authors and attachments that posts refer to, and the number of entries in the file."""

    path: Path
    address: str = ""
    # Display names and keys by login, and logins by user id.
    authors: dict[str, tuple[str, str]] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    covers: set[str] = field(default_factory=set)
    total: int = 0

    def add(self, element: WXRElement) -> None:
        if element.name == "item":
            self.total += 1
            alt = next(iter(element.get_meta("_wp_attachment_image_alt")), "")
            if url := element.get("wp:attachment_url"):
                attachment = Attachment(url, alt, element.get("wp:post_parent"))
                self.attachments[element.get("wp:post_id")] = attachment
            self.covers.update(element.get_meta("_thumbnail_id"))
        elif element.name == "wp:author":
            login = element.get("wp:author_login")
            name = unescape(element.values.get("wp:author_display_name", ""))
            self.authors[login] = (name, element.get("dc:identifier"))
            self.logins[element.get("wp:author_id")] = login
        elif element.name in {"wp:base_site_url", "link"}:
            is_wanted = not self.address or element.name == "wp:base_site_url"
            if is_wanted and re.match(r"https?://\S", element.text):
                self.address = element.text

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
    try:
        for element in read_elements(path, max_bytes=MAX_FILE_BYTES):
            site.add(element)
    except XMLError:
        site.total += 1
    site.total -= len(site.covers & site.attachments.keys())
    return site


def read_wxr(site: Site, *, with_pages: bool = False) -> Iterator[ArchiveEntry]:
    """Yield the posts of an export; the last entry may be an error that ends the reading.

    Pages are left out, or drafts. Raises OSError.
    """
    try:
        for element in read_elements(site.path, max_bytes=MAX_FILE_BYTES):
            # A cover is a part of its post.
            if element.name == "item" and element.get("wp:post_id") not in site.covers:
                yield Item(site, element).make_entry(with_pages=with_pages)
    except XMLError as error:
        told = f"; {SUPPORTED}" if str(error) == NOT_WXR else ""
        yield ArchiveEntry(format_location(site.path, error.line), error=f"{error}{told}")


class Item:
    """A post, a page, an attachment or another item of an export."""

    def __init__(self, site: Site, element: WXRElement) -> None:
        self.site = site
        self.element = element
        self.get = element.get
        self.get_meta = element.get_meta
        self.values = element.values
        self.warnings: list[str] = []
        self.is_undated = False

    def make_entry(self, *, with_pages: bool) -> ArchiveEntry:
        line = self.element.line
        location = format_location(self.site.path, line)
        kind = re.sub(r"\W+", " ", self.get("wp:post_type"))[:40].strip() or "item"
        if kind != "attachment":
            kind = SKIPPED_STATUSES.get(self.get("wp:status"), kind)
        if kind != "post" and not (kind == "page" and with_pages):
            return ArchiveEntry(location, left_out=kind, details=self.get("wp:attachment_url"))
        if self.element.is_too_large:
            return ArchiveEntry(location, error=TOO_LARGE)
        if lines := self.element.lines_left_out:
            self.warnings.append(f"control characters were left out in lines {lines}")
        return make_entry(self.site.path, line, self.make_values(), warnings=self.warnings)

    def make_values(self) -> dict[str, Any]:
        login = self.get("dc:creator")
        content = self.values.get("content:encoded", "")
        is_own = "dc:format" in self.values  # An export of this program.
        if not is_own:
            content = render_wordpress(content, self.get("wp:post_id"), self.site.attachments)
        published_at = self.parse_published_at()
        slug = unquote(self.get("wp:post_name"))
        tags = [tag for domain in TAG_DOMAINS for tag in self.element.categories[domain]]
        cover = self.find_cover()
        return {
            "slug": slug or None,
            "title": render_title(self.values.get("title", "")),
            "author": (self.site.authors.get(login, ("", ""))[0] or login) if login else None,
            "author_key": self.make_author_key(login) if login else None,
            **({} if self.is_undated else {"published_at": published_at}),
            "updated_at": self.parse_time("wp:post_modified_gmt"),
            "tags": [tag for tag in tags if tag_key(tag) != NO_CATEGORY],
            "old_slugs": self.find_old_slugs(slug, is_public=published_at is not None),
            "summary": self.parse_summary(),
            "cover_url": cover.url if cover else None,
            "cover_alt": (cover.alt or None) if cover else None,
            "canonical_url": self.find_canonical_url(),
            "comments_open": self.get("wp:comment_status") != "closed",
            "comments": self.make_comments(keeps_waiting=is_own),
            "content_type": HTML,
            "content": content,
        }

    def make_author_key(self, login: str) -> str:
        """Return a key of the site: a login is unique within it only, each may have an `admin`."""
        key = self.site.authors.get(login, ("", ""))[1]
        return (key or f"{AUTHOR_KEY_PREFIX}{self.site.identity}:{login}")[:255]

    def parse_time(self, name: str) -> str | None:
        """Return a time in UTC; one that cannot be read costs no post."""
        value = self.get(name)
        time = read_time(value)
        if time is None and value not in {"", NO_TIME}:
            self.warnings.append(f"{name}: {escape_unprintable(value)} is no time; it was left out")
        return time

    def parse_published_at(self) -> str | None:
        """Return the time of a post that is plainly public or scheduled."""
        status = self.get("wp:status")
        if status not in {"publish", "future"} or self.values.get("wp:post_password"):
            return None
        if self.get("wp:post_type") != "post":
            return None
        metas = self.element.children["wp:postmeta"]
        if MEMBERS_ONLY.search(self.values.get("content:encoded", "")) or any(
            ACCESS_META.fullmatch(one.get("wp:meta_key", ""))
            and one.get("wp:meta_value", "").strip().casefold() not in PUBLIC_ACCESS
            for one in metas
        ):
            self.warnings.append("for members, so it is a draft")
            return None
        time = self.parse_time("wp:post_date_gmt")
        if time is None and status == "publish":
            time = self.parse_time("wp:post_date") or self.element.get_pub_date()
            self.is_undated = time is None
        # The format sorts as text.
        if status == "future" and time is not None and time < utc_now().isoformat():
            self.warnings.append("scheduled for a time that has passed, so it is a draft")
            return None
        return time

    def parse_summary(self) -> str | None:
        """Return the excerpt, which is HTML of any length, as plain text of one line."""
        html = self.values.get("excerpt:encoded", "")[:MAX_EXCERPT_LENGTH]
        summary = make_excerpt(sanitize_html(html)).summary
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
        address = ""
        with suppress(ValueError):
            address = urlsplit(self.get("link")).path if is_public else ""
        found = [*self.get_meta("_wp_old_slug"), address.rstrip("/").rpartition("/")[2]]
        slugs = dict.fromkeys(unquote(one) for one in found)
        return [one for one in slugs if one != slug and is_valid(check_slug, one)]

    def make_comments(self, *, keeps_waiting: bool) -> list[dict[str, Any]]:
        """Return the approved comments, those that are answered first.

        An answer to one that is left out answers the comment above it.
        """
        comments = self.element.children["wp:comment"]
        parents = {get(one, "wp:comment_id"): get(one, "wp:comment_parent") for one in comments}
        numbers: dict[str, int] = {}
        made: list[dict[str, Any]] = []
        for one in sorted(comments, key=lambda one: get_number(one, "wp:comment_id")):
            approved = get(one, "wp:comment_approved")
            is_waiting = keeps_waiting and approved == "0"
            if get(one, "wp:comment_type") not in {"", "comment"}:
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
                self.warnings.append(f"comment {get(one, 'wp:comment_id')} was left out: {message}")
                continue
            made.append(values)
            numbers[get(one, "wp:comment_id")] = len(made)
        return made

    def make_comment(self, comment: dict[str, str]) -> dict[str, Any]:
        name = " ".join(unescape(comment.get("wp:comment_author", "")).split())[:100]
        name = name if VISIBLE_CHARACTER.search(name) else "Anonymous"
        login = self.site.logins.get(get(comment, "wp:comment_user_id"))
        email = get(comment, "wp:comment_author_email").casefold()
        key = get(comment, "dc:identifier") or (self.make_author_key(login) if login else None)
        times = [get(comment, "wp:comment_date_gmt"), get(comment, "wp:comment_date")]
        times.append(self.get("wp:post_date_gmt"))
        time = next(filter(None, map(read_time, times)), None)
        content = render_comment(comment.get("wp:comment_content", ""))
        if len(content) > MAX_COMMENT_LENGTH:
            content = content[: MAX_COMMENT_LENGTH - 1] + "…"
            self.warnings.append(f"comment {get(comment, 'wp:comment_id')} was shortened")
        return {
            "author": name,
            "author_key": key,
            # Whose address two names have stays as unknown as it was.
            "address": None if key else f"{email or self.site.identity}\n{name}",
            "created_at": time,
            "content": content,
        }


def read_time(value: str) -> str | None:
    """Return a time in UTC, or None if it is none."""
    with suppress(ValueError):
        return parse_time(value).astimezone(UTC).isoformat()
    return None


def is_valid(check: Callable[[str], str], value: str) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True
