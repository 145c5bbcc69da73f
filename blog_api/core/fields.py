"""Shared types of request fields: text, email addresses, passwords, tags, times and ids.

A field is described once, on its type: `Title` has the length of the column, the validator, and the
description, example and pattern that OpenAPI shows. A field with a meaning of its own overrides the
description: `until: Timestamp = Field(description="Published before this time.")`.
"""

import ast
import inspect
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from textwrap import dedent
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    GetJsonSchemaHandler,
    SecretStr,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from sqlmodel import Field, SQLModel

from blog_api.core.characters import (
    BIDI_CONTROL_CHARACTERS,
    CONTROL_CHARACTERS,
    IDENTIFIER_PATTERN,
    IGNORABLE_CHARACTERS,
    LINE_PATTERN,
    NAME_PATTERN,
    NON_XML_CHARACTERS,
    TEXT_PATTERN,
    VISIBLE_CHARACTER,
    VISIBLE_TEXT_PATTERN,
)
from blog_api.core.urls import (
    MAX_URL_LENGTH,
    PICTURE_ADDRESS_PATTERN,
    WEB_ADDRESS_PATTERN,
    check_picture_address,
    check_web_address,
)

# RFC 3339, 5.6. Pydantic accepts numbers and dates without a time too.
RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)

# Postgres rejects larger parameters for an INTEGER column.
MAX_INT32 = 2**31 - 1
MAX_FIELDS = 100
# Limit of a body without a token, and of one for an account or a log-in.
MAX_SMALL_BODY_BYTES = 64 * 1024
MAX_PASSWORD_LENGTH = 128
MAX_SLUG_LENGTH = 100
MAX_SUMMARY_LENGTH = 300
MAX_CONTENT_LENGTH = 500_000
MAX_TAG_LENGTH = 50
MAX_TAGS = 10
MAX_EMAIL_LENGTH = 254  # RFC 5321, 4.5.3.1.3: a path of 256 with its brackets


class RequestModel(SQLModel):
    """Base of everything that clients send."""

    # That of SQLModel passes the fields as keyword arguments, so that fields named `cls` or
    # `__pydantic_self__` raise TypeError.
    __init__ = BaseModel.__init__


class RequestBody(RequestModel):
    """Base of JSON bodies and of the parameters of lists, which reject unknown fields."""

    model_config = {"extra": "forbid"}

    @model_validator(mode="before")
    @classmethod
    def check_field_count(cls, value: object) -> object:
        """Reject bodies with thousands of unknown fields: each would become an error."""
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "There are too many fields")
        return value


class ResponseModel(SQLModel):
    """Base of responses. The string below an attribute is its description in OpenAPI.

    The strings are read when OpenAPI is built: `use_attribute_docstrings` would read them at each
    start, which takes a tenth of a second.
    """

    # SQLModel's own is for tables; with any but its own, Pydantic leaves its fast path.
    __init__ = BaseModel.__init__

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, description in read_attribute_docstrings(cls):
            properties.get(name, {}).setdefault("description", description)
        return schema


def read_attribute_docstrings(model: type) -> Iterator[tuple[str, str]]:
    """Yield the fields of a model and their descriptions, those of its bases last."""
    for parent in model.__mro__:
        if issubclass(parent, SQLModel) and parent is not SQLModel:
            (definition,) = ast.parse(dedent(inspect.getsource(parent))).body
            for field, text in pairwise(getattr(definition, "body", [])):
                match field, text:
                    case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(description))):
                        yield name, inspect.cleandoc(description)


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "The time is out of range") from None


def check_rfc_3339(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise PydanticCustomError(
            "rfc3339", "Use RFC 3339 with an offset, for example 2030-01-31T09:00:00Z"
        )
    return value


def casefold_key(text: str) -> str:
    """Return a key that spellings of one text have in common: NFKC, casefolded.

    Tags have `tag_key`, email addresses `mailbox_key`.
    """
    # Casefolding can undo the normalization.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def tag_key(name: str) -> str:
    """Return the key of a tag: that of `casefold_key`, without default-ignorable characters."""
    return casefold_key(IGNORABLE_CHARACTERS.sub("", name))


def check_text(value: str) -> str:
    """Validate text of several lines."""
    if NON_XML_CHARACTERS.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return value


def check_visible(value: str) -> str:
    """Require a character that is neither a space nor invisible."""
    if not VISIBLE_CHARACTER.search(value):
        raise PydanticCustomError("blank", "There must be a visible character")
    return value


def check_visible_text(value: str) -> str:
    """Validate text of several lines that is not blank."""
    return check_visible(check_text(value))


def check_line(value: str) -> str:
    """Validate text of one line that is not blank, and strip its whitespace."""
    if CONTROL_CHARACTERS.search(value):
        raise PydanticCustomError(
            "control_character", "Control characters and line breaks are not allowed"
        )
    return check_visible(value).strip()


def check_name(value: str) -> str:
    """Validate a name, which is shown within other text."""
    if BIDI_CONTROL_CHARACTERS.search(value):
        raise PydanticCustomError(
            "bidi_control", "Characters that change the direction of text are not allowed"
        )
    return check_line(value)


def check_identifier(value: str) -> str:
    """Validate a line that identifies a row.

    U+FFFD is rejected: it stands for bytes of a URL or form that were not valid UTF-8.
    """
    if "\ufffd" in value:
        raise PydanticCustomError("not_utf8", "The text is not valid UTF-8")
    return check_line(value)


def check_email(value: str) -> str:
    value = check_identifier(value)
    try:
        validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise PydanticCustomError("email", "This is not a valid email address") from None
    if "=?" in value:
        # The beginning of an encoded word (RFC 2047), which could decode to anything in a mail.
        raise PydanticCustomError("email", "This is not a valid email address")
    if len(casefold_key(value)) > MAX_EMAIL_LENGTH:
        raise PydanticCustomError("email", "This email address is too long")
    return value


def check_tag(value: str) -> str:
    """Validate a tag and strip its whitespace."""
    name = check_identifier(value)
    if len(tag_key(name)) > MAX_TAG_LENGTH:
        raise PydanticCustomError("too_long", "This tag is too long")
    return name


def unique_tags(names: list[str]) -> list[str]:
    """Return the tags without duplicates; the first spelling of each stays."""
    unique: dict[str, str] = {}
    for name in names:
        unique.setdefault(tag_key(name), name)
    return list(unique.values())


def check_password(value: SecretStr) -> SecretStr:
    """Limit the input of the hash function; `PasswordHasher` has the rules for new passwords."""
    password = check_text(value.get_secret_value())
    if len(password) > MAX_PASSWORD_LENGTH:
        raise PydanticCustomError("too_long", f"Use at most {MAX_PASSWORD_LENGTH} characters")
    return value


class SchemaDefaults:
    """JSON Schema keywords of a shared type; those of a field take precedence.

    SQLModel's `Field()` without a description deletes one that the `Field()` of the type has.
    """

    def __init__(self, description: str, example: object = None, **keywords: object) -> None:
        self.keywords = {"description": description, "examples": [example], **keywords}

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return self.keywords | handler(schema)


def schema_example(example: str | None) -> dict[str, object]:
    """Return the `schema_extra` of a field with an example."""
    return {"json_schema_extra": {"examples": [example]}}


Name = Annotated[
    str,
    Field(min_length=1, max_length=100),
    SchemaDefaults("Name for display, one line.", "Ann", pattern=NAME_PATTERN),
    AfterValidator(check_name),
]

Bio = Annotated[
    str,
    Field(min_length=1, max_length=1000),
    SchemaDefaults("About the user, plain text.", "Writes.", pattern=VISIBLE_TEXT_PATTERN),
    AfterValidator(check_visible_text),
]

SearchText = Annotated[
    str,
    Field(min_length=1, max_length=100),
    SchemaDefaults("Text to search for, one line.", "ann", pattern=IDENTIFIER_PATTERN),
    AfterValidator(check_identifier),
]

Title = Annotated[
    str,
    Field(min_length=1, max_length=255),
    SchemaDefaults("Title, one line.", "Hello, World", pattern=LINE_PATTERN),
    AfterValidator(check_line),
]

ShortText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SUMMARY_LENGTH),
    SchemaDefaults("Text of one line.", "A river at dawn.", pattern=LINE_PATTERN),
    AfterValidator(check_line),
]

PostContent = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CONTENT_LENGTH),
    SchemaDefaults(
        "Markdown (CommonMark with tables and strikethrough), or HTML: see `content_type`.",
        "My *first* post.",
        pattern=TEXT_PATTERN,
    ),
    AfterValidator(check_text),
]

WebAddress = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_LENGTH),
    SchemaDefaults(
        "Absolute http or https address without user information.",
        "https://example.com/first",
        format="iri",
        pattern=WEB_ADDRESS_PATTERN,
    ),
    AfterValidator(check_web_address),
]

PictureAddress = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_LENGTH),
    SchemaDefaults(
        "Absolute http or https address, or the `url` of an uploaded picture.",
        "https://example.com/river.jpg",
        format="iri-reference",
        pattern=PICTURE_ADDRESS_PATTERN,
    ),
    AfterValidator(check_picture_address),
]

TagName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TAG_LENGTH),
    SchemaDefaults("Tag, case-insensitive.", "Python", pattern=IDENTIFIER_PATTERN),
    AfterValidator(check_tag),
]

TagNames = Annotated[
    list[TagName],
    Field(max_length=MAX_TAGS),
    SchemaDefaults("Tags; duplicates are removed.", ["Python", "FastAPI"]),
    AfterValidator(unique_tags),
]

Email = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH),
    SchemaDefaults("Email address, case-insensitive.", "ann@example.com", format="email"),
    AfterValidator(check_email),
]

Password = Annotated[
    SecretStr,
    Field(min_length=1),
    SchemaDefaults(
        "Password of the account.",
        "correct horse",
        maxLength=MAX_PASSWORD_LENGTH,
        pattern=TEXT_PATTERN,
    ),
    AfterValidator(check_password),
]

NewPassword = Annotated[
    SecretStr,
    SchemaDefaults(
        "New password. The service may require more characters and reject common passwords.",
        "correct horse",
        minLength=8,
        maxLength=MAX_PASSWORD_LENGTH,
        pattern=TEXT_PATTERN,
    ),
    AfterValidator(check_password),
]

Timestamp = Annotated[
    AwareDatetime,
    SchemaDefaults("Time in RFC 3339 with an offset.", "2026-01-31T09:00:00Z"),
    BeforeValidator(check_rfc_3339),
    AfterValidator(to_utc),
]

PathId = Annotated[
    int, Path(ge=1, le=MAX_INT32, description="Numeric id of the resource.", examples=[1])
]

PathSlug = Annotated[
    str,
    Path(
        max_length=MAX_SLUG_LENGTH,
        description="Slug, current or former.",
        examples=["hello-world"],
        json_schema_extra={"pattern": IDENTIFIER_PATTERN},
    ),
    AfterValidator(check_identifier),
]
