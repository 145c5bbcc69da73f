"""One post: read, create, replace, update, delete."""

import re
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette import status as codes

from blog_api.accounts.auth import (
    Auth,
    CanWrite,
    CanWritePosts,
    OptionalAuth,
    get_reader_id,
)
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, WRITE_POST_PROBLEMS
from blog_api.accounts.idempotency import IDEMPOTENCY_PROBLEMS, CreationDep, IdempotentRoute
from blog_api.accounts.write_limits import limit_posts
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    TooManyRequests,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId, PathSlug
from blog_api.db.session import SessionDep
from blog_api.posts.bodies import PostBody, ReadBody, WrittenBody, make_body_response
from blog_api.posts.errors import (
    EDIT_PROBLEMS,
    OWN_POST_PROBLEMS,
    NotAcceptable,
    PostGone,
    PostNotFound,
    SlugTaken,
)
from blog_api.posts.models import Post, PostCreate, PostDetail, PostRead, PostUpdate
from blog_api.posts.queries import find_visible_post, find_visible_post_by_slug
from blog_api.posts.service import (
    PostEditDep,
    connection_released_to_render,
    insert_post,
    insert_post_with_given_slug,
    lock_own_post,
    render_new_post,
)
from blog_api.posts.slugs import generate_slugs
from blog_api.text.markdown import MARKDOWN, Source
from blog_api.text.renderer import RendererDep
from blog_api.web.conditional import (
    PreconditionDep,
    mark_independent,
    mark_shared,
    set_etag_row,
    set_etag_version,
)
from blog_api.web.links import append_query, make_link

router = APIRouter(
    tags=["posts"],
    responses=problem_responses(ServiceUnavailable),
    route_class=IdempotentRoute,
)

MAX_ACCEPT_LENGTH = 1000
QUALITY_PATTERN = re.compile(r"[01](\.\d{0,3})?", re.ASCII)

READ_PROBLEMS = (*OPTIONAL_AUTH_PROBLEMS, PostNotFound, NotAcceptable, ValidationFailed)
REDIRECT_RESPONSE: dict[int | str, dict[str, Any]] = {
    308: {
        "description": "The post has another slug now.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
}


def get_quality(accept: str, media_type: str) -> float:
    """Return the weight of a media type in `Accept`, from 0 to 1 (RFC 9110, 12.5.1)."""
    weights = {}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        weights[name] = float(quality) if QUALITY_PATTERN.fullmatch(quality) else 0.0
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), 0.0)


def get_qualities(request: Request) -> tuple[float, float]:
    """Return the weights of Markdown and of JSON in `Accept`."""
    accept = ",".join(request.headers.getlist("Accept"))
    # The usual values need no parsing, and a long one would take long.
    if accept in ("", "*/*") or len(accept) > MAX_ACCEPT_LENGTH:
        return 0.0, 1.0
    return get_quality(accept, MARKDOWN), get_quality(accept, "application/json")


def make_post_response(
    request: Request, response: Response, auth: Auth | None, post: dict[str, Any], body: PostBody
) -> dict[str, Any] | Response:
    """Return the post as JSON or its Markdown source, by `Accept`.

    Raises NotAcceptable if a post in HTML is requested as Markdown alone.
    """
    markdown, json = get_qualities(request)
    is_markdown = post["content_type"] == MARKDOWN
    if markdown > json == 0 and not is_markdown:
        raise NotAcceptable
    set_etag_version(request, Post, post["id"], post["version"])
    mark_independent(request)
    if post["user_id"] != get_reader_id(auth):
        # Others see published posts only, and all of them the same.
        mark_shared(request)
    headers = {"Vary": "Accept"}
    if markdown > json and is_markdown:
        return Response(post["content"], media_type=MARKDOWN, headers=headers)
    response.headers.update(headers)
    return post if body is PostBody.both else make_body_response(post, body, response)


@router.get(
    "/posts/{post_id:int}",
    response_model=PostDetail,
    # Without `text/markdown`: generated clients would return a union.
    responses=problem_responses(*READ_PROBLEMS),
)
async def read_post(
    post_id: PathId,
    auth: OptionalAuth,
    session: SessionDep,
    request: Request,
    response: Response,
    body: ReadBody = PostBody.both,
) -> dict[str, Any] | Response:
    """Return a post. Drafts and scheduled posts are visible to their author only.

    `Accept: text/markdown` returns the source of a post in Markdown.
    """
    post = await find_visible_post(session, auth, post_id)
    return make_post_response(request, response, auth, post, body)


@router.get(
    "/posts/slug/{slug}",
    response_model=PostDetail,
    responses=REDIRECT_RESPONSE | problem_responses(*READ_PROBLEMS, PostGone),
)
async def read_post_by_slug(
    slug: PathSlug,
    auth: OptionalAuth,
    session: SessionDep,
    request: Request,
    response: Response,
    body: ReadBody = PostBody.both,
) -> dict[str, Any] | Response:
    """Return a post by its slug. A former slug that was public redirects to the current one.

    `Accept: text/markdown` returns the source.
    """
    post = await find_visible_post_by_slug(session, auth, slug)
    if post["slug"] == slug:
        return make_post_response(request, response, auth, post, body)
    # Not cached for good: the post may take its former slug again.
    return RedirectResponse(
        append_query(make_link(request, f"/posts/slug/{post['slug']}"), request.url.query),
        status_code=308,
        headers={"Cache-Control": "no-cache"},
    )


@router.post(
    "/posts",
    status_code=201,
    response_model=PostRead,
    responses=problem_responses(
        *BODY_PROBLEMS, *WRITE_POST_PROBLEMS, *IDEMPOTENCY_PROBLEMS, SlugTaken, TooManyRequests
    ),
    dependencies=[Depends(limit_posts)],
)
async def create_post(
    new: PostCreate,
    auth: CanWritePosts,
    creation: CreationDep,
    session: SessionDep,
    renderer: RendererDep,
    request: Request,
    response: Response,
    body: WrittenBody = PostBody.source,
) -> PostRead | Response:
    """Create a post: published, scheduled or a draft.

    `?body=` chooses the texts of the response as in `GET /posts/{post_id}`. Default: `source`.
    """
    await creation.replay()
    source = Source(new.content, new.content_type)
    async with connection_released_to_render(session, auth, source):
        made, words = await render_new_post(renderer, new, source, owner=auth.user.id)
    await creation.claim()
    own = {"slug": "", "given_summary": new.summary, "user_id": auth.user.id}
    post = Post.model_validate(new, update={**own, **made})
    if new.slug is None:
        await insert_post(session, post, generate_slugs(post.title), words)
    else:
        await insert_post_with_given_slug(session, post, new.slug, words)
    set_etag_row(request, post)
    author = {"user_name": auth.user.name, "author": auth.user}
    if body is PostBody.source:
        return PostRead.model_validate(post, update=author)
    shown = PostDetail.model_validate(post, update=author)
    return make_body_response(shown, body, response, codes.HTTP_201_CREATED)


@router.put(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=problem_responses(*BODY_PROBLEMS, *EDIT_PROBLEMS, SlugTaken, TooManyRequests),
    dependencies=[Depends(limit_posts)],
)
async def replace_post(
    new: PostCreate, edit: PostEditDep, response: Response, body: WrittenBody = PostBody.source
) -> Post | Response:
    """Replace a post. Everything but `title` and `content` stays if omitted.

    Changing the title may change a slug that was made from it; the old slug redirects (308).
    `?body=` chooses the texts of the response as in `GET /posts/{post_id}`. Default: `source`.
    """
    post = await edit.save(new)
    return post if body is PostBody.source else make_body_response(post, body, response)


@router.patch(
    "/posts/{post_id:int}",
    response_model=PostRead,
    responses=problem_responses(*BODY_PROBLEMS, *EDIT_PROBLEMS, SlugTaken, TooManyRequests),
    dependencies=[Depends(limit_posts)],
)
async def update_post(
    changes: PostUpdate, edit: PostEditDep, response: Response, body: WrittenBody = PostBody.source
) -> Post | Response:
    """Change the fields that are sent; leave the others.

    `?body=` chooses the texts of the response as in `GET /posts/{post_id}`. Default: `source`.
    """
    post = await edit.save(changes)
    return post if body is PostBody.source else make_body_response(post, body, response)


@router.delete(
    "/posts/{post_id:int}",
    status_code=204,
    responses=problem_responses(*OWN_POST_PROBLEMS, Conflict),
)
async def delete_post(
    auth: CanWrite, post_id: PathId, precondition: PreconditionDep, session: SessionDep
) -> None:
    """Delete a post and its comments. No other post gets a slug under which it was public.

    Also for those who are no longer authors.
    """
    await session.delete(await lock_own_post(session, auth, post_id, precondition))
