"""The parameter `body`: how a response contains the text of a post."""

from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from blog_api.posts.models import TEXT_FIELDS, PostBody, PostDetail, PostRead

DESCRIPTION = "The text of the post in the response; other fields of it are null. Default: `{}`."

ReadBody = Annotated[PostBody, Query(description=DESCRIPTION.format("both"))]
WrittenBody = Annotated[PostBody, Query(description=DESCRIPTION.format("source"))]


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
