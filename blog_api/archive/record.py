"""Records: posts as archives hold them, and words for what is none."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from sqlmodel import Field

from blog_api.core.fields import (
    MAX_SLUG_LENGTH,
    Markdown,
    Name,
    RequestModel,
    TagNames,
    Title,
    check_rfc_3339,
    to_utc,
    utc_now,
)

# The longest text written in escapes, \ud83d\ude00 and the like, with room for the rest.
MAX_RECORD_BYTES = 8 * 1024 * 1024


TOO_LARGE = f"It is larger than {MAX_RECORD_BYTES // 1024**2} MiB"


SLUG_PATTERN = re.compile(rf"(?!\.+\Z)[\w.-]{{1,{MAX_SLUG_LENGTH}}}")


MAX_PROBLEMS = 3


# Pydantic's own words are for programmers.
ERROR_MESSAGES = {
    "missing": "it is missing",
    "string_type": "it must be text, in quotes",
    "string_unicode": "it is not valid Unicode",
    "string_too_short": "it is empty",
    "list_type": "it must be a list",
}


def check_slug(value: str) -> str:
    if not SLUG_PATTERN.fullmatch(value):
        raise PydanticCustomError(
            "slug", "Use letters, digits, hyphens, underscores and dots, not dots alone"
        )
    return value


def check_time(value: object) -> object:
    """The time of a file, which is text, or one of our own."""
    return value if isinstance(value, datetime) else check_rfc_3339(value)


SlugText = Annotated[
    str, Field(min_length=1, max_length=MAX_SLUG_LENGTH), AfterValidator(check_slug)
]


RecordTime = Annotated[AwareDatetime, BeforeValidator(check_time), AfterValidator(to_utc)]


class PostRecord(RequestModel):
    """A post outside of the database. What else a record tells is ignored."""

    slug: SlugText | None = None
    title: Title
    author: Name | None = None
    # Who the author is, where the name alone would not tell.
    author_key: Title | None = None
    # Left out: now. Null: a draft.
    published_at: RecordTime | None = Field(default_factory=utc_now)
    taken_down_at: RecordTime | None = None
    tags: TagNames = Field(default_factory=list)
    content: Markdown


@dataclass(frozen=True)
class ArchiveEntry:
    """One post of an archive, or what is wrong with it, and where it stands."""

    place: str
    record: PostRecord | None = None
    problem: str | None = None


class InvalidRecord(Exception):
    """What is wrong, in a line for people, and the line of the file that it is about."""

    def __init__(self, problem: str, line: int = 1) -> None:
        super().__init__(problem)
        self.line = line


def format_location(path: Path, line: int) -> str:
    """`posts.jsonl:12`, in characters that every terminal and log can show."""
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(path))
    return f"{shown}:{line}"


def make_entry(path: Path, line: int, values: dict[str, Any]) -> ArchiveEntry:
    """The record that these values make, or what keeps them from it."""
    try:
        return ArchiveEntry(format_location(path, line), PostRecord.model_validate(values))
    except ValidationError as error:
        return ArchiveEntry(format_location(path, line), problem=describe_validation_error(error))


def describe_validation_error(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(describe_field(one) for one in details[:MAX_PROBLEMS])


def describe_field(detail: ErrorDetails) -> str:
    """`title: it is missing`"""
    field = str(detail["loc"][0])
    if len(detail["loc"]) > 1:
        field += f", number {int(detail['loc'][1]) + 1}"
    # "Input should be …", "String should have …", "List should have … after validation, not 11"
    words = re.sub(r"^\w+ (?=should )", "it ", detail["msg"]).partition(" after validation")[0]
    return f"{field}: {ERROR_MESSAGES.get(detail['type'], words)}"


def decode_utf8(raw: bytes) -> str:
    """The text; raises NotARecord with the line where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidRecord("The text is not valid UTF-8", line) from None
