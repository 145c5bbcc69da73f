"""Files of static site generators: posts, pages and others, told apart by their names."""

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from blog_api.text.times import parse_time

MARKDOWN_SUFFIXES = {".md", ".markdown", ".mkd", ".mdown"}
HTML_SUFFIXES = {".html", ".htm"}
SUFFIXES = MARKDOWN_SUFFIXES | HTML_SUFFIXES
# Texts that a folder can hold and that are not read there.
OTHER_SUFFIXES = {".adoc", ".ipynb", ".jsonl", ".mdx", ".org", ".rst", ".textile", ".xml", ".zip"}
DATED_NAME = re.compile(r"(\d{4}[-_]\d{1,2}[-_]\d{1,2})(?:[-_ ](.+))?", re.ASCII | re.DOTALL)
DAY_IN_ADDRESS = re.compile(r"(?<![^/])(\d{4}/\d{1,2}/\d{1,2})/", re.ASCII)
# `index.en.md`; not `node.js.md`.
LANGUAGE = re.compile(
    r"\.(ar|be|bg|ca|da|de|el|en|es|et|fa|fi|fr|he|hi|hu|id|it|ja|ko|lt|lv|nb|nl|pt|ro|ru|sv|th|tr"
    r"|uk|vi|zh)([-_][A-Za-z]{2,4})?\Z"
)
# Names of files and folders, casefolded.
POST_FOLDERS = {"_posts", "_drafts", "posts", "post", "blog", "articles", "entries", "news"}
# A folder with one of these names that is imported itself; one named `blog` is often a whole site.
PAGE_FOLDERS = {"_posts", "_drafts", "posts", "post"}
JEKYLL_FOLDERS = {"_posts", "_drafts"}
THEME_FOLDERS = {
    "_data", "_includes", "_layouts", "_sass", "_site", "_templates", "archetypes",
    "bower_components", "i18n", "layouts", "node_modules", "scaffolds", "templates", "themes",
    "vendor",
}  # fmt: skip
REPOSITORY_FILES = {
    "agents", "authors", "changelog", "changes", "claude", "code_of_conduct", "code-of-conduct",
    "contributing", "copying", "history", "licence", "license", "pull_request_template", "readme",
    "security",
}  # fmt: skip
# Pages of a site by their names, or by their layouts.
PAGE_NAMES = {
    "404", "about", "about-me", "archive", "archives", "categories", "contact", "feed", "friends",
    "imprint", "links", "offline", "privacy", "privacy-policy", "search", "sitemap", "tags",
}  # fmt: skip
# Jekyll's and Eleventy's templates of addresses, and Jekyll's names of such.
ADDRESS_TEMPLATE = re.compile(r":\w|[{}<>%$*\[\]]|\A(pretty|date|ordinal|none|weekdate)\Z")
PAGE_SUFFIX = re.compile(r"\.(html?|php|aspx?|md)\Z", re.IGNORECASE)
# The first match is a heading, or a code block, where `#` begins a comment.
HEADING = re.compile(r"^ {0,3}(?:#[ \t]+(.*)|```|~~~)", re.MULTILINE)
# Hidden files, and devices on Windows, whatever their suffix.
RESERVED_NAME = re.compile(r"\.|(con|prn|aux|nul|(com|lpt)[0-9])(\.|\Z)", re.IGNORECASE)
# File systems allow 255; a number and the suffix follow, also of the file with the comments.
MAX_NAME_BYTES = 228
THEME_FILE, SECTION_PAGE, README, PAGE = "theme file", "section page", "README file", "page"
PAGE_KINDS = {SECTION_PAGE, README, PAGE}


def find_files(folder: Path) -> list[Path]:
    """Return the files of texts in a folder and its subfolders.

    Hidden ones are ignored. Raises OSError if a folder cannot be listed.
    """
    root = folder.resolve()
    found = []
    for name, folders, files in os.walk(folder, onerror=raise_error):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for path in (Path(name, one) for one in files if not one.startswith(".")):
            # Neither links to files outside of the folder nor pipes.
            is_text = path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES and path.is_file()
            if is_text and path.resolve().is_relative_to(root):
                found.append(path)
    return sorted(found)


def find_kind(path: Path, folder: Path) -> str | None:
    """Return what a file of a folder is by its name, or None for a post."""
    folders = [one.casefold() for one in path.relative_to(folder).parts[:-1]]
    if not THEME_FOLDERS.isdisjoint(folders):
        return THEME_FILE
    suffix = path.suffix.lower()
    if suffix not in MARKDOWN_SUFFIXES:
        return f"{suffix} file"
    stem = LANGUAGE.sub("", path.stem).casefold()
    if stem == "_index" or (stem == "index" and folders and folders[-1] in POST_FOLDERS):
        return SECTION_PAGE
    if stem in REPOSITORY_FILES:
        return README
    is_page = split_name(path)[1].casefold() in PAGE_NAMES or (stem == "index" and not folders)
    return PAGE if is_page and not is_among_posts(path, folder) else None


def is_among_posts(path: Path, folder: Path) -> bool:
    """Tell whether the name of a file or of a folder says that it is a post."""
    folders = [one.casefold() for one in path.relative_to(folder.parent).parts[:-1]]
    is_in_folder = not POST_FOLDERS.isdisjoint(folders[1:]) or folders[0] in PAGE_FOLDERS
    return is_in_folder or split_name(path)[0] is not None


def raise_error(error: OSError) -> None:
    raise error


def split_name(path: Path) -> tuple[str | None, str]:
    """Split `2030-01-31-hello.md` into date and name; the date is None if there is none."""
    # Hugo's page bundle: `hello/index.md`.
    stem = LANGUAGE.sub("", path.stem)
    name = path.parent.name or stem if stem in {"index", "_index"} else stem
    # macOS decomposes letters such as й; a slug must not contain combining marks.
    name = unicodedata.normalize("NFC", name)
    if dated := DATED_NAME.fullmatch(name):
        with suppress(ValueError):
            day = parse_time(dated[1].replace("_", "-")).date()
            return day.isoformat(), dated[2] or name
    return None, name


def find_day(address: str) -> str | None:
    """Return the day in an address such as `/2020/01/31/hello`."""
    if found := DAY_IN_ADDRESS.search(address):
        with suppress(ValueError):
            return parse_time(found[1].replace("/", "-")).date().isoformat()
    return None


def get_last_segment(address: str) -> str | None:
    """Return the segment by which readers of an old address look for its post."""
    if ADDRESS_TEMPLATE.search(address):
        return None
    with suppress(ValueError):
        segments = [one for one in unquote(urlsplit(address).path).split("/") if one]
        names = [PAGE_SUFFIX.sub("", one) for one in segments]
        return next((one for one in reversed(names) if one != "index"), None)
    return None


def find_heading(content: str) -> str | None:
    found = HEADING.search(content)
    if not found or not found[1]:
        return None
    heading = found[1].strip()
    opened = heading.rstrip("#")
    return opened.strip() if opened[-1:].isspace() else heading


def make_file_name(slug: str) -> str:
    """Return the name of a new file, without a suffix."""
    name = "_" + slug if RESERVED_NAME.match(slug) else slug
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
