"""Front matter at the start of a text: YAML, TOML, JSON, JavaScript literals or `Key: value` lines.

The forms are those of Jekyll, Hugo, Hexo, Eleventy, Pelican and Nikola. A text that seems to begin
with front matter in a form that is not read is invalid: it would be published with its head, and
the head could say that it is a draft. Nothing is executed.
"""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from blog_api.text.front_matter_values import (
    FENCES,
    LOADERS,
    MAX_LENGTH,
    REPEATED,
    InvalidFrontMatter,
    check_depth,
    check_length,
    load_json_lines,
    load_yaml,
    parse_json,
)

OPENING = re.compile(r"(-{3,}|\+{3,}|;{3,})[ \t]*([A-Za-z]*)[ \t]*\r?\n")
OTHER_FENCE = re.compile(r"---|\+\+\+|;;;|===|\{\s*[\"'}]")
FENCE_LINE = re.compile(r"\s*(?:---|\+\+\+|;;;)")
COMMENT_LINE = re.compile(r"\s*(?:#|//|%|<!--)")
KEY_LINE = re.compile(
    r"[ \t]*(?:#\+|\.\. |:|%|@|\{|(?:export )?(?:const|let|var) )?[ \t]*"
    r"[\"']?(\w[\w -]{0,40}?)[\"']?[ \t]*[:=]"
)
# Python-Markdown's metadata, as in Pelican; Nikola has two dots before the key.
META_LINE = re.compile(r"(?:\.\.[ \t]+)? {0,3}([A-Za-z0-9_-]+):(?:[ \t]+(.*)|[ \t]*\Z)")
CONTINUED_LINE = re.compile(r"(?:[ ]{4,}|\t)(.*\S)")
YAML_LINE = re.compile(r"[\w\"'-][^:]*:(?:\s|\Z)|\s|-\s|#|\Z")
ENDING_FENCE = re.compile(r"^(?:-{3,}|;{3,})[ \t]*(?:\r?\n|\Z)(?:\r?\n)?", re.MULTILINE)
# A single line is a head only if it begins with one of these.
DECISIVE_KEYS = {"title", "date", "status", "draft"}
BLANK = re.compile(r"[\s\ufeff\u200b]*")
MAX_LINES = 20
NOT_READ = "not read in this form; begin the file with a line of ---"


@dataclass(frozen=True)
class FrontMatter:
    """The values of a head, and the content after it and one empty line.

    `head` is the text of the values, `line` its first line.
    """

    values: dict[Any, Any]
    content: str
    head: str = ""
    line: int = 1

    def find_line(self, keys: Set[str]) -> int:
        """Return the first line that has one of these folded keys, or else line 1."""
        for number, line in enumerate(self.head.split("\n"), self.line):
            found = KEY_LINE.match(line)
            if found and fold_key(found[1]) in keys:
                return number
        return 1


def fold_key(key: object) -> str:
    """Return `publishdate` for `publishDate`, `publish_date` and `Publish-Date`."""
    folded = str(key).strip().casefold()
    for separator in "_- ":
        folded = folded.replace(separator, "")
    return folded


def fold_keys(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the values by folded keys; a key in its folded spelling wins over others."""
    exact_last = sorted(values.items(), key=lambda item: fold_key(item[0]) == item[0])
    return {fold_key(key): value for key, value in exact_last}


def split_front_matter(text: str, known_keys: Set[str]) -> FrontMatter:
    """Return the front matter and the content; without a head, the whole text.

    `known_keys` are folded: lines with them look like front matter. Raises InvalidFrontMatter.
    """
    start, comment = skip_comments(text, known_keys)
    if comment is not None:
        return comment
    for read in (read_fenced, read_object, read_unopened, read_lines):
        found = read(text, start, known_keys)
        if found is not None:
            return found
    check_no_head(text, start, known_keys)
    return FrontMatter({}, text)


def skip_comments(text: str, known_keys: Set[str]) -> tuple[int, FrontMatter | None]:
    """Return the position after blank lines, byte order marks and HTML comments.

    A comment may be the head itself, as Nikola writes it.
    """
    start = 0
    while blank := BLANK.match(text, start):
        start = blank.end()
        end = text.find("-->", start) if text.startswith("<!--", start) else -1
        if end < 0:
            break
        inner = text[start + 4 : end][:MAX_LENGTH]
        line = text.count("\n", 0, start) + 1
        lines = [one for one in inner.splitlines() if one.strip()]
        if lines and all(one.startswith(".. ") and META_LINE.match(one) for one in lines):
            begin = text.index(lines[0], start)
            found = read_lines(text[:end], begin, known_keys)
            if found:
                content = text[end + 3 :].removeprefix("\r").removeprefix("\n")
                return start, FrontMatter(found.values, content, found.head, found.line)
        for one in lines:
            check_line(one, line, known_keys)
        start = end + 3
    return start, None


def read_fenced(text: str, start: int, _: Set[str]) -> FrontMatter | None:
    """Read a head between two fences."""
    opening = OPENING.match(text, start)
    if not opening:
        return None
    first_line = text.count("\n", 0, start) + 2
    fence, language = opening[1], opening[2].lower()
    load = LOADERS.get(language) if language else FENCES[fence[0]]
    if load is None:
        raise InvalidFrontMatter(f"front matter: {NOT_READ}", first_line - 1)
    ends = [re.escape(fence)] + ([r"\.\.\."] if load is load_yaml else [])
    pattern = rf"^(?:{'|'.join(ends)})[ \t]*(?:\r?\n|\Z)(?:\r?\n)?"
    closing = re.compile(pattern, re.MULTILINE).search(text, opening.end())
    if not closing:
        raise InvalidFrontMatter(f"front matter: no closing line of {fence}", first_line - 1)
    head = text[opening.end() : closing.start()]
    return FrontMatter(load_head(load, head, first_line), text[closing.end() :], head, first_line)


def read_object(text: str, start: int, _: Set[str]) -> FrontMatter | None:
    """Read a JSON object at the start, as in Hugo."""
    if not re.compile(r"\{\s*[\"}]").match(text, start):
        return None
    end = start

    def load(head: str) -> object:
        nonlocal end
        values, end = parse_json(head)
        return values

    line = text.count("\n", 0, start) + 1
    values = load_head(load, text[start : start + MAX_LENGTH], line)
    head = text[start : start + end]
    content = re.sub(r"\A[ \t]*(?:\r?\n){0,2}", "", text[start + end :])
    return FrontMatter(values, content, head, line)


def read_unopened(text: str, start: int, known_keys: Set[str]) -> FrontMatter | None:
    """Read YAML that ends with a fence and has none before it, as in Hexo."""
    ending = ENDING_FENCE.search(text, start, start + MAX_LENGTH)
    if not ending:
        return None
    head = text[start : ending.start()]
    lines = head.split("\n")
    found = [KEY_LINE.match(one) for one in lines if META_LINE.match(one)]
    keys = [fold_key(one[1]) for one in found if one]
    is_head = META_LINE.match(lines[0]) and all(map(YAML_LINE.match, lines))
    if not is_head or (len(keys) < 2 and not known_keys & set(keys)):
        return None
    line = text.count("\n", 0, start) + 1
    load = load_json_lines if ending[0].startswith(";") else load_yaml
    return FrontMatter(load_head(load, head, line), text[ending.end() :], head, line)


def read_lines(text: str, start: int, known_keys: Set[str]) -> FrontMatter | None:
    """Read lines of `Key: value` that end with another line, as in Pelican."""
    first_line = text.count("\n", 0, start) + 1
    values: dict[Any, Any] = {}
    keys: list[str] = []
    key, position = "", start
    for line in text[start : start + MAX_LENGTH].splitlines(keepends=True):
        stripped = line.rstrip("\r\n")
        meta = META_LINE.match(stripped)
        continued = CONTINUED_LINE.match(stripped) if key else None
        if meta:
            key = meta[1]
            if fold_key(key) in keys:
                number = first_line + text.count("\n", start, position)
                raise InvalidFrontMatter(f"front matter: {key}: {REPEATED}", number)
            keys.append(fold_key(key))
            values[key] = (meta[2] or "").strip()
        elif continued:
            values[key] = f"{values[key]}\n{continued[1]}".strip()
        else:
            position += len(line) if not stripped.strip() else 0
            break
        position += len(line)
    if not set(keys) & set(known_keys) or (len(keys) == 1 and keys[0] not in DECISIVE_KEYS):
        return None
    return FrontMatter(values, text[position:], text[start:position], first_line)


def check_no_head(text: str, start: int, known_keys: Set[str]) -> None:
    """Reject front matter in another form, which would be published as text."""
    line = text.count("\n", 0, start) + 1
    if OTHER_FENCE.match(text, start):
        raise InvalidFrontMatter(f"front matter: {NOT_READ}", line)
    lines = text[start : start + MAX_LENGTH].splitlines()
    block = list(takewhile(lambda one: one.strip() and not FENCE_LINE.match(one), lines))
    # All lines of a block, or the first.
    for number, one in enumerate(block if all(map(KEY_LINE.match, block)) else block[:1], line):
        check_line(one, number, known_keys)
    # Comments of another syntax, or a title, before the front matter.
    for first, second in pairwise(one for one in lines[:MAX_LINES] if one.strip()):
        if FENCE_LINE.match(first):
            check_line(second, line, known_keys)
        if not COMMENT_LINE.match(first):
            break


def check_line(text: str, line: int, known_keys: Set[str]) -> None:
    """Reject a line of front matter where none is read."""
    found = KEY_LINE.match(text)
    if found and fold_key(found[1]) in known_keys:
        raise InvalidFrontMatter(f"front matter: {found[1].strip()}: {NOT_READ}", line)


def load_head(load: Callable[[str], object], head: str, first_line: int) -> dict[Any, Any]:
    """Parse a head; an error gets the line of the text, and the key that is there."""
    try:
        check_length(head, MAX_LENGTH)
        values = load(head)
        if not isinstance(values, dict | None):
            raise InvalidFrontMatter("must be lines such as `title: Hello`", 1)
        check_depth(values)
    except InvalidFrontMatter as error:
        lines = head.split("\n")[: error.line]
        found = [one for line in lines if line[:1].strip() and (one := KEY_LINE.match(line))]
        key = f"{found[-1][1]}: " if found else ""
        raise InvalidFrontMatter(
            f"front matter: {key}{error}", first_line - 1 + error.line
        ) from None
    return values or {}
