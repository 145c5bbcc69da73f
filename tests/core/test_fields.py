"""Shared field types: validation, and in OpenAPI."""

import re
import sys
import unicodedata
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Form, Query
from pydantic import TypeAdapter, ValidationError
from sqlmodel import Field

from blog_api.comments.models import CommentText
from blog_api.core.characters import (
    IDENTIFIER_PATTERN,
    LINE_PATTERN,
    NAME_PATTERN,
    VISIBLE_CHARACTER,
    VISIBLE_TEXT_PATTERN,
)
from blog_api.core.fields import (
    Email,
    Name,
    PathId,
    RequestModel,
    TagName,
    TagNames,
    Timestamp,
    Title,
)

LINES = [(Name, NAME_PATTERN), (Title, LINE_PATTERN), (TagName, IDENTIFIER_PATTERN)]
TEXTS = [*LINES, (CommentText, VISIBLE_TEXT_PATTERN)]
INVISIBLE = ["\u200b", "\xad", "ㅤ", "\u2060", "⠀", "\ufeff", "️", "\u180e", "ﾠ", "\u202f"]


class Fields(RequestModel):
    plain: Title
    with_default: Title = Field(default="Hello")
    described: Title = Field(description="Title of the page.")
    optional: Timestamp | None = Field(default=None, description="Null: never.")


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    app = FastAPI()

    @app.post("/form/{page_id}")
    async def rename_page(page_id: PathId, form: Annotated[Fields, Form()]) -> str:
        return f"{page_id}: {form.plain}"

    @app.get("/query")
    async def find_page(query: Annotated[Fields, Query()]) -> str:
        return query.plain

    return app.openapi()


@pytest.fixture
def properties(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = openapi["components"]["schemas"]["Fields"]["properties"]
    return properties


@pytest.mark.parametrize("name", ["plain", "with_default"])
def test_a_type_describes_its_fields(properties: dict[str, dict[str, Any]], name: str):
    assert properties[name]["description"] == "Title, one line."
    assert properties[name]["examples"] == ["Hello, World"]
    assert properties[name]["pattern"] == LINE_PATTERN


def test_the_description_of_a_field_takes_precedence(properties: dict[str, dict[str, Any]]):
    assert properties["described"]["description"] == "Title of the page."
    assert properties["described"]["examples"] == ["Hello, World"]
    assert properties["optional"]["description"] == "Null: never."


def test_parameters_are_described(openapi: dict[str, Any]):
    (page_id,) = openapi["paths"]["/form/{page_id}"]["post"]["parameters"]
    parameters = {one["name"]: one for one in openapi["paths"]["/query"]["get"]["parameters"]}

    assert page_id["description"] == "Numeric id of the resource."
    assert parameters["plain"]["schema"]["description"] == "Title, one line."
    assert parameters["described"]["description"] == "Title of the page."


@pytest.mark.parametrize(("field", "pattern"), TEXTS)
@pytest.mark.parametrize("character", [*INVISIBLE, " ", "\u3000", "\u2003"])
def test_text_of_invisible_characters_is_rejected(field: Any, pattern: str, character: str):
    with pytest.raises(ValidationError, match="visible character"):
        TypeAdapter(field).validate_python(character * 3)
    assert not re.search(pattern, character * 3)
    assert TypeAdapter(field).validate_python(f"a{character}b") == f"a{character}b"
    assert re.search(pattern, f"a{character}b")


def test_no_space_and_no_format_character_is_visible():
    invisible = {"Cc", "Cf", "Zs", "Zl", "Zp"}
    visible = [
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in invisible and VISIBLE_CHARACTER.match(chr(code))
    ]

    assert visible == []
    assert VISIBLE_CHARACTER.match("❤️")


@pytest.mark.parametrize(("field", "pattern"), LINES)
@pytest.mark.parametrize("line_break", ["\n", "\r", "\x85", "\u2028", "\u2029"])
def test_a_line_break_is_rejected_in_a_line(field: Any, pattern: str, line_break: str):
    with pytest.raises(ValidationError, match="line breaks"):
        TypeAdapter(field).validate_python(f"a{line_break}b")
    assert not re.search(pattern, f"a{line_break}b")


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_a_bidirectional_control_is_rejected_in_a_name(code: int):
    with pytest.raises(ValidationError, match="direction"):
        TypeAdapter(Name).validate_python(f"Ann{chr(code)}nnA")
    assert not re.search(NAME_PATTERN, f"Ann{chr(code)}nnA")


@pytest.mark.parametrize("field", [Name, Title, TagName])
def test_surrounding_whitespace_is_trimmed_from_a_line(field: Any):
    assert TypeAdapter(field).validate_python(" \u3000Ann B \u00a0") == "Ann B"


def test_surrounding_whitespace_is_trimmed_from_an_email_address():
    assert TypeAdapter(Email).validate_python("  ann@example.com ") == "ann@example.com"


def test_tags_that_differ_by_invisible_characters_are_one():
    tags = TypeAdapter(TagNames).validate_python(["❤", "❤️", "Py\u200bthon", "python"])

    assert tags == ["❤", "Py\u200bthon"]


def test_flags_that_differ_by_tag_characters_are_two_tags():
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    scotland = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"

    assert len(TypeAdapter(TagNames).validate_python([england, scotland])) == 2
