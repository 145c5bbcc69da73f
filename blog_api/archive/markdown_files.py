"""Front matter: posts as a folder of Markdown files with YAML or TOML at their heads."""

import os
import re
import tomllib
import unicodedata
from contextlib import suppress
from datetime import UTC, date, datetime, time
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar

import yaml

from blog_api.archive.record import (
    MAX_RECORD_BYTES,
    SLUG_PATTERN,
    TOO_LARGE,
    ArchiveEntry,
    InvalidRecord,
    PostRecord,
    decode_utf8,
    format_location,
    make_entry,
)
from blog_api.core.fields import NON_XML_CHARACTERS

SUFFIXES = {".md", ".markdown"}


MAX_FRONT_MATTER = 64 * 1024


# What reads it takes a minute for sixty thousand dots in a key.
MAX_TOML = 8 * 1024


# PyYAML calls itself for each level, in C, where no RecursionError ends it.
MAX_DEPTH = 20


OPENING = re.compile(r"(---|\+\+\+)[ \t]*\r?\n")


CLOSINGS = {
    fence: re.compile(rf"^{re.escape(fence)}[ \t]*(?:\r?\n|\Z)(?:\r?\n)?", re.MULTILINE)
    for fence in ("---", "+++")
}


# What comes first: a heading, or the code where `#` begins a comment.
HEADING = re.compile(r"^ {0,3}(?:#[ \t]+(.*)|```|~~~)", re.MULTILINE)


DATED_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-(.+)", re.ASCII | re.DOTALL)


# Jekyll's `2030-01-31 09:00:00 +0100` is not quite ISO 8601.
SPACE_BEFORE_OFFSET = re.compile(r" +(?=[+-]\d|Z\Z)")


TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)\Z")


# Names that are not shown, or that Windows keeps for devices, whatever their suffix.
AWKWARD_NAME = re.compile(r"\.|(con|prn|aux|nul|(com|lpt)[0-9])(\.|\Z)", re.IGNORECASE)


# Of the 255 that file systems take.
NAME_BYTES = 240


RESOLVED_TAGS = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"}


# PyYAML has the fast one where it was built with libyaml, the slow one everywhere: which of them
# is the parent, no checker of types can know.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Numbers and times stay text: a slug of 0123 is not 83, and a title of 12:30 is not 750."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in RESOLVED_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def find_markdown(folder: Path) -> list[Path]:
    """The Markdown files in a folder and those below it, but for what is hidden or elsewhere.

    Raises OSError where a folder cannot be listed.
    """
    root = folder.resolve()
    found = []
    for name, folders, files in os.walk(folder, onerror=raise_error):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for path in (Path(name, one) for one in files if not one.startswith(".")):
            # A link must not lead to files that are none of the folder's, nor a pipe be waited for.
            is_ours = path.suffix.lower() in SUFFIXES and path.is_file()
            if is_ours and path.resolve().is_relative_to(root):
                found.append(path)
    return sorted(found)


def raise_error(error: OSError) -> None:
    raise error


def read_markdown(path: Path) -> ArchiveEntry:
    """The post in a file."""
    try:
        return make_entry(path, 1, parse_file(path))
    except InvalidRecord as error:
        return ArchiveEntry(format_location(path, error.line), problem=str(error))


def parse_file(path: Path) -> dict[str, Any]:
    text = read_text(path)
    head, content = split_front_matter(text)
    published_on, name = split_name(path)
    slug = to_text(head.get("slug"))
    values = {
        # Not every name is a slug; what is given as one must be.
        "slug": (name if SLUG_PATTERN.fullmatch(name) else None) if slug is None else slug,
        "title": to_text(head["title"]) if "title" in head else find_heading(content) or name,
        "author": to_author(head.get("author") or head.get("authors")),
        "author_key": to_text(head.get("author_key")),
        "tags": to_tags(head.get("tags")),
        "content": content,
        **find_published_at(head, published_on),
    }
    if head.get("taken_down_at") is not None:
        values["taken_down_at"] = normalize_time("taken_down_at", head["taken_down_at"])
    return values


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise InvalidRecord(f"It cannot be read: {error.strerror}") from None
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidRecord(TOO_LARGE)
    text = decode_utf8(raw).removeprefix("\ufeff")
    if control := NON_XML_CHARACTERS.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise InvalidRecord("Control characters are not allowed", line)
    return text


def split_front_matter(text: str) -> tuple[dict[Any, Any], str]:
    """The front matter, and the content: all that comes after it and one empty line."""
    opening = OPENING.match(text)
    if not opening:
        return {}, text
    fence = opening[1]
    closing = CLOSINGS[fence].search(text, opening.end())
    if not closing:
        raise InvalidRecord(f"The front matter has no end: a line of {fence}")
    head = text[opening.end() : closing.start()]
    if len(head) > MAX_FRONT_MATTER:
        raise InvalidRecord(f"The front matter is larger than {MAX_FRONT_MATTER // 1024} KiB")
    values = load_yaml(head) if fence == "---" else load_toml(head)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InvalidRecord("The front matter must be lines such as `title: Hello`", 2)
    return values, text[closing.end() :]


def load_yaml(head: str) -> object:
    try:
        check_yaml_events(head)
        return yaml.load(head, Loader)
    except yaml.MarkedYAMLError as error:
        problem = f"The front matter is not valid YAML: {error.problem}"
        raise InvalidRecord(problem, get_line(error.problem_mark)) from None
    except yaml.YAMLError:
        raise InvalidRecord("The front matter is not valid YAML") from None


def get_line(mark: object) -> int:
    """The line of the file that PyYAML means: it has not seen the first one, of dashes."""
    # PyYAML's two readers have a class of marks each.
    return int(getattr(mark, "line", -1)) + 2


def check_yaml_events(head: str) -> None:
    """Refuse what a few lines can make huge, or what makes PyYAML fail in ways of its own."""
    depth = 0
    for event in yaml.parse(head, Loader):
        line = get_line(event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidRecord("The front matter is nested too deeply", line)
        if isinstance(event, yaml.AliasEvent):
            raise InvalidRecord("The front matter must not have aliases such as *name", line)
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise InvalidRecord("The front matter must not have types such as !!int", line)


def load_toml(head: str) -> object:
    if len(head) > MAX_TOML:
        raise InvalidRecord(f"The front matter is larger than {MAX_TOML // 1024} KiB")
    try:
        return tomllib.loads(head)
    except RecursionError:
        raise InvalidRecord("The front matter is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        found = TOML_LINE.search(str(error))
        problem = f"The front matter is not valid TOML: {TOML_LINE.sub('', str(error))}"
        raise InvalidRecord(problem, int(found[1]) + 1 if found else 1) from None
    except ValueError:
        raise InvalidRecord("The front matter has a number that is too long") from None


def split_name(path: Path) -> tuple[str | None, str]:
    """The date that a file's name begins with, and the rest of the name."""
    # `hello/index.md`, as Hugo has it
    name = path.parent.name or path.stem if path.stem == "index" else path.stem
    # macOS takes й apart, and no part of it is a letter.
    name = unicodedata.normalize("NFC", name)
    if dated := DATED_NAME.fullmatch(name):
        try:
            return date.fromisoformat(dated[1]).isoformat(), dated[2]
        except ValueError:
            pass
    return None, name


def find_heading(content: str) -> str | None:
    found = HEADING.search(content)
    if not found or not found[1]:
        return None
    heading = found[1].strip()
    opened = heading.rstrip("#")
    return opened.strip() if opened[-1:].isspace() else heading


def to_text(value: object) -> object:
    """Numbers and dates as text, and all else as it is."""
    if isinstance(value, int | float | date | time) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise InvalidRecord("The front matter has a number that is too long") from None
    return value


def to_author(value: object) -> object:
    """Several are one name."""
    if isinstance(value, list):
        names = [one for one in value if isinstance(one, str)]
        return ", ".join(names) if len(names) == len(value) else value
    return to_text(value)


def to_tags(value: object) -> object:
    """Tags stand in a list, or between commas."""
    if value is None:
        return []
    if isinstance(value, list):
        return [to_text(one) for one in value]
    tags = to_text(value)
    return [one for one in tags.split(",") if one.strip()] if isinstance(tags, str) else tags


def find_published_at(head: dict[Any, Any], published_on: str | None) -> dict[str, str | None]:
    """`published_at`, if anything tells it."""
    is_draft = head.get("draft", False)
    if not isinstance(is_draft, bool):
        raise InvalidRecord("draft: it must be true or false")
    # `published: false` is Jekyll's.
    if is_draft or head.get("published") is False or head.get("published_at", "") is None:
        return {"published_at": None}
    for key in ("published_at", "date"):
        if head.get(key) is not None:
            return {"published_at": normalize_time(key, head[key])}
    return {"published_at": normalize_time("date", published_on)} if published_on else {}


def normalize_time(key: str, value: object) -> str:
    """RFC 3339; a time without an offset is in UTC, and a date is its first moment."""
    try:
        if not isinstance(value, str | date):
            raise ValueError
        moment = datetime.fromisoformat(SPACE_BEFORE_OFFSET.sub("", str(value).strip()))
    except ValueError:
        example = "2030-01-31 or 2030-01-31 09:00:00 +01:00"
        raise InvalidRecord(f"{key}: it must be a time such as {example}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def write_markdown(folder: Path, record: PostRecord) -> Path:
    """Write the post into a file of its own, named by its slug, and tell which.

    Where that is taken, as it may be where file names know no case, it gets a number. Raises
    ValueError where there is no slug.
    """
    if record.slug is None:
        raise ValueError("A file needs a slug")
    head = record.model_dump(include={"title", "slug", "author", "author_key"}, exclude_none=True)
    head |= {"draft": True} if record.published_at is None else {"date": record.published_at}
    head |= record.model_dump(include={"taken_down_at", "tags"}, exclude_none=True)
    # One line a key: in a folded text, `---` might come to stand alone.
    dumped = yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=float("inf"))
    name = "_" + record.slug if AWKWARD_NAME.match(record.slug) else record.slug
    name = name.encode()[:NAME_BYTES].decode(errors="ignore")
    for end in chain([""], map("~{}".format, count(2))):
        path = folder / f"{name}{end}.md"
        # No translation of line ends: the content stays as it is.
        with suppress(FileExistsError), path.open("x", encoding="utf-8", newline="") as file:
            file.write(f"---\n{dumped}---\n\n{record.content}")
            break
    return path
