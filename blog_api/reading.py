"""Reading: one post, by its id or by a slug, as JSON or as it was written."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Integer, String, bindparam
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.conditional import show_version
from blog_api.database import SessionDep
from blog_api.errors import Problem, ServiceUnavailable, ValidationFailed, raises
from blog_api.fields import PathId, PathSlug
from blog_api.links import link, with_query
from blog_api.posts import Post, PostDetail, PostNotFound, PostRow, is_visible_to, posts_as
from blog_api.queries import NamedQuery
from blog_api.rows import as_dicts, read
from blog_api.slugs import Slug
from blog_api.tokens import READER_PROBLEMS, Access, PresentedAccess, reader_id_of

router = APIRouter(tags=["posts"], responses=raises(ServiceUnavailable))

MARKDOWN = "text/markdown"
QUALITY = re.compile(r"[01](\.\d{0,3})?", re.ASCII)
LOCATION = {"Location": {"schema": {"type": "string"}}}


class PostGone(Problem):
    status = 410
    detail = "This post was deleted"


VISIBLE_POSTS = (
    posts_as(PostDetail)
    .add_columns(col(Post.version))
    .where(is_visible_to(bindparam("reader_id", type_=Integer)))
)
BY_ID = NamedQuery(VISIBLE_POSTS.where(col(Post.id) == bindparam("post_id", type_=Integer)))
BY_SLUG = NamedQuery(
    VISIBLE_POSTS.join(Slug, col(Slug.post_id) == col(Post.id)).where(
        col(Slug.slug) == bindparam("slug", type_=String)
    )
)


async def find_visible(session: AsyncSession, access: Access | None, post_id: int) -> PostRow:
    """A post that the reader may see; raises PostNotFound."""
    values = {"post_id": post_id, "reader_id": reader_id_of(access)}
    posts = await read(session, BY_ID, values)
    if not posts:
        raise PostNotFound
    return posts[0]


async def find_visible_by_slug(session: AsyncSession, access: Access | None, slug: str) -> PostRow:
    """The same, of a post that has or had this slug; raises PostGone for one that was deleted."""
    values = {"slug": slug, "reader_id": reader_id_of(access)}
    posts = await read(session, BY_SLUG, values)
    if posts:
        return posts[0]
    of_deleted = select(Slug).where(col(Slug.slug) == slug, col(Slug.post_id).is_(None))
    raise PostNotFound if (await session.exec(of_deleted)).first() is None else PostGone


def quality(accept: str, media_type: str) -> float:
    """How much a client wants a media type, from 0 to 1 (RFC 9110, 12.5.1)."""
    wanted = {}
    for one in accept.lower().split(","):
        name, *params = (part.strip() for part in one.split(";"))
        given = next((param[2:] for param in params if param.startswith("q=")), "1")
        wanted[name] = float(given) if QUALITY.fullmatch(given) else 0.0
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((wanted[name] for name in ranges if name in wanted), 0.0)


def present(request: Request, response: Response, post: PostRow) -> dict[str, Any] | Response:
    """The post as JSON, or as it was written, by what the client would rather have."""
    show_version(request, post.version)
    headers = {"Vary": "Accept"}
    accept = ",".join(request.headers.getlist("Accept"))
    # Who wants just anything gets JSON, as most do.
    is_choice = accept not in ("", "*/*")
    if is_choice and quality(accept, MARKDOWN) > quality(accept, "application/json"):
        return Response(post.content, media_type=MARKDOWN, headers=headers)
    response.headers.update(headers)
    (shown,) = as_dicts([post])
    return shown


READ_PROBLEMS = (*READER_PROBLEMS, PostNotFound, ValidationFailed)
AS_WRITTEN: dict[int | str, dict[str, Any]] = {
    200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}
}


@router.get(
    "/posts/{post_id:int}",
    response_model=PostDetail,
    responses=AS_WRITTEN | raises(*READ_PROBLEMS),
)
async def read_post(
    post_id: PathId,
    access: PresentedAccess,
    session: SessionDep,
    request: Request,
    response: Response,
) -> dict[str, Any] | Response:
    """Show a post. One that is not published is shown to its author alone.

    With `Accept: text/markdown` it is the content, as it was written.
    """
    return present(request, response, await find_visible(session, access, post_id))


@router.get(
    "/posts/slug/{slug}",
    response_model=PostDetail,
    responses=AS_WRITTEN
    | {308: {"description": "The post has another slug now.", "headers": LOCATION}}
    | raises(*READ_PROBLEMS, PostGone),
)
async def read_post_by_slug(
    slug: PathSlug,
    access: PresentedAccess,
    session: SessionDep,
    request: Request,
    response: Response,
) -> dict[str, Any] | Response:
    """Show the post with this slug, as by its id. One that it had before leads to it."""
    post = await find_visible_by_slug(session, access, slug)
    if post.slug != slug:
        # No cache may keep it for good: the post can take its old slug back.
        return RedirectResponse(
            with_query(link(request, f"/posts/slug/{post.slug}"), request.url.query),
            status_code=308,
            headers={"Cache-Control": "no-cache"},
        )
    return present(request, response, post)
