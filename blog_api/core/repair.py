"""Change values of a post of another program that would be invalid here, or say what is wrong."""

import re
from html import unescape
from typing import Any

from pydantic_core import ErrorDetails

from blog_api.core.characters import (
    CONTROL_CHARACTERS,
    NON_XML_CHARACTERS,
    VISIBLE_CHARACTER,
    escape_unprintable,
)
from blog_api.core.fields import (
    MAX_SLUG_LENGTH,
    MAX_SUMMARY_LENGTH,
    MAX_TAG_LENGTH,
    MAX_TAGS,
    tag_key,
    unique_tags,
)

# Pydantic's own messages are written for programmers.
ERROR_MESSAGES = {
    "missing": "missing",
    "string_type": "must be text in quotes",
    "string_unicode": "not valid Unicode",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
}
SLUG_PATTERN = re.compile(rf"(?!\.+\Z)[\w.-]{{1,{MAX_SLUG_LENGTH}}}")
# Maximum lengths of texts of one line.
MAX_LENGTHS = {"title": 255, "author": 100, "cover_alt": MAX_SUMMARY_LENGTH}
MAX_TITLE_WORDS = 8


def repair_values(values: dict[str, Any]) -> list[str]:
    """Change in place what would cost a whole post; return a warning for each loss."""
    warnings = []
    for name, value in values.items():
        if isinstance(value, str):
            text = NON_XML_CHARACTERS.sub("", value)
            if text != value:
                warnings.append(f"{name}: control characters were left out")
            if name in MAX_LENGTHS:
                text = CONTROL_CHARACTERS.sub(" ", text)
                if len(text) > MAX_LENGTHS[name]:
                    text = text[: MAX_LENGTHS[name] - 1].rstrip() + "…"
                    warnings.append(f"{name}: shortened to {MAX_LENGTHS[name]} characters")
            values[name] = text
    if isinstance(values.get("tags"), list):
        values["tags"], lost = repair_tags(values["tags"])
        warnings += lost
    slug = values.get("slug")
    if isinstance(slug, str) and not SLUG_PATTERN.fullmatch(slug):
        values["slug"] = repair_slug(slug)
        if slug:
            warnings.append(f"slug: {escape_unprintable(slug)} became {values['slug']}")
    title = values.get("title")
    if isinstance(title, str) and not VISIBLE_CHARACTER.search(title):
        values["title"] = make_title(values.get("slug"), values.get("content"))
    return warnings


def repair_tags(tags: list[Any]) -> tuple[list[Any], list[str]]:
    """Return the tags that fit, and warnings: of characters, and of the other tags."""
    texts = [one for one in tags if isinstance(one, str)]
    if len(texts) < len(tags):
        return tags, []
    valid = [NON_XML_CHARACTERS.sub("", one) for one in texts]
    warnings = ["tags: control characters were left out"] * (valid != texts)
    lines = [CONTROL_CHARACTERS.sub(" ", one).replace("\ufffd", "").strip() for one in valid]
    unique = unique_tags([one for one in lines if VISIBLE_CHARACTER.search(one)])
    fitting = [one for one in unique if len(tag_key(one)) <= MAX_TAG_LENGTH]
    kept = fitting[:MAX_TAGS]
    lost = [one for one in unique if one not in kept]
    told = escape_unprintable(", ".join(lost))
    warnings += [f"tags: {told} {'was' if len(lost) == 1 else 'were'} left out"] * bool(lost)
    return kept, warnings


def repair_slug(slug: str) -> str | None:
    """Return a slug of the valid characters of one, or None."""
    shortened = re.sub(r"[^\w.-]+", "-", slug).strip("-.")[:MAX_SLUG_LENGTH].rstrip("-.")
    return shortened if SLUG_PATTERN.fullmatch(shortened) else None


def make_title(slug: object, content: object) -> str:
    """Return a title made of the slug, unless that is a number, or of the first words."""
    words = re.split(r"[-_]+", str(slug or ""))
    if not any(map(str.isalpha, "".join(words))):
        words = unescape(re.sub(r"<[^>]*>", " ", str(content)[:5_000])).split()
    words = [one for one in words if any(map(str.isalnum, one))][:MAX_TITLE_WORDS]
    title = CONTROL_CHARACTERS.sub(" ", " ".join(words))[: MAX_LENGTHS["title"]].strip()
    return title[:1].upper() + title[1:] or str(slug or "Untitled")


def describe_field_error(detail: ErrorDetails) -> str:
    """Return a message such as `tags, item 2: must be text in quotes`."""
    field, *index = detail["loc"]
    item = f", item {int(index[0]) + 1}" if index else ""
    # "String should have …" and "List should have … after validation, not 11".
    message = re.sub(r"^\w+ (?=should )", "", detail["msg"]).partition(" after validation")[0]
    message = ERROR_MESSAGES.get(detail["type"], message)
    return f"{field}{item}: {message[0].lower()}{message[1:]}"
