"""Archives: posts as JSON Lines, a folder of Markdown, or WordPress' WXR."""

import codecs
import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from blog_api.archive.markdown_files import SUFFIXES, find_markdown, read_markdown
from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    TOO_LARGE,
    ArchiveEntry,
    InvalidRecord,
    PostRecord,
    decode_utf8,
    format_location,
    make_entry,
)
from blog_api.archive.wordpress import read_wxr


@dataclass(frozen=True)
class Archive:
    """How many entries there are, and the entries, which are read one by one."""

    total: int
    entries: Iterator[ArchiveEntry]


def open_archive(path: Path) -> Archive:
    """A folder of Markdown, a file of it, `.xml` as WXR, or else JSON Lines.

    Raises OSError where it cannot be read, on opening and, should it go away, later.
    """
    if not path.is_dir() and not path.is_file():
        path.stat()
        # A pipe cannot be read twice.
        raise OSError(errno.EINVAL, "Neither a file nor a folder", str(path))
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        files = find_markdown(path) if path.is_dir() else [path]
        return Archive(len(files), map(read_markdown, files))
    if path.suffix.lower() == ".xml":
        authors: dict[str, str] = {}
        total = sum(1 for _ in read_wxr(path, authors))
        return Archive(total, read_wxr(path, authors))
    return Archive(sum(1 for _ in read_lines(path)), read_jsonl(path))


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, by number; of one that is too long, more than MAX_BYTES."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            rest = line if len(line) > MAX_RECORD_BYTES else b"\n"
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_RECORD_BYTES)
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line and not line.isspace():
                yield number, line


def read_jsonl(path: Path) -> Iterator[ArchiveEntry]:
    for number, line in read_lines(path):
        try:
            yield make_entry(path, number, parse_line(line))
        except InvalidRecord as error:
            yield ArchiveEntry(format_location(path, number), problem=str(error))


def parse_line(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_RECORD_BYTES:
        raise InvalidRecord(TOO_LARGE)
    try:
        values = json.loads(decode_utf8(line), parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"This is not JSON: {error.msg}, at character {error.pos + 1}"
        raise InvalidRecord(problem) from None
    except RecursionError:
        raise InvalidRecord("Its values are nested too deeply") from None
    except ValueError:
        raise InvalidRecord("A number is too long") from None
    if not isinstance(values, dict):
        raise InvalidRecord("A post must be a JSON object, in braces")
    return values


def refuse_constant(name: str) -> NoReturn:
    raise InvalidRecord(f"This is not JSON: {name} is no number there")


def write_jsonl(file: IO[str], record: PostRecord) -> None:
    """Write the post in one line."""
    values = record.model_dump(mode="json")
    for key in ("author_key", "taken_down_at"):
        if values[key] is None:
            del values[key]
    file.write(json.dumps(values, ensure_ascii=False) + "\n")
