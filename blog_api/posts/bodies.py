"""The parameter `body`: how a response contains the text of a post."""

from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from blog_api.posts.models import TEXT_FIELDS, PostBody, PostDetail, PostRead

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
