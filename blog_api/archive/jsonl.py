"""JSON Lines: a post per line."""

import codecs
import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from blog_api.archive.record import (
    OPTIONAL_FIELDS,
    ArchiveEntry,
    PostRecord,
    format_location,
    make_entry,
)
from blog_api.comments.imported import CommentRecord
from blog_api.core.security import open_private
from blog_api.text.encodings import MAX_FILE_BYTES, decode_utf8, find_marked_encoding
from blog_api.text.front_matter import fold_key, fold_keys
from blog_api.text.front_matter_values import InvalidFrontMatter
from blog_api.text.front_matter_visibility import parse_published_at
from blog_api.text.strict_json import parse_object

# A post with its comments.
MAX_LINE_BYTES = 4 * MAX_FILE_BYTES
# Of the file of a post.
COMMENTS_SUFFIX = ".comments.jsonl"


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line that is not blank.

    A line over MAX_LINE_BYTES is truncated to one byte more.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            rest = line if len(line) > MAX_LINE_BYTES else b"\n"
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_FILE_BYTES)
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line and not line.isspace():
                yield number, line


def read_jsonl(path: Path) -> Iterator[ArchiveEntry]:
    for number, line in read_lines(path):
        if number == 1 and (encoding := find_marked_encoding(line)):
            error = f"JSON Lines in {encoding}: convert the file to UTF-8"
            yield ArchiveEntry(format_location(path, 1), error=error)
            return
        try:
            yield make_entry(path, number, parse_post(line))
        except InvalidFrontMatter as error:
            yield ArchiveEntry(format_location(path, number), error=str(error))


# Left out of an export.
DEFAULTS = PostRecord.model_construct().model_dump(include={*OPTIONAL_FIELDS})
FIELDS = {fold_key(name): name for name in PostRecord.model_fields}


def parse_post(line: bytes) -> dict[str, Any]:
    """Return the values of a post; raises InvalidFrontMatter."""
    values = parse_line(line)
    post = {FIELDS[key]: value for key, value in fold_keys(values).items() if key in FIELDS}
    # Validation of `published_at` is stricter than that of others' keys.
    time = parse_published_at({key: one for key, one in values.items() if key != "published_at"})
    is_draft = "published_at" in post and post["published_at"] is None
    if time and not is_draft and ("published_at" not in values or time["published_at"] is None):
        post |= time
    return post


def parse_line(line: bytes) -> dict[str, Any]:
    """Parse a JSON object; raises InvalidFrontMatter."""
    if len(line) > MAX_LINE_BYTES:
        raise InvalidFrontMatter(f"larger than {MAX_LINE_BYTES // 1024**2} MiB")
    text = decode_utf8(line)
    try:
        return parse_object(text)
    except ValueError as error:
        raise InvalidFrontMatter(str(error)) from None


def write_jsonl(file: IO[str], record: PostRecord) -> None:
    """Append a line."""
    values = record.model_dump(mode="json")
    for key, default in DEFAULTS.items():
        if values[key] == default:
            del values[key]
    if record.comments:
        values["comments"] = [*map(dump_comment, record.comments)]
    line = json.dumps(values, ensure_ascii=False) + "\n"
    if len(line.encode()) > MAX_LINE_BYTES:
        raise OSError(errno.EFBIG, f"{record.slug}: has too many comments; export a folder")
    file.write(line)


def dump_comment(comment: CommentRecord) -> dict[str, Any]:
    """Return the values of a comment without those that are missing or false."""
    return {key: one for key, one in comment.model_dump(mode="json").items() if one}


def get_comments_path(path: Path) -> Path:
    """Return the file with the comments on the post in a file: JSON Lines beside it."""
    return path.with_name(f"{path.name}{COMMENTS_SUFFIX}")


def write_comments(path: Path, comments: Sequence[CommentRecord]) -> None:
    """Write the comments on the post in a file beside it, if there are any."""
    if comments:
        with open(get_comments_path(path), "x", encoding="utf-8", opener=open_private) as file:
            for comment in comments:
                file.write(json.dumps(dump_comment(comment), ensure_ascii=False) + "\n")


def read_comments(path: Path) -> list[dict[str, Any]]:
    """Return the comments on the post in a file. Raises InvalidFrontMatter."""
    comments = get_comments_path(path)
    # Unlike `Path.is_file()`, this takes names that are too long.
    is_file = os.path.isfile(comments)
    return [parse_line(line) for _, line in read_lines(comments)] if is_file else []
