"""Front matter: YAML or TOML at the start of a Markdown file."""

import re
import tomllib
from itertools import pairwise, takewhile
from typing import Any, ClassVar

import yaml

from blog_api.archive.record import InvalidRecord
from blog_api.archive.visibility import KNOWN_KEYS, fold_key

MAX_LENGTH = 64 * 1024
# `tomllib` takes a minute for a key with sixty thousand dots.
MAX_TOML_LENGTH = 8 * 1024
# The C parser of PyYAML recurses without a limit: deep nesting would crash the process.
MAX_DEPTH = 20

OPENING = re.compile(r"(---|\+\+\+)[ \t]*\r?\n")
# Front matter in other forms: Hexo's, JSON, JavaScript, and `key: value` as in Pelican and Nikola.
OTHER_FENCE = re.compile(r"---|\+\+\+|;;;|===|\{\s*[\"'}]")
FENCE_LINE = re.compile(r"\s*(?:---|\+\+\+|;;;)")
COMMENT_LINE = re.compile(r"\s*(?:#|//|%|<!--)")
KEY_LINE = re.compile(r"[ \t]*(?:#\+|\.\. |:|%|@)?[ \t]*[\"']?(\w[\w -]{0,40}?)[\"']?[ \t]*[:=]")
BLANK = re.compile(r"[\s\ufeff\u200b]*")
MAX_LINES = 20
NOT_READ = "not read in this form; begin the file with a line of ---"
CLOSINGS = {
    fence: re.compile(rf"^{re.escape(fence)}[ \t]*(?:\r?\n|\Z)(?:\r?\n)?", re.MULTILINE)
    for fence in ("---", "+++")
}
TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)\Z")
RESOLVED_TAGS = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"}
TOO_DEEP = "front matter: nested too deeply"
NUMBER_TOO_LONG = "front matter: a number is too long"


# The C loader, fourteen times faster, exists only if PyYAML was built with libyaml; a type checker
# cannot tell which of the two is the parent.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Leaves numbers and times as text: a slug of 0123 is not 83, a title of 12:30 is not 750."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in RESOLVED_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Reject a repeated key: `draft: false` would undo an earlier `draft: true`."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    problem="a key is repeated", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def split_front_matter(text: str) -> tuple[dict[Any, Any], str]:
    """Return the front matter and the content after it and one empty line.

    Raises InvalidRecord.
    """
    start = skip_comments(text)
    opening = OPENING.match(text, start)
    if not opening:
        check_no_head(text, start)
        return {}, text
    try:
        return parse_fenced(text, opening)
    except InvalidRecord as error:
        skipped = text.count("\n", 0, start)
        raise InvalidRecord(str(error), error.line + skipped) from None


def skip_comments(text: str) -> int:
    """Return the position after blank lines, byte order marks and HTML comments.

    Raises InvalidRecord if a comment holds front matter, as Nikola's does.
    """
    start = 0
    while blank := BLANK.match(text, start):
        start = blank.end()
        end = text.find("-->", start) if text.startswith("<!--", start) else -1
        if end < 0:
            break
        comment = text[start + 4 : end][:MAX_LENGTH]
        for line in comment.splitlines():
            check_line(line, text.count("\n", 0, start) + 1)
        start = end + 3
    return start


def check_no_head(text: str, start: int) -> None:
    """Reject front matter in another form, which would be published as text."""
    line = text.count("\n", 0, start) + 1
    if OTHER_FENCE.match(text, start):
        raise InvalidRecord(f"front matter: {NOT_READ}", line)
    lines = text[start : start + MAX_LENGTH].splitlines()
    block = list(takewhile(lambda one: one.strip() and not FENCE_LINE.match(one), lines))
    if block:
        check_line(block[0], line)
    if len(block) > 1 and all(map(KEY_LINE.match, block)):
        raise InvalidRecord(f"front matter: {NOT_READ}", line)
    # Comments of another syntax, or a title, before the front matter.
    for first, second in pairwise(one for one in lines[:MAX_LINES] if one.strip()):
        if FENCE_LINE.match(first):
            check_line(second, line)
        if not COMMENT_LINE.match(first):
            break


def check_line(text: str, line: int) -> None:
    """Reject a line of front matter where none is read."""
    found = KEY_LINE.match(text)
    if found and fold_key(found[1]) in KNOWN_KEYS:
        raise InvalidRecord(f"front matter: {found[1].strip()}: {NOT_READ}", line)


def parse_fenced(text: str, opening: re.Match[str]) -> tuple[dict[Any, Any], str]:
    fence = opening[1]
    closing = CLOSINGS[fence].search(text, opening.end())
    if not closing:
        raise InvalidRecord(f"front matter: no closing line of {fence}")
    head = text[opening.end() : closing.start()]
    check_length(head, MAX_LENGTH)
    values = load_yaml(head) if fence == "---" else load_toml(head)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InvalidRecord("front matter: must be lines such as `title: Hello`", 2)
    return values, text[closing.end() :]


def check_length(head: str, maximum: int) -> None:
    if len(head) > maximum:
        raise InvalidRecord(f"front matter: larger than {maximum // 1024} KiB")


def load_yaml(head: str) -> object:
    try:
        check_yaml_events(head)
        return yaml.load(head, Loader)
    except yaml.MarkedYAMLError as error:
        message = f"front matter: invalid YAML: {error.problem}"
        raise InvalidRecord(message, get_line(error.problem_mark)) from None
    except yaml.YAMLError:
        raise InvalidRecord("front matter: invalid YAML") from None


def get_line(mark: object) -> int:
    """Return the line in the file: the head starts at line 2, PyYAML counts from 0."""
    # The C parser has a class of marks of its own.
    return int(getattr(mark, "line", -1)) + 2


def check_yaml_events(head: str) -> None:
    """Reject aliases (a few lines could become huge), explicit types and deep nesting."""
    depth = 0
    for event in yaml.parse(head, Loader):
        line = get_line(event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidRecord(TOO_DEEP, line)
        if isinstance(event, yaml.AliasEvent):
            raise InvalidRecord("front matter: aliases such as *name are not allowed", line)
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise InvalidRecord("front matter: types such as !!int are not allowed", line)


def load_toml(head: str) -> object:
    check_length(head, MAX_TOML_LENGTH)
    try:
        return tomllib.loads(head)
    except RecursionError:
        raise InvalidRecord(TOO_DEEP) from None
    except tomllib.TOMLDecodeError as error:
        found = TOML_LINE.search(str(error))
        message = f"front matter: invalid TOML: {TOML_LINE.sub('', str(error))}"
        raise InvalidRecord(message, int(found[1]) + 1 if found else 1) from None
    except ValueError:
        raise InvalidRecord(NUMBER_TOO_LONG) from None


def dump_front_matter(values: dict[str, Any]) -> str:
    # One line per key: folded text could contain a line of `---`.
    dumped = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=float("inf"))
    return f"---\n{dumped}---\n\n"
