"""Moderation of uploaded pictures: `/admin/media`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import StringConstraints
from sqlmodel import Field, col, select

from blog_api.accounts.auth import Admin
from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.admin.audit import record_audit_entry
from blog_api.admin.models import AuditAction
from blog_api.core.errors import Conflict, ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import MAX_INT32, PathId
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import SessionDep
from blog_api.media.errors import MediaNotFound
from blog_api.media.models import DIGEST_LENGTH, AdminMediaPage, AdminMediaRead, Media
from blog_api.media.service import commit_and_remove_files, find_media, remove_everywhere
from blog_api.media.storage import Storage
from blog_api.web.conditional import set_etag_row
from blog_api.web.pagination import Page, PageQuery, PaginatorDep

router = APIRouter(
    prefix="/admin/media",
    tags=["admin"],
    responses=problem_responses(ServiceUnavailable, *SCOPE_PROBLEMS),
)

NEWEST_FIRST = Sort("-id", (col(Media.id),), is_descending=True)


Digest = Annotated[
    str, Field(max_length=DIGEST_LENGTH), StringConstraints(pattern=r"^[0-9a-f]{64}$")
]


class AdminMediaQuery(PageQuery):
    digest: Digest | None = Field(
        default=None,
        description="SHA-256 of the file, as in its address.",
    )
    user: int | None = Field(default=None, ge=1, le=MAX_INT32, description="Id of a user.")


@router.get("", response_model=AdminMediaPage, responses=problem_responses(ValidationFailed))
async def list_all_pictures(
    _: Admin, query: Annotated[AdminMediaQuery, Query()], paginator: PaginatorDep
) -> Page[Any]:
    """List the pictures of all users, newest first, or those of one file or of one user."""
    found = select(Media)
    if query.digest is not None:
        found = found.where(col(Media.digest) == query.digest)
    if query.user is not None:
        found = found.where(col(Media.user_id) == query.user)
    return await paginator.paginate(ListQuery(found), query, NEWEST_FIRST)


@router.get(
    "/{media_id:int}",
    response_model=AdminMediaRead,
    responses=problem_responses(MediaNotFound, ValidationFailed),
)
async def read_any_picture(
    _: Admin, media_id: PathId, session: SessionDep, request: Request
) -> Media:
    """Return a picture of any user."""
    media = await find_media(session, select(Media), media_id)
    set_etag_row(request, media)
    return media


@router.delete(
    "/{media_id:int}",
    status_code=204,
    responses=problem_responses(MediaNotFound, Conflict, ValidationFailed),
)
async def delete_any_picture(
    admin: Admin, media_id: PathId, session: SessionDep, request: Request
) -> None:
    """Delete a picture from everybody who has it. Its bytes cannot be uploaded again."""
    media = await find_media(session, select(Media), media_id)
    for removed in await remove_everywhere(session, media):
        record_audit_entry(
            session,
            admin,
            AuditAction.delete_media,
            user_id=removed.user_id,
            media_id=removed.id,
        )
    storage: Storage | None = request.app.state.media_storage
    await commit_and_remove_files(session, storage, [media.name])
