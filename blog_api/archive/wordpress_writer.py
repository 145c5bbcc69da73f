"""Exports that WordPress can import."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import IO, Self
from urllib.parse import quote

from slugify import slugify

from blog_api.archive.record import PostRecord
from blog_api.archive.wordpress import AUTHOR_KEY_PREFIX
from blog_api.comments.imported import CommentRecord
from blog_api.text.addresses import make_media_absolute
from blog_api.text.markdown import HTML
from blog_api.text.wxr import HEAD, NO_TIME, TAIL, format_category, format_time
from blog_api.text.xml import format_element, format_parent


class WXRWriter:
    """Write an export that WordPress can import, in a `with` block, into a file in UTF-8.

    After an exception the end tags are missing, so that the file is not taken for complete.
    """

    def __init__(self, file: IO[str], *, title: str, link: str) -> None:
        self.file = file
        self.title = title
        self.link = link
        self.service_url = link.rstrip("/")
        self.logins: dict[str, str] = {}
        self.post_count = 0
        self.comment_count = 0

    def __enter__(self) -> Self:
        self.file.write(HEAD + format_element("title", escape(self.title, quote=False)))
        # Without CDATA, as one of WordPress' parsers wants them.
        link = escape(self.link)
        self.file.write(f"<link>{link}</link>\n<description></description>\n")
        self.file.write("<wp:wxr_version>1.2</wp:wxr_version>\n")
        self.file.write(f"<wp:base_site_url>{link}</wp:base_site_url>\n")
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self.file.write(TAIL)

    def write_post(self, record: PostRecord, content_html: str) -> None:
        """Write a post, after its author if the author is new, and its cover."""
        login = self.write_author(record)
        metas = [("_wp_old_slug", slug) for slug in record.old_slugs]
        if record.canonical_url is not None:
            metas.append(("_yoast_wpseo_canonical", record.canonical_url))
        if record.cover_url is not None:
            url = self.service_url * record.cover_url.startswith("/") + record.cover_url
            fields = {"title": "", "wp:attachment_url": url}
            alt = [("_wp_attachment_image_alt", record.cover_alt)] if record.cover_alt else []
            self.write_item("attachment", NO_TIME, "inherit", fields, alt)
            metas.append(("_thumbnail_id", str(self.post_count)))
        # WordPress itself schedules a post whose date is in the future.
        status = "draft" if record.published_at is None else "publish"
        if record.taken_down_at is not None:
            status = "private"
        fields = {
            "title": escape(record.title, quote=False),
            "dc:creator": login,
            "dc:format": HTML,
            "content:encoded": make_media_absolute(content_html, self.service_url),
            "excerpt:encoded": escape(record.summary or "", quote=False),
            "wp:post_modified_gmt": format_time(record.updated_at),
            "wp:comment_status": "open" if record.comments_open else "closed",
            "wp:post_name": quote(record.slug or ""),
        }
        time = format_time(record.published_at)
        rest = [*map(format_category, record.tags), *self.format_comments(record.comments)]
        self.write_item("post", time, status, fields, metas, rest)

    def write_item(
        self,
        kind: str,
        time: str,
        status: str,
        fields: dict[str, str],
        metas: Iterable[tuple[str, str]],
        rest: Iterable[str] = (),
    ) -> None:
        self.post_count += 1
        fields |= {
            "wp:post_id": str(self.post_count),
            "wp:post_date": time,
            "wp:post_date_gmt": time,
            "wp:ping_status": "closed",
            "wp:status": status,
            "wp:post_parent": "0",
            "wp:menu_order": "0",
            "wp:post_type": kind,
            "wp:post_password": "",
            "wp:is_sticky": "0",
        }
        self.file.write("<item>\n")
        self.file.writelines(format_element(name, text) for name, text in fields.items())
        for key, value in metas:
            meta = {"wp:meta_key": key, "wp:meta_value": value}
            self.file.write(format_parent("wp:postmeta", meta))
        self.file.writelines(rest)
        self.file.write("</item>\n")

    def format_comments(self, comments: Sequence[CommentRecord]) -> Iterator[str]:
        """Yield comments; WordPress has none that are deleted, so their answers move up."""
        ids = [0]
        for comment in comments:
            parent_id = ids[comment.parent or 0]
            if comment.content is None:
                ids.append(parent_id)
                continue
            self.comment_count += 1
            ids.append(self.comment_count)
            yield format_parent(
                "wp:comment",
                {
                    "wp:comment_id": str(self.comment_count),
                    "wp:comment_author": escape(comment.author or "", quote=False),
                    "dc:identifier": comment.author_key or "",
                    "wp:comment_date": format_time(comment.created_at),
                    "wp:comment_date_gmt": format_time(comment.created_at),
                    "wp:comment_content": escape(comment.content, quote=False),
                    "wp:comment_approved": "0" if comment.is_waiting else "1",
                    "wp:comment_type": "comment",
                    "wp:comment_parent": str(parent_id),
                    "wp:comment_user_id": "0",
                },
            )

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
        author = {
            "wp:author_login": login,
            "wp:author_email": "",
            "wp:author_display_name": escape(name, quote=False),
            "dc:identifier": identity,
        }
        # On one line, as one of WordPress' parsers wants it.
        self.file.write(format_parent("wp:author", author).replace("\n", "") + "\n")
        return login
