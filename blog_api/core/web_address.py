"""Type of the web addresses that users send: pictures, canonical addresses."""

import re
from typing import Annotated

from pydantic import AfterValidator, HttpUrl, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from sqlmodel import Field

from blog_api.core.fields import SchemaDefaults

MAX_ADDRESS_LENGTH = 2048
WEB_ADDRESS = TypeAdapter(HttpUrl)
NOT_IN_ADDRESSES = re.compile(r"[\s\x00-\x1f\x7f-\x9f<>\"'`\\{}|^]")


def check_web_address(value: str) -> str:
    """Validate an absolute address; it is shown as it was sent."""
    try:
        url = WEB_ADDRESS.validate_python(value)
    except ValidationError:
        raise PydanticCustomError("web_address", "Use an absolute http or https address") from None
    if url.username is not None or url.password is not None or NOT_IN_ADDRESSES.search(value):
        raise PydanticCustomError(
            "web_address", "The address may not have a user, white space, quotes or brackets"
        )
    return value


WebAddress = Annotated[
    str,
    Field(max_length=MAX_ADDRESS_LENGTH),
    SchemaDefaults(
        "Absolute `http` or `https` address.", "https://example.com/ann.jpg", format="uri"
    ),
    AfterValidator(check_web_address),
]
