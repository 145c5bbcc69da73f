"""Usernames: chosen, or made from the name. A former one is never given to another user."""

import re
import secrets
import string
from collections.abc import Iterator
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from slugify import slugify
from sqlmodel import Field

from blog_api.core.fields import MAX_INT32, SchemaDefaults

MIN_USERNAME_LENGTH = 3
MAX_USERNAME_LENGTH = 30
USERNAME_PATTERN = "^[A-Za-z][A-Za-z0-9_-]{2,29}$"
USERNAME = re.compile(USERNAME_PATTERN, re.ASCII)

# The first segments of all paths, and names that readers would take for the operator's.
RESERVED_WORDS = """
    abuse account accounts admin administrator admins all anonymous api archive auth author authors
    avatar billing blog bookmarks bot cdn comments config contact dashboard deleted docs draft
    drafts email email-verifications everyone explore faq favicon feed feeds file files follow
    followers following front guest guide health help home host hostmaster image images index info
    legal list lists live login logout mail mailer-daemon media mention moderator moderators news
    no-reply nobody noreply notifications null oauth oauth2 openapi operator owner password
    password-resets post postmaster posts preview privacy profile profiles public ready redoc
    register revoke root rss search security self settings sign-in sign-out sign-up signin signout
    signup site sitemap slug staff static status support system tag tags team terms test token
    tokens true undefined unknown user username usernames users webmaster well-known widget www you
"""
RESERVED_USERNAMES = frozenset(RESERVED_WORDS.split())

# Of the suffix of a username that is taken, and of one without a name.
SUFFIX_LENGTH = 4
RANDOM_LENGTH = 10
MAX_ATTEMPTS = 5


def check_username_pattern(value: str) -> str:
    """Return the username in lower case."""
    if not USERNAME.fullmatch(value):
        raise PydanticCustomError(
            "username",
            "Use 3 to 30 letters of a-z, digits, hyphens and underscores; begin with a letter",
        )
    return value.lower()


def check_username(value: str) -> str:
    """Return the username in lower case, if it is not reserved."""
    username = check_username_pattern(value)
    if username in RESERVED_USERNAMES:
        raise PydanticCustomError("reserved", "This username is reserved")
    return username


Username = Annotated[
    str,
    Field(min_length=MIN_USERNAME_LENGTH, max_length=MAX_USERNAME_LENGTH),
    SchemaDefaults(
        "Unique name in addresses, sent in any case and shown in lower case.",
        "ann",
        pattern=USERNAME_PATTERN,
    ),
    AfterValidator(check_username),
]


PathUsername = Annotated[
    str,
    Path(
        min_length=MIN_USERNAME_LENGTH,
        max_length=MAX_USERNAME_LENGTH,
        description="Username, in any case.",
        examples=["ann"],
        json_schema_extra={"pattern": USERNAME_PATTERN},
    ),
    AfterValidator(check_username_pattern),
]


def check_user_key(value: str) -> str:
    if not re.fullmatch("[0-9]+", value):
        return check_username_pattern(value)
    if not 0 < int(value) <= MAX_INT32:
        raise PydanticCustomError("id", "The id is out of range")
    return value


# Digits alone are an id: usernames begin with a letter.
UserKey = Annotated[
    str,
    AfterValidator(check_user_key),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_INT32},
                {
                    "type": "string",
                    "maxLength": MAX_USERNAME_LENGTH,
                    "pattern": USERNAME_PATTERN,
                },
            ],
            "description": "Id or username.",
            "examples": [1, "ann"],
        }
    ),
]


def random_letters(length: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(length))


def generate_usernames(name: str) -> Iterator[str]:
    """Yield usernames made from a name, then random ones. Never made from the email address."""
    base = slugify(name, max_length=MAX_USERNAME_LENGTH - 1 - SUFFIX_LENGTH, word_boundary=True)
    if USERNAME.fullmatch(base):
        if base not in RESERVED_USERNAMES:
            yield base
        for _ in range(MAX_ATTEMPTS):
            yield f"{base}-{random_letters(SUFFIX_LENGTH)}"
    for _ in range(MAX_ATTEMPTS):
        yield f"user-{random_letters(RANDOM_LENGTH)}"
