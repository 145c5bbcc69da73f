"""Unpack a ZIP file that others made, within limits."""

import stat
import zlib
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

MAX_FILES = 50_000
MAX_BYTES = 4 * 1024**3
# Of unpacked to packed bytes; text has 3 to 10, and a bomb a thousand.
MAX_RATIO = 200
# Smaller files are not measured: a page of spaces packs well.
MIN_MEASURED_BYTES = 1024**2
COPIED_BYTES = 1024**2
# Such as macOS adds.
IGNORED_FOLDERS = {"__MACOSX"}


class InvalidZip(Exception):
    """A file that is no ZIP file, is over a limit, or has names that leave the folder."""


def unpack_zip(path: Path, folder: Path) -> None:
    """Unpack a ZIP file into an empty folder. Raises InvalidZip and OSError."""
    try:
        with ZipFile(path) as file:
            # `is_dir()` of Python 3.11 fails for an empty name.
            entries = [one for one in file.infolist() if not one.filename.endswith("/")]
            check_entries(entries)
            remaining = MAX_BYTES
            for entry in entries:
                if IGNORED_FOLDERS.isdisjoint(PurePosixPath(entry.filename).parts):
                    remaining = unpack_entry(file, entry, folder, remaining)
    # `RuntimeError`: a password or, as `NotImplementedError`, an unknown compression.
    except (BadZipFile, EOFError, RuntimeError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidZip(f"cannot be unpacked: {error}") from None


def check_entries(entries: list[ZipInfo]) -> None:
    """Reject by what the file says of itself; unpacking checks the sizes again."""
    if len(entries) > MAX_FILES:
        raise InvalidZip(f"has more than {MAX_FILES} files")
    if sum(one.file_size for one in entries) > MAX_BYTES:
        raise InvalidZip(f"is larger than {MAX_BYTES // 1024**3} GiB when unpacked")
    for one in entries:
        name = PurePosixPath(one.filename)
        is_outside = name.is_absolute() or ".." in name.parts or "\\" in one.filename
        if is_outside or not name.parts or ":" in name.parts[0]:
            raise InvalidZip(f"has a name that leaves the folder: {one.filename!a}")
        mode = one.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise InvalidZip(f"has a symbolic link or a device: {one.filename!a}")
        if one.file_size > max(MIN_MEASURED_BYTES, one.compress_size * MAX_RATIO):
            raise InvalidZip(f"has a file that is packed too much: {one.filename!a}")


def unpack_entry(file: ZipFile, entry: ZipInfo, folder: Path, remaining: int) -> int:
    """Unpack one file; return how many bytes may follow."""
    path = folder / entry.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that occurs twice is an error: tools disagree on which one counts.
    with file.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(COPIED_BYTES):
            remaining -= len(chunk)
            if remaining < 0:
                raise InvalidZip(f"is larger than {MAX_BYTES // 1024**3} GiB when unpacked")
            target.write(chunk)
    return remaining
