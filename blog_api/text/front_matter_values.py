"""Values of front matter: YAML, TOML, JSON and literals of JavaScript. Nothing is executed.

The line of an error is counted from 1 in the head, and 0 is its fence.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import yaml

MAX_LENGTH = 64 * 1024
# `tomllib` takes a minute for a key with sixty thousand dots.
MAX_TOML_LENGTH = 8 * 1024
# The C parser of PyYAML recurses without a limit: deep nesting would crash the process.
MAX_DEPTH = 20
# With the nodes that aliases repeat: a few lines of aliases could become huge.
MAX_NODES = 5_000
TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)\Z")
RESOLVED_TAGS = {"tag:yaml.org,2002:null"}
TOO_DEEP = "nested too deeply"
NUMBER_TOO_LONG = "a number is too long"
REPEATED = "the key is repeated"
# A character as JSON escapes it, in two halves, each of which is invalid in YAML.
ESCAPED_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})"
)
# JavaScript: `const draft = true;`, or an object.
JS_COMMENT = re.compile(r"^[ \t]*//.*$", re.MULTILINE)
JS_PREFIX = re.compile(r"\s*(?:module\.exports\s*=|export\s+default|return)?\s*(?=\{)")
JS_STATEMENT = re.compile(
    r"\s*(?:export\s+)?(?:const|let|var)\s+(\w+)\s*=\s*([^;\n]+?)\s*(?:;|\n|\Z)"
)
JS_WORDS = {"true", "false", "null"}
JS_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class InvalidFrontMatter(Exception):
    """A message of one line, and the line: of the text, or of the head while that is parsed.

    With a key instead, the line is the one of the key.
    """

    def __init__(self, message: str, line: int = 1, *, key: str | None = None) -> None:
        super().__init__(message if key is None else f"{key}: {message}")
        self.line = line
        self.key = key


# The C loader, fourteen times faster, exists only if PyYAML was built with libyaml; a type checker
# cannot tell which of the two is the parent.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Leaves all but null as text: a slug of 0123 is not 83, a title of `On` is not true."""

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
                    problem=REPEATED, problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def check_length(head: str, maximum: int) -> None:
    if len(head) > maximum:
        raise InvalidFrontMatter(f"larger than {maximum // 1024} KiB", 0)


def check_depth(value: object, depth: int = 0) -> None:
    """Reject what would exceed the limit of recursion later."""
    if depth > MAX_DEPTH:
        raise InvalidFrontMatter(TOO_DEEP, 0)
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            check_depth(one, depth + 1)


def load_yaml(head: str) -> object:
    head = ESCAPED_PAIR.sub(lambda found: found[1] + json.loads(f'"{found[2]}"'), head)
    try:
        check_yaml_events(head)
        return yaml.load(head, Loader)
    except yaml.MarkedYAMLError as error:
        message = f"invalid YAML: {error.problem}"
        raise InvalidFrontMatter(message, get_line(error.problem_mark)) from None
    except yaml.YAMLError:
        raise InvalidFrontMatter("invalid YAML", 0) from None


def get_line(mark: object) -> int:
    # The C parser has a class of marks of its own.
    return int(getattr(mark, "line", -1)) + 1


def check_yaml_events(head: str) -> None:
    """Reject explicit types, deep nesting, and aliases that repeat too much."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count, has_aliases = 0, False
    for event in yaml.parse(head, Loader):
        line = get_line(event.start_mark)
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
            continue
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise InvalidFrontMatter("types such as !!int are not allowed", line)
        if isinstance(event, yaml.AliasEvent):
            # An unfinished anchor would contain itself.
            count += sizes.get(str(event.anchor), MAX_NODES + 1)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count - 1))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_nodes) > MAX_DEPTH:
            raise InvalidFrontMatter(TOO_DEEP, line)
        has_aliases = has_aliases or isinstance(event, yaml.AliasEvent)
        if count > MAX_NODES and has_aliases:
            raise InvalidFrontMatter("aliases such as *name repeat too much", line)


def load_toml(head: str) -> object:
    check_length(head, MAX_TOML_LENGTH)
    try:
        return tomllib.loads(head)
    except RecursionError:
        raise InvalidFrontMatter(TOO_DEEP, 0) from None
    except tomllib.TOMLDecodeError as error:
        found = TOML_LINE.search(str(error))
        message = f"invalid TOML: {TOML_LINE.sub('', str(error))}"
        raise InvalidFrontMatter(message, int(found[1]) if found else 0) from None
    except ValueError:
        raise InvalidFrontMatter(NUMBER_TOO_LONG, 0) from None


def load_json(head: str) -> object:
    values, end = parse_json(head.strip())
    if end < len(head.strip()):
        raise InvalidFrontMatter("invalid JSON: more than one value", head.count("\n"))
    return values


def load_json_lines(head: str) -> object:
    """Parse the members of a JSON object without its braces, as in Hexo."""
    return load_json(head if head.lstrip().startswith("{") else f"{{{head.strip().rstrip(',')}}}")


def parse_json(text: str) -> tuple[object, int]:
    """Return the value at the start of a text, and its end."""
    decoder = json.JSONDecoder(object_pairs_hook=unique_pairs)
    try:
        return decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise InvalidFrontMatter(f"invalid JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise InvalidFrontMatter(TOO_DEEP, 0) from None
    except ValueError:
        raise InvalidFrontMatter(NUMBER_TOO_LONG, 0) from None


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidFrontMatter(f"invalid JSON: {REPEATED}", 1)
    return values


def load_javascript(head: str) -> object:
    """Parse an object or constants of plain literals: text in quotes, numbers, lists."""
    text = JS_COMMENT.sub("", head)
    prefix = JS_PREFIX.match(text)
    if prefix:
        return load_literal(text[prefix.end() :].rstrip().removesuffix(";"), 1)
    values: dict[str, object] = {}
    for name, literal, line in find_constants(text):
        if name in values:
            raise InvalidFrontMatter(REPEATED, line)
        values[name] = load_literal(literal, line)
    return values


def find_constants(text: str) -> Iterator[tuple[str, str, int]]:
    position = 0
    while rest := text[position:].lstrip():
        line = text.count("\n", 0, len(text) - len(rest)) + 1
        found = JS_STATEMENT.match(text, position)
        if not found:
            raise InvalidFrontMatter("only plain literals of JavaScript are read", line)
        yield found[1], found[2], line
        position = found.end()


def load_literal(text: str, line: int) -> object:
    """Parse a literal, which YAML reads too, unless it has a word that is no literal."""
    # YAML needs a space after the colon of an unquoted key.
    spaced = re.sub(r"(?<=[\w\"'])\s*:(?=[\"'\[{\d-])", ": ", text)
    with suppress(yaml.YAMLError):
        node = yaml.compose(spaced, Loader)
        if node is not None and all(map(is_literal, walk_values(node))):
            return load_yaml(spaced)
    raise InvalidFrontMatter("only plain literals of JavaScript are read", line)


def walk_values(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        # Keys need no quotes.
        yield from walk_values(child[1] if isinstance(child, tuple) else child)


def is_literal(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.style in ("'", '"'):
        return not isinstance(node, yaml.CollectionNode) or bool(node.flow_style)
    return node.value in JS_WORDS or JS_NUMBER.fullmatch(node.value) is not None


LOADERS: dict[str, Callable[[str], object]] = {
    "yaml": load_yaml, "yml": load_yaml, "toml": load_toml, "json": load_json,
    "js": load_javascript, "javascript": load_javascript,
}  # fmt: skip
FENCES = {"-": load_yaml, "+": load_toml, ";": load_json_lines}


def dump_front_matter(values: dict[str, Any]) -> str:
    # One line per key: folded text could contain a line of `---`.
    dumped = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=float("inf"))
    return f"---\n{dumped}---\n\n"
