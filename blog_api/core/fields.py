"""What every noun shares of what clients send: safe text, addresses, times, ids, bodies."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError
from sqlmodel import Field, SQLModel

# The characters of XML 1.0 (2.2 Char), so that no feed can be broken by what is stored.
# Lone surrogates, which it leaves out too, are refused by Pydantic before.
NON_XML_CHARACTERS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# The Unicode category Cc, line breaks and tabs among it.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


# The same for OpenAPI, in the words that all dialects of regular expressions share.
TEXT_PATTERN = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"


LINE_PATTERN, IDENTIFIER_PATTERN = (
    rf"^[^{refused}]*[^\s{refused}][^{refused}]*$"
    for refused in (
        r"\u0000-\u001f\u007f-\u009f\ufffe\uffff",
        r"\u0000-\u001f\u007f-\u009f\ufffd-\uffff",
    )
)


# A 32-bit column holds no more, and Postgres answers a larger parameter with an error.
MAX_INT32 = 2**31 - 1


MAX_FIELDS = 100


# Accounts and log-ins: no field of theirs is long.
MAX_ANONYMOUS_BODY_BYTES = 64 * 1024


# RFC 3339, 5.6. Pydantic alone would take numbers and dates without a time as well.
RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class RequestModel(SQLModel):
    """What a client sends."""

    # SQLModel's own makes Pydantic call the class with what was sent as keywords, where fields
    # named `cls` or `__pydantic_self__` are a TypeError.
    __init__ = BaseModel.__init__


class RequestBody(RequestModel):
    """A JSON body: it has no fields but those that are declared."""

    model_config = {"extra": "forbid"}

    @model_validator(mode="before")
    @classmethod
    def check_size(cls, value: object) -> object:
        """A body of 8 MiB has room for a million fields, and each would become an error."""
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "There are too many fields")
        return value


class ResponseModel(SQLModel):
    """A response. The string below an attribute describes it in OpenAPI."""

    model_config = {"use_attribute_docstrings": True}


def utc_now() -> datetime:
    return datetime.now(UTC)


def check_text(value: str) -> str:
    """Text of several lines."""
    if NON_XML_CHARACTERS.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return value


def check_line(value: str) -> str:
    """Text of one line that shows something."""
    if CONTROL_CHARACTERS.search(value):
        raise PydanticCustomError(
            "control_character", "Control characters and line breaks are not allowed"
        )
    if not value.strip():
        raise PydanticCustomError("blank", "There must be a character that is not a space")
    return value


def check_password(value: SecretStr) -> SecretStr:
    """A bound on what gets hashed; `PasswordHasher` judges what may be chosen."""
    password = check_text(value.get_secret_value())
    if len(password) > MAX_PASSWORD_LENGTH:
        raise PydanticCustomError("too_long", f"Use at most {MAX_PASSWORD_LENGTH} characters")
    return value


def check_identifier(value: str) -> str:
    """A line that names a row; what was no UTF-8 on its way here names none."""
    if "\ufffd" in value:
        raise PydanticCustomError("not_utf8", "The text is not valid UTF-8")
    return check_line(value)


def casefold_key(text: str) -> str:
    """What two spellings of one address or tag have in common: NFKC, casefolded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def check_email(value: str) -> str:
    """An address, kept as it was given."""
    check_identifier(value)
    try:
        validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise PydanticCustomError("email", "This is not a valid email address") from None
    if len(casefold_key(value)) > MAX_EMAIL_LENGTH:
        raise PydanticCustomError("email", "This email address is too long")
    return value


def check_tag(value: str) -> str:
    """A line that names something, without the spaces around it."""
    name = check_identifier(value).strip()
    if len(casefold_key(name)) > MAX_TAG_LENGTH:
        raise PydanticCustomError("too_long", "This tag is too long")
    return name


def unique_tags(names: list[str]) -> list[str]:
    """Each tag once, as it is written first: case makes no difference."""
    unique: dict[str, str] = {}
    for name in names:
        unique.setdefault(casefold_key(name), name)
    return list(unique.values())


def check_rfc_3339(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise PydanticCustomError(
            "rfc3339", "Use RFC 3339 with an offset, for example 2030-01-31T09:00:00Z"
        )
    return value


def to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "The time is out of range") from None


MAX_PASSWORD_LENGTH = 128


MAX_SLUG_LENGTH = 100


MAX_TAG_LENGTH = 50


MAX_TAGS = 10


MAX_EMAIL_LENGTH = 254  # RFC 5321, 4.5.3.1.3: a path of 256 with its brackets


def schema_example(example: str | None, **schema: object) -> dict[str, object]:
    """What OpenAPI tells of a field beside its type: an example, and what else."""
    return {"json_schema_extra": {"examples": [example], **schema}}


Name = Annotated[
    str,
    Field(min_length=1, max_length=100, schema_extra=schema_example("Ann", pattern=LINE_PATTERN)),
    AfterValidator(check_line),
]


SearchText = Annotated[
    str,
    Field(
        min_length=1, max_length=100, schema_extra=schema_example("ann", pattern=IDENTIFIER_PATTERN)
    ),
    AfterValidator(check_identifier),
]


Title = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        schema_extra=schema_example("Hello, World", pattern=LINE_PATTERN),
    ),
    AfterValidator(check_line),
]


Markdown = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500_000,
        schema_extra=schema_example("My *first* post.", pattern=TEXT_PATTERN),
    ),
    AfterValidator(check_text),
]


TagName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TAG_LENGTH,
        schema_extra=schema_example("Python", pattern=IDENTIFIER_PATTERN),
    ),
    AfterValidator(check_tag),
]


TagNames = Annotated[
    list[TagName],
    Field(max_length=MAX_TAGS),
    AfterValidator(unique_tags),
]


Email = Annotated[
    str,
    Field(
        max_length=MAX_EMAIL_LENGTH, schema_extra=schema_example("ann@example.com", format="email")
    ),
    AfterValidator(check_email),
]


# A password to compare, and one to choose: how short that may be, `PasswordHasher` judges.
Password = Annotated[
    SecretStr,
    Field(
        min_length=1,
        schema_extra=schema_example(
            "correct horse", maxLength=MAX_PASSWORD_LENGTH, pattern=TEXT_PATTERN
        ),
    ),
    AfterValidator(check_password),
]


NewPassword = Annotated[
    SecretStr,
    Field(
        schema_extra=schema_example(
            "correct horse", minLength=8, maxLength=MAX_PASSWORD_LENGTH, pattern=TEXT_PATTERN
        )
    ),
    AfterValidator(check_password),
]


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(check_rfc_3339),
    AfterValidator(to_utc),
]


PathId = Annotated[int, Path(ge=1, le=MAX_INT32)]


PathSlug = Annotated[
    str,
    Path(max_length=MAX_SLUG_LENGTH, json_schema_extra={"pattern": IDENTIFIER_PATTERN}),
    AfterValidator(check_identifier),
]
