"""Render a text as it would be published, without storing it."""

from fastapi import APIRouter, Depends
from sqlmodel import Field

from blog_api.accounts.auth import CanWritePosts, connection_released_for
from blog_api.accounts.errors import WRITE_POST_PROBLEMS
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.write_limits import limit_previews
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import PostContent, RequestBody, ResponseModel, schema_example
from blog_api.db.session import SessionDep
from blog_api.posts.service import render_post
from blog_api.text.markdown import MARKDOWN, ContentType, Source
from blog_api.text.renderer import RendererDep

router = APIRouter(tags=["posts"], responses=problem_responses(ServiceUnavailable))


class PreviewCreate(RequestBody):
    """A text to render."""

    content: PostContent
    content_type: ContentType = Field(
        default=MARKDOWN,
        description="Type of `content`.",
        schema_extra=schema_example(MARKDOWN),
    )


class PreviewRead(ResponseModel):
    """A text as it would be published."""

    content_html: str
    """The content as sanitized HTML."""
    summary: str
    """The beginning of the text."""
    reading_minutes: int
    """Reading time in minutes."""


@router.post(
    "/preview",
    response_model=PreviewRead,
    responses=problem_responses(
        *BODY_PROBLEMS, *WRITE_POST_PROBLEMS, IdempotencyKeyNotSupported, TooManyRequests
    ),
    dependencies=[Depends(limit_previews), NO_KEY],
)
async def preview_post(
    new: PreviewCreate, auth: CanWritePosts, session: SessionDep, renderer: RendererDep
) -> PreviewRead:
    """Render a text as it would be published. Stores nothing."""
    source = Source(new.content, new.content_type)
    async with connection_released_for(session, auth):
        made = await render_post(renderer, source, owner=auth.user.id)
    return PreviewRead(
        content_html=made["content_html"],
        summary=made["made_summary"],
        reading_minutes=made["made_reading_minutes"],
    )
