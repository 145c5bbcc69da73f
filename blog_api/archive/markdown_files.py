"""Markdown and HTML files with front matter, as static site generators have them: a post per file.

The files of a post are named by its type. In a folder, an HTML file is a post only if its front
matter has `content_type: text/html`, or if it has front matter and is among Jekyll's posts: with
other HTML files, Jekyll and Hugo lay out their pages.
"""

from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from blog_api.archive.jsonl import read_comments, write_comments
from blog_api.archive.record import ArchiveEntry, PostRecord, format_location, make_entry
from blog_api.core.security import open_private
from blog_api.media.folders import PostFile, may_be_file
from blog_api.text.encodings import read_text
from blog_api.text.front_matter import FrontMatter, fold_key, fold_keys, split_front_matter
from blog_api.text.front_matter_fields import (
    KNOWN_KEYS,
    find_kind_by_layout,
    find_line,
    parse_fields,
)
from blog_api.text.front_matter_values import InvalidFrontMatter, dump_front_matter
from blog_api.text.markdown import HTML
from blog_api.text.sections import is_hidden_section
from blog_api.text.site_files import (
    HTML_SUFFIXES,
    JEKYLL_FOLDERS,
    PAGE_KINDS,
    THEME_FILE,
    find_kind,
    make_file_name,
)

TEXT_FIELDS = ("summary", "cover_url", "cover_alt", "canonical_url")


def is_html_post(path: Path, folder: Path, kind: str) -> bool:
    if path.suffix.lower() not in HTML_SUFFIXES or kind == THEME_FILE:
        return False
    # Of the folder that is imported, its own name counts too.
    names = path.absolute().relative_to(folder.absolute().parent).parts
    is_in_posts = not JEKYLL_FOLDERS.isdisjoint(names)
    try:
        values = split_front_matter(read_text(path)[0], KNOWN_KEYS).values
    except InvalidFrontMatter:
        return is_in_posts
    return fold_keys(values).get("contenttype") == HTML or (is_in_posts and bool(values))


def read_file(path: Path, folder: Path | None = None, *, with_pages: bool = False) -> ArchiveEntry:
    """Read a post, and find the file of its cover in the folder that is imported."""
    location = format_location(path, 1)
    kind = None if folder is None else find_kind(path, folder)
    if folder and kind and kind not in PAGE_KINDS and not is_html_post(path, folder, kind):
        return ArchiveEntry(location, left_out=kind)
    front, lines = FrontMatter({}, ""), {}
    try:
        text, lines["text"] = read_text(path)
        front = split_front_matter(text, KNOWN_KEYS)
        warnings = ["text: control characters were left out"] * bool(lines["text"])
        post = parse_fields(path, front, warnings) | {"comments": read_comments(path)}
    except InvalidFrontMatter as error:
        if kind in PAGE_KINDS and not with_pages:
            return ArchiveEntry(location, left_out=kind)
        line = front.find_line({fold_key(error.key)}) if error.key else error.line
        return ArchiveEntry(format_location(path, line), error=str(error))
    if folder is not None and (kind := find_kind_by_layout(kind, path, folder, front)):
        if not with_pages:
            return ArchiveEntry(location, left_out=kind)
        post["published_at"] = None
    sections = (path.parent, *path.parent.parents)
    depth = 0 if folder is None else len(path.relative_to(folder).parts)
    if any(map(is_hidden_section, sections[:depth])):
        post["published_at"] = None
    cover = post["cover_url"]
    is_file = isinstance(cover, str) and may_be_file(cover.strip())
    if is_file:
        post["cover_url"] = None
    line = text.count("\n") - front.content.count("\n") + 1
    file = PostFile(
        path, folder, cover if is_file else None, line, cover_line=find_line(front, "cover_url")
    )
    return make_entry(
        path,
        1,
        post,
        file,
        warnings,
        lambda name: lines.get(name) or find_line(front, name),
    )


def write_post(folder: Path, record: PostRecord) -> Path:
    """Write a post into a new file named by its slug, numbered if the name is taken.

    Another slug may have the name where the file system ignores case. Raises ValueError if there
    is no slug.
    """
    if record.slug is None:
        raise ValueError("A file needs a slug")
    head = record.model_dump(include={"title", "slug", "author", "author_key"}, exclude_none=True)
    head |= {"draft": True} if record.published_at is None else {"date": record.published_at}
    head |= record.model_dump(include={"updated_at", "taken_down_at", "tags"}, exclude_none=True)
    head |= {"slug_given": True} if record.slug_given else {}
    head |= {"old_slugs": record.old_slugs} if record.old_slugs else {}
    head |= record.model_dump(include={*TEXT_FIELDS}, exclude_none=True)
    head |= {} if record.comments_open else {"comments_open": False}
    head |= {"content_type": HTML} if record.content_type == HTML else {}
    suffix = ".html" if record.content_type == HTML else ".md"
    name = make_file_name(record.slug)
    if find_kind(folder / f"{name}.md", folder) or name[0] == "_":
        head["type"] = "post"
    for end in chain([""], map("~{}".format, count(2))):
        path = folder / f"{name}{end}{suffix}"
        with (
            suppress(FileExistsError),
            # `newline=""`: the content's line breaks stay unchanged.
            open(path, "x", encoding="utf-8", newline="", opener=open_private) as file,
        ):
            file.write(dump_front_matter(head) + record.content)
            break
    write_comments(path, record.comments)
    return path
