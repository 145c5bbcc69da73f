"""Edits: how authors write, change and delete their posts."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from blog_api.accounts.auth import CanWritePosts, OptionalAuth, connection_released_for
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SCOPE_PROBLEMS
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId, PathSlug
from blog_api.db.queries import (
    rows_to_dicts,
)
from blog_api.db.session import SessionDep
from blog_api.posts.errors import OWN_POST_PROBLEMS, PostGone, PostNotFound
from blog_api.posts.models import Post, PostCreate, PostDetail, PostRead, PostUpdate
from blog_api.posts.queries import (
    PostRow,
    find_visible_post,
    find_visible_post_by_slug,
)
from blog_api.posts.service import PostEditDep, insert_post
from blog_api.posts.slugs import generate_slugs
from blog_api.text.renderer import RendererDep
from blog_api.web.conditional import set_etag_version
from blog_api.web.links import append_query, make_link

router = APIRouter(tags=["posts"], responses=problem_responses(ServiceUnavailable))


MARKDOWN_MEDIA_TYPE = "text/markdown"


QUALITY_PATTERN = re.compile(r"[01](\.\d{0,3})?", re.ASCII)


LOCATION = {"Location": {"schema": {"type": "string"}}}


def get_quality(accept: str, media_type: str) -> float:
    """How much a client wants a media type, from 0 to 1 (RFC 9110, 12.5.1)."""
    wanted = {}
    for one in accept.lower().split(","):
        name, *params = (part.strip() for part in one.split(";"))
        given = next((param[2:] for param in params if param.startswith("q=")), "1")
        wanted[name] = float(given) if QUALITY_PATTERN.fullmatch(given) else 0.0
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((wanted[name] for name in ranges if name in wanted), 0.0)


def make_post_response(
    request: Request, response: Response, post: PostRow
) -> dict[str, Any] | Response:
    """The post as JSON, or as it was written, by what the client would rather have."""
    set_etag_version(request, post.version)
    headers = {"Vary": "Accept"}
    accept = ",".join(request.headers.getlist("Accept"))
    # Who wants just anything gets JSON, as most do.
    is_choice = accept not in ("", "*/*")
    if is_choice and get_quality(accept, MARKDOWN_MEDIA_TYPE) > get_quality(
        accept, "application/json"
    ):
        return Response(post.content, media_type=MARKDOWN_MEDIA_TYPE, headers=headers)
    response.headers.update(headers)
    (shown,) = rows_to_dicts([post])
    return shown


READ_PROBLEMS = (*OPTIONAL_AUTH_PROBLEMS, PostNotFound, ValidationFailed)


MARKDOWN_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {MARKDOWN_MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


@router.get(
    "/posts/{post_id:int}",
    response_model=PostDetail,
    responses=MARKDOWN_RESPONSE | problem_responses(*READ_PROBLEMS),
)
async def read_post(
    post_id: PathId,
    access: OptionalAuth,
    session: SessionDep,
    request: Request,
    response: Response,
) -> dict[str, Any] | Response:
    """Show a post. One that is not published is shown to its author alone.

    With `Accept: text/markdown` it is the content, as it was written.
    """
    return make_post_response(request, response, await find_visible_post(session, access, post_id))


@router.get(
    "/posts/slug/{slug}",
    response_model=PostDetail,
    responses=MARKDOWN_RESPONSE
    | {308: {"description": "The post has another slug now.", "headers": LOCATION}}
    | problem_responses(*READ_PROBLEMS, PostGone),
)
async def read_post_by_slug(
    slug: PathSlug,
    access: OptionalAuth,
    session: SessionDep,
    request: Request,
    response: Response,
) -> dict[str, Any] | Response:
    """Show the post with this slug, as by its id. One that it had before leads to it."""
    post = await find_visible_post_by_slug(session, access, slug)
    if post.slug != slug:
        # No cache may keep it for good: the post can take its old slug back.
        return RedirectResponse(
            append_query(make_link(request, f"/posts/slug/{post.slug}"), request.url.query),
            status_code=308,
            headers={"Cache-Control": "no-cache"},
        )
    return make_post_response(request, response, post)


@router.post(
    "/posts",
    status_code=201,
    response_model=PostRead,
    responses=problem_responses(*BODY_PROBLEMS, *SCOPE_PROBLEMS),
)
async def create_post(
    new: PostCreate,
    access: CanWritePosts,
    session: SessionDep,
    renderer: RendererDep,
    request: Request,
) -> PostRead:
    """Publish a post, schedule it, or keep it as a draft."""
    async with connection_released_for(session, access):
        content_html = await renderer.render(new.content, owner=access.user.id)
    post = Post.model_validate(
        new, update={"slug": "", "content_html": content_html, "user_id": access.user.id}
    )
    await insert_post(session, post, generate_slugs(post.title))
    set_etag_version(request, post.version)
    return PostRead.model_validate(post, update={"user_name": access.user.name})


@router.put(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=problem_responses(*BODY_PROBLEMS, *OWN_POST_PROBLEMS),
)
async def replace_post(new: PostCreate, edit: PostEditDep) -> Post:
    """Write a post anew. If `published_at` or `tags` are left out, they stay as they were.

    With another title it can get another slug; the old one leads to it.
    """
    return await edit.save(new)


@router.patch(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=problem_responses(*BODY_PROBLEMS, *OWN_POST_PROBLEMS),
)
async def update_post(changes: PostUpdate, edit: PostEditDep) -> Post:
    """Change the fields that are sent; leave the others."""
    return await edit.save(changes)


@router.delete(
    "/posts/{post_id:int}",
    status_code=204,
    responses=problem_responses(*OWN_POST_PROBLEMS, Conflict),
)
async def delete_post(edit: PostEditDep, session: SessionDep) -> None:
    """Delete a post, with its comments. Its slugs go to no other."""
    await session.delete(await edit.lock_post())
