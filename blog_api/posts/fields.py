"""Types of the fields of posts that may be null; text and addresses are in `core.fields`."""

import re
from typing import Annotated

from pydantic import AfterValidator, StrictBool
from pydantic_core import PydanticCustomError
from sqlmodel import Field

from blog_api.core.fields import (
    MAX_SLUG_LENGTH,
    PictureAddress,
    SchemaDefaults,
    ShortText,
    WebAddress,
)
from blog_api.text.markdown import MARKDOWN, ContentType

# The form of generated slugs.
SLUG_PATTERN = "^[a-z0-9]+(-[a-z0-9]+)*$"
NONE_OR_UNCHANGED = "Omitted: none in POST, otherwise unchanged. Null: none."


def check_own_slug(value: str) -> str:
    if not re.fullmatch(SLUG_PATTERN, value):
        raise PydanticCustomError(
            "slug", "Use lowercase Latin letters and digits, with single hyphens between them"
        )
    return value


TextType = Annotated[
    ContentType,
    SchemaDefaults(
        "Type of `content`. Omitted: `text/markdown` in POST, otherwise unchanged.", MARKDOWN
    ),
]

SlugText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SLUG_LENGTH),
    SchemaDefaults("Slug.", "hello-world", pattern=SLUG_PATTERN),
    AfterValidator(check_own_slug),
]

# Examples of null: a slug that `/docs` sends for each new post would be taken.
GivenSlug = Annotated[
    SlugText | None,
    SchemaDefaults(
        "Slug of the author's choice, which new titles do not change. "
        "Omitted: made from the title in POST, otherwise kept. Null: made from the title.",
    ),
]

GivenSummary = Annotated[
    ShortText | None,
    SchemaDefaults(
        "Summary, plain text of one line. Omitted: made of the text in POST, otherwise unchanged. "
        "Null: the beginning of the text, also when that changes.",
        "The first post.",
    ),
]

CoverUrl = Annotated[
    PictureAddress | None,
    SchemaDefaults(
        "Address of the cover: http or https, or the `url` of an uploaded picture. "
        + NONE_OR_UNCHANGED,
        "https://example.com/river.jpg",
    ),
]

CoverAlt = Annotated[
    ShortText | None,
    SchemaDefaults(
        f"Alternative text of the cover, one line. {NONE_OR_UNCHANGED}", "A river at dawn."
    ),
]

CommentsOpen = Annotated[
    StrictBool,
    SchemaDefaults(
        "Whether the post takes new comments and edits of comments. "
        "Omitted: true in POST, otherwise unchanged.",
        True,
    ),
]

CanonicalUrl = Annotated[
    WebAddress | None,
    SchemaDefaults(f"Address of the original if it is elsewhere. {NONE_OR_UNCHANGED}"),
]
