"""The format of an archive, chosen by its name: JSON Lines, a folder, WXR, Ghost, or ZIP."""

import codecs
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile

from blog_api.archive.ghost import load_ghost, read_ghost
from blog_api.archive.jsonl import COMMENTS_SUFFIX, read_jsonl, read_lines, write_jsonl
from blog_api.archive.markdown_files import read_file, write_post
from blog_api.archive.record import SUPPORTED, ArchiveEntry, PostRecord, format_location
from blog_api.archive.wordpress import read_wxr, scan_wxr
from blog_api.archive.wordpress_writer import WXRWriter
from blog_api.core.zips import InvalidZip, unpack_zip
from blog_api.text.sanitizer import sanitize_html
from blog_api.text.site_files import OTHER_SUFFIXES, SUFFIXES, find_files

# An export under such a name would be a file of another kind.
PACKED_SUFFIXES = frozenset({".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"})
# The root of XML, with its namespaces, is here.
SNIFFED_BYTES = 16 * 1024


@dataclass(frozen=True)
class Archive:
    """The number of entries, and an iterator that reads them one by one."""

    total: int
    entries: Iterator[ArchiveEntry]


def open_archive(path: Path, *, with_pages: bool = False, folder: Path | None = None) -> Archive:
    """Open a folder of Markdown and HTML, one such file, WXR (`.xml`), Ghost's export (`.json`), or
    else JSON Lines.

    Pages are left out, or drafts. Pictures of Ghost's are in the folder. Raises OSError, also later
    while the entries are read.
    """
    if not path.is_dir() and not path.is_file():
        path.stat()  # raises FileNotFoundError
        # The first pass counts, the second reads: impossible with a pipe.
        raise OSError(errno.EINVAL, "Neither a file nor a folder", str(path))
    suffix = path.suffix.lower()
    if path.is_dir():
        files = [one for one in find_files(path) if not one.name.endswith(COMMENTS_SUFFIX)]
        return Archive(len(files), (read_file(file, path, with_pages=with_pages) for file in files))
    if suffix in SUFFIXES:
        return Archive(1, iter([read_file(path)]))
    if suffix == ".xml":
        site = scan_wxr(path)
        return Archive(site.total, read_wxr(site, with_pages=with_pages))
    if suffix == ".json" and (data := load_ghost(path)) is not None:
        entries = read_ghost(path, folder, data, with_pages=with_pages)
        return Archive(len(data["posts"]), entries)
    if suffix in OTHER_SUFFIXES - {".jsonl"} or not (suffix == ".jsonl" or has_objects(path)):
        return Archive(
            1, iter([ArchiveEntry(format_location(path, 1), error=f"not supported; {SUPPORTED}")])
        )
    return Archive(sum(1 for _ in read_lines(path)), read_jsonl(path))


def open_zip(path: Path, folder: Path, *, with_pages: bool = False) -> Archive:
    """Unpack a ZIP file into an empty folder, and open what it has.

    These are exports of WordPress or Ghost, JSON Lines, or else a folder. Raises OSError.
    """
    try:
        unpack_zip(path, folder)
    except InvalidZip as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    files = [one for one in sorted(folder.rglob("*")) if one.is_file() and is_export(one)]
    if not files:
        return open_archive(folder, with_pages=with_pages)
    opened = [open_archive(one, with_pages=with_pages, folder=folder) for one in files]
    return Archive(sum(one.total for one in opened), chain(*(one.entries for one in opened)))


def is_export(path: Path) -> bool:
    """Tell whether a file holds a whole blog."""
    with path.open("rb") as file:
        start = file.read(SNIFFED_BYTES)
    match path.suffix.lower():
        case ".xml":
            return b"wordpress.org/export/" in start
        case ".json":
            return load_ghost(path) is not None
        case ".jsonl":
            return not path.name.endswith(COMMENTS_SUFFIX)
    return False


def has_objects(path: Path) -> bool:
    """Tell whether a file begins with a line that could be a JSON object."""
    with path.open("rb") as file:
        start = file.read(SNIFFED_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
    return not start or (start.startswith(b"{") and start.partition(b"\n")[0].strip() != b"{")


# Adds a post with its HTML to an archive.
WriteRecord = Callable[[PostRecord, str], object]


@contextmanager
def create_archive(path: Path, *, title: str, link: str) -> Iterator[WriteRecord]:
    """Create a folder of files if the path has no suffix, WXR (`.xml`), or else JSON Lines.

    The folder and the files are for their owner alone: they hold drafts. A file appears at its path
    once it is complete. Raises OSError.
    """
    if path.suffix.lower() in SUFFIXES:
        raise OSError(errno.EINVAL, "Files are exported to a folder, without a suffix", str(path))
    if path.suffix.lower() in PACKED_SUFFIXES:
        raise OSError(errno.EINVAL, "Exports are not packed: choose another name", str(path))
    if not path.suffix or path.is_dir():
        path.mkdir(mode=0o700, exist_ok=True)
        if any(path.iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        yield lambda record, _: write_post(path, record)
        return
    with NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            if path.suffix.lower() == ".xml":
                with WXRWriter(file, title=title, link=link) as wxr:
                    # Some tables change once more when an import sanitizes them again.
                    yield lambda record, html: wxr.write_post(record, sanitize_html(html))
            else:
                yield lambda record, _: write_jsonl(file, record)
            file.close()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
