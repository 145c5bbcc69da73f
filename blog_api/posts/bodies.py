"""The parameter `body`: how a response contains the text of a post."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from blog_api.posts.models import PostDetail, PostRead

TEXT_FIELDS = ("content", "content_html")


class PostBody(StrEnum):
    """How a response contains the text of a post; the other fields are null."""

    source = "source"
    html = "html"
    both = "both"
    none = "none"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the names of the fields that are not left out."""
        fields = {"source": ("content",), "html": ("content_html",), "none": ()}
        return fields.get(self.value, TEXT_FIELDS)


DESCRIPTION = "The text of the post in the response; other fields of it are null."

ReadBody = Annotated[PostBody, Query(description=DESCRIPTION)]
# Not in OpenAPI: openapi-python-client gives the request body this name, and would write a function
# with two parameters `body`. Besides, the response would be another schema.
WrittenBody = Annotated[PostBody, Query(include_in_schema=False)]


def make_body_response(
    post: Any,
    body: PostBody,
    response: Response,
    status_code: int = 200,
    model: type[PostRead] = PostDetail,
) -> JSONResponse:
    """Return a post with as much text as `body` says. The routes validate only whole posts."""
    document = model.model_validate(post).model_dump(mode="json")
    document |= {name: None for name in TEXT_FIELDS if name not in body.fields}
    return JSONResponse(document, status_code, headers=dict(response.headers))
