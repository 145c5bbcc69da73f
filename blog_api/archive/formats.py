"""The format of an archive, chosen by its name: JSON Lines, a folder of files, or WXR."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from blog_api.archive.jsonl import read_jsonl, read_lines, write_jsonl
from blog_api.archive.markdown_files import read_file, write_post
from blog_api.archive.record import ArchiveEntry, PostRecord, format_location
from blog_api.archive.wordpress import read_wxr, scan_wxr
from blog_api.archive.wordpress_writer import WXRWriter
from blog_api.text.site_files import OTHER_SUFFIXES, SUFFIXES, find_files


@dataclass(frozen=True)
class Archive:
    """The number of entries, and an iterator that reads them one by one."""

    total: int
    entries: Iterator[ArchiveEntry]


def open_archive(path: Path, *, with_pages: bool = False) -> Archive:
    """Open a folder of Markdown and HTML, one such file, WXR (`.xml`), or else JSON Lines.

    Pages are left out, or drafts. Raises OSError, also later while the entries are read.
    """
    if not path.is_dir() and not path.is_file():
        path.stat()  # raises FileNotFoundError
        # The first pass counts, the second reads: impossible with a pipe.
        raise OSError(errno.EINVAL, "Neither a file nor a folder", str(path))
    suffix = path.suffix.lower()
    if path.is_dir():
        files = find_files(path)
        return Archive(len(files), (read_file(file, path, with_pages=with_pages) for file in files))
    if suffix in SUFFIXES:
        return Archive(1, iter([read_file(path)]))
    if suffix in OTHER_SUFFIXES - {".jsonl", ".xml"}:
        return Archive(1, iter([ArchiveEntry(format_location(path, 1), left_out=f"{suffix} file")]))
    if suffix == ".xml":
        site = scan_wxr(path)
        return Archive(site.total, read_wxr(site))
    return Archive(sum(1 for _ in read_lines(path)), read_jsonl(path))


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
                    yield wxr.write_post
            else:
                yield lambda record, _: write_jsonl(file, record)
            file.close()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
